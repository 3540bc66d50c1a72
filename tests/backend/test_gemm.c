/* test_gemm.c - products of matrices of the cpu backend against sums in double: every instruction set, f32 and bf16,
 * weights that count as rounded, all layouts, sizes around those of tiles and blocks. */
#include "backend/cpu/cpu.h"
#include "backend/cpu/gemm.h"
#include "base/convert.h"
#include "base/memory.h"

#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

typedef struct matrix {
    void *data;
    double *values; /* as the product counts them: [rows, columns] */
    grd_dtype type;
} matrix;

static double numbered(int64_t i)
{
    return ((i * 2654435761u >> 7) % 2001 - 1000) / 1000.0;
}

/* [rows, columns], stored column by column if `turned`. */
static matrix make(int64_t rows, int64_t columns, bool turned, grd_dtype type, bool round, int64_t seed)
{
    size_t count = (size_t)(rows * columns);
    matrix m = {grdi_alloc(count * grd_dtype_size(type) + 1), grdi_alloc(count * sizeof(double) + 1), type};
    cr_assert(m.data && m.values);
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < columns; j++) {
            int64_t at = turned ? j * rows + i : i * columns + j;
            float value = (float)numbered(seed + i * columns + j);
            float rounded = grdi_bf16_to_f32(grdi_f32_to_bf16(value));
            if (type == GRD_F32) ((float *)m.data)[at] = value;
            else ((uint16_t *)m.data)[at] = grdi_f32_to_bf16(value);
            m.values[i * columns + j] = type == GRD_BF16 || round ? rounded : value;
        }
    return m;
}

static void drop(matrix m)
{
    grdi_free(m.data);
    grdi_free(m.values);
}

static float read(const matrix *m, int64_t i)
{
    return m->type == GRD_F32 ? ((float *)m->data)[i] : grdi_bf16_to_f32(((uint16_t *)m->data)[i]);
}

typedef struct way {
    grd_dtype a, b, c, bias;
    bool round_b, turned_a, turned_b, add, has_bias;
    grdi_activation activation;
} way;

typedef void (*product)(const grdi_gemm *g, int32_t threads, void *scratch);
typedef size_t (*product_scratch)(const grdi_gemm *g, int32_t threads);

static void check(product run, product_scratch scratch, int64_t m, int64_t n, int64_t k, way w, const char *isa)
{
    matrix a = make(m, k, w.turned_a, w.a, false, 1), b = make(k, n, w.turned_b, w.b, w.round_b, 77);
    matrix c = make(m, n, false, w.c, false, 5), y = make(m, n, false, w.c, false, 6);
    matrix bias = make(1, n, false, w.bias, false, 9);
    grdi_gemm g = {.m = m, .n = n, .k = k, .a = a.data, .b = b.data, .c = c.data, .c_row = n, .y_row = n};
    g.a_row = w.turned_a ? 1 : k, g.a_col = w.turned_a ? m : 1;
    g.b_row = w.turned_b ? 1 : n, g.b_col = w.turned_b ? k : 1;
    g.a_type = w.a, g.b_type = w.b, g.c_type = w.c, g.bias_type = w.bias, g.b_round = w.round_b, g.add = w.add;
    if (w.has_bias) g.bias = bias.data;
    g.activation = w.activation;
    if (w.activation != GRDI_ACT_NONE) g.y = y.data;
    void *memory = grdi_alloc(scratch(&g, 2) + 64);
    run(&g, 2, (void *)(((uintptr_t)memory + 63) / 64 * 64));
    for (int64_t i = 0; i < m; i++)
        for (int64_t j = 0; j < n; j++) {
            double sum = w.has_bias ? read(&bias, j) : 0, size = fabs(sum) + 1;
            for (int64_t p = 0; p < k; p++) {
                double term = a.values[i * k + p] * b.values[p * n + j];
                sum += term, size += fabs(term);
            }
            if (w.add) sum += c.values[i * n + j];
            double error = fabs(read(&c, i * n + j) - sum);
            double allowed =
                1e-6 * size + (w.c == GRD_BF16 ? 8e-3 * fabs(sum) : 0) + (w.add && w.c == GRD_BF16 ? 8e-3 : 0);
            cr_assert(error <= allowed, "%s %lldx%lldx%lld at %lld,%lld: off by %g of %g", isa, (long long)m,
                      (long long)n, (long long)k, (long long)i, (long long)j, error, sum);
            if (w.activation == GRDI_ACT_RELU)
                cr_assert(fabs(read(&y, i * n + j) - fmax(sum, 0)) <= allowed, "%s: relu", isa);
        }
    grdi_free(memory);
    drop(a), drop(b), drop(c), drop(y), drop(bias);
}

static const int64_t sizes[][3] = {{1, 1, 1},    {12, 32, 16},  {13, 33, 17},    {5, 64, 31},  {96, 96, 128},
                                   {97, 65, 63}, {30, 40, 801}, {40, 100, 1700}, {300, 70, 34}};

