/* sim_library.h - the simulated CUDA device's own library, for tests that look behind the backend. */
#ifndef TESTS_SIM_LIBRARY_H
#define TESTS_SIM_LIBRARY_H

#include "../../cuda/sim/sim.h"

#include <criterion/criterion.h>
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

typedef void (*sim_function)(void);

static inline sim_function sim_symbol(const char *name)
{
    void *library = dlopen(GRADUS_BINARY_DIR "/tests/libgradus_cudasim.so", RTLD_NOW | RTLD_LOCAL);
    cr_assert(library, "%s", dlerror());
    sim_function symbol;
    *(void **)&symbol = dlsym(library, name);
    cr_assert(symbol, "libgradus_cudasim.so has no %s", name);
    return symbol;
}

/* SIM(function): a pointer to it, of its type. */
#define SIM(name) ((__typeof__(name) *)sim_symbol(#name))

/* Tests neither read nor write the user's cache folder. */
__attribute__((constructor)) static void leave_cache_alone(void)
{
    setenv("GRADUS_CACHE_DIR", "", 1);
}

/* The device under test: cudasim, or what GRADUS_TEST_DEVICE names, which is how the same tests run on a GPU. */
static inline const char *cuda_device(void)
{
    const char *named = getenv("GRADUS_TEST_DEVICE");
    return named ? named : "cudasim";
}

static inline bool on_simulator(void)
{
    return strcmp(cuda_device(), "cudasim") == 0;
}

/* Fails where the simulator found something wrong. */
static inline void sim_is_content(void)
{
    const char *error = on_simulator() ? SIM(grdi_sim_take_error)() : "";
    cr_assert(!error[0], "%s", error);
}

#endif
