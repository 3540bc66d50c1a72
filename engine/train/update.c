/* update.c - the graph that changes the weights: gradient norm, clipping and the optimizers, over ranges of storage. */
#include "train/train.h"

#include <gradus/ops.h>

#include <math.h>
#include <string.h>

int32_t grdi_moment_count(const grd_optimizer *optimizer)
{
    switch (optimizer->kind) {
    case GRD_OPTIMIZER_ADAMW:
    case GRD_OPTIMIZER_ADAM:
    case GRD_OPTIMIZER_LBFGS: return 2;
    case GRD_OPTIMIZER_SGD: return optimizer->momentum != 0 ? 1 : 0;
    default: return 1;
    }
}

const char *grdi_moment_name(const grd_optimizer *optimizer, int32_t moment)
{
    bool adam = optimizer->kind == GRD_OPTIMIZER_ADAMW || optimizer->kind == GRD_OPTIMIZER_ADAM;
    if (adam) return moment == 0 ? "exp_avg" : "exp_avg_sq";
    if (optimizer->kind == GRD_OPTIMIZER_LBFGS) return moment == 0 ? "lbfgs_step" : "lbfgs_change";
    return optimizer->kind == GRD_OPTIMIZER_LION ? "exp_avg" : "momentum_buffer";
}

grdi_type grdi_moment_type(const grd_optimizer *optimizer, grdi_type parameter)
{
    if (optimizer->kind == GRD_OPTIMIZER_LBFGS)
        parameter.dims = grd_shape(optimizer->history_size, grd_dims_count(parameter.dims));
    parameter.dtype = GRD_F32; /* as gradients are, whatever weights are kept in */
    return parameter;
}

/* Parameters [first, last] of step->trained, side by side in all their storages. */
typedef struct run {
    int32_t first, last;
} run;

bool grdi_variable_follows(const grdi_variable *a, const grdi_variable *b)
{
    return a->storage == b->storage && a->type.dtype == b->type.dtype &&
           b->offset_bytes == a->offset_bytes + grdi_variable_room(a->type);
}

static bool same_run(const grd_step *step, const grdi_trained *a, const grdi_trained *b)
{
    if (a->setting != b->setting || !grdi_variable_follows(a->parameter, b->parameter) ||
        !grdi_variable_follows(a->gradient, b->gradient))
        return false;
    if (step->settings[a->setting].optimizer.kind == GRD_OPTIMIZER_MUON) return false;
    for (int32_t m = 0; m < GRDI_MOMENTS_MAX; m++)
        if (a->moment[m] && !grdi_variable_follows(a->moment[m], b->moment[m])) return false;
    return !a->average || grdi_variable_follows(a->average, b->average);
}

static run next_run(const grd_step *step, int32_t first)
{
    run r = {first, first};
    while (r.last + 1 < step->trained_count && same_run(step, &step->trained[r.last], &step->trained[r.last + 1]))
        r.last++;
    return r;
}

static grd_tensor range_node(const grdi_update *u, grdi_variable *from, grdi_variable *to)
{
    grd_error error = {GRD_OK, ""};
    grdi_variable *range = grdi_model_range(u->step->model, from, to, &error);
    return range ? grdi_variable_node(u->graph, range) : grdi_graph_fail(u->graph, error.status, "%s", error.message);
}

#define RANGE(u, r, field) range_node(u, (u)->step->trained[(r).first].field, (u)->step->trained[(r).last].field)

/* sqrt of the sum of squares of all gradients, and what they are multiplied by: below zero where the norm is not
 * finite. Unless such steps are left out, the norm is NaN from then on until the host has seen it: sqrt(min(last, 0)),
 * which is 0 or NaN, is one of the sum's terms. With a loss scale, gradients are that many times too large. */
