/* vector.h - one vector register of floats, as wide as the instruction set has it. Arithmetic is GCC's on vector types;
 * what C has no operator for (select, maximum, square root, part of a register) is here. Masks are -1 or 0 in each
 * lane. */
#ifndef GRDI_VECTOR_H
#define GRDI_VECTOR_H

#include "backend/cpu/kernels/isa.h"
#include "base/convert.h"

#include <math.h>
#include <stdint.h>
#include <string.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

typedef float grdi_vf __attribute__((vector_size(4 * GRDI_LANES)));
typedef int32_t grdi_vi __attribute__((vector_size(4 * GRDI_LANES)));
typedef uint32_t grdi_vu __attribute__((vector_size(4 * GRDI_LANES)));
typedef uint16_t grdi_vh __attribute__((vector_size(2 * GRDI_LANES)));
typedef uint8_t grdi_vb __attribute__((vector_size(GRDI_LANES)));
typedef float grdi_vf_any __attribute__((vector_size(4 * GRDI_LANES), aligned(4), may_alias));
typedef uint16_t grdi_vh_any __attribute__((vector_size(2 * GRDI_LANES), aligned(2), may_alias));
typedef uint8_t grdi_vb_any __attribute__((vector_size(GRDI_LANES), aligned(1), may_alias));

/* Keeps the compiler, which may reorder sums, from seeing through a value whose rounding matters. */
#if defined(GRDI_ISA_avx512)
#define GRDI_EXACT(v) __asm__("" : "+v"(v))
#elif defined(__x86_64__)
#define GRDI_EXACT(v) __asm__("" : "+x"(v))
#elif defined(__aarch64__)
#define GRDI_EXACT(v) __asm__("" : "+w"(v))
#else
#define GRDI_EXACT(v) __asm__("" : "+m"(v))
#endif

static inline grdi_vf grdi_load(const float *p) { return *(const grdi_vf_any *)p; }
static inline void grdi_store(float *p, grdi_vf v) { *(grdi_vf_any *)p = v; }
/* All lanes the same. x - 0 is x for every x and costs nothing; 0 + x is not (-0) and would cost an addition. */
static inline grdi_vf grdi_set(float value) { return value - (grdi_vf){0}; }

/* The first `count` lanes, the rest zero. */
static inline grdi_vf grdi_load_part(const float *p, int64_t count)
{
    float lanes[GRDI_LANES] = {0};
    for (int64_t i = 0; i < count; i++)
        lanes[i] = p[i];
    return grdi_load(lanes);
}

static inline void grdi_store_part(float *p, grdi_vf v, int64_t count)
{
    float lanes[GRDI_LANES];
    grdi_store(lanes, v);
    for (int64_t i = 0; i < count; i++)
        p[i] = lanes[i];
}

/* mask ? a : b */
static inline grdi_vf grdi_select(grdi_vi mask, grdi_vf a, grdi_vf b)
{
#if defined(GRDI_ISA_avx512)
    return (grdi_vf)_mm512_mask_blend_ps(_mm512_movepi32_mask((__m512i)mask), (__m512)b, (__m512)a);
#elif defined(GRDI_ISA_avx2)
    return (grdi_vf)_mm256_blendv_ps((__m256)b, (__m256)a, (__m256)mask);
#else
    return (grdi_vf)((mask & (grdi_vi)a) | (~mask & (grdi_vi)b));
#endif
}

/* a > b ? a : b, so b if either is NaN. */
static inline grdi_vf grdi_max(grdi_vf a, grdi_vf b)
{
#if defined(GRDI_ISA_avx512)
    return (grdi_vf)_mm512_max_ps((__m512)a, (__m512)b);
#elif defined(GRDI_ISA_avx2)
    return (grdi_vf)_mm256_max_ps((__m256)a, (__m256)b);
#else
    return grdi_select(a > b, a, b);
#endif
}

/* a < b ? a : b, so b if either is NaN. */
static inline grdi_vf grdi_min(grdi_vf a, grdi_vf b)
{
#if defined(GRDI_ISA_avx512)
    return (grdi_vf)_mm512_min_ps((__m512)a, (__m512)b);
#elif defined(GRDI_ISA_avx2)
    return (grdi_vf)_mm256_min_ps((__m256)a, (__m256)b);
#else
    return grdi_select(a < b, a, b);
#endif
}

static inline grdi_vf grdi_sqrt(grdi_vf a)
{
#if defined(GRDI_ISA_avx512)
    return (grdi_vf)_mm512_sqrt_ps((__m512)a);
#elif defined(GRDI_ISA_avx2)
    return (grdi_vf)_mm256_sqrt_ps((__m256)a);
#else
    for (int i = 0; i < GRDI_LANES; i++)
        a[i] = sqrtf(a[i]);
    return a;
#endif
}

static inline grdi_vf grdi_abs(grdi_vf a) { return (grdi_vf)((grdi_vi)a & 0x7FFFFFFF); }
/* The magnitude of `a` with the sign of `b`. */
static inline grdi_vf grdi_copysign(grdi_vf a, grdi_vf b)
{
    return (grdi_vf)(((grdi_vi)a & 0x7FFFFFFF) | ((grdi_vi)b & INT32_MIN));
}

