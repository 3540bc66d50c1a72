/* bf16.h - bf16 as NVIDIA's libraries read and write it, for their stand-ins: rounded to nearest, ties to even; every
 * NaN becomes 0x7FFF. */
#ifndef GRDI_SIM_BF16_H
#define GRDI_SIM_BF16_H

#include "base/convert.h"

#include <cstring>

inline float sim_from_bf16(uint16_t bits)
{
    return grdi_bf16_to_f32(bits);
}

inline uint16_t sim_to_bf16(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return value != value ? (uint16_t)0x7FFF : (uint16_t)((bits + 0x7FFFu + (bits >> 16 & 1u)) >> 16);
}

#endif
