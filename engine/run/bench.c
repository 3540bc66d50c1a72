/* bench.c - the device's rates, and the op table's samples timed against them. */
#include <gradus/about.h>

#include "base/log.h"
#include "ops/sample.h"
#include "run/run.h"

#include <string.h>

grd_status grd_engine_rates(grd_engine *engine, grd_rates *rates, grd_error *error)
{
    grdi_rates r;
    const grd_error *own = grd_engine_error(engine);
    if (own->status) return grd_fail(error, own->status, "%s", own->message);
    if (!engine->backend->rates || engine->backend->rates(engine->device, &r) != GRD_OK)
        return grd_fail(error, GRD_E_UNSUPPORTED, "device %s: its rates are not known", engine->name);
    *rates =
        (grd_rates){r.matmul_flops_per_s, r.matmul_bf16_flops_per_s, r.copy_bytes_per_s, r.map_flops_per_s, r.launch_s};
    return GRD_OK;
}

bool grd_engine_measure(grd_engine *engine)
{
    if (grd_engine_error(engine)->status || !engine->backend->measure) return false;
    engine->backend->measure(engine->device);
    return true;
}

/* ---- one sample ---- */

/* A sample on the device: what it is called with, and the memory that this takes. */
typedef struct timed {
    grd_engine *engine;
    const grdi_op *op;
    grdi_sample_case sample;
    grdi_infer infer;
    grdi_type in_type[GRDI_INPUTS_MAX];
    double *values[GRDI_INPUTS_MAX];
    const grdi_kernel *kernel;
    grdi_call call;
    grd_error *error;
} timed;

static size_t view_bytes(const grdi_view *view)
{
    return (size_t)grd_dims_count(view->dims) * grd_dtype_size(view->dtype);
}

static void *device_memory(const timed *t, size_t size_bytes)
{
    return t->engine->backend->allocate(t->engine->device, size_bytes ? size_bytes : 1);
}

static void release_all(timed *t)
{
    const grdi_backend *backend = t->engine->backend;
    grdi_call *call = &t->call;
    if (t->kernel && t->kernel->release) t->kernel->release(call);
    if (call->scratch) backend->release(t->engine->device, call->scratch, call->scratch_bytes);
    for (int32_t i = 0; i < call->input_count; i++) {
        if (call->in[i].data) backend->release(t->engine->device, call->in[i].data, view_bytes(&call->in[i]));
        grdi_free(t->values[i]);
    }
    for (int32_t o = 0; o < call->output_count; o++)
        if (call->out[o].data) backend->release(t->engine->device, call->out[o].data, view_bytes(&call->out[o]));
}

/* Types of inputs and outputs; false for a sample that the shape rule is meant to refuse. */
static bool infer(timed *t)
{
    for (int32_t i = 0; i < t->sample.input_count; i++) t->in_type[i] = t->sample.in[i].type;
    t->infer = (grdi_infer){.op = t->op,
                            .attrs = t->sample.attrs,
                            .input_count = t->sample.input_count,
                            .in = t->in_type,
                            .output_count = t->op->outputs ? t->op->outputs : 1};
    return t->op->shape(&t->infer);
}

static grd_status place_inputs(timed *t)
{
    size_t most = 1;
    for (int32_t i = 0; i < t->sample.input_count; i++) {
        int64_t count = grd_dims_count(t->in_type[i].dims);
        t->values[i] = grdi_alloc_zero((size_t)count + 1, sizeof(double));
        if (!t->values[i]) return GRD_E_MEMORY;
        if ((size_t)count > most) most = (size_t)count;
    }
    grd_status status = grdi_sample_fill_all(&t->sample, 7, t->values, t->error);
    void *host = grdi_alloc(most * sizeof(double));
    for (int32_t i = 0; i < t->sample.input_count && !status; i++) {
        grdi_view *view = &t->call.in[i];
        view->data = host ? device_memory(t, view_bytes(view)) : NULL;
        if (!view->data) status = GRD_E_MEMORY;
        else {
            grdi_sample_store(view->dtype, t->values[i], grd_dims_count(view->dims), host);
            t->engine->backend->upload(t->engine->device, view->data, host, view_bytes(view));
        }
    }
    grdi_free(host);
    return status;
}

static grd_status place(timed *t)
{
    grdi_call *call = &t->call;
    *call = (grdi_call){.device = t->engine->device,
                        .op = t->op,
                        .attrs = t->sample.attrs,
                        .input_count = t->sample.input_count,
                        .output_count = t->infer.output_count,
                        .threads = t->engine->threads,
                        .path_hash = 1};
    for (int32_t i = 0; i < call->input_count; i++) {
        call->in[i] = (grdi_view){.dtype = t->in_type[i].dtype, .dims = t->in_type[i].dims};
        grdi_row_major(call->in[i].dims, call->in[i].stride);
    }
    for (int32_t o = 0; o < call->output_count; o++) {
        call->out[o] = (grdi_view){.dtype = t->infer.out[o].dtype, .dims = t->infer.out[o].dims};
        grdi_row_major(call->out[o].dims, call->out[o].stride);
        call->out[o].data =
            device_memory(t, view_bytes(&call->out[o])); /* kernels look at whether an output is wanted */
        if (!call->out[o].data) return GRD_E_MEMORY;
    }
    const grdi_kernel *kernel = t->engine->backend->find(t->engine->device, call);
    if (!kernel) return GRD_E_UNSUPPORTED;
    grd_status status = place_inputs(t);
    if (!status && kernel->prepare) status = kernel->prepare(call, t->error);
    if (status) return status;
    t->kernel = kernel;
    if (call->scratch_bytes && !(call->scratch = device_memory(t, call->scratch_bytes))) return GRD_E_MEMORY;
    return kernel->bind ? kernel->bind(call, t->error) : GRD_OK;
}

