/* onednn_convolution.c - convolutions and their gradients by oneDNN. Activations are taken as they lie, channels last;
 * the library chooses how the weights lie, and a reorder before (or, for their gradient, after) brings them there. */
#include "backend/cpu/cpu.h"
#include "backend/cpu/onednn.h"

#include "backend/cpu/onednn_library.h"
#include "base/memory.h"

#include <stdlib.h>
#include <string.h>

#if defined(GRADUS_HAVE_ONEDNN)

enum { ARGUMENTS_MAX = 6, RANK_MAX = 3 + GRDI_WINDOW_AXES };

/* What an argument of a primitive points to. */
typedef enum place { AT_X, AT_W, AT_Y, AT_BIAS, AT_LAID_OUT, AT_SCRATCH, PLACES } place;

typedef struct stage {
    dnnl_primitive_t primitive;
    int count;
    dnnl_memory_t memory[ARGUMENTS_MAX];
    dnnl_exec_arg_t arguments[ARGUMENTS_MAX];
    place at[ARGUMENTS_MAX];
} stage;

struct grdi_onednn_convolution {
    grdi_convolution_kind kind;
    stage main;
    stage reorder, adding; /* of the weights or their gradient; without a primitive: they lie as wanted */
    size_t laid_out_bytes, scratch_bytes;
};

static dnnl_engine_t engine;
static dnnl_stream_t stream;

/* Values in oneDNN's terms. */
typedef struct descriptions {
    grdi_dnnl_owned x, w, w_any, y, bias;
} descriptions;

static bool add_argument(stage *s, int argument, grdi_dnnl_seen d, place at)
{
    dnnl_memory_t memory;
    if (s->count == ARGUMENTS_MAX || dnnl_memory_create(&memory, d, engine, DNNL_MEMORY_NONE) != dnnl_success)
        return false;
    s->memory[s->count] = memory;
    s->at[s->count] = at;
    s->arguments[s->count++] = (dnnl_exec_arg_t){argument, memory};
    return true;
}

static bool add_scratch(grdi_onednn_convolution *c, stage *s, const_dnnl_primitive_desc_t pd)
{
    grdi_dnnl_seen d = grdi_dnnl_query(pd, dnnl_query_scratchpad_md);
    size_t size = d ? dnnl_memory_desc_get_size(d) : 0;
    if (size > c->scratch_bytes) c->scratch_bytes = size;
    return size == 0 || add_argument(s, DNNL_ARG_SCRATCHPAD, d, AT_SCRATCH);
}

static void free_stage(stage *s)
{
    for (int i = 0; i < s->count; i++) dnnl_memory_destroy(s->memory[i]);
    if (s->primitive) dnnl_primitive_destroy(s->primitive);
}

/* ---- descriptions ---- */

/* [N,S..,C] under the name of [N,C,S..]. */
static bool describe_activation(const grdi_convolution *c, grdi_dnnl_owned *d, int64_t channels, bool out,
                                grd_dtype type)
{
    int64_t dims[RANK_MAX] = {c->n, channels}, strides[RANK_MAX] = {0, 1}, step = channels;
    for (int32_t i = c->axes - 1; i >= 0; i--) {
        const grdi_window *w = &c->window[GRDI_WINDOW_AXES - c->axes + i];
        dims[2 + i] = out ? w->out : w->in;
        strides[2 + i] = step;
        step *= dims[2 + i];
    }
    strides[0] = step;
    return grdi_dnnl_describe(d, 2 + c->axes, dims, strides, type);
}

/* [O,C/groups,K..], or [groups,O/groups,C/groups,K..]; `fixed` false: however the library likes it. */
static bool describe_weight(const grdi_convolution *c, grdi_dnnl_owned *d, bool fixed)
{
    int64_t dims[RANK_MAX], strides[RANK_MAX], step = 1;
    int rank = 0;
    if (c->groups > 1) dims[rank++] = c->groups;
    dims[rank++] = c->o / c->groups;
    dims[rank++] = c->c / c->groups;
    for (int32_t i = 0; i < c->axes; i++) dims[rank++] = c->window[GRDI_WINDOW_AXES - c->axes + i].kernel;
    for (int i = rank - 1; i >= 0; i--) {
        strides[i] = step;
        step *= dims[i];
    }
    return grdi_dnnl_describe(d, rank, dims, fixed ? strides : NULL, c->w_type);
}

