/* convert.h - bf16 and f16 to and from f32, one value at a time: rounding to nearest, ties to even; NaN stays NaN (made
 * quiet, sign and upper payload bits kept); values beyond the range become infinity. */
#ifndef GRDI_CONVERT_H
#define GRDI_CONVERT_H

#include <stdint.h>
#include <string.h>

static inline float grdi_bits_to_f32(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static inline uint32_t grdi_f32_to_bits(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static inline float grdi_bf16_to_f32(uint16_t value) { return grdi_bits_to_f32((uint32_t)value << 16); }

static inline uint16_t grdi_f32_to_bf16(float value)
{
    uint32_t bits = grdi_f32_to_bits(value);
    if ((bits & 0x7FFFFFFFu) > 0x7F800000u) /* rounding could turn a NaN into infinity */
        return (uint16_t)(bits >> 16 | 0x40u);
    return (uint16_t)((bits + 0x7FFFu + (bits >> 16 & 1u)) >> 16);
}

/* Up with a probability of how far the value lies from the bf16 below it to the one above: right on average. `random`:
 * 16 bits; values that bf16 holds do not change. */
static inline uint16_t grdi_f32_to_bf16_randomly(float value, uint32_t random)
{
    uint32_t bits = grdi_f32_to_bits(value);
    if ((bits & 0x7FFFFFFFu) > 0x7F800000u) return (uint16_t)(bits >> 16 | 0x40u);
    return (uint16_t)((bits + random) >> 16);
}

static inline float grdi_f16_to_f32(uint16_t value)
{
    uint32_t sign = (uint32_t)(value & 0x8000u) << 16, exponent = value >> 10 & 0x1Fu, mantissa = value & 0x3FFu;
    if (exponent == 31)
        return grdi_bits_to_f32(sign | 0x7F800000u | mantissa << 13);
    if (exponent == 0) { /* mantissa * 2^-24: put it below 2^-14, whose last bit is 2^-24 << 13, and take that away */
        float magnitude = grdi_bits_to_f32(113u << 23 | mantissa << 13) - grdi_bits_to_f32(113u << 23);
        return grdi_bits_to_f32(sign | grdi_f32_to_bits(magnitude));
    }
    return grdi_bits_to_f32(sign | (exponent + 112u) << 23 | mantissa << 13);
}

static inline uint16_t grdi_f32_to_f16(float value)
{
    uint32_t bits = grdi_f32_to_bits(value), sign = bits >> 16 & 0x8000u, magnitude = bits & 0x7FFFFFFFu;
    if (magnitude > 0x7F800000u)
        return (uint16_t)(sign | 0x7E00u | (magnitude >> 13 & 0x1FFu));
    if (magnitude >= 0x47800000u) /* 2^16 and above; [65520, 2^16) reaches infinity by carry below */
        return (uint16_t)(sign | 0x7C00u);
    if (magnitude < 0x38800000u) { /* below 2^-14: the last bit of 0.5f is 2^-24, so the sum rounds where f16 does */
        uint32_t sum = grdi_f32_to_bits(grdi_bits_to_f32(magnitude) + 0.5f);
        return (uint16_t)(sign | (sum - 0x3F000000u));
    }
    magnitude += 0xFFFu + (magnitude >> 13 & 1u);
    return (uint16_t)(sign | (magnitude - (112u << 23)) >> 13);
}

#endif