/* The best of at least three runs over at least 20 ms, after one that does not count. */
static grd_status time_runs(timed *t, double *best)
{
    double all = 0;
    *best = 0;
    for (int runs = -1; runs < 3 || (all < 0.02 && runs < 10000); runs++) {
        double start = grdi_seconds();
        grd_status status = t->kernel->run(&t->call);
        if (t->engine->backend->wait) t->engine->backend->wait(t->engine->device);
        double taken = grdi_seconds() - start;
        if (status) return grd_fail(t->error, status, "op %s: failed on %s", t->op->name, t->engine->name);
        if (runs < 0) {
            if (taken > 0.5) runs = 2; /* slow enough to be measured once */
            continue;
        }
        all += taken;
        if (*best == 0 || taken < *best) *best = taken;
    }
    return GRD_OK;
}

static void describe(const timed *t, const grdi_sample *sample, const grd_rates *rates, grd_op_time *time)
{
    const grdi_op *op = t->op;
    size_t used = 0;
    for (int32_t i = 0; i < t->sample.input_count && used < sizeof(time->shapes); i++) {
        char dims[GRD_DIMS_TEXT_MAX];
        used += (size_t)snprintf(time->shapes + used, sizeof(time->shapes) - used, "%s%s%s", i ? " " : "",
                                 grd_dtype_name(t->in_type[i].dtype), grd_dims_text(t->in_type[i].dims, dims));
    }
    time->op = op->name;
    time->attrs = sample->attrs ? sample->attrs : "";
    time->reference = t->kernel == &grdi_reference_kernel;
    time->flops = op->flops ? op->flops(t->in_type, t->sample.input_count, t->infer.out, t->sample.attrs)
                            : (double)grd_dims_count(t->infer.out[0].dims);
    for (int32_t k = 0; !op->bytes && k < t->call.input_count + t->call.output_count; k++)
        time->bytes +=
            (double)view_bytes(k < t->call.input_count ? &t->call.in[k] : &t->call.out[k - t->call.input_count]);
    if (op->bytes) time->bytes = op->bytes(t->in_type, t->sample.input_count, t->infer.out, t->sample.attrs);
    bool bf16 = t->call.input_count && t->call.in[0].dtype == GRD_BF16;
    double rate = !(op->flags & GRDI_OP_MATMUL) ? rates->map_flops_per_s
                  : bf16                        ? rates->matmul_bf16_flops_per_s
                                                : rates->matmul_flops_per_s;
    double arithmetic = rate > 0 ? time->flops / rate : 0;
    double traffic = rates->copy_bytes_per_s > 0 ? time->bytes / rates->copy_bytes_per_s : 0;
    double least = arithmetic > traffic ? arithmetic : traffic;
    time->limit_part = time->seconds > 0 ? least / time->seconds : 0;
}

grd_status grd_bench_op(grd_engine *engine, const char *name, void (*on_time)(void *context, const grd_op_time *time),
                        void *context, grd_error *error)
{
    grd_rates rates;
    grd_status status = grd_engine_rates(engine, &rates, error);
    const grdi_op *op = grdi_op_find(name);
    if (!status && !op) status = grd_fail(error, GRD_E_ARGUMENT, "op '%s': there is no such op", name);
    if (!status && !engine->backend->runs)
        status = grd_fail(error, GRD_E_UNSUPPORTED, "device %s only plans (give cpu or ref)", engine->name);
    if (status || op->flags & (GRDI_OP_SOURCE | GRDI_OP_VIEW)) return status;
    timed *t = grdi_alloc(sizeof(*t));
    if (!t) return grd_fail(error, GRD_E_MEMORY, "op %s: out of memory", name);
    for (int32_t s = 0; s < grdi_sample_count(op) && !status; s++) {
        if (op->samples[s].bad) continue;
        memset(t, 0, sizeof(*t));
        t->engine = engine;
        t->op = op;
        t->error = error;
        status = grdi_sample_read(op, &op->samples[s], false, &t->sample, error);
        if (status || !infer(t)) continue;
        grd_op_time time = {0};
        status = place(t);
        if (!status) status = time_runs(t, &time.seconds);
        if (!status) {
            describe(t, &op->samples[s], &rates, &time);
            on_time(context, &time);
        }
        release_all(t);
        if (status == GRD_E_MEMORY) grd_fail(error, status, "op %s: out of memory", name);
        if (status == GRD_E_UNSUPPORTED) status = GRD_OK; /* no backend runs it in this dtype */
    }
    grdi_free(t);
    return status;
}
