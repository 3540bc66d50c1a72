/* test_tensor.c - the wrappers around tensor cores (cuda/device/tensor.cuh) as the simulator runs them, against the
 * tables of the "PTX ISA"; and wrong uses of them, each of which must be found. */
#include "sim_library.h"

#include <math.h>
#include <stdint.h>
#include <string.h>

int grdi_sim_planted_product(float *d, const float *a, const float *b, int lanes);
int grdi_sim_planted_matrices(uint32_t *out, const uint16_t *in, int transposed, int pitch, int shift);
int grdi_sim_planted_copies(float *out, const float *in, int planted);
int grdi_sim_planted_large(float *out, int count, int allowed_bytes);
float grdi_sim_planted_power(float x);

static void sim_complains_of(const char *text)
{
    const char *error = SIM(grdi_sim_take_error)();
    cr_assert(strstr(error, text), "'%s' is not in '%s'", text, error);
}

/* ---- mma ---- */

enum { M = 16, N = 8, K = 16 };

/* Whole numbers of at most 7 bits: each product and sum is exact in f32 and each element has its own value. */
static void fill_product(float *a, float *b, float *d)
{
    for (int i = 0; i < M * K; i++) a[i] = (float)((i * 37 + 11) % 127 - 63);
    for (int i = 0; i < K * N; i++) b[i] = (float)((i * 53 + 5) % 127 - 63);
    for (int i = 0; i < M * N; i++) d[i] = (float)(1000 * i);
}

Test(tensor, product_is_that_of_matrices)
{
    float a[M * K], b[K * N], d[M * N];
    fill_product(a, b, d);
    cr_assert(SIM(grdi_sim_planted_product)(d, a, b, 32) == 0);
    sim_is_content();
    for (int i = 0; i < M; i++)
        for (int j = 0; j < N; j++) {
            float want = (float)(1000 * (i * N + j));
            for (int k = 0; k < K; k++) want += a[i * K + k] * b[k * N + j];
            cr_assert(d[i * N + j] == want, "(%d,%d): %g, not %g", i, j, (double)d[i * N + j], (double)want);
        }
}

/* A single one in a, and in b, must meet in one place. */
Test(tensor, each_element_has_its_place)
{
    for (int i = 0; i < M; i++)
        for (int k = 0; k < K; k++) {
            float a[M * K] = {0}, b[K * N], d[M * N] = {0};
            a[i * K + k] = 1;
            for (int e = 0; e < K * N; e++) b[e] = (float)(1 + e % 128);
            cr_assert(SIM(grdi_sim_planted_product)(d, a, b, 32) == 0);
            for (int e = 0; e < M * N; e++) {
                float want = e / N == i ? b[k * N + e % N] : 0;
                cr_assert(d[e] == want, "a(%d,%d): d[%d] is %g, not %g", i, k, e, (double)d[e], (double)want);
            }
        }
    sim_is_content();
}

Test(tensor, product_needs_the_whole_warp)
{
    float a[M * K], b[K * N], d[M * N];
    fill_product(a, b, d);
    SIM(grdi_sim_planted_product)(d, a, b, 31);
    sim_complains_of("product_kernel: mma.sync by some lanes of warp 0 only");
}

Test(tensor, powers_of_two)
{
    for (float x = -126; x < 20; x += 0.37f) {
        double want = exp2((double)x), got = (double)SIM(grdi_sim_planted_power)(x);
        cr_assert(fabs(got - want) <= 0x1p-22 * want, "2^%g: %g", (double)x, got);
    }
    cr_assert(SIM(grdi_sim_planted_power)(-INFINITY) == 0 && SIM(grdi_sim_planted_power)(-127) == 0);
    cr_assert(isinf(SIM(grdi_sim_planted_power)(128)) && isnan(SIM(grdi_sim_planted_power)(NAN)));
}

/* ---- ldmatrix ---- */

enum { ROWS = 32, ROW = 8 };

static void fill_rows(uint16_t *in)
{
    for (int i = 0; i < ROWS * ROW; i++) in[i] = (uint16_t)(1000 + i);
}

Test(tensor, matrices_come_as_the_table_says)
{
    uint16_t in[ROWS * ROW];
    uint32_t out[32 * 4];
    fill_rows(in);
    for (int transposed = 0; transposed < 2; transposed++) {
        cr_assert(SIM(grdi_sim_planted_matrices)(out, in, transposed, 8, 0) == 0);
        for (int thread = 0; thread < 32; thread++)
            for (int matrix = 0; matrix < 4; matrix++)
                for (int half = 0; half < 2; half++) {
                    int row = thread / 4, column = 2 * (thread % 4) + half;
                    uint16_t want = in[matrix * 64 + (transposed ? column * 8 + row : row * 8 + column)];
                    uint16_t got = (uint16_t)(out[thread * 4 + matrix] >> 16 * half);
                    cr_assert(got == want, "thread %d, matrix %d, half %d: %d, not %d", thread, matrix, half, got,
                              want);
                }
    }
    sim_is_content();
}