static bool describe_all(const grdi_convolution *c, descriptions *d)
{
    memset(d, 0, sizeof *d);
    return describe_activation(c, &d->x, c->c, false, c->x_type) &&
           describe_activation(c, &d->y, c->o, true, c->y_type) && describe_weight(c, &d->w, true) &&
           describe_weight(c, &d->w_any, false) &&
           (!c->has_bias || grdi_dnnl_describe(&d->bias, 1, &c->o, (int64_t[]){1}, c->bias_type));
}

static void forget_all(descriptions *d)
{
    grdi_dnnl_owned *all[] = {&d->x, &d->w, &d->w_any, &d->y, &d->bias};
    for (int i = 0; i < 5; i++) grdi_dnnl_forget(all[i]);
}

/* ---- primitives ---- */

typedef struct geometry {
    dnnl_dims_t stride, dilation, padding;
} geometry;

static geometry geometry_of(const grdi_convolution *c)
{
    geometry g;
    memset(&g, 0, sizeof g);
    for (int32_t i = 0; i < c->axes; i++) {
        const grdi_window *w = &c->window[GRDI_WINDOW_AXES - c->axes + i];
        g.stride[i] = w->stride;
        g.dilation[i] = w->dilation - 1;
        g.padding[i] = w->padding;
    }
    return g;
}

#if DNNL_VERSION_MAJOR >= 3
static bool create_forward(dnnl_primitive_desc_t *pd, const grdi_convolution *c, const descriptions *d, bool training,
                           dnnl_primitive_attr_t attributes)
{
    geometry g = geometry_of(c);
    return dnnl_convolution_forward_primitive_desc_create(
               pd, engine, training ? dnnl_forward_training : dnnl_forward_inference, dnnl_convolution_direct, d->x,
               d->w_any, c->has_bias ? d->bias : NULL, d->y, g.stride, g.dilation, g.padding, g.padding,
               attributes) == dnnl_success;
}

static bool create_backward(dnnl_primitive_desc_t *pd, const grdi_convolution *c, const descriptions *d,
                            const_dnnl_primitive_desc_t hint, dnnl_primitive_attr_t attributes)
{
    geometry g = geometry_of(c);
    if (c->kind == GRDI_CONVOLUTION_INPUT_GRADIENT)
        return dnnl_convolution_backward_data_primitive_desc_create(pd, engine, dnnl_convolution_direct, d->x, d->w_any,
                                                                    d->y, g.stride, g.dilation, g.padding, g.padding,
                                                                    hint, attributes) == dnnl_success;
    return dnnl_convolution_backward_weights_primitive_desc_create(pd, engine, dnnl_convolution_direct, d->x, d->w_any,
                                                                   NULL, d->y, g.stride, g.dilation, g.padding,
                                                                   g.padding, hint, attributes) == dnnl_success;
}
#else
static bool create_forward(dnnl_primitive_desc_t *pd, const grdi_convolution *c, const descriptions *d, bool training,
                           dnnl_primitive_attr_t attributes)
{
    geometry g = geometry_of(c);
    dnnl_convolution_desc_t desc;
    return dnnl_dilated_convolution_forward_desc_init(&desc, training ? dnnl_forward_training : dnnl_forward_inference,
                                                      dnnl_convolution_direct, &d->x, &d->w_any,
                                                      c->has_bias ? &d->bias : NULL, &d->y, g.stride, g.dilation,
                                                      g.padding, g.padding) == dnnl_success &&
           dnnl_primitive_desc_create(pd, &desc, attributes, engine, NULL) == dnnl_success;
}

static bool create_backward(dnnl_primitive_desc_t *pd, const grdi_convolution *c, const descriptions *d,
                            const_dnnl_primitive_desc_t hint, dnnl_primitive_attr_t attributes)
{
    geometry g = geometry_of(c);
    dnnl_convolution_desc_t desc;
    dnnl_status_t status;
    if (c->kind == GRDI_CONVOLUTION_INPUT_GRADIENT)
        status = dnnl_dilated_convolution_backward_data_desc_init(&desc, dnnl_convolution_direct, &d->x, &d->w_any,
                                                                  &d->y, g.stride, g.dilation, g.padding, g.padding);
    else
        status = dnnl_dilated_convolution_backward_weights_desc_init(
            &desc, dnnl_convolution_direct, &d->x, &d->w_any, NULL, &d->y, g.stride, g.dilation, g.padding, g.padding);
    return status == dnnl_success && dnnl_primitive_desc_create(pd, &desc, attributes, engine, hint) == dnnl_success;
}
#endif