static inline grdi_vi grdi_is_nan(grdi_vf a) { return a != a; }

/* Whether any lane of a mask is set. */
static inline int grdi_any(grdi_vi mask)
{
#if defined(GRDI_ISA_avx512)
    return _mm512_movepi32_mask((__m512i)mask) != 0;
#elif defined(GRDI_ISA_avx2)
    return _mm256_movemask_ps((__m256)mask) != 0;
#else
    for (int i = 0; i < GRDI_LANES; i++)
        if (mask[i])
            return 1;
    return 0;
#endif
}

/* Sums and extremes over the lanes, always in the same order. */
static inline float grdi_sum_lanes(grdi_vf a)
{
#if defined(GRDI_ISA_avx512)
    return _mm512_reduce_add_ps((__m512)a);
#else
    float sum[GRDI_LANES];
    grdi_store(sum, a);
    for (int half = GRDI_LANES / 2; half > 0; half /= 2)
        for (int i = 0; i < half; i++)
            sum[i] += sum[i + half];
    return sum[0];
#endif
}

static inline float grdi_max_lanes(grdi_vf a)
{
#if defined(GRDI_ISA_avx512)
    return _mm512_reduce_max_ps((__m512)a);
#else
    float most = a[0];
    for (int i = 1; i < GRDI_LANES; i++)
        most = a[i] > most ? a[i] : most;
    return most;
#endif
}

/* ---- other element types ---- */

static inline grdi_vf grdi_load_bf16(const uint16_t *p)
{
#if defined(GRDI_ISA_avx512) /* GCC 12 makes detours */
    return (grdi_vf)_mm512_slli_epi32(_mm512_cvtepu16_epi32((__m256i) * (const grdi_vh_any *)p), 16);
#else
    return (grdi_vf)(__builtin_convertvector(*(const grdi_vh_any *)p, grdi_vu) << 16);
#endif
}

/* To nearest, ties to even; NaN stays NaN, made quiet (see base/convert.h). The instruction for it takes numbers below
 * 2^-126 for zero. */
static inline grdi_vu grdi_bf16_bits(grdi_vf v)
{
#if GRDI_PAIRS
    return (grdi_vu)_mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh((__m512)v));
#else
    grdi_vu bits = (grdi_vu)v, rounded = (bits + 0x7FFFu + ((bits >> 16) & 1u)) >> 16;
    grdi_vu quiet = (bits >> 16) | 0x40u, nan = (grdi_vu)grdi_is_nan(v);
    return (rounded & ~nan) | (quiet & nan);
#endif
}

static inline void grdi_store_bf16(uint16_t *p, grdi_vf v)
{
#if GRDI_PAIRS
    *(grdi_vh_any *)p = (grdi_vh)_mm512_cvtneps_pbh((__m512)v);
#elif defined(GRDI_ISA_avx512)
    *(grdi_vh_any *)p = (grdi_vh)_mm512_cvtepi32_epi16((__m512i)grdi_bf16_bits(v));
#else
    *(grdi_vh_any *)p = __builtin_convertvector(grdi_bf16_bits(v), grdi_vh);
#endif
}

static inline grdi_vf grdi_load_f16(const uint16_t *p)
{
#if defined(GRDI_ISA_avx512)
    return (grdi_vf)_mm512_cvtph_ps((__m256i) * (const grdi_vh_any *)p);
#elif defined(GRDI_ISA_avx2)
    return (grdi_vf)_mm256_cvtph_ps((__m128i) * (const grdi_vh_any *)p);
#else
    float lanes[GRDI_LANES];
    for (int i = 0; i < GRDI_LANES; i++) lanes[i] = grdi_f16_to_f32(p[i]);
    return grdi_load(lanes);
#endif
}

static inline void grdi_store_f16(uint16_t *p, grdi_vf v)
{
#if defined(GRDI_ISA_avx512)
    *(grdi_vh_any *)p = (grdi_vh)_mm512_cvtps_ph((__m512)v, _MM_FROUND_TO_NEAREST_INT);
#elif defined(GRDI_ISA_avx2)
    *(grdi_vh_any *)p = (grdi_vh)_mm256_cvtps_ph((__m256)v, _MM_FROUND_TO_NEAREST_INT);
#else
    for (int i = 0; i < GRDI_LANES; i++) p[i] = grdi_f32_to_f16(v[i]);
#endif
}

static inline grdi_vf grdi_load_bool(const uint8_t *p)
{
    grdi_vi set = __builtin_convertvector(*(const grdi_vb_any *)p, grdi_vi) != 0;
    return (grdi_vf)(set & (grdi_vi)grdi_set(1.0f));
}

static inline void grdi_store_bool(uint8_t *p, grdi_vf v)
{
    grdi_vi set = v != 0.0f;
    *(grdi_vb_any *)p = __builtin_convertvector(set & 1, grdi_vb);
}

#endif
