/* optimizer.c - updates of flat storages. Every formula stands in ops_optimizer.h. */
#include "ops/map.h"
#include "ops/table.h"

#include "base/convert.h"
#include "base/random.h"

#include <gradus/ops_optimizer.h>
#include <math.h>

/* ---- what they share ---- */

/* Whether the last input is a key, so that p is in bf16 and rounded stochastically. */
static bool rounds(const grdi_type *in, int32_t input_count)
{
    return in[input_count - 1].dtype == GRD_I32;
}

/* The key and `first`, the number of the first element; the value is in bf16 and the others are not. */
static bool rounding_shape(grdi_infer *c, int32_t key)
{
    char text[GRD_DIMS_TEXT_MAX];
    int64_t first = grdi_attr_int(c->attrs, "first");
    if (c->in[key].dtype != GRD_I32 || !grd_dims_equal(c->in[key].dims, grd_shape(4)))
        return grdi_infer_fail(c, GRD_E_SHAPE, "the key must be i32[4], is %s%s", grd_dtype_name(c->in[key].dtype),
                               grd_dims_text(c->in[key].dims, text));
    if (first < 0 || first % 8)
        return grdi_infer_fail(c, GRD_E_ARGUMENT, "first is %lld (must be a multiple of 8)", (long long)first);
    return true;
}

/* Inputs 0..values-1 have one shape; the two after them are hyper and scale, and a key may follow. All but the key have
 * one float dtype; with a key input 0 is bf16 and the others f32. */
static bool update_shape(grdi_infer *c, int32_t values)
{
    char first[GRD_DIMS_TEXT_MAX], other[GRD_DIMS_TEXT_MAX];
    bool rounding = rounds(c->in, c->input_count);
    int32_t end = rounding ? c->input_count - 1 : c->input_count, like = rounding ? 1 : 0;
    if (rounding && !rounding_shape(c, end)) return false;
    if (rounding && (c->in[0].dtype != GRD_BF16 || c->in[1].dtype != GRD_F32))
        return grdi_infer_fail(c, GRD_E_DTYPE, "with a key p must be bf16 and the others f32, not %s and %s",
                               grd_dtype_name(c->in[0].dtype), grd_dtype_name(c->in[1].dtype));
    if (!grdi_infer_float(c, like)) return false;
    for (int32_t i = like + 1; i < end; i++)
        if (!grdi_infer_same_dtype(c, i, like)) return false;
    for (int32_t i = 1; i < values; i++)
        if (!grd_dims_equal(c->in[i].dims, c->in[0].dims))
            return grdi_infer_fail(c, GRD_E_SHAPE, "shapes differ: input 0 is %s, input %d is %s",
                                   grd_dims_text(c->in[0].dims, first), i, grd_dims_text(c->in[i].dims, other));
    grd_dims hyper = c->in[values].dims, scale = c->in[values + 1].dims;
    if (hyper.rank != 1 || hyper.dim[0] != 4)
        return grdi_infer_fail(c, GRD_E_SHAPE, "hyper must be [4], is %s", grd_dims_text(hyper, other));
    if (scale.rank != 0)
        return grdi_infer_fail(c, GRD_E_SHAPE, "scale must be a scalar, is %s", grd_dims_text(scale, other));
    for (int32_t o = 0; o < c->output_count; o++) c->out[o] = c->in[o ? like : 0];
    return true;
}

/* ---- stochastic rounding ---- */

static uint64_t key_word(const double *key, int32_t low)
{
    return (uint64_t)(uint32_t)(int32_t)key[low + 1] << 32 | (uint32_t)(int32_t)key[low];
}

/* Element i of the value, given as f32, in bf16. */
static double rounded(const grdi_reference *r, double value, int64_t i)
{
    const double *key = r->in[r->input_count - 1];
    uint64_t element = (uint64_t)(grdi_attr_int(r->attrs, "first") + i);
    uint32_t random = grdi_random_u16(key_word(key, 0), key_word(key, 2), GRDI_ROUNDING_STREAM, element);
    return grdi_bf16_to_f32(grdi_f32_to_bf16_randomly((float)value, random));
}