static bool build_norm(grdi_update *u, const grd_tensor *gradients, int32_t count)
{
    static const float values[] = {1, -1, 0}; /* constants, which cost no launch */
    const grd_step *step = u->step;
    grd_tensor constants[3], sum = {NULL, 0}, last = grdi_variable_node(u->graph, step->scale);
    for (int i = 0; i < 3; i++) constants[i] = grd_constant(u->graph, GRD_F32, grd_scalar(), &values[i]);
    grd_tensor factor = constants[0];
    bool scaled = step->scaling.scale != NULL;
    grd_tensor inverse = scaled ? grdi_scaling_inverse(u) : constants[0];
    if (!step->options.skip_nonfinite)
        sum = scaled ? grdi_scaling_stopped(u, last) : grd_sqrt(grd_minimum(last, constants[2]));
    for (int32_t i = 0; i < count; i++) {
        grd_tensor squares = grd_sum_squares(gradients[i]);
        sum = sum.node ? grd_add(sum, squares) : squares;
    }
    u->norm = scaled ? grd_mul(grd_sqrt(sum), inverse) : grd_sqrt(sum);
    if (step->options.clip_norm > 0) {
        grd_tensor ratio = grd_mul_scalar(grd_reciprocal(grd_add_scalar(u->norm, 1e-6)), step->options.clip_norm);
        factor = grd_minimum(ratio, constants[0]);
    }
    grd_tensor good = scaled ? grd_mul(factor, inverse) : factor;
    grd_tensor bad = scaled ? grdi_scaling_verdict(u, last) : constants[1];
    u->scale = grd_assign(last, grd_where(grd_isfinite(u->norm), good, bad));
    return u->scale.node != NULL;
}

/* X for the products, which are as well off in bf16 (Jordan, 2024). The casts are written out: what a precision pass
 * rounds would depend on who else reads a value. */
static grd_tensor narrowed(const grd_step *step, grd_tensor x)
{
    return step->options.program.bf16 ? grd_cast(x, GRD_BF16) : x;
}

/* Orthogonalises each of the matrices m [N,R,C]: five steps of the quintic Newton-Schulz iteration
 * X <- aX + (bA + cA^2)X with A = XX^T (Jordan et al., "Muon: an optimizer for hidden layers in neural networks",
 * 2024), as X <- (aI + bA + cA^2)X: sums over the small square matrices only. */
static grd_tensor orthogonalise(const grd_step *step, grd_tensor m)
{
    static const int64_t matrix_axes[] = {1, 2};
    bool tall = grd_dim(m, 1) > grd_dim(m, 2);
    grd_tensor norm = grd_sqrt(grd_sum_axes(grd_square(m), matrix_axes, 2, true));
    grd_tensor x = grd_mul(m, grd_reciprocal(grd_add_scalar(norm, 1e-7)));
    if (tall) x = grd_transpose2(x);
    int64_t side = grd_dim(x, 1);
    grd_tensor rows = grd_arange(grd_tensor_graph(m), GRD_I32, side, 0, 1);
    grd_tensor identity = grd_mul_scalar(grd_one_hot(rows, side, GRD_F32), 3.4445);
    x = narrowed(step, x);
    for (int i = 0; i < 5; i++) {
        grd_tensor a = grd_matmul(x, grd_transpose2(x)), a2 = grd_cast(grd_matmul(a, a), GRD_F32);
        grd_tensor b = grd_add(grd_mul_scalar(grd_cast(a, GRD_F32), -4.7750), grd_mul_scalar(a2, 2.0315));
        x = grd_matmul(narrowed(step, grd_add(b, identity)), x);
    }
    x = grd_cast(x, GRD_F32);
    return tall ? grd_transpose2(x) : x;
}

static grd_tensor muon(const grdi_update *u, const grdi_trained *t, grd_tensor p, grd_tensor g, grd_tensor m,
                       grd_tensor hyper, grd_tensor *m_new)
{
    const grdi_setting *setting = &u->step->settings[t->setting];
    int64_t blocks = t->parameter->blocks, columns = t->parameter->type.dims.dim[1];
    int64_t rows = t->parameter->type.dims.dim[0] / blocks;
    double scale = sqrt(fmax(1.0, (double)rows / (double)columns));
    grd_tensor ok = grd_ge(u->scale, grd_scalar_constant(u->graph, 0.0));
    grd_tensor lr = grd_slice(hyper, 0, 0, 1);
    grd_tensor flat = grd_add(grd_mul_scalar(m, setting->optimizer.momentum), grd_mul(g, u->scale));
    grd_tensor direction = flat;
    if (setting->optimizer.nesterov)
        direction = grd_add(grd_mul(g, u->scale), grd_mul_scalar(flat, setting->optimizer.momentum));
    grd_tensor update = orthogonalise(u->step, grd_reshape(direction, grd_shape(blocks, rows, columns)));
    update = grd_reshape(update, grd_tensor_dims(p));
    grd_tensor decayed = p;
    if (setting->weight_decay != 0) decayed = grd_sub(p, grd_mul(grd_mul_scalar(p, setting->weight_decay), lr));
    grd_tensor p_new = grd_sub(decayed, grd_mul(grd_mul_scalar(update, scale), lr));
    *m_new = grd_where(ok, flat, m);
    return grd_where(ok, p_new, p);
}