/* Beyond the blocks of rows, columns and k that AMX's loops have; with the last three, those of f32. */
static const int64_t amx_sizes[][3] = {{33, 530, 34},  {2090, 33, 520},  {64, 48, 96},
                                       {90, 450, 580}, {1100, 430, 130}, {100, 100, 60}};

static void check_sizes(product run, product_scratch scratch, const int64_t size[][3], size_t count, const char *isa)
{
    const grd_dtype f = GRD_F32, h = GRD_BF16;
    const way ways[] = {{f, f, f, f, .add = true},
                        {h, h, f, f, .add = true},
                        {h, h, h, f, .has_bias = true, .activation = GRDI_ACT_RELU},
                        {h, h, h, h, .has_bias = true},
                        {h, f, h, h, .round_b = true, .has_bias = true, .activation = GRDI_ACT_RELU},
                        {h, f, f, f, .round_b = true},
                        {h, f, f, f, .add = false},
                        {h, h, h, f, .add = true},
                        {f, f, f, h, .has_bias = true, .activation = GRDI_ACT_RELU}};
    for (size_t s = 0; s < count; s++)
        for (size_t i = 0; i < sizeof(ways) / sizeof(ways[0]); i++)
            for (int layout = 0; layout < 4; layout++) {
                way w = ways[i];
                w.turned_a = layout & 1, w.turned_b = layout & 2;
                check(run, scratch, size[s][0], size[s][1], size[s][2], w, isa);
            }
}

static void check_all(product run, product_scratch scratch, const char *isa)
{
    check_sizes(run, scratch, sizes, sizeof(sizes) / sizeof(sizes[0]), isa);
}

Test(gemm, base)
{
    check_all(grdi_gemm_all_base, grdi_gemm_all_scratch_base, "base");
}

#if defined(__x86_64__)
Test(gemm, avx2)
{
    if (!grdi_isa_usable(GRDI_ISA_AVX2)) cr_skip("no AVX2 here");
    check_all(grdi_gemm_all_avx2, grdi_gemm_all_scratch_avx2, "avx2");
}

Test(gemm, avx512)
{
    if (!grdi_isa_usable(GRDI_ISA_AVX512)) cr_skip("no AVX-512 here");
    check_all(grdi_gemm_all_avx512, grdi_gemm_all_scratch_avx512, "avx512");
}

Test(gemm, avx512bf16)
{
    if (!grdi_isa_usable(GRDI_ISA_AVX512BF16)) cr_skip("no AVX512_BF16 here");
    check_all(grdi_gemm_all_avx512bf16, grdi_gemm_all_scratch_avx512bf16, "avx512bf16");
}

Test(gemm, amx)
{
    if (!grdi_isa_usable(GRDI_ISA_AMX)) cr_skip("no AMX here");
    check_all(grdi_gemm_all_amx, grdi_gemm_all_scratch_amx, "amx");
    check_sizes(grdi_gemm_all_amx, grdi_gemm_all_scratch_amx, amx_sizes, sizeof(amx_sizes) / sizeof(amx_sizes[0]),
                "amx");
}

/* ---- products of f32 in tiles ---- */

enum { M = 210, N = 350, K = 700 };

typedef struct f32_product {
    float *a, *b, *c;
    grdi_gemm g;
} f32_product;

static f32_product make_f32(void)
{
    f32_product p = {grdi_alloc(M * K * sizeof(float)), grdi_alloc(K * N * sizeof(float)),
                     grdi_alloc(M * N * sizeof(float)),
                     {.m = M, .n = N, .k = K, .a_row = K, .a_col = 1, .b_row = N, .b_col = 1, .c_row = N}};
    cr_assert(p.a && p.b && p.c);
    for (int64_t i = 0; i < M * K; i++) p.a[i] = (float)numbered(3 * i + 1);
    for (int64_t i = 0; i < K * N; i++) p.b[i] = (float)numbered(5 * i + 2);
    p.g.a = p.a, p.g.b = p.b, p.g.c = p.c;
    return p;
}

static void drop_f32(f32_product p)
{
    grdi_free(p.a), grdi_free(p.b), grdi_free(p.c);
}

static void run_f32(product run, product_scratch scratch, const f32_product *p, int32_t threads)
{
    void *memory = grdi_alloc(scratch(&p->g, threads) + 64);
    cr_assert(memory);
    run(&p->g, threads, (void *)(((uintptr_t)memory + 63) / 64 * 64));
    grdi_free(memory);
}

/* The root of the mean square of errors, each as a part of the sum of the terms' sizes. */
static double error_of(const f32_product *p)
{
    double squares = 0;
    for (int64_t i = 0; i < M; i++)
        for (int64_t j = 0; j < N; j++) {
            double sum = 0, size = 0;
            for (int64_t q = 0; q < K; q++) {
                double term = (double)p->a[i * K + q] * p->b[q * N + j];
                sum += term, size += fabs(term);
            }
            double error = (p->c[i * N + j] - sum) / size;
            squares += error * error;
        }
    return sqrt(squares / (M * N));
}

