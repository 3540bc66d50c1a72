/* sim_state.h - what the simulator's own files share. */
#ifndef GRDI_SIM_STATE_H
#define GRDI_SIM_STATE_H

#include "sim.h"

#include <stddef.h>
#include <stdint.h>

/* Notes what was done wrong, for grdi_sim_take_error(); the first note stays. */
void grdi_sim_wrong(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* The order in which warps run. */
int grdi_sim_order(void);
/* Blocks of a cooperative launch: one to each of the device's multiprocessors. */
enum { GRDI_SIM_BLOCKS_AT_ONCE = 4, GRDI_SIM_THREADS_AT_ONCE = 1024 * GRDI_SIM_BLOCKS_AT_ONCE };
/* The running thread of the block, and of all that run at once; the kernel's name. */
unsigned grdi_sim_thread(void);
unsigned grdi_sim_running(void);
const char *grdi_sim_kernel(void);
bool grdi_sim_in_kernel(void);
/* traffic.cpp, where it is built in: a kernel's read that no instrumented code makes. */
#ifdef GRDI_SIM_TRAFFIC
void grdi_sim_reads(const void *memory, size_t size_bytes);
#else
static inline void grdi_sim_reads(const void *, size_t) {}
#endif
/* Whether as many bytes, aligned to their number, lie within one shared array of the block; notes where not. */
bool grdi_sim_is_shared(const void *at, size_t size_bytes, unsigned thread, const char *call);
/* All live lanes of the warp bring something of theirs (`lanes`), and `act` is called once. */
void grdi_sim_together(const char *call, void *mine, void (*act)(void *const *lanes));
void grdi_sim_thread_ended(void);
/* Whether the range lies within one allocation of device memory. */
bool grdi_sim_on_device(const void *memory, size_t size_bytes);
/* What is wrong with memory that a library's call is given: NULL, aligned to less, or as many bytes do not lie within
 * one allocation of the device. "the bias is NULL"; NULL where nothing is. */
const char *grdi_sim_wrong_memory(const char *what, const void *memory, size_t size_bytes, size_t alignment);
/* The algorithm of libraries that is faster than others, and how many of them cuBLASLt has; as set by tests. */
int grdi_sim_fastest(void);
int grdi_sim_algorithms(void);
/* Whether cuDNN's engines may differ from run to run, as set by tests. */
bool grdi_sim_any_order(void);
/* Time passes as a call of a library does its work by that algorithm. */
void grdi_sim_spend(int64_t algorithm);
void grdi_sim_spend_kernel(void);
void grdi_sim_spend_sums(void);
/* A call of a library writes there. While one is timed that must be memory of its own: the newest allocation. */
void grdi_sim_writes(const char *call, const void *memory);
/* What a launch of the kernel may ask for: 48 KB, or what cudaFuncSetAttribute has allowed. */
size_t grdi_sim_shared_limit(const void *function);

#endif
