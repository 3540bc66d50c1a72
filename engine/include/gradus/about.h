/* about.h - what this build and this device offer: libraries, rates, and ops timed against them. */
#ifndef GRADUS_ABOUT_H
#define GRADUS_ABOUT_H

#include <gradus/graph.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- rates: the limits that every speed is compared with ---- */

typedef struct grd_rates {
    double matmul_flops_per_s; /* f32 */
    double matmul_bf16_flops_per_s;
    double copy_bytes_per_s; /* read + written, of blocks that no cache holds */
    double map_flops_per_s;  /* simple vector arithmetic out of cache */
    double launch_s;         /* fixed cost of one launch */
} grd_rates;

/* The device's rates, measured at the first call (under 0.2 s on a CPU) or taken from its profile. */
GRD_API grd_status grd_engine_rates(grd_engine *engine, grd_rates *rates, grd_error *error);

/* Measures them once more, where they are measured: rates and predicted times go by the mean time of all measurements
 * from then on. For devices whose pace changes from second to second. False where they are not measured. */
GRD_API bool grd_engine_measure(grd_engine *engine);

/* ---- libraries ---- */

typedef struct grd_component {
    const char *name;
    const char *version; /* NULL: not in this build */
    const char *purpose; /* what it is used for; where it is missing, what happens instead */
} grd_component;

/* The libraries that the engine uses, present or not, by index; false past the last one. */
GRD_API bool grd_component_at(int32_t index, grd_component *component);

/* ---- ops timed ---- */

/* One sample of the op table, run alone on row-major inputs. */
typedef struct grd_op_time {
    const char *op;
    char shapes[256];    /* of its inputs: "f32[64,784] f32[256,784]" */
    const char *attrs;   /* "axis=1 keep=true"; "" without */
    bool reference;      /* no kernel of the device takes it: the double-precision reference ran */
    double seconds;      /* the best run */
    double flops, bytes; /* as the op's definition counts them */
    double limit_part; /* time that arithmetic and memory need at the device's rates / seconds; above 1 out of cache */
} grd_op_time;

/* Times the samples of an op; `on_time` is called for each. GRD_E_ARGUMENT when there is no op of that name. Ops that
 * nothing runs for (views, sources) have none. */
GRD_API grd_status grd_bench_op(grd_engine *engine, const char *op,
                                void (*on_time)(void *context, const grd_op_time *time), void *context,
                                grd_error *error);

#ifdef __cplusplus
}
#endif
#endif
