/* attention_library.cu - attention by cuDNN, for both passes: what the call is to it (lib/cudnn.h), its plan, and its
 * pointers. Host code; the plugin's own kernels are its rival, and make what it does not. */
#include "ops/flash.cuh"

#include <cstdio>
#include <cstring>

namespace
{

/* The simulator's devices have room for some heads' probabilities. */
enum { SMALL_ROOM = 1 << 16 };

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

/* Room that engines of an H100 want for a gradient where they are deterministic (cudnn_attention.c): for probabilities,
 * and for the gradients of keys and values of heads that share them. */
int64_t room_of(const grdi_attention &a)
{
    int64_t queries = (a.queries + 63) / 64 * 64, keys = (a.keys + 63) / 64 * 64;
    int64_t shared = a.heads == a.kv_heads ? 0 : 2 * a.width;
    return a.batch * a.heads * keys * (queries + shared) * (int64_t)sizeof(uint16_t);
}

/* What the library is to make at a time: all of it, but of such a gradient what has room: sequences, or heads of one. A
 * part's statistics begin at a multiple of GRDI_DNN_ALIGNMENT. */
grdi_attention part_of(const grdi_attention &all, int64_t most)
{
    grdi_attention a = all;
    for (int64_t n = 1; n <= all.batch && room_of(a) > most; n++)
        if (all.batch % n == 0 && all.batch / n * all.heads * all.queries % 4 == 0) a.batch = all.batch / n;
    for (int64_t n = 2; a.batch == 1 && n <= all.kv_heads && room_of(a) > most; n++)
        if (all.kv_heads % n == 0 && all.heads / n * all.queries % 4 == 0)
            a.heads = all.heads / n, a.kv_heads = all.kv_heads / n;
    return all.batch / a.batch * (all.heads / a.heads) > GRDI_DNN_PARTS_MAX ? all : a;
}

/* The views' data from sequence `batch` and head `kv` of the keys on; the first of each at 0. */
void point_to(void **pointers, const grdi_attention &a, int64_t heads, int64_t batch, int64_t kv)
{
    for (int i = 0; i < GRDI_ATTENTION_HEADS; i++) {
        bool of_keys =
            i == GRDI_ATTENTION_K || i == GRDI_ATTENTION_V || i == GRDI_ATTENTION_DK || i == GRDI_ATTENTION_DV;
        int64_t head = of_keys ? kv : kv * (a.heads / a.kv_heads);
        int64_t at = batch * a.of[i].stride[0] + head * a.of[i].stride[2];
        if (pointers[i]) pointers[i] = (char *)pointers[i] + at * (int64_t)sizeof(uint16_t);
    }
    int64_t row = (batch * heads + kv * (a.heads / a.kv_heads)) * a.queries;
    pointers[GRDI_ATTENTION_LSE] = (float *)pointers[GRDI_ATTENTION_LSE] + row;
}

struct trial_of_own {
    const grdi_call *call;
    const grdi_attention *part;
};

bool run_own(const grdi_dnn_rival *rival, void *const *pointers)
{
    const trial_of_own *trial = (const trial_of_own *)rival->context;
    const grdi_call *call = trial->call;
    bool backward = pointers[GRDI_ATTENTION_DQ] != nullptr;
    attention_task t = grdi_attention_task(call, backward, backward ? 6 : 3);
    t.b = (int32_t)trial->part->batch, t.h = (int32_t)trial->part->heads, t.hkv = (int32_t)trial->part->kv_heads;
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
    const int64_t room = call->device->small ? SMALL_ROOM : GRDI_DNN_WORKSPACE_BYTES - (1 << 20);
    s->part = attention_of(call, backward);
    if (backward && !call->device->dnn.any_order) s->part = part_of(s->part, room);
    trial_of_own own = {call, &s->part};
    grdi_dnn_rival rival = {run_own, &own};
    s->library = grdi_dnn_attention_new(&call->device->dnn, &s->part, &rival);
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
    const grdi_attention all = attention_of(call, backward), &part = s->part;
    s->by_library = true;
    for (int64_t batch = 0; batch < all.batch; batch += part.batch)
        for (int64_t kv = 0; kv < all.kv_heads && s->by_library; kv += part.kv_heads) {
            void *moved[GRDI_DNN_POINTERS], *workspace = sums + grdi_cuda_room(sums_bytes);
            memcpy(moved, pointers, sizeof moved);
            point_to(moved, part, all.heads, batch, kv);
            s->by_library = batch || kv ? grdi_dnn_plan_bind_more(s->library, moved, workspace)
                                        : grdi_dnn_plan_bind(s->library, moved, workspace);
        }
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
