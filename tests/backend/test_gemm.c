/* test_gemm.c - products of matrices of the cpu backend against sums in double: every instruction set, f32 and bf16,
 * weights that count as rounded, all layouts, sizes around those of tiles and blocks. */
#include "backend/cpu/cpu.h"
#include "backend/cpu/gemm.h"
#include "base/convert.h"
#include "base/memory.h"

#include <criterion/criterion.h>
#include <math.h>

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

/* Beyond the blocks of rows, columns and k that AMX's loops have. */
static const int64_t amx_sizes[][3] = {{33, 530, 34}, {2090, 33, 520}, {64, 48, 96}};

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
#endif
