/* faults.h - makes one allocation or one file operation fail, or the process die at it, and counts what is still held.
 */
#ifndef TESTS_FAULTS_H
#define TESTS_FAULTS_H

#include <stdbool.h>

/* Replaces the engine's tables, and the allocator of the JSON library, by ones that count. Call it first. */
void faults_install(void);
/* From now on, the n-th call (1 is the next; 0: none) of an allocation or a file operation fails. */
void faults_fail_at(long n);
/* The n-th file operation ends the process at once, as kill -9 would; a write then has written half of its bytes. */
void faults_die_at(long n);
/* Every write and read from now on does at most this many bytes; 0: no limit. */
void faults_limit_transfers(long bytes);
/* True when the call chosen with faults_fail_at() came; there will be no further fault then. */
bool faults_hit(void);
/* Blocks, mappings and file descriptors that were taken and not given back since faults_install(). */
long faults_held(void);
/* How often memory was asked for since then, by the engine or by a plugin that it lends its table to. */
long faults_allocations(void);

#endif
