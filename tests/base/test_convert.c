/* bf16 and f16 against their definitions, in double. */
#include "base/convert.h"

#include <criterion/criterion.h>
#include <math.h>

/* IEEE 754 binary16: 1 sign, 5 exponent (bias 15), 10 fraction bits. */
static double f16_value(uint16_t h)
{
    int exponent = h >> 10 & 31, fraction = h & 1023;
    double magnitude = exponent == 31 ? (fraction ? NAN : INFINITY)
                       : exponent     ? ldexp(1024 + fraction, exponent - 25)
                                      : ldexp(fraction, -24);
    return h & 0x8000 ? -magnitude : magnitude;
}

Test(convert, every_f16_widens_to_its_value_and_comes_back)
{
    for (uint32_t h = 0; h <= 0xFFFF; h++) {
        float wide = grdi_f16_to_f32((uint16_t)h);
        double want = f16_value((uint16_t)h);
        if (isnan(want)) {
            cr_assert(isnan(wide) && isnan(f16_value(grdi_f32_to_f16(wide))), "%04x: NaN is lost", h);
            continue;
        }
        cr_assert((double)wide == want && !signbit(wide) == !signbit(want), "%04x: %g instead of %g", h, (double)wide,
                  want);
        cr_assert(grdi_f32_to_f16(wide) == h, "%04x comes back as %04x", h, grdi_f32_to_f16(wide));
    }
}

/* True when `got` is the nearest of the 16-bit numbers to x, by the numbers below and above it; ties must be even. */
static bool is_nearest(double x, double below, double here, double above, uint16_t got)
{
    double error = fabs(x - here), down = fabs(x - below), up = fabs(x - above);
    return error <= down && error <= up && ((error != down && error != up) || (got & 1) == 0);
}

Test(convert, f32_rounds_to_the_nearest_f16_and_ties_to_even)
{
    for (uint64_t bits = 0; bits < 0x7F800000u;
         bits += 4093) { /* positive finite values; the sign is a bit of its own */
        float x = grdi_bits_to_f32((uint32_t)bits);
        uint16_t got = grdi_f32_to_f16(x);
        cr_assert(grdi_f32_to_f16(-x) == (got | 0x8000), "%g: the sign", (double)x);
        if (got == 0x7C00) {
            cr_assert(x >= 65520.0f, "%g becomes infinity", (double)x);
            continue;
        }
        /* Beyond the largest number the next one would be 2^16. */
        double above = got == 0x7BFF ? 65536.0 : f16_value(got + 1);
        double below = got ? f16_value(got - 1) : -1;
        cr_assert(is_nearest(x, below, f16_value(got), above, got), "%g becomes %g", (double)x, f16_value(got));
    }
    cr_assert(grdi_f32_to_f16(2049.0f) == 0x6800, "2049 lies between 2048 and 2050: to even");
    cr_assert(grdi_f32_to_f16(2051.0f) == 0x6802, "2051 lies between 2050 and 2052: to even");
    cr_assert(grdi_f32_to_f16(0x1p-25f) == 0 && grdi_f32_to_f16(0x1.000002p-25f) == 1, "half of the least subnormal");
    cr_assert(grdi_f32_to_f16(65519.0f) == 0x7BFF && grdi_f32_to_f16(65520.0f) == 0x7C00, "the edge of the range");
    cr_assert(grdi_f32_to_f16(INFINITY) == 0x7C00 && grdi_f32_to_f16(-INFINITY) == 0xFC00, "infinity");
}

static double bf16_value(uint16_t b) { return grdi_bits_to_f32((uint32_t)b << 16); }

Test(convert, f32_rounds_to_the_nearest_bf16_and_ties_to_even)
{
    for (uint64_t bits = 0; bits < 0x7F800000u; bits += 4099) {
        float x = grdi_bits_to_f32((uint32_t)bits);
        uint16_t got = grdi_f32_to_bf16(x);
        cr_assert(grdi_f32_to_bf16(-x) == (got | 0x8000), "%g: the sign", (double)x);
        double above = got >= 0x7F7F ? 0x1p128 : bf16_value(got + 1);
        double here = got == 0x7F80 ? 0x1p128 : bf16_value(got);
        double below = got ? bf16_value(got - 1) : -1;
        cr_assert(is_nearest(x, below, here, got == 0x7F80 ? INFINITY : above, got), "%g becomes %04x", (double)x, got);
    }
    cr_assert(grdi_f32_to_bf16(1.00390625f) == 0x3F80, "1 + 2^-8: to even");
    cr_assert(grdi_f32_to_bf16(1.01171875f) == 0x3F82, "1 + 3 * 2^-8: to even");
    /* All payload bits in the half that is cut off: rounding alone would give infinity or wrap to zero. */
    cr_assert(isnan(bf16_value(grdi_f32_to_bf16(grdi_bits_to_f32(0x7F800001u)))), "NaN with a low payload");
    cr_assert(isnan(bf16_value(grdi_f32_to_bf16(grdi_bits_to_f32(0xFFFFFFFFu)))), "NaN with a full payload");
    for (uint32_t b = 0; b <= 0xFFFF; b++) {
        float wide = grdi_bf16_to_f32((uint16_t)b);
        cr_assert(isnan(wide) || grdi_f32_to_bf16(wide) == b, "%04x does not come back", b);
    }
}