/* What is written of a new value of p. */
static double new_value(const grdi_reference *r, double value, int64_t i)
{
    return rounds(r->in_type, r->input_count) ? rounded(r, value, i) : value;
}

static bool stochastic_round_shape(grdi_infer *c)
{
    if (!rounding_shape(c, 1)) return false;
    if (c->in[0].dtype != GRD_F32)
        return grdi_infer_fail(c, GRD_E_DTYPE, "what is rounded must be f32, is %s", grd_dtype_name(c->in[0].dtype));
    c->out[0] = (grdi_type){GRD_BF16, c->in[0].dims};
    return true;
}

static void stochastic_round_reference(const grdi_reference *r)
{
    for (int64_t i = 0; i < grd_dims_count(r->in_type[0].dims); i++) r->out[0][i] = rounded(r, r->in[0][i], i);
}

#define KEY "i32[4] -2000000000..2000000000"

static const grdi_sample stochastic_round_samples[] = {
    {.in = {"f32[33]", KEY}, .no_gradient = true}, /* steps */
    {.in = {"f32[7,300] -1e-30..1e-30", KEY}, .attrs = "first=1024", .no_gradient = true},
    {.in = {"f32[]", KEY}, .attrs = "first=8", .no_gradient = true},
    {.in = {"f32[33]", KEY}, .attrs = "first=4", .bad = "first is 4 (must be a multiple of 8)"},
    {.in = {"f32[33]", "i32[2]"}, .bad = "the key must be i32[4], is i32[2]"},
    {.in = {"bf16[33]", KEY}, .bad = "what is rounded must be f32, is bf16"},
    {.in = {"f32[1048576]", KEY}, .large = true},
    {.in = {NULL}},
};

/* Five rounds' worth of Philox for each element, a block of ten serving eight of them. */
static double stochastic_round_flops(const grdi_type *in, int32_t input_count, const grdi_type *out,
                                     const grd_attr *attrs)
{
    (void)input_count, (void)out, (void)attrs;
    return 16.0 * (double)grd_dims_count(in[0].dims);
}

const grdi_op grdi_op_stochastic_round = {
    .name = "stochastic_round",
    .inputs = 2,
    .flags = GRDI_OP_NO_GRADIENT,
    .attrs = {GRD_INT("first", 0)},
    .shape = stochastic_round_shape,
    .reference = stochastic_round_reference,
    .flops = stochastic_round_flops,
    .samples = stochastic_round_samples,
};

grd_tensor grd_stochastic_round(grd_tensor x, grd_tensor key, int64_t first)
{
    return GRDI_EMIT_ATTRS(&grdi_op_stochastic_round, GRDI_LIST(grd_attr, GRD_INT("first", first)), x, key);
}

/* ---- what the references share ---- */

static void keep_value(const grdi_reference *r, int32_t output, int32_t input)
{
    int64_t count = grd_dims_count(r->in_type[input].dims);
    for (int64_t i = 0; r->out[output] && i < count; i++) r->out[output][i] = r->in[input][i];
}

static bool skips(double scale)
{
    return !(scale >= 0.0);
}

static double or_default(double value, double preset)
{
    return value == 0.0 ? preset : value;
}

/* ---- adamw ---- */

static bool adamw_shape(grdi_infer *c)
{
    return update_shape(c, 4);
}

static void adamw_reference(const grdi_reference *r)
{
    const double *p = r->in[0], *g = r->in[1], *m = r->in[2], *v = r->in[3], *hyper = r->in[4], scale = r->in[5][0];
    double beta1 = grdi_attr_float(r->attrs, "beta1"), beta2 = grdi_attr_float(r->attrs, "beta2");
    double eps = grdi_attr_float(r->attrs, "eps"), decay = grdi_attr_float(r->attrs, "weight_decay");
    double lr = hyper[0] * grdi_attr_float(r->attrs, "lr_scale");
    bool coupled = grdi_attr_int(r->attrs, "coupled");
    if (skips(scale)) {
        for (int32_t o = 0; o < 3; o++) keep_value(r, o, o == 0 ? 0 : o + 1);
        return;
    }
    for (int64_t i = 0; i < grd_dims_count(r->in_type[0].dims); i++) {
        double gradient = scale * g[i] + (coupled ? decay * p[i] : 0.0);
        double mean = beta1 * m[i] + (1.0 - beta1) * gradient;
        double square = beta2 * v[i] + (1.0 - beta2) * gradient * gradient;
        double decayed = coupled ? p[i] : p[i] * (1.0 - lr * decay);
        double stepped = decayed - lr * mean * hyper[1] / (sqrt(square * hyper[2]) + eps);
        if (r->out[0]) r->out[0][i] = new_value(r, stepped, i);
        if (r->out[1]) r->out[1][i] = mean;
        if (r->out[2]) r->out[2][i] = square;
    }
}

