/* run.h - runs of elements of any float dtype or bool, to and from floats. */
#ifndef GRDI_RUN_H
#define GRDI_RUN_H

#include "backend/backend.h"
#include "backend/cpu/kernels/vector.h"
#include "base/convert.h"

/* The dtypes that vector kernels read and write; the rest is the reference's. Runs can be of f16, too, for copies. */
static inline bool grdi_run_dtype(grd_dtype dtype)
{
    return dtype == GRD_F32 || dtype == GRD_BF16 || dtype == GRD_BOOL;
}

static inline float grdi_run_get(const void *data, grd_dtype dtype, int64_t i)
{
    if (dtype == GRD_F32)
        return ((const float *)data)[i];
    if (dtype == GRD_BF16)
        return grdi_bf16_to_f32(((const uint16_t *)data)[i]);
    if (dtype == GRD_F16)
        return grdi_f16_to_f32(((const uint16_t *)data)[i]);
    return ((const uint8_t *)data)[i] != 0;
}

static inline void grdi_run_put(void *data, grd_dtype dtype, int64_t i, float value)
{
    if (dtype == GRD_F32)
        ((float *)data)[i] = value;
    else if (dtype == GRD_BF16)
        ((uint16_t *)data)[i] = grdi_f32_to_bf16(value);
    else if (dtype == GRD_F16)
        ((uint16_t *)data)[i] = grdi_f32_to_f16(value);
    else
        ((uint8_t *)data)[i] = value != 0;
}

static inline void *grdi_run_at(void *data, grd_dtype dtype, int64_t i)
{
    return (char *)data + i * (dtype == GRD_F32 ? 4 : dtype == GRD_BF16 || dtype == GRD_F16 ? 2 : 1);
}

/* `count` elements from data[0], data[stride], ... */
static inline void grdi_run_load(float *to, const void *data, grd_dtype dtype, int64_t stride, int64_t count)
{
    int64_t i = 0;
    if (stride == 0) {
        float value = grdi_run_get(data, dtype, 0);
        for (; i < count; i++)
            to[i] = value;
        return;
    }
    if (stride == 1 && dtype == GRD_F32) {
        for (; i + GRDI_LANES <= count; i += GRDI_LANES)
            grdi_store(to + i, grdi_load((const float *)data + i));
    } else if (stride == 1 && dtype == GRD_BF16) {
        for (; i + GRDI_LANES <= count; i += GRDI_LANES)
            grdi_store(to + i, grdi_load_bf16((const uint16_t *)data + i));
    } else if (stride == 1 && dtype == GRD_F16) {
        for (; i + GRDI_LANES <= count; i += GRDI_LANES)
            grdi_store(to + i, grdi_load_f16((const uint16_t *)data + i));
    } else if (stride == 1) {
        for (; i + GRDI_LANES <= count; i += GRDI_LANES)
            grdi_store(to + i, grdi_load_bool((const uint8_t *)data + i));
    } else if (dtype == GRD_F32) {
        for (; i < count; i++)
            to[i] = ((const float *)data)[i * stride];
    }
    for (; i < count; i++)
        to[i] = grdi_run_get(data, dtype, i * stride);
}

/* The reverse; `add` adds to what is there. */
static inline void grdi_run_store(void *data, grd_dtype dtype, int64_t stride, const float *from, int64_t count,
                                  bool add)
{
    int64_t i = 0;
    if (stride == 1 && dtype == GRD_F32 && !add) {
        for (; i + GRDI_LANES <= count; i += GRDI_LANES)
            grdi_store((float *)data + i, grdi_load(from + i));
    } else if (stride == 1 && dtype == GRD_F32) {
        for (; i + GRDI_LANES <= count; i += GRDI_LANES)
            grdi_store((float *)data + i, grdi_load((const float *)data + i) + grdi_load(from + i));
    } else if (stride == 1 && dtype == GRD_BF16 && !add) {
        for (; i + GRDI_LANES <= count; i += GRDI_LANES)
            grdi_store_bf16((uint16_t *)data + i, grdi_load(from + i));
    } else if (stride == 1 && dtype == GRD_BF16) {
        for (; i + GRDI_LANES <= count; i += GRDI_LANES)
            grdi_store_bf16((uint16_t *)data + i, grdi_load_bf16((const uint16_t *)data + i) + grdi_load(from + i));
    } else if (stride == 1 && dtype == GRD_F16 && !add) {
        for (; i + GRDI_LANES <= count; i += GRDI_LANES)
            grdi_store_f16((uint16_t *)data + i, grdi_load(from + i));
    } else if (stride == 1 && dtype == GRD_BOOL && !add) {
        for (; i + GRDI_LANES <= count; i += GRDI_LANES)
            grdi_store_bool((uint8_t *)data + i, grdi_load(from + i));
    }
    for (; i < count; i++)
        grdi_run_put(data, dtype, i * stride, from[i] + (add ? grdi_run_get(data, dtype, i * stride) : 0.0f));
}

/* `count` elements from one dtype to another; one of them is f32. */
static inline void grdi_run_convert(void *to, grd_dtype to_dtype, const void *from, grd_dtype dtype, int64_t count)
{
    if (dtype == GRD_F32)
        grdi_run_store(to, to_dtype, 1, from, count, false);
    else
        grdi_run_load(to, from, dtype, 1, count);
}

#endif
