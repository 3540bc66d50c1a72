/* math.h - elementary functions on vectors of floats. NaN gives NaN; infinities and the ends of the range come out as
 * C's functions have them, denormal arguments and results included. tests/ops/test_vector_math.c holds each to the
 * error written beside it, in units in the last place (ulp) of the correctly rounded result, over the whole range.
 *
 * Polynomials are minimax fits (Lawson's iteration on Chebyshev nodes, coefficients rounded one after another from the
 * highest); arguments are reduced as in Cody and Waite, "Software manual for the elementary functions", 1980. */
#ifndef GRDI_VECTOR_MATH_H
#define GRDI_VECTOR_MATH_H

#include "backend/cpu/kernels/vector.h"

/* 2^n for whole n in -126..127. */
static inline grdi_vf grdi_power_of_two(grdi_vf n)
{
    return (grdi_vf)((__builtin_convertvector(n, grdi_vi) + 127) << 23);
}

/* y 2^n for y in 1/2..3/2 and whole n in -151..129, where the result may lie outside the normal numbers. For n = -151
 * it is 0 and not computed: Intel's processors take 250 to 280 cycles instead of 8 for a vector with one lane below the
 * normal numbers, and whatever a mask hides is such a lane. */
static inline grdi_vf grdi_scale(grdi_vf y, grdi_vf n)
{
#if defined(GRDI_ISA_avx512)
    __mmask16 some = _mm512_cmp_ps_mask((__m512)n, _mm512_set1_ps(-151.0f), _CMP_NLE_UQ); /* or NaN */
    return (grdi_vf)_mm512_maskz_scalef_ps(some, (__m512)y, (__m512)n);
#else
    y = (grdi_vf)((grdi_vi)y & ~(grdi_vi)(n <= -151.0f));
    grdi_vi whole = __builtin_convertvector(n, grdi_vi), half = whole >> 1; /* in two steps, each of a normal power */
    y *= (grdi_vf)((half + 127) << 23);
    GRDI_EXACT(y);
    return y * (grdi_vf)((whole - half + 127) << 23);
#endif
}