static double adamw_flops(const grdi_type *in, int32_t input_count, const grdi_type *out, const grd_attr *attrs)
{
    (void)input_count, (void)out, (void)attrs;
    return 16.0 * (double)grd_dims_count(in[0].dims);
}

#define VALUE "f32[33]"
#define SQUARE "f32[33] 0.01..1"
#define HYPER "f32[4] 0.5..2"
#define SCALE "f32[] 0.5..1"
#define SKIP "f32[] -2..-1"
#define NARROW "bf16[33]"
/* A few roundings of 6e-8; above 0, as new weights in bf16 may be rounded the other way by them. */
#define ROUNDING_TOLERANCE 1e-6

static const grdi_sample adamw_samples[] = {
    {.in = {VALUE, VALUE, VALUE, SQUARE, HYPER, SCALE}},
    {.in = {VALUE, VALUE, VALUE, SQUARE, HYPER, SCALE},
     .attrs = "beta1=0.8 beta2=0.95 eps=0.001 weight_decay=0.1 lr_scale=0.5"},
    {.in = {VALUE, VALUE, VALUE, SQUARE, HYPER, SCALE}, .attrs = "weight_decay=0.1 coupled=true"},
    {.in = {VALUE, VALUE, VALUE, SQUARE, HYPER, SKIP}},
    {.in = {NARROW, VALUE, VALUE, SQUARE, HYPER, SCALE, KEY}, .attrs = "weight_decay=0.1 first=64"},
    {.in = {NARROW, VALUE, VALUE, SQUARE, HYPER, SKIP, KEY}},
    {.in = {"bf16[2,1300]", "f32[2,1300]", "f32[2,1300]", "f32[2,1300] 0.01..1", HYPER, SCALE, KEY}},
    {.in = {VALUE, VALUE, VALUE, SQUARE, HYPER, SCALE, KEY}, .bad = "p must be bf16 and the others f32, not f32"},
    {.in = {NARROW, VALUE, VALUE, SQUARE, HYPER, SCALE}, .bad = "bf16"},
    {.in = {VALUE, "f32[34]", VALUE, SQUARE, HYPER, SCALE}, .bad = "input 0 is [33], input 1 is [34]"},
    {.in = {VALUE, VALUE, VALUE, SQUARE, "f32[3]", SCALE}, .bad = "hyper must be [4], is [3]"},
    {.in = {VALUE, VALUE, VALUE, SQUARE, HYPER, "f32[2]"}, .bad = "scale must be a scalar, is [2]"},
    {.in = {"f32[1048576]", "f32[1048576]", "f32[1048576]", "f32[1048576] 0.01..1", HYPER, SCALE}, .large = true},
    {.in = {NULL}},
};

const grdi_op grdi_op_adamw = {
    .name = "adamw",
    .inputs = 6,
    .inputs_max = 7,
    .outputs = 3,
    .flags = GRDI_OP_NO_GRADIENT,
    .attrs = {GRD_FLOAT("beta1", 0.9), GRD_FLOAT("beta2", 0.999), GRD_FLOAT("eps", 1e-8),
              GRD_FLOAT("weight_decay", 0.0), GRD_FLOAT("lr_scale", 1.0), GRD_FLAG("coupled", false),
              GRD_INT("first", 0)},
    .shape = adamw_shape,
    .reference = adamw_reference,
    .tolerance = ROUNDING_TOLERANCE,
    .flops = adamw_flops,
    .inplace = {1u << 0, 1u << 2, 1u << 3},
    .samples = adamw_samples,
};