Test(gemm, amx_f32_is_as_accurate)
{
    if (!grdi_isa_usable(GRDI_ISA_AMX)) cr_skip("no AMX here");
    f32_product p = make_f32();
    run_f32(grdi_gemm_all_avx512bf16, grdi_gemm_all_scratch_avx512bf16, &p, 2);
    double loops = error_of(&p);
    run_f32(grdi_gemm_all_amx, grdi_gemm_all_scratch_amx, &p, 2);
    double tiles = error_of(&p);
    cr_assert(tiles <= loops, "tiles are off by %g, loops by %g", tiles, loops);
    cr_assert(tiles > 0 && tiles != loops, "tiles were not asked");
    drop_f32(p);
}

static void compare_bits(const float *a, const float *b, const char *what)
{
    for (int64_t i = 0; i < M * N; i++)
        cr_assert(memcmp(&a[i], &b[i], sizeof *a) == 0, "%s at %lld: %g and %g", what, (long long)i, a[i], b[i]);
}

Test(gemm, amx_f32_has_the_same_bits_on_any_threads)
{
    if (!grdi_isa_usable(GRDI_ISA_AMX)) cr_skip("no AMX here");
    f32_product p = make_f32(), q = make_f32();
    run_f32(grdi_gemm_all_amx, grdi_gemm_all_scratch_amx, &p, 1);
    for (int32_t threads = 2; threads < 8; threads++) {
        memset(q.c, 0, M * N * sizeof(float));
        run_f32(grdi_gemm_all_amx, grdi_gemm_all_scratch_amx, &q, threads);
        compare_bits(q.c, p.c, "threads");
    }
    memset(q.c, 0, M * N * sizeof(float));
    void *memory = grdi_alloc(grdi_gemm_scratch_amx(&q.g) + 64);
    grdi_gemm_amx(&q.g, (void *)(((uintptr_t)memory + 63) / 64 * 64));
    compare_bits(q.c, p.c, "on the calling thread");
    grdi_free(memory);
    drop_f32(p), drop_f32(q);
}

static int kind(float value)
{
    return isnan(value) ? 0 : isinf(value) ? (value > 0 ? 1 : 2) : 3;
}

/* Infinite, not a number, or more than the largest bf16: such a factor's products are what f32 makes of them, and
 * nothing else changes. */
Test(gemm, amx_f32_takes_factors_that_are_not_finite)
{
    if (!grdi_isa_usable(GRDI_ISA_AMX)) cr_skip("no AMX here");
    f32_product plain = make_f32(), odd = make_f32(), loops = make_f32();
    const struct {
        int64_t at;
        bool in_a;
        float value;
    } factor[] = {{3 * K + 5, true, INFINITY},      {40 * K + 699, true, NAN}, {77 * K, true, 3.4e38f},
                  {200 * N + 2, false, -INFINITY},  {0 * N + 349, false, NAN}, {650 * N + 90, false, -3.4e38f},
                  {209 * K + 100, true, -INFINITY}, {120 * K + 1, true, __builtin_nansf("")}};
    bool odd_row[M] = {false}, odd_column[N] = {false};
    for (size_t i = 0; i < sizeof factor / sizeof factor[0]; i++) {
        (factor[i].in_a ? odd.a : odd.b)[factor[i].at] = factor[i].value;
        (factor[i].in_a ? loops.a : loops.b)[factor[i].at] = factor[i].value;
        if (factor[i].in_a) odd_row[factor[i].at / K] = true;
        else odd_column[factor[i].at % N] = true;
    }
    run_f32(grdi_gemm_all_amx, grdi_gemm_all_scratch_amx, &plain, 2);
    run_f32(grdi_gemm_all_amx, grdi_gemm_all_scratch_amx, &odd, 2);
    run_f32(grdi_gemm_all_avx512bf16, grdi_gemm_all_scratch_avx512bf16, &loops, 2);
    int64_t seen[4] = {0};
    for (int64_t i = 0; i < M; i++)
        for (int64_t j = 0; j < N; j++) {
            float value = odd.c[i * N + j], loop = loops.c[i * N + j];
            if (!odd_row[i] && !odd_column[j]) {
                cr_assert(memcmp(&value, &plain.c[i * N + j], sizeof value) == 0, "%lld,%lld changed", (long long)i,
                          (long long)j);
                continue;
            }
            seen[kind(loop)]++;
            cr_assert(kind(value) == kind(loop), "%lld,%lld: %g for %g", (long long)i, (long long)j, value, loop);
            if (kind(loop) == 3) cr_assert(fabsf(value - loop) <= 1e-5f * fabsf(loop));
        }
    cr_assert(seen[0] > 0 && seen[1] > 0 && seen[2] > 0 && seen[3] > 0, "not all kinds were met");
    drop_f32(plain), drop_f32(odd), drop_f32(loops);
}
#endif