/* The key of the bits by which weights in bf16 are rounded, an input of the graph from its first use on. */
static grd_tensor rounding_key(grdi_update *u)
{
    if (!u->key.node) u->key = grd_input(u->graph, GRDI_UPDATE_KEY, GRD_I32, grd_shape(4));
    return u->key;
}

/* An optimizer's op on inputs that end with `scale`: with the key behind it where p, the first, is in bf16. */
static void optimize(grdi_update *u, const char *op, const grdi_variable *p, grd_tensor *in, int32_t count,
                     grd_attr *attrs, int32_t attr_count, grd_tensor *out)
{
    if (p->type.dtype == GRD_BF16) {
        in[count++] = rounding_key(u);
        attrs[attr_count++] = (grd_attr)GRD_INT("first", grdi_variable_element(p));
    }
    grd_call(u->graph, op, in, count, attrs, attr_count, out);
}

static bool keep(grd_tensor value, grd_tensor *roots, int32_t *count, int32_t max)
{
    if (!value.node || *count >= max) return false;
    roots[(*count)++] = value;
    return true;
}

enum { PIECE_LEAST = 1 << 20, PIECES_MOST = 16 };

/* Sums of squares of the weights as they were, of the gradient, and of what the update changes; the change in pieces,
 * so that it is never held as a whole. */
static void measure(const grdi_update *u, int32_t first, grd_tensor p, grd_tensor g, grd_tensor p_new)
{
    grd_tensor *squares = u->squares + (ptrdiff_t)first * GRDI_MEASURES;
    int64_t count = grd_dim(p, 0), part = (count + PIECES_MOST - 1) / PIECES_MOST;
    int64_t piece = part < PIECE_LEAST ? PIECE_LEAST : part;
    squares[GRDI_MEASURE_WEIGHT] = grd_sum_squares(p);
    squares[GRDI_MEASURE_GRADIENT] = grd_sum_squares(u->step->scaling.scale ? grd_mul(g, grdi_scaling_inverse(u)) : g);
    for (int64_t at = 0; at < count; at += piece) {
        int64_t size = count - at < piece ? count - at : piece;
        grd_tensor change = grd_sub(grd_slice(p_new, 0, at, size), grd_slice(p, 0, at, size));
        grd_tensor sum = grd_sum_squares(change);
        squares[GRDI_MEASURE_CHANGE] = at ? grd_add(squares[GRDI_MEASURE_CHANGE], sum) : sum;
    }
}

/* a += (w - a) (1 - decay) / (1 - decay^t): the moving average of t values divided by the sum of their weights, so that
 * it does not lean to the zeros that it began with (Kingma and Ba, "Adam", 2015, section 7.2). */
static bool average_in(grd_tensor average, grd_tensor value, grd_tensor hyper, grd_tensor *roots, int32_t *count,
                       int32_t max)
{
    grd_tensor part = grd_mul(grd_sub(value, average), grd_slice(hyper, 0, 3, 1));
    return keep(grd_assign(average, grd_add(average, part)), roots, count, max);
}

