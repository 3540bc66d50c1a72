/* gemm.h - products of two matrices with any strides, the ground that matmul, linear, attention and the classifier
 * stand on. One implementation for each instruction set (kernels/gemm.c), no memory of its own, no heap.
 *
 * Every element of C is summed over K in an order that K alone decides: neither threads nor strides nor M and N
 * change its bits. (With AMX M and N decide how f32 is multiplied; threads change nothing there either.) */
#ifndef GRDI_GEMM_H
#define GRDI_GEMM_H

#include "backend/backend.h"

/* Activations behind a product, numbered as the attribute of op `linear`. */
typedef enum grdi_activation {
    GRDI_ACT_NONE,
    GRDI_ACT_RELU,
    GRDI_ACT_GELU, /* exact: x Phi(x) */
    GRDI_ACT_GELU_TANH,
    GRDI_ACT_SILU,
    GRDI_ACT_RELU_SQUARED,
    GRDI_ACT_TANH,
    GRDI_ACT_SIGMOID,
    GRDI_ACT_COUNT
} grdi_activation;

/* C [m,n] = A [m,k] B [k,n] (+ bias [n]) (+ C); strides in elements, `c` has 1 along its rows. Element types f32
 * or bf16, each its own. With an activation: y = activation(C), and C itself is not kept where `c` is NULL. */
typedef struct grdi_gemm {
    int64_t m, n, k;
    const void *a, *b;
    int64_t a_row, a_col, b_row, b_col;
    void *c;
    int64_t c_row;
    const void *bias; /* NULL: none; contiguous */
    void *y;          /* only with an activation */
    int64_t y_row;
    grd_dtype a_type, b_type, c_type, bias_type; /* y has c_type */
    grdi_activation activation;
    bool a_round, b_round; /* A or B is f32 and counts as rounded to bf16 */
    bool add;              /* add to C; not together with bias or activation */
} grdi_gemm;

/* Whether both operands are bf16 or count as rounded to it. */
static inline bool grdi_gemm_of_bf16(const grdi_gemm *g)
{
    return (g->a_type == GRD_BF16 || g->a_round) && (g->b_type == GRD_BF16 || g->b_round);
}

#define GRDI_GEMM_DECLARE(isa)                                                                                         \
    size_t grdi_gemm_scratch_##isa(const grdi_gemm *g);                                                                \
    void grdi_gemm_##isa(const grdi_gemm *g, void *scratch);                                                           \
    size_t grdi_gemm_all_scratch_##isa(const grdi_gemm *g, int32_t threads);                                           \
    void grdi_gemm_all_##isa(const grdi_gemm *g, int32_t threads, void *scratch);
GRDI_GEMM_DECLARE(base)
#if defined(__x86_64__)
GRDI_GEMM_DECLARE(avx2)
GRDI_GEMM_DECLARE(avx512)
GRDI_GEMM_DECLARE(avx512bf16)
GRDI_GEMM_DECLARE(amx)
#endif
#undef GRDI_GEMM_DECLARE
/* grdi_gemm_X          does `g` on the calling thread; `scratch` (64-byte aligned) has grdi_gemm_scratch_X(g) bytes.
 * grdi_gemm_all_X      does it on `threads` threads; `scratch` has grdi_gemm_all_scratch_X(g, threads) bytes.
 * grdi_gemm_avx512bf16 multiplies operands that both are bf16, or count as rounded to it, in pairs, at twice the rate
 * of f32; grdi_gemm_amx does so in tiles, and takes f32 for sums of three bf16 where that is faster (amx/gemm_f32.h).
 * Scratch sizes look at sizes, strides and types, not at pointers (but whether c and y are NULL); a smaller product may
 * need more. */

/* From which m, n and k on a product of bf16 is our own where oneDNN is there. Pairs pack both operands, which shows
 * where one of the sizes is small; beyond that they are faster, and tiles everywhere (docs/LOG.md). */
#if defined(GRDI_ISA_amx)
#define GRDI_OWN_BF16_FROM 0
#elif defined(GRDI_ISA_avx512bf16)
#define GRDI_OWN_BF16_FROM 320
#else
#define GRDI_OWN_BF16_FROM INT64_MAX
#endif

/* Rows that a block of A has at most on this processor. Only the pace depends on it. */
int64_t grdi_gemm_rows_most(void);

/* One instruction set's products on one thread, and what a cut for several needs to know of them. */
typedef struct grdi_gemm_isa {
    void (*run)(const grdi_gemm *g, void *scratch);
    size_t (*scratch)(const grdi_gemm *g); /* bytes; what suffices for a piece suffices for smaller ones */
    double (*cycles)(const grdi_gemm *g);  /* estimated, on one core */
    double shared;                         /* cycles for an element that other threads read too */
    double worth;                          /* multiply-adds that are worth a thread */
    int64_t rows, columns;                 /* pieces are multiples of these */
} grdi_gemm_isa;

/* A product on `threads` threads, in pieces that they share out among themselves as they get on. */
size_t grdi_gemm_shared_scratch(const grdi_gemm *g, int32_t threads, const grdi_gemm_isa *isa);
void grdi_gemm_shared(const grdi_gemm *g, int32_t threads, const grdi_gemm_isa *isa, void *scratch);

/* The part of `g` in rows [row, row + rows) and columns [column, column + columns). */
grdi_gemm grdi_gemm_part(const grdi_gemm *g, int64_t row, int64_t rows, int64_t column, int64_t columns);

#endif