/* A hint for a backward primitive is a forward one of a dtype that exists forward. */
static bool create_hint(dnnl_primitive_desc_t *hint, const grdi_convolution *c)
{
    grdi_convolution forward = *c;
    descriptions d;
    bool narrow = c->x_type == GRD_BF16 || c->w_type == GRD_BF16 || c->y_type == GRD_BF16;
    forward.x_type = forward.w_type = narrow ? GRD_BF16 : GRD_F32;
    forward.has_bias = false;
    bool good = describe_all(&forward, &d) && create_forward(hint, &forward, &d, true, NULL);
    forget_all(&d);
    return good;
}

/* Moves weights between ours and the library's order. */
static bool make_reorder(grdi_onednn_convolution *c, stage *s, grdi_dnnl_seen from, grdi_dnnl_seen to, bool add)
{
    dnnl_primitive_attr_t attributes = grdi_dnnl_attributes(add);
    dnnl_primitive_desc_t pd = NULL;
    bool out = c->kind == GRDI_CONVOLUTION_WEIGHT_GRADIENT;
    bool good = attributes &&
                dnnl_reorder_primitive_desc_create(&pd, from, engine, to, engine, attributes) == dnnl_success &&
                dnnl_primitive_create(&s->primitive, pd) == dnnl_success &&
                add_argument(s, DNNL_ARG_FROM, from, out ? AT_LAID_OUT : AT_W) &&
                add_argument(s, DNNL_ARG_TO, to, out ? AT_W : AT_LAID_OUT) && add_scratch(c, s, pd);
    if (pd) dnnl_primitive_desc_destroy(pd);
    if (attributes) dnnl_primitive_attr_destroy(attributes);
    return good;
}

static bool make_arguments(grdi_onednn_convolution *c, const descriptions *d, const_dnnl_primitive_desc_t pd,
                           grdi_dnnl_seen w, place w_at, bool has_bias)
{
    static const int names[][3] = {{DNNL_ARG_SRC, DNNL_ARG_WEIGHTS, DNNL_ARG_DST},
                                   {DNNL_ARG_DIFF_SRC, DNNL_ARG_WEIGHTS, DNNL_ARG_DIFF_DST},
                                   {DNNL_ARG_SRC, DNNL_ARG_DIFF_WEIGHTS, DNNL_ARG_DIFF_DST}};
    const int *name = names[c->kind];
    return add_argument(&c->main, name[0], grdi_dnnl_see(&d->x), AT_X) && add_argument(&c->main, name[1], w, w_at) &&
           add_argument(&c->main, name[2], grdi_dnnl_see(&d->y), AT_Y) &&
           (!has_bias || add_argument(&c->main, DNNL_ARG_BIAS, grdi_dnnl_see(&d->bias), AT_BIAS)) &&
           add_scratch(c, &c->main, pd);
}

static bool make(grdi_onednn_convolution *c, const grdi_convolution *what, const descriptions *d,
                 const_dnnl_primitive_desc_t pd)
{
    bool out = what->kind == GRDI_CONVOLUTION_WEIGHT_GRADIENT;
    grdi_dnnl_seen plain = grdi_dnnl_see(&d->w);
    grdi_dnnl_seen w = grdi_dnnl_query(pd, out ? dnnl_query_diff_weights_md : dnnl_query_weights_md);
    bool moves = !dnnl_memory_desc_equal(w, plain) || what->add;
    if (grdi_dnnl_is_reference(pd) || dnnl_primitive_create(&c->main.primitive, pd) != dnnl_success) return false;
    if (moves) c->laid_out_bytes = (dnnl_memory_desc_get_size(w) + 63) / 64 * 64;
    if (!make_arguments(c, d, pd, w, moves ? AT_LAID_OUT : AT_W, what->has_bias)) return false;
    if (moves && !make_reorder(c, &c->reorder, out ? w : plain, out ? plain : w, false)) return false;
    return !what->add || make_reorder(c, &c->adding, w, plain, true);
}