/* x = n ln 2 + r with |r| <= ln 2 / 2, for |x| < 1e5. */
static inline grdi_vf grdi_exp_reduce(grdi_vf x, grdi_vf *n)
{
#if defined(GRDI_ISA_avx512)
    *n = (grdi_vf)_mm512_roundscale_ps((__m512)(x * 1.44269504f), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
#else
    grdi_vf shifted = x * 1.44269504f + 12582912.0f; /* 1.5 * 2^23: nothing behind the point is left */
    GRDI_EXACT(shifted);
    *n = shifted - 12582912.0f;
#endif
    grdi_vf r = x - *n * 0.693359375f; /* ln 2 in two parts; the first has 9 bits, so this product is exact */
    GRDI_EXACT(r);
    return r + *n * 2.12194440e-4f;
}

/* (exp(r) - 1 - r) / r^2 */
static inline grdi_vf grdi_exp_polynomial(grdi_vf r)
{
    grdi_vf p = r * 1.978926157e-04f + 1.394575229e-03f;
    p = p * r + 8.333504200e-03f;
    p = p * r + 4.166628048e-02f;
    p = p * r + 1.666666567e-01f;
    return p * r + 0.5f;
}

/* 1 ulp. */
static inline grdi_vf grdi_exp(grdi_vf x)
{
    x = grdi_min(grdi_set(89.0f), grdi_max(grdi_set(-105.0f), x)); /* 2^-151 and less is 0 */
    grdi_vf n, r = grdi_exp_reduce(x, &n), tail = grdi_exp_polynomial(r) * (r * r) + r;
    GRDI_EXACT(tail); /* the small terms first, then 1 */
    return grdi_scale(tail + 1.0f, n);
}

/* exp(x) for x <= 0, where the ends of the range above are out of reach; results below 2^-126 become 0. 1 ulp. For sums
 * of many. */
static inline grdi_vf grdi_exp_negative(grdi_vf x)
{
    x = grdi_max(grdi_set(-88.0f), x);
    grdi_vf n, r = grdi_exp_reduce(x, &n), tail = grdi_exp_polynomial(r) * (r * r) + r;
    GRDI_EXACT(tail);
    grdi_vf y = (tail + 1.0f) * grdi_power_of_two(n);
    return grdi_select(x <= -87.0f, grdi_set(0.0f), y);
}

/* 2^x for x <= 128, with fewer steps than exp: for the weights of attention and for gates, where the factor of another
 * base costs nothing. 3 ulp. */
static inline grdi_vf grdi_exp2(grdi_vf x)
{
    x = grdi_max(grdi_set(-151.0f), x);
#if defined(GRDI_ISA_avx512)
    grdi_vf n = (grdi_vf)_mm512_roundscale_ps((__m512)x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
#else
    grdi_vf shifted = x + 12582912.0f;
    GRDI_EXACT(shifted);
    grdi_vf n = shifted - 12582912.0f;
#endif
    grdi_vf r = x - n, p = r * 1.326472731e-03f + 9.671512991e-03f;
    p = p * r + 5.550733581e-02f;
    p = p * r + 2.402224243e-01f;
    p = p * r + 6.931470037e-01f;
    return grdi_scale(p * r + 1.0f, n);
}

/* 2 ulp. */
static inline grdi_vf grdi_expm1(grdi_vf x)
{
    grdi_vf bound = grdi_min(grdi_set(89.0f), grdi_max(grdi_set(-20.0f), x));
    grdi_vf n, r = grdi_exp_reduce(bound, &n), tail = grdi_exp_polynomial(r) * (r * r) + r;
    GRDI_EXACT(tail);
    /* 2^n tail + (2^n - 1); n = 128 is out of reach for one power of two, so halve and double */
    grdi_vf scale = grdi_power_of_two(n - 1.0f), offset = scale - 0.5f;
    GRDI_EXACT(offset);
    grdi_vf y = (scale * tail + offset) * 2.0f;
    return grdi_select(x == 0.0f, x, y);
}

/* x = 2^e m with m in [sqrt(1/2), sqrt 2), for positive finite x; returns m - 1. Other x give anything: their bits are
 * subtracted as unsigned numbers, which may wrap. */
static inline grdi_vf grdi_log_reduce(grdi_vf x, grdi_vf *e)
{
    grdi_vi tiny = x < 1.17549435e-38f;
    x = grdi_select(tiny, x * 8388608.0f, x);
    grdi_vu bits = (grdi_vu)x;
    grdi_vi power = (grdi_vi)(bits - 0x3F3504F3u) >> 23; /* 0x3F3504F3: sqrt(1/2) */
    *e = __builtin_convertvector(power + (tiny & -23), grdi_vf);
    grdi_vf m = (grdi_vf)(bits - ((grdi_vu)power << 23));
    GRDI_EXACT(m);
    return m - 1.0f;
}

/* log(2^e (1 + f)) + extra; `extra` is a small correction of f. */
static inline grdi_vf grdi_log_sum(grdi_vf f, grdi_vf e, grdi_vf extra)
{
    grdi_vf p = f * 6.915428489e-02f - 1.178983673e-01f;
    p = p * f + 1.187296435e-01f;
    p = p * f - 1.238434240e-01f;
    p = p * f + 1.421865821e-01f;
    p = p * f - 1.666925102e-01f;
    p = p * f + 2.000222653e-01f;
    p = p * f - 2.499998659e-01f;
    p = p * f + 3.333331048e-01f;
    grdi_vf square = f * f, tail = p * (square * f) - e * 2.12194440e-4f + extra;
    tail -= square * 0.5f;
    GRDI_EXACT(tail);
    grdi_vf y = f + tail;
    GRDI_EXACT(y);
    return y + e * 0.693359375f;
}

/* What log gives outside the positive finite numbers. */
static inline grdi_vf grdi_log_ends(grdi_vf x, grdi_vf y)
{
    y = grdi_select(x == INFINITY, x, y);
    y = grdi_select(x == 0.0f, grdi_set(-INFINITY), y);
    return grdi_select(x >= 0.0f, y, grdi_set(NAN));
}

/* 1 ulp. */
static inline grdi_vf grdi_log(grdi_vf x)
{
    grdi_vf e, f = grdi_log_reduce(x, &e);
    return grdi_log_ends(x, grdi_log_sum(f, e, grdi_set(0.0f)));
}

/* 2 ulp. What 1 + x rounds away comes back as a correction of the logarithm's argument. */
static inline grdi_vf grdi_log1p(grdi_vf x)
{
    grdi_vf sum = x + 1.0f;
    GRDI_EXACT(sum);
    grdi_vf big = grdi_max(x, grdi_set(1.0f)), small = grdi_min(x, grdi_set(1.0f));
    grdi_vf lost = sum - big;
    GRDI_EXACT(lost);
    lost = small - lost;
    grdi_vf e, f = grdi_log_reduce(sum, &e), extra = lost / sum;
    extra = grdi_select(sum < 16777216.0f, extra, grdi_set(0.0f));
    grdi_vf y = grdi_log_ends(sum, grdi_log_sum(f, e, extra));
    return grdi_select(grdi_abs(x) < 5.96046448e-08f, x, y);
}

/* 1 / x for positive x, infinity included; what is less than 2^-126 is right to a factor of two. 1 ulp. */
static inline grdi_vf grdi_reciprocal_positive(grdi_vf x)
{
#if defined(GRDI_ISA_avx512)
    grdi_vf r = (grdi_vf)_mm512_rcp14_ps((__m512)x); /* half of the bits, which a step of Newton's doubles */
    return r + r * (1.0f - grdi_min(grdi_set(0x1p126f), x) * r);
#else
    return 1.0f / x;
#endif
}

/* 2 ulp. */
static inline grdi_vf grdi_tanh(grdi_vf x)
{
    grdi_vf size = grdi_abs(x), square = x * x;
    grdi_vf p = square * -5.709497258e-03f + 2.064413577e-02f;
    p = p * square - 5.374162272e-02f;
    p = p * square + 1.333146989e-01f;
    p = p * square - 3.333328366e-01f;
    grdi_vf small = x + x * (square * p);
    grdi_vf e = grdi_exp2(grdi_min(grdi_set(64.0f), size * 2.88539008f)); /* e^2|x|, or more than enough */
    grdi_vf large = 1.0f - 2.0f * grdi_reciprocal_positive(e + 1.0f);
    return grdi_select(size < 0.625f, small, grdi_copysign(large, x));
}

/* 3 ulp. */
static inline grdi_vf grdi_sigmoid(grdi_vf x)
{
    grdi_vf e =
        grdi_exp((grdi_vf)((grdi_vi)x | INT32_MIN)); /* exp(-|x|): no overflow, and small results stay accurate */
    return grdi_select(x >= 0.0f, grdi_set(1.0f), e) / (1.0f + e);
}

/* 1 / (1 + 2^-x), with fewer steps than the sigmoid. 5 ulp for x > -126. */
static inline grdi_vf grdi_gate(grdi_vf x)
{
    return grdi_reciprocal_positive(grdi_exp2(grdi_min(grdi_set(128.0f), -x)) + 1.0f);
}

/* sigmoid(x), as a gate */
static inline grdi_vf grdi_sigmoid_gate(grdi_vf x) { return grdi_gate(x * 1.44269504f); }

/* (1 + tanh z) / 2 = sigmoid(2 z), with z = sqrt(2 / pi) (x + 0.044715 x^3) */
static inline grdi_vf grdi_gelu_tanh_gate(grdi_vf x)
{
    return grdi_gate(x * (2.302208198f + 0.102943240f * (x * x)));
}

/* erfc(t) exp(t^2) for t >= 0: u P(u), u = 1 / (1 + 0.35 t), after Hastings, "Approximations for digital computers",
 * 1955. 8 ulp. */
static inline grdi_vf grdi_erfc_scaled(grdi_vf t)
{
    grdi_vf u = 1.0f / (t * 0.35f + 1.0f);
    grdi_vf p = u * 3.868714347e-02f - 1.605284661e-01f;
    p = p * u + 1.853481829e-01f;
    p = p * u - 3.307818994e-02f;
    p = p * u + 9.166715294e-02f;
    p = p * u + 1.434360743e-01f;
    p = p * u + 1.521313041e-01f;
    p = p * u + 1.876889616e-01f;
    p = p * u + 1.971655488e-01f;
    p = p * u + 1.974822879e-01f;
    return u * p;
}

/* 3 ulp. */
static inline grdi_vf grdi_erf(grdi_vf x)
{
    grdi_vf size = grdi_abs(x), square = x * x;
    grdi_vf p = square * 7.853882562e-05f - 8.010200690e-04f;
    p = p * square + 5.188328680e-03f;
    p = p * square - 2.685381286e-02f;
    p = p * square + 1.128358543e-01f;
    p = p * square - 3.761262596e-01f;
    p = p * square + 1.283791661e-01f;
    grdi_vf small = x + x * p, large = 1.0f - grdi_exp(-square) * grdi_erfc_scaled(size);
    return grdi_select(size < 1.0f, small, grdi_copysign(large, x));
}

/* The standard normal distribution function (1 + erf(x / sqrt 2)) / 2 to 3e-7, and for negative x to 1e-6 + 6e-8 x^2 of
 * itself (the rounding of x^2); its derivative exp(-x^2 / 2) / sqrt(2 pi) goes to *density. */
static inline grdi_vf grdi_normal_cdf(grdi_vf x, grdi_vf *density)
{
    grdi_vf e = grdi_exp(x * x * -0.5f), tail = 0.5f * e * grdi_erfc_scaled(grdi_abs(x) * 0.707106781f);
    *density = e * 0.398942280f;
    return grdi_select(x > 0.0f, 1.0f - tail, tail);
}

/* sin(r) or cos(r) for |r| <= pi/4, as `cosine` says by lane. */
static inline grdi_vf grdi_sine_or_cosine(grdi_vf r, grdi_vi cosine)
{
    grdi_vf square = r * r;
    grdi_vf s = square * 2.718254791e-06f - 1.983932889e-04f;
    s = s * square + 8.333329111e-03f;
    s = s * square - 1.666666716e-01f;
    s = r + r * (square * s);
    grdi_vf c = square * 2.443789890e-05f - 1.388736302e-03f;
    c = c * square + 4.166664556e-02f;
    c = c * (square * square) - square * 0.5f;
    GRDI_EXACT(c);
    return grdi_select(cosine, c + 1.0f, s);
}

/* sin(x + quarters pi/2). To 1e-7 for |x| <= 8192; beyond that the C library
 * does it, lane by lane. */
static inline grdi_vf grdi_sin_shifted(grdi_vf x, int quarters)
{
    grdi_vf shifted = x * 0.636619772f + 12582912.0f;
    grdi_vi n = (grdi_vi)((grdi_vu)shifted - 0x4B400000u);
    grdi_vf count = __builtin_convertvector(n, grdi_vf);
    grdi_vf r = x - count * 1.5703125f; /* pi/2 in three parts; the first two have 8 and 11 bits: exact products */
    GRDI_EXACT(r);
    r -= count * 4.837512969970703125e-4f;
    GRDI_EXACT(r);
    r -= count * 7.549789948768648e-8f;
    n += quarters;
    grdi_vf y = grdi_sine_or_cosine(r, (n & 1) != 0);
    y = (grdi_vf)((grdi_vi)y ^ ((n & 2) << 30));
    grdi_vi far = ~(grdi_abs(x) <= 8192.0f);
    for (int i = 0; grdi_any(far) && i < GRDI_LANES; i++)
        if (far[i])
            y[i] = quarters ? cosf(x[i]) : sinf(x[i]);
    return y;
}

static inline grdi_vf grdi_sin(grdi_vf x) { return grdi_sin_shifted(x, 0); }
static inline grdi_vf grdi_cos(grdi_vf x) { return grdi_sin_shifted(x, 1); }

#endif