Test(tensor, rows_of_the_same_banks_are_counted)
{
    uint16_t in[ROWS * ROW];
    uint32_t out[32 * 4];
    fill_rows(in);
    const struct {
        int pitch, conflicts;
    } cases[] = {{8, 0}, {64, 4 * 7}, {72, 0}, {32, 4 * 3}}; /* elements of 2 bytes; 128 bytes are all banks */
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int64_t before = SIM(grdi_sim_count)()->bank_conflicts;
        cr_assert(SIM(grdi_sim_planted_matrices)(out, in, 0, cases[i].pitch, 0) == 0);
        int64_t conflicts = SIM(grdi_sim_count)()->bank_conflicts - before;
        cr_assert(conflicts == cases[i].conflicts, "pitch %d: %lld", cases[i].pitch, (long long)conflicts);
    }
}

Test(tensor, misplaced_rows_are_found)
{
    uint16_t in[ROWS * ROW];
    uint32_t out[32 * 4];
    fill_rows(in);
    SIM(grdi_sim_planted_matrices)(out, in, 0, 16, 2);
    sim_complains_of("ldmatrix of a row that is not 16-byte aligned");
    SIM(grdi_sim_planted_matrices)(out, in, 1, 8, 16); /* the last row ends past the array */
    sim_complains_of("thread 31: ldmatrix of 16 bytes that do not lie within a shared array");
}

/* ---- cp.async ---- */

enum { THREADS = 64, CHUNK = 4, ROUNDS = 3, COPIED = ROUNDS * THREADS * CHUNK };
enum { NONE, NO_WAIT, NO_BARRIER, EARLY_REFILL, MISALIGNED, NO_END, GROUP_LEFT };

/* How many elements are not as they should be. */
static int wrong_copies(int planted, int order)
{
    static _Alignas(16) float in[COPIED + CHUNK];
    float out[COPIED];
    int wrong = 0;
    for (int i = 0; i < COPIED; i++) in[i] = (float)(i + 1);
    SIM(grdi_sim_set_order)(order);
    SIM(grdi_sim_planted_copies)(out, in, planted);
    for (int i = 0; i < COPIED; i++) {
        int round = i / (THREADS * CHUNK), from = THREADS - 1 - i / CHUNK % THREADS, c = i % CHUNK;
        wrong += !(out[i] == (from ? in[(round * THREADS + from) * CHUNK + c] : 0));
    }
    return wrong;
}

Test(tensor, copies_that_are_used_too_early_show)
{
    static const char *const name[] = {"none", "no wait", "no barrier", "early refill", "", "", "group left"};
    for (int order = 0; order < 2; order++) {
        cr_expect(wrong_copies(NONE, order) == 0, "order %d: wrong without a mistake", order);
        sim_is_content();
        for (int planted = NO_WAIT; planted <= GROUP_LEFT; planted++) {
            if (planted == MISALIGNED || planted == NO_END) continue;
            cr_expect(wrong_copies(planted, order) > 0, "order %d: %s does not show", order, name[planted]);
            SIM(grdi_sim_take_error)();
        }
    }
}

Test(tensor, copies_that_are_wrong_are_named)
{
    wrong_copies(MISALIGNED, 0);
    sim_complains_of("copies_kernel: cp.async from");
    cr_assert(wrong_copies(NO_END, 0) == 0);
    sim_complains_of("ended before 1 of its copies by cp.async");
}

/* ---- shared memory beyond 48 KB ---- */

Test(tensor, much_shared_memory_has_to_be_allowed)
{
    float out[32];
    cr_assert(SIM(grdi_sim_planted_large)(out, 12 * 1024, 0) == 0);
    cr_assert(SIM(grdi_sim_planted_large)(out, 12 * 1024 + 4, 0) != 0);
    sim_complains_of("with 49168 bytes of shared memory cannot be launched");
    cr_assert(SIM(grdi_sim_planted_large)(out, 16 * 1024, 64 * 1024) == 0);
    sim_is_content();
    cr_assert(SIM(grdi_sim_planted_large)(out, 16 * 1024 + 4, 64 * 1024) != 0);
    sim_complains_of("with 65552 bytes of shared memory cannot be launched");
    cr_assert(SIM(grdi_sim_planted_large)(out, 16, 100 * 1024) != 0);
    sim_complains_of("102400 bytes of shared memory cannot be allowed");
}
