/* test_simulator.c - the detector detects: a missing barrier, a write past shared memory, a read of what nobody wrote,
 * threads and blocks that wait for each other. */
#include "sim_library.h"

#include <math.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

int grdi_sim_planted_reverse(float *out, const float *in, int barrier);
int grdi_sim_planted_overflow(float *out, int past);
int grdi_sim_planted_unwritten(float *out, int written);
int grdi_sim_planted_stuck(float *out, int skips);

int grdi_sim_planted_passing(float *out, int blocks, int waits, int sets, int together);

enum { THREADS = 128 };

/* How many elements are not as they should be; whether the first and last of the first round were read unwritten. */
static int wrong_elements(int barrier, int order, bool *first, bool *last)
{
    float in[2 * THREADS], out[2 * THREADS];
    int wrong = 0;
    for (int i = 0; i < 2 * THREADS; i++) in[i] = (float)i;
    SIM(grdi_sim_set_order)(order);
    cr_assert(SIM(grdi_sim_planted_reverse)(out, in, barrier) == 0);
    for (int i = 0; i < 2 * THREADS; i++) {
        int from = i / THREADS * THREADS + THREADS - 1 - i % THREADS;
        wrong += !(out[i] == (float)from);
    }
    *first = isnan(out[0]);
    *last = isnan(out[THREADS - 1]);
    return wrong;
}

Test(simulator, shows_a_missing_barrier)
{
    for (int order = 0; order < 2; order++) {
        bool first, last;
        cr_expect(wrong_elements(1, order, &first, &last) == 0, "order %d: wrong with all barriers", order);
        cr_expect(wrong_elements(0, order, &first, &last) > 0, "order %d: a missing barrier does not show", order);
        /* The warp that runs first reads what the last has not written yet; that one, what is of the next round. */
        cr_expect(first == (order == 0) && last == (order == 1), "order %d: warps run the other way", order);
    }
    sim_is_content();
}

#if defined(__SANITIZE_ADDRESS__)
/* The write itself ends the program, with the kernel's line: so it is a child's. */
Test(simulator, shows_a_write_past_shared_memory)
{
    int ends[2], status;
    char said[1 << 14];
    size_t size = 0;
    cr_assert(pipe(ends) == 0);
    pid_t child = fork();
    if (child == 0) {
        float out[THREADS];
        dup2(ends[1], STDERR_FILENO);
        SIM(grdi_sim_planted_overflow)(out, 1);
        _exit(0);
    }
    close(ends[1]);
    for (ssize_t n; size < sizeof(said) - 1 && (n = read(ends[0], said + size, sizeof(said) - 1 - size)) > 0;)
        size += (size_t)n;
    said[size] = '\0';
    close(ends[0]);
    cr_assert(waitpid(child, &status, 0) == child && status != 0, "the launch succeeds");
    cr_assert(strstr(said, "heap-buffer-overflow") && strstr(said, "overflow_kernel"), "'%s'", said);
}
#else
Test(simulator, shows_a_write_past_shared_memory)
{
    float out[THREADS];
    cr_assert(SIM(grdi_sim_planted_overflow)(out, 0) == 0);
    sim_is_content();
    cr_assert(SIM(grdi_sim_planted_overflow)(out, 1) != 0, "the launch succeeds");
    const char *error = SIM(grdi_sim_take_error)();
    cr_assert(strstr(error, "overflow_kernel") && strstr(error, "past shared array 0 of 512 bytes"), "'%s'", error);
}
#endif

Test(simulator, shows_a_read_of_unwritten_shared_memory)
{
    float out[THREADS];
    cr_assert(SIM(grdi_sim_planted_unwritten)(out, THREADS) == 0);
    for (int i = 0; i < THREADS; i++) cr_assert(out[i] == 1.0f, "%d", i);
    cr_assert(SIM(grdi_sim_planted_unwritten)(out, 100) == 0);
    for (int i = 0; i < THREADS; i++) cr_assert(i < 100 ? out[i] == 1.0f : isnan(out[i]), "%d: %g", i, out[i]);
}

Test(simulator, names_a_stuck_thread)
{
    float out[THREADS];
    cr_assert(SIM(grdi_sim_planted_stuck)(out, -1) == 0);
    sim_is_content();
    cr_assert(SIM(grdi_sim_planted_stuck)(out, 37) != 0, "the launch succeeds");
    const char *error = SIM(grdi_sim_take_error)();
    cr_assert(strstr(error, "stuck_kernel: block 0,0,0: thread 0 (lane 0 of warp 0) is stuck at __syncthreads"), "'%s'",
              error);
}

enum { BLOCKS = 4 };

static int wrong_numbers(int waits, int sets, int order)
{
    float out[2 * BLOCKS];
    int wrong = 0;
    for (int i = 0; i < 2 * BLOCKS; i++) out[i] = NAN;
    SIM(grdi_sim_set_order)(order);
    cr_assert(SIM(grdi_sim_planted_passing)(out, BLOCKS, waits, sets, 1) == 0);
    for (int i = 0; i < BLOCKS; i++)
        wrong += !(out[i] == (float)i) + !(out[BLOCKS + i] == (float)((i + BLOCKS - 1) % BLOCKS + 1));
    return wrong;
}

/* Of blocks that are launched to run at once, each goes as far ahead as its waits let it in order 1; in order 0 others
 * overtake it as soon as a thread has posted a word. */
Test(simulator, shows_a_missing_wait_for_other_blocks)
{
    for (int order = 0; order < 2; order++)
        cr_expect(wrong_numbers(1, 1, order) == 0, "order %d: wrong though all wait", order);
    cr_expect(wrong_numbers(0, 1, 1) > 0, "a missing wait does not show");
    cr_expect(wrong_numbers(1, 0, 1) > 0, "words that are posted again too soon do not show");
    sim_is_content();
}

/* In an ordinary launch blocks may run one after another, and on a device more than it holds would wait for ever. */
Test(simulator, refuses_waits_for_blocks_that_are_not_there)
{
    float out[4 * BLOCKS];
    cr_assert(SIM(grdi_sim_planted_passing)(out, BLOCKS, 1, 1, 0) != 0, "the launch succeeds");
    const char *error = SIM(grdi_sim_take_error)();
    cr_assert(strstr(error, "passing_kernel: block 0,0,0: thread 0") && strstr(error, "a wait for other blocks"),
              "'%s'", error);
    cr_assert(SIM(grdi_sim_planted_passing)(out, BLOCKS + 1, 1, 1, 1) != 0, "more blocks than multiprocessors");
    error = SIM(grdi_sim_take_error)();
    cr_assert(strstr(error, "cannot be launched at once"), "'%s'", error);
}