/* Dtypes for which the library has fast code: all f32, or operands in bf16 with a result in either. */
static bool wanted(const grdi_convolution *c)
{
    const char *choice = getenv("GRADUS_CONVOLUTION");
    if (choice && strcmp(choice, "own") == 0) return false;
    grd_dtype a = c->kind == GRDI_CONVOLUTION_INPUT_GRADIENT ? c->y_type : c->x_type;
    grd_dtype b = c->kind == GRDI_CONVOLUTION_WEIGHT_GRADIENT ? c->y_type : c->w_type;
    grd_dtype result = c->kind == GRDI_CONVOLUTION                  ? c->y_type
                       : c->kind == GRDI_CONVOLUTION_INPUT_GRADIENT ? c->x_type
                                                                    : c->w_type;
    return a == b && (a == GRD_BF16 ? grdi_isa_usable(GRDI_ISA_AVX512BF16) : result == GRD_F32);
}

grdi_onednn_convolution *grdi_onednn_convolution_new(const grdi_convolution *what)
{
    dnnl_primitive_desc_t pd = NULL, hint = NULL;
    descriptions d;
    if (!wanted(what) || !grdi_dnnl_ready(&engine, &stream)) return NULL;
    grdi_onednn_convolution *c = grdi_alloc_zero(1, sizeof *c);
    dnnl_primitive_attr_t attributes = grdi_dnnl_attributes(false);
    bool good = describe_all(what, &d) && c && attributes;
    if (good) {
        c->kind = what->kind;
        if (what->kind == GRDI_CONVOLUTION) good = create_forward(&pd, what, &d, false, attributes);
        else good = create_hint(&hint, what) && create_backward(&pd, what, &d, hint, attributes);
    }
    good = good && make(c, what, &d, pd);
    if (pd) dnnl_primitive_desc_destroy(pd);
    if (hint) dnnl_primitive_desc_destroy(hint);
    if (attributes) dnnl_primitive_attr_destroy(attributes);
    forget_all(&d);
    if (good) return c;
    grdi_onednn_convolution_free(c);
    return NULL;
}

size_t grdi_onednn_convolution_scratch(const grdi_onednn_convolution *c)
{
    return c->laid_out_bytes + c->scratch_bytes;
}

static bool execute(const stage *s, void *const *places)
{
    for (int i = 0; i < s->count; i++)
        if (dnnl_memory_set_data_handle(s->memory[i], places[s->at[i]]) != dnnl_success) return false;
    return dnnl_primitive_execute(s->primitive, stream, s->count, s->arguments) == dnnl_success;
}

grd_status grdi_onednn_convolution_run(const grdi_onednn_convolution *c, const grdi_convolution_data *data,
                                       void *scratch)
{
    void *places[PLACES] = {
        [AT_X] = data->x,       [AT_W] = data->w,        [AT_Y] = data->y,
        [AT_BIAS] = data->bias, [AT_LAID_OUT] = scratch, [AT_SCRATCH] = (char *)scratch + c->laid_out_bytes};
    bool out = c->kind == GRDI_CONVOLUTION_WEIGHT_GRADIENT;
    const stage *move = out && data->add ? &c->adding : &c->reorder;
    bool good = out || !move->primitive || execute(move, places);
    good = good && execute(&c->main, places);
    good = good && (!out || !move->primitive || execute(move, places));
    return good && dnnl_stream_wait(stream) == dnnl_success ? GRD_OK : GRD_E_DEVICE;
}

void grdi_onednn_convolution_free(grdi_onednn_convolution *c)
{
    if (!c) return;
    free_stage(&c->main);
    free_stage(&c->reorder);
    free_stage(&c->adding);
    grdi_free(c);
}

#else

struct grdi_onednn_convolution {
    char unused;
};

grdi_onednn_convolution *grdi_onednn_convolution_new(const grdi_convolution *what)
{
    (void)what;
    return NULL;
}

size_t grdi_onednn_convolution_scratch(const grdi_onednn_convolution *c)
{
    (void)c;
    return 0;
}

grd_status grdi_onednn_convolution_run(const grdi_onednn_convolution *c, const grdi_convolution_data *data,
                                       void *scratch)
{
    (void)c, (void)data, (void)scratch;
    return GRD_E_UNSUPPORTED;
}

void grdi_onednn_convolution_free(grdi_onednn_convolution *c)
{
    (void)c;
}

#endif