/* Copies `count` outputs to where the caller wants them. */
static grd_tensor updated_outputs(const grd_tensor *all, int32_t count, grd_tensor *updated)
{
    for (int32_t o = 0; updated && o < count; o++) updated[o] = all[o];
    return all[0];
}

grd_tensor grd_adamw_update_with(grd_tensor p, grd_tensor g, grd_tensor m, grd_tensor v, grd_tensor hyper,
                                 grd_tensor scale, grd_tensor *updated, const grd_adamw_update_options *options)
{
    options = options ? options : &(const grd_adamw_update_options){.size = sizeof(grd_adamw_update_options)};
    const grd_attr attrs[] = {GRD_FLOAT("beta1", or_default(options->beta1, 0.9)),
                              GRD_FLOAT("beta2", or_default(options->beta2, 0.999)),
                              GRD_FLOAT("eps", or_default(options->eps, 1e-8)),
                              GRD_FLOAT("weight_decay", options->weight_decay),
                              GRD_FLOAT("lr_scale", or_default(options->lr_scale, 1.0)),
                              GRD_FLAG("coupled", options->coupled)};
    grd_tensor all[GRDI_OUTPUTS_MAX];
    grdi_emit(NULL, &grdi_op_adamw, (grd_tensor[]){p, g, m, v, hyper, scale}, 6, attrs, 6, all);
    return updated_outputs(all, 3, updated);
}

/* ---- sgd: inputs p, g, [m], hyper, scale, [key] ---- */

static bool has_momentum(const grdi_type *in, int32_t input_count)
{
    return input_count - rounds(in, input_count) == 5;
}

static bool sgd_shape(grdi_infer *c)
{
    bool has_m = has_momentum(c->in, c->input_count);
    if (!has_m && (grdi_attr_float(c->attrs, "momentum") != 0.0 || grdi_attr_int(c->attrs, "nesterov")))
        return grdi_infer_fail(c, GRD_E_ARGUMENT, "momentum needs the input m (between g and hyper)");
    c->output_count = has_m ? 2 : 1;
    return update_shape(c, has_m ? 3 : 2);
}

static void sgd_reference(const grdi_reference *r)
{
    bool has_m = has_momentum(r->in_type, r->input_count), nesterov = grdi_attr_int(r->attrs, "nesterov");
    const double *p = r->in[0], *g = r->in[1], *m = has_m ? r->in[2] : NULL;
    double lr = r->in[has_m ? 3 : 2][0] * grdi_attr_float(r->attrs, "lr_scale"), scale = r->in[has_m ? 4 : 3][0];
    double momentum = grdi_attr_float(r->attrs, "momentum"), damping = 1.0 - grdi_attr_float(r->attrs, "dampening");
    double decay = grdi_attr_float(r->attrs, "weight_decay");
    if (skips(scale)) {
        keep_value(r, 0, 0);
        if (has_m) keep_value(r, 1, 2);
        return;
    }
    for (int64_t i = 0; i < grd_dims_count(r->in_type[0].dims); i++) {
        double gradient = scale * g[i] + decay * p[i], mean = has_m ? momentum * m[i] + damping * gradient : gradient;
        double direction = nesterov ? gradient + momentum * mean : mean;
        if (r->out[0]) r->out[0][i] = new_value(r, p[i] - lr * direction, i);
        if (has_m && r->out[1]) r->out[1][i] = mean;
    }
}

static const grdi_sample sgd_samples[] = {
    {.in = {VALUE, VALUE, HYPER, SCALE}},
    {.in = {VALUE, VALUE, HYPER, SCALE}, .attrs = "weight_decay=0.1 lr_scale=0.5"},
    {.in = {VALUE, VALUE, VALUE, HYPER, SCALE}, .attrs = "momentum=0.9 dampening=0.25"},
    {.in = {VALUE, VALUE, VALUE, HYPER, SCALE}, .attrs = "momentum=0.9 nesterov=true weight_decay=0.1"},
    {.in = {VALUE, VALUE, VALUE, HYPER, SKIP}, .attrs = "momentum=0.9"},
    {.in = {NARROW, VALUE, HYPER, SCALE, KEY}},
    {.in = {NARROW, VALUE, VALUE, HYPER, SCALE, KEY}, .attrs = "momentum=0.9 nesterov=true weight_decay=0.1 first=8"},
    {.in = {VALUE, VALUE, HYPER, SCALE}, .attrs = "momentum=0.9", .bad = "momentum needs the input m"},
    {.in = {VALUE, "f32[34]", HYPER, SCALE}, .bad = "input 0 is [33], input 1 is [34]"},
    {.in = {"f32[1048576]", "f32[1048576]", "f32[1048576]", HYPER, SCALE}, .attrs = "momentum=0.9", .large = true},
    {.in = {NULL}},
};