/* One range: the optimizer's op, and assigns of all that it changed. */
static bool build_run(grdi_update *u, run r, grd_tensor g, grd_tensor *roots, int32_t *count, int32_t max)
{
    const grd_step *step = u->step;
    const grdi_trained *t = &step->trained[r.first];
    const grdi_setting *s = &step->settings[t->setting];
    const grd_optimizer *o = &s->optimizer;
    grd_tensor p = RANGE(u, r, parameter), out[GRD_OUTPUTS_MAX] = {{NULL, 0}}, state[2] = {{NULL, 0}, {NULL, 0}};
    grd_tensor hyper = u->hyper[t->setting];
    if (!hyper.node) hyper = u->hyper[t->setting] = grd_input(u->graph, s->hyper, GRD_F32, grd_shape(4));
    int32_t moments = grdi_moment_count(o);
    for (int32_t m = 0; m < moments; m++) state[m] = RANGE(u, r, moment[m]);
    switch (o->kind) {
    case GRD_OPTIMIZER_ADAMW:
    case GRD_OPTIMIZER_ADAM: {
        grd_attr attrs[6] = {GRD_FLOAT("beta1", o->beta1), GRD_FLOAT("beta2", o->beta2), GRD_FLOAT("eps", o->eps),
                             GRD_FLOAT("weight_decay", s->weight_decay),
                             GRD_FLAG("coupled", o->kind == GRD_OPTIMIZER_ADAM)};
        grd_tensor in[7] = {p, g, state[0], state[1], hyper, u->scale};
        optimize(u, "adamw", t->parameter, in, 6, attrs, 5, out);
        break;
    }
    case GRD_OPTIMIZER_SGD: {
        grd_attr attrs[5] = {GRD_FLOAT("momentum", o->momentum), GRD_FLOAT("dampening", o->dampening),
                             GRD_FLAG("nesterov", o->nesterov), GRD_FLOAT("weight_decay", s->weight_decay)};
        grd_tensor with[6] = {p, g, state[0], hyper, u->scale}, without[6] = {p, g, hyper, u->scale};
        optimize(u, "sgd", t->parameter, moments ? with : without, moments ? 5 : 4, attrs, 4, out);
        break;
    }
    case GRD_OPTIMIZER_LION: {
        grd_attr attrs[4] = {GRD_FLOAT("beta1", o->beta1), GRD_FLOAT("beta2", o->beta2),
                             GRD_FLOAT("weight_decay", s->weight_decay)};
        grd_tensor in[6] = {p, g, state[0], hyper, u->scale};
        optimize(u, "lion", t->parameter, in, 5, attrs, 3, out);
        break;
    }
    default:
        out[0] = muon(u, t, grd_cast(p, GRD_F32), g, state[0], hyper, &out[1]);
        if (t->parameter->type.dtype == GRD_BF16)
            out[0] = grd_stochastic_round(out[0], rounding_key(u), grdi_variable_element(t->parameter));
    }
    if (u->squares) measure(u, r.first, grd_cast(p, GRD_F32), g, grd_cast(out[0], GRD_F32));
    grd_tensor assigned = grd_assign(p, out[0]);
    bool ok = keep(assigned, roots, count, max);
    for (int32_t m = 0; m < moments && ok; m++) ok = keep(grd_assign(state[m], out[m + 1]), roots, count, max);
    if (ok && t->average) ok = average_in(RANGE(u, r, average), assigned, hyper, roots, count, max);
    return ok;
}

static bool build_runs(grdi_update *u, const grd_tensor *gradients, grd_tensor *roots, int32_t *count, int32_t max)
{
    const grd_step *step = u->step;
    bool ok = true;
    for (int32_t i = 0, k = 0; ok && i < step->trained_count; k++) {
        run r = u->squares ? (run){i, i} : next_run(step, i);
        ok = build_run(u, r, u->squares ? RANGE(u, r, gradient) : gradients[k], roots, count, max);
        i = r.last + 1;
    }
    for (int32_t i = 0; ok && i < step->averaged_count; i++) {
        grd_tensor average = grdi_variable_node(u->graph, step->averaged[i].average),
                   state = grdi_variable_node(u->graph, step->averaged[i].state),
                   go_on = grd_ge(u->scale, grd_scalar_constant(u->graph, 0.0));
        state = grd_where(go_on, state, average); /* of a step that is left out, which may be no number */
        ok = average_in(average, state, u->hyper[step->trained[0].setting], roots, count, max);
    }
    for (int32_t i = 0; ok && u->squares && i < step->trained_count * GRDI_MEASURES; i++)
        ok = keep(u->squares[i], roots, count, max);
    return ok;
}

bool grdi_build_update(grdi_update *u, grd_tensor *roots, int32_t *root_count, int32_t roots_max)
{
    grd_step *step = u->step;
    grd_tensor *gradients = grdi_alloc_zero((size_t)step->trained_count + 1, sizeof(*gradients));
    u->hyper = grdi_alloc_zero((size_t)step->setting_count + 1, sizeof(*u->hyper));
    if (!gradients || !u->hyper) {
        grdi_free(gradients);
        grdi_free(u->hyper);
        return !grd_fail(&step->error, GRD_E_MEMORY, "out of memory for the update");
    }
    int32_t runs = 0;
    for (int32_t i = 0; i < step->trained_count; runs++) { /* the norm has the same bits, measured or not */
        run r = next_run(step, i);
        gradients[runs] = RANGE(u, r, gradient);
        i = r.last + 1;
    }
    bool ok = build_norm(u, gradients, runs) && keep(u->norm, roots, root_count, roots_max) &&
              keep(u->scale, roots, root_count, roots_max) && build_runs(u, gradients, roots, root_count, roots_max) &&
              grdi_states_restore(u, roots, root_count, roots_max) &&
              grdi_scaling_build(u, roots, root_count, roots_max);
    grdi_free(gradients);
    grdi_free(u->hyper);
    u->hyper = NULL;
    return ok;
}
