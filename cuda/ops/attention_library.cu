/* attention_library.cu - attention by cuDNN, for both passes: what the call is to it (lib/cudnn.h), its plan, and its
 * pointers. Host code; the plugin's own kernels are its rival, and make what it does not. */
#include "ops/flash.cuh"

#include <cstdio>

namespace
{

/* The call's views in their places; NULL: absent. */
struct operands {
    const grdi_view *heads[GRDI_ATTENTION_HEADS], *lse;
};

operands operands_of(const grdi_call *call, bool backward)
{
    const grdi_view *in = call->in, *out = call->out;
    if (!backward) return {{&in[0], &in[1], &in[2], &out[0]}, &out[1]};
    return {{&in[1], &in[2], &in[3], &in[4], &in[0], &out[0], &out[1], &out[2]}, &in[5]};
}

grdi_attention attention_of(const grdi_call *call, bool backward)
{
    attention_task t = grdi_attention_task(call, backward, backward ? 6 : 3);
    operands o = operands_of(call, backward);
    grdi_attention a = {};
    a.backward = backward;
    a.batch = t.b, a.heads = t.h, a.kv_heads = t.hkv, a.queries = t.t, a.keys = t.s;
    a.width = t.d, a.value_width = t.dv_size;
    for (int i = 0; i < GRDI_ATTENTION_HEADS; i++) {
        if (!o.heads[i]) continue;
        a.of[i].dtype = o.heads[i]->dtype;
        for (int d = 0; d < 4; d++) a.of[i].stride[d] = o.heads[i]->stride[d];
    }
    a.scale = t.scale, a.causal = t.causal, a.window = t.window;
    a.masked = grdi_attr_int(call->attrs, "has_mask") != 0, a.packed = grdi_attr_int(call->attrs, "has_segments") != 0;
    return a;
}

/* lse where nobody asks for it, or delta; behind it, the library's sums of dq and its workspace */
size_t rows_bytes(const grdi_call *call, bool backward)
{
    return (size_t)grd_dims_count(operands_of(call, backward).lse->dims) * sizeof(float);
}

bool run_own(const grdi_dnn_rival *rival, void *const *pointers)
{
    const grdi_call *call = (const grdi_call *)rival->context;
    bool backward = pointers[GRDI_ATTENTION_DQ] != nullptr;
    attention_task t = grdi_attention_task(call, backward, backward ? 6 : 3);
    operands o = operands_of(call, backward);
    heads_view *heads[] = {&t.q, &t.k, &t.v, &t.out, &t.g, &t.dq, &t.dk, &t.dv};
    for (int i = 0; i < GRDI_ATTENTION_HEADS; i++) {
        if (!o.heads[i]) continue;
        *heads[i] = heads_of(*o.heads[i]);
        heads[i]->at.data = pointers[i];
    }
    t.lse = {pointers[GRDI_ATTENTION_LSE], GRD_F32};
    t.delta = (float *)pointers[GRDI_ATTENTION_DELTA];
    return (backward ? grdi_attention_backward_own(call, t) : grdi_attention_own(call, t)) == GRD_OK;
}

} // namespace

grd_status grdi_attention_prepare(grdi_call *call, grd_error *error, bool backward)
{
    attention_state *s = (attention_state *)grdi_alloc_zero(1, sizeof *s);
    if (!s) return grd_fail(error, GRD_E_MEMORY, "%s: out of memory", call->op->name);
    call->state = s;
    grdi_dnn_rival rival = {run_own, call};
    grdi_attention attention = attention_of(call, backward);
    s->library = grdi_dnn_attention_new(&call->device->dnn, &attention, &rival);
    call->scratch_bytes = backward || s->library ? rows_bytes(call, backward) : 0;
    if (s->library)
        call->scratch_bytes = grdi_cuda_room(call->scratch_bytes) +
                              grdi_cuda_room(grdi_dnn_plan_bytes(s->library, GRDI_ATTENTION_DQ_SUMS)) +
                              grdi_dnn_plan_workspace(s->library);
    return GRD_OK;
}

grd_status grdi_attention_bind(grdi_call *call, bool backward)
{
    attention_state *s = (attention_state *)call->state;
    operands o = operands_of(call, backward);
    void *pointers[GRDI_DNN_POINTERS] = {};
    if (!s->library) return GRD_OK;
    for (int i = 0; i < GRDI_ATTENTION_HEADS; i++) pointers[i] = o.heads[i] ? o.heads[i]->data : nullptr;
    pointers[GRDI_ATTENTION_LSE] = o.lse->data ? o.lse->data : call->scratch;
    pointers[GRDI_ATTENTION_DELTA] = call->scratch;
    char *sums = (char *)call->scratch + grdi_cuda_room(rows_bytes(call, backward));
    pointers[GRDI_ATTENTION_DQ_SUMS] = sums;
    size_t sums_bytes = grdi_dnn_plan_bytes(s->library, GRDI_ATTENTION_DQ_SUMS);
    s->by_library = grdi_dnn_plan_bind(s->library, pointers, sums + grdi_cuda_room(sums_bytes));
    return GRD_OK;
}

bool grdi_attention_by_library(const grdi_call *call)
{
    const attention_state *s = (const attention_state *)call->state;
    return s && s->by_library;
}

grd_status grdi_attention_run_library(const grdi_call *call)
{
    const attention_state *s = (const attention_state *)call->state;
    grdi_device *device = call->device;
    cudaSetDevice(device->index);
    if (grdi_cuda_noted(device) || grdi_dnn_plan_run(s->library, false)) return GRD_OK;
    snprintf(device->why, sizeof device->why, "%s", device->dnn.why);
    return GRD_E_DEVICE;
}

void grdi_attention_release(grdi_call *call)
{
    attention_state *s = (attention_state *)call->state;
    if (s) grdi_dnn_plan_free(s->library);
    grdi_free(s);
    call->state = nullptr;
}