const grdi_op grdi_op_sgd = {
    .name = "sgd",
    .inputs = 4,
    .inputs_max = 6,
    .outputs = 2,
    .flags = GRDI_OP_NO_GRADIENT,
    .attrs = {GRD_FLOAT("momentum", 0.0), GRD_FLOAT("dampening", 0.0), GRD_FLAG("nesterov", false),
              GRD_FLOAT("weight_decay", 0.0), GRD_FLOAT("lr_scale", 1.0), GRD_INT("first", 0)},
    .shape = sgd_shape,
    .reference = sgd_reference,
    .tolerance = ROUNDING_TOLERANCE,
    .inplace = {1u << 0, 1u << 2},
    .samples = sgd_samples,
};

grd_tensor grd_sgd_update_with(grd_tensor p, grd_tensor g, grd_tensor m, grd_tensor hyper, grd_tensor scale,
                               grd_tensor *updated, const grd_sgd_update_options *options)
{
    options = options ? options : &(const grd_sgd_update_options){.size = sizeof(grd_sgd_update_options)};
    const grd_attr attrs[] = {GRD_FLOAT("momentum", options->momentum), GRD_FLOAT("dampening", options->dampening),
                              GRD_FLAG("nesterov", options->nesterov), GRD_FLOAT("weight_decay", options->weight_decay),
                              GRD_FLOAT("lr_scale", or_default(options->lr_scale, 1.0))};
    const grd_tensor with_m[] = {p, g, m, hyper, scale}, without[] = {p, g, hyper, scale};
    grd_tensor all[GRDI_OUTPUTS_MAX];
    bool has_m = m.node != NULL;
    grdi_emit(NULL, &grdi_op_sgd, has_m ? with_m : without, has_m ? 5 : 4, attrs, 5, all);
    return updated_outputs(all, has_m ? 2 : 1, updated);
}

/* ---- lion ---- */

static bool lion_shape(grdi_infer *c)
{
    return update_shape(c, 3);
}

static void lion_reference(const grdi_reference *r)
{
    const double *p = r->in[0], *g = r->in[1], *m = r->in[2], scale = r->in[4][0];
    double beta1 = grdi_attr_float(r->attrs, "beta1"), beta2 = grdi_attr_float(r->attrs, "beta2");
    double decay = grdi_attr_float(r->attrs, "weight_decay"), lr = r->in[3][0] * grdi_attr_float(r->attrs, "lr_scale");
    if (skips(scale)) {
        keep_value(r, 0, 0);
        keep_value(r, 1, 2);
        return;
    }
    for (int64_t i = 0; i < grd_dims_count(r->in_type[0].dims); i++) {
        double gradient = scale * g[i], blend = beta1 * m[i] + (1.0 - beta1) * gradient;
        double sign = isnan(blend) ? blend : (blend > 0.0) - (blend < 0.0);
        if (r->out[0]) r->out[0][i] = new_value(r, p[i] * (1.0 - lr * decay) - lr * sign, i);
        if (r->out[1]) r->out[1][i] = beta2 * m[i] + (1.0 - beta2) * gradient;
    }
}

static const grdi_sample lion_samples[] = {
    {.in = {VALUE, VALUE, VALUE, HYPER, SCALE}},
    {.in = {VALUE, VALUE, VALUE, HYPER, SCALE}, .attrs = "beta1=0.8 beta2=0.95 weight_decay=0.1 lr_scale=0.5"},
    {.in = {VALUE, VALUE, VALUE, HYPER, SKIP}},
    {.in = {NARROW, VALUE, VALUE, HYPER, SCALE, KEY}, .attrs = "first=8"},
    {.in = {VALUE, VALUE, "f32[32]", HYPER, SCALE}, .bad = "input 0 is [33], input 2 is [32]"},
    {.in = {NULL}},
};

const grdi_op grdi_op_lion = {
    .name = "lion",
    .inputs = 5,
    .inputs_max = 6,
    .outputs = 2,
    .flags = GRDI_OP_NO_GRADIENT,
    .attrs = {GRD_FLOAT("beta1", 0.9), GRD_FLOAT("beta2", 0.99), GRD_FLOAT("weight_decay", 0.0),
              GRD_FLOAT("lr_scale", 1.0), GRD_INT("first", 0)},
    .shape = lion_shape,
    .reference = lion_reference,
    .tolerance = ROUNDING_TOLERANCE,
    .inplace = {1u << 0, 1u << 2},
    .samples = lion_samples,
};

grd_tensor grd_lion_update_with(grd_tensor p, grd_tensor g, grd_tensor m, grd_tensor hyper, grd_tensor scale,
                                grd_tensor *updated, const grd_lion_update_options *options)
{
    options = options ? options : &(const grd_lion_update_options){.size = sizeof(grd_lion_update_options)};
    const grd_attr attrs[] = {GRD_FLOAT("beta1", or_default(options->beta1, 0.9)),
                              GRD_FLOAT("beta2", or_default(options->beta2, 0.99)),
                              GRD_FLOAT("weight_decay", options->weight_decay),
                              GRD_FLOAT("lr_scale", or_default(options->lr_scale, 1.0))};
    grd_tensor all[GRDI_OUTPUTS_MAX];
    grdi_emit(NULL, &grdi_op_lion, (grd_tensor[]){p, g, m, hyper, scale}, 5, attrs, 4, all);
    return updated_outputs(all, 2, updated);
}

/* ---- ema ---- */

static bool ema_shape(grdi_infer *c)
{
    char a[GRD_DIMS_TEXT_MAX], b[GRD_DIMS_TEXT_MAX];
    double decay = grdi_attr_float(c->attrs, "decay");
    if (!grdi_infer_float(c, 0) || !grdi_infer_same_dtype(c, 1, 0)) return false;
    if (!grd_dims_equal(c->in[0].dims, c->in[1].dims))
        return grdi_infer_fail(c, GRD_E_SHAPE, "the average is %s, the value %s", grd_dims_text(c->in[0].dims, a),
                               grd_dims_text(c->in[1].dims, b));
    if (!(decay >= 0.0 && decay <= 1.0))
        return grdi_infer_fail(c, GRD_E_ARGUMENT, "decay is %g (must be 0 to 1)", decay);
    c->out[0] = c->in[0];
    return true;
}

static void ema_reference(const grdi_reference *r)
{
    double decay = grdi_attr_float(r->attrs, "decay");
    for (int64_t i = 0; i < grd_dims_count(r->in_type[0].dims); i++)
        r->out[0][i] = decay * r->in[0][i] + (1.0 - decay) * r->in[1][i];
}

static const grdi_sample ema_samples[] = {
    {.in = {"f32[7,13]", "f32[7,13]"}},
    {.in = {"f32[33]", "f32[33]"}, .attrs = "decay=0.9"},
    {.in = {"f32[3]", "f32[4]"}, .bad = "the average is [3], the value [4]"},
    {.in = {"f32[3]", "f32[3]"}, .attrs = "decay=1.5", .bad = "decay is 1.5"},
    {.in = {NULL}},
};

const grdi_op grdi_op_ema = {
    .name = "ema",
    .inputs = 2,
    .flags = GRDI_OP_NO_GRADIENT,
    .attrs = {GRD_FLOAT("decay", 0.999)},
    .shape = ema_shape,
    .reference = ema_reference,
    .inplace = {1},
    .samples = ema_samples,
};

grd_tensor grd_ema_update(grd_tensor average, grd_tensor value, double decay)
{
    return GRDI_EMIT_ATTRS(&grdi_op_ema, GRDI_LIST(grd_attr, GRD_FLOAT("decay", decay)), average, value);
}
