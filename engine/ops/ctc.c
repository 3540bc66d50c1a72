/* ctc.c - connectionist temporal classification: the probability of a label sequence, whose places in time are unknown.
 *
 * A path has one label for each step, with blanks between labels where it likes; what it spells is the path without
 * repetitions, then without blanks. State s of 2 L + 1 stands for the blank before label s / 2 (s even) or for label
 * s / 2 (s odd); a path stays, goes to the next state, or leaves a blank out between two different labels. */
#include "graph/graph.h"
#include "ops/nn.h"
#include "ops/table.h"

#include <gradus/ops.h>

#include <math.h>

enum { LABELS_MAX = 1023, STATES_MAX = 2 * LABELS_MAX + 1 };

/* log_probs [B,T,C], targets [B,S], lengths of both [B] */
static bool ctc_shape(grdi_infer *c)
{
    static const char *const names[] = {"targets", "input lengths", "target lengths"};
    grd_dims x = c->in[0].dims, targets = c->in[1].dims;
    int64_t blank = grdi_attr_int(c->attrs, "blank");
    char a[GRD_DIMS_TEXT_MAX], b[GRD_DIMS_TEXT_MAX];
    if (!grdi_infer_float(c, 0)) return false;
    for (int32_t i = 1; i < 4; i++)
        if (c->in[i].dtype != GRD_I32)
            return grdi_infer_fail(c, GRD_E_DTYPE, "%s must be i32, are %s", names[i - 1],
                                   grd_dtype_name(c->in[i].dtype));
    if (x.rank != 3 || targets.rank != 2 || targets.dim[0] != x.dim[0])
        return grdi_infer_fail(c, GRD_E_SHAPE, "log probabilities [B,T,C] and targets [B,S] are needed, not %s and %s",
                               grd_dims_text(x, a), grd_dims_text(targets, b));
    for (int32_t i = 2; i < 4; i++)
        if (!grd_dims_equal(c->in[i].dims, grd_shape(x.dim[0])))
            return grdi_infer_fail(c, GRD_E_SHAPE, "%s are %s, must be [%lld] for log probabilities %s", names[i - 1],
                                   grd_dims_text(c->in[i].dims, a), (long long)x.dim[0], grd_dims_text(x, b));
    if (targets.dim[1] > LABELS_MAX)
        return grdi_infer_fail(c, GRD_E_SHAPE, "targets %s: at most %d labels are possible", grd_dims_text(targets, a),
                               LABELS_MAX);
    if (blank < 0 || blank >= x.dim[2])
        return grdi_infer_fail(c, GRD_E_ARGUMENT, "blank is %lld, and there are %lld classes", (long long)blank,
                               (long long)x.dim[2]);
    c->out[0] = (grdi_type){grdi_wide_dtype(c->in[0].dtype), grd_shape(x.dim[0])};
    c->out[1] = c->in[0];
    return true;
}

/* ---- the reference: sums over paths that end at a step, and that go on from it ---- */

typedef struct sample {
    const double *log_probs, *targets;
    int64_t classes, states, steps, blank;
} sample;

static int64_t label_of(const sample *z, int64_t state)
{
    return state % 2 ? (int64_t)z->targets[state / 2] : z->blank;
}

static bool may_skip(const sample *z, int64_t to)
{
    return to > 1 && label_of(z, to) != z->blank && label_of(z, to) != label_of(z, to - 2);
}

static double log_add(double a, double b)
{
    double most = fmax(a, b);
    return most == -INFINITY ? most : most + log1p(exp(-fabs(a - b)));
}

static double log_prob(const sample *z, int64_t step, int64_t state)
{
    return z->log_probs[step * z->classes + label_of(z, state)];
}

/* paths[s]: log of the sum over all paths up to `step` that end in state s. */
static void paths_to(const sample *z, int64_t step, double *paths)
{
    for (int64_t s = 0; s < z->states; s++) paths[s] = s < 2 ? log_prob(z, 0, s) : -INFINITY;
    for (int64_t t = 1; t <= step; t++)
        for (int64_t s = z->states - 1; s >= 0; s--) {
            if (s > 0) paths[s] = log_add(paths[s], paths[s - 1]);
            if (may_skip(z, s)) paths[s] = log_add(paths[s], paths[s - 2]);
            paths[s] += log_prob(z, t, s);
        }
}

/* From what holds for the step after `step` to what holds for it: the log of the sum over all ways from state s to the
 * end, without the step itself. The last step's: one may end in the last label or in the blank behind it. */
static void paths_from(const sample *z, int64_t step, double *paths)
{
    for (int64_t s = 0; s < z->states; s++) {
        if (step == z->steps - 1) {
            paths[s] = s >= z->states - 2 ? 0 : -INFINITY;
            continue;
        }
        paths[s] += log_prob(z, step + 1, s);
        if (s + 1 < z->states) paths[s] = log_add(paths[s], paths[s + 1] + log_prob(z, step + 1, s + 1));
        if (s + 2 < z->states && may_skip(z, s + 2))
            paths[s] = log_add(paths[s], paths[s + 2] + log_prob(z, step + 1, s + 2));
    }
}

/* d -log(sum of all paths) / d log_prob = -(the part of paths that take that label at that step). */
static void add_gradient(const sample *z, double total, double *gradient)
{
    double to[STATES_MAX], from[STATES_MAX];
    for (int64_t t = z->steps - 1; t >= 0; t--) {
        paths_to(z, t, to);
        paths_from(z, t, from);
        for (int64_t s = 0; s < z->states; s++)
            gradient[t * z->classes + label_of(z, s)] -= exp(to[s] + from[s] - total);
    }
}

/* -log of the sum over all paths; NaN where lengths or labels do not exist. */
static double path_loss(const sample *z, int64_t labels, int64_t most)
{
    double paths[STATES_MAX];
    for (int64_t i = 0; i < labels; i++)
        if (!(z->targets[i] >= 0 && z->targets[i] < (double)z->classes)) return NAN;
    if (z->steps < 0 || z->steps > most) return NAN;
    if (z->steps == 0) return labels ? INFINITY : 0;
    paths_to(z, z->steps - 1, paths);
    return -log_add(paths[z->states - 1], z->states > 1 ? paths[z->states - 2] : -INFINITY);
}

static void ctc_reference(const grdi_reference *r)
{
    grd_dims x = r->in_type[0].dims;
    int64_t steps = x.dim[1], most = r->in_type[1].dims.dim[1];
    sample z = {.classes = x.dim[2], .blank = grdi_attr_int(r->attrs, "blank")};
    bool zero = grdi_attr_int(r->attrs, "zero_infinity");
    for (int64_t i = 0; r->out[1] && i < grd_dims_count(x); i++) r->out[1][i] = 0;
    for (int64_t b = 0; b < x.dim[0]; b++) {
        double labels = r->in[3][b];
        bool known = labels >= 0 && labels <= (double)most;
        z.log_probs = r->in[0] + b * steps * z.classes, z.targets = r->in[1] + b * most;
        z.steps = (int64_t)r->in[2][b], z.states = known ? 2 * (int64_t)labels + 1 : 1;
        double loss = known ? path_loss(&z, (int64_t)labels, steps) : NAN;
        if (r->out[0]) r->out[0][b] = zero && loss == INFINITY ? 0 : loss;
        if (r->out[1] && isfinite(loss)) add_gradient(&z, -loss, r->out[1] + b * steps * z.classes);
    }
}

/* ---- the longer form: one step after the other ---- */

#define NEVER (-1e30) /* as good as log 0, without its derivatives */

typedef struct steps {
    grd_graph *graph;
    int64_t batch, time, states;
    grd_tensor labels; /* i32 [B,2S+1] */
    grd_tensor skip;   /* [B,2S+1]: 0 where a blank may be left out before the state, else NEVER */
} steps;

static grd_tensor whole(grd_graph *graph, grd_dims dims, int64_t value)
{
    return grd_full(graph, GRD_I32, dims, (double)value);
}

/* i32 [1,count]: 0, 1, ... */
static grd_tensor places(grd_graph *graph, int64_t count)
{
    return grd_unsqueeze(grd_arange(graph, GRD_I32, count, 0, 1), 0);
}

/* x moved by `by` states; what comes in is `value`. */
static grd_tensor moved(grd_tensor x, int64_t by, double value)
{
    grd_dims dims = grd_tensor_dims(x);
    int64_t kept = dims.dim[1] - by;
    dims.dim[1] = by;
    grd_tensor empty = grd_full(grd_tensor_graph(x), grd_tensor_dtype(x), dims, value);
    return grd_concat((grd_tensor[]){empty, grd_slice(x, 1, 0, kept)}, 2, 1);
}

/* Blanks and labels in turn; `known` says which labels count. */
static void set_states(steps *z, grd_tensor targets, grd_tensor known, int64_t blank, grd_dtype dtype)
{
    grd_dims dims = grd_tensor_dims(targets);
    grd_tensor blanks = whole(z->graph, dims, blank);
    grd_tensor pairs = grd_stack((grd_tensor[]){blanks, grd_where(known, targets, blanks)}, 2, 2);
    pairs = grd_reshape(pairs, grd_shape(z->batch, z->states - 1));
    z->labels = grd_concat((grd_tensor[]){pairs, whole(z->graph, grd_shape(z->batch, 1), blank)}, 2, 1);
    grd_tensor other = grd_ne(z->labels, moved(z->labels, 2, -1));
    grd_tensor real = grd_ne(z->labels, whole(z->graph, grd_shape(1, 1), blank));
    grd_tensor none = grd_full(z->graph, dtype, grd_shape(z->batch, z->states), 0);
    z->skip = grd_where(grd_and(other, real), none, grd_full_like(none, NEVER));
}

/* Log of the sums over all paths up to the last step that end in each state, [B,states]. */
static grd_tensor all_paths(const steps *z, grd_tensor log_probs, grd_tensor input_lengths, grd_tensor inside)
{
    grd_tensor labels = grd_broadcast_to(grd_unsqueeze(z->labels, 1), grd_shape(z->batch, z->time, z->states));
    grd_tensor each = grd_gather(log_probs, labels, 2), never = grd_full_like(z->skip, NEVER);
    grd_tensor begin = grd_lt(places(z->graph, z->states), whole(z->graph, grd_shape(1, 1), 2));
    grd_tensor paths = grd_where(grd_and(begin, inside), grd_squeeze(grd_slice(each, 1, 0, 1), 1), never);
    for (int64_t t = 1; t < z->time; t++) {
        grd_tensor ways[] = {paths, moved(paths, 1, NEVER), grd_add(moved(paths, 2, NEVER), z->skip)};
        grd_tensor next = grd_logsumexp_axis(grd_stack(ways, 3, 2), 2, false);
        next = grd_add(next, grd_squeeze(grd_slice(each, 1, t, 1), 1));
        grd_tensor goes_on = grd_gt(grd_unsqueeze(input_lengths, 1), whole(z->graph, grd_shape(1, 1), t));
        paths = grd_where(goes_on, next, paths);
    }
    return paths;
}

static grd_tensor between(grd_tensor x, int64_t low, int64_t high)
{
    return grd_and(grd_ge(x, grd_full_like(x, (double)low)), grd_le(x, grd_full_like(x, (double)high)));
}

/* `otherwise` where the condition does not hold */
static grd_tensor only_where(grd_tensor condition, grd_tensor x, double otherwise)
{
    return grd_where(condition, x, grd_full_like(x, otherwise));
}

static void ctc_compose(grdi_compose *c)
{
    grd_dims dims = grd_tensor_dims(c->in[0]);
    grd_dtype dtype = grd_tensor_dtype(c->in[0]), wide = grdi_wide_dtype(dtype);
    grd_tensor targets = c->in[1], input_lengths = c->in[2], lengths = c->in[3], none = grd_full_like(lengths, 0);
    int64_t most = grd_dim(targets, 1);
    steps z = {.graph = c->graph, .batch = dims.dim[0], .time = dims.dim[1], .states = 2 * most + 1};
    grd_tensor counts = grd_lt(places(c->graph, most), grd_unsqueeze(lengths, 1));
    grd_tensor exists = between(targets, 0, dims.dim[2] - 1);
    grd_tensor valid = grd_all_axis(grd_or(exists, grd_not(counts)), 1, false);
    valid = grd_and(valid, grd_and(between(lengths, 0, most), between(input_lengths, 0, z.time)));
    set_states(&z, targets, grd_and(counts, exists), grdi_attr_int(c->attrs, "blank"), wide);
    grd_tensor last = grd_mul_scalar(lengths, 2);
    grd_tensor inside = grd_le(places(c->graph, z.states), grd_unsqueeze(last, 1));
    grd_tensor paths = all_paths(&z, grd_cast(c->in[0], wide), input_lengths, inside);
    grd_tensor ends[] = {last, grd_maximum(grd_add_scalar(last, -1), none)};
    grd_tensor final = grd_gather(paths, grd_stack(ends, 2, 1), 1); /* [B,2] */
    grd_tensor labelled = grd_gt(lengths, none);
    grd_tensor two[] = {grd_full_like(grd_unsqueeze(labelled, 1), 1), grd_unsqueeze(labelled, 1)};
    final = only_where(grd_concat(two, 2, 1), final, NEVER);
    grd_tensor loss = grd_neg(grd_logsumexp_axis(final, 1, false));
    double infinite = grdi_attr_int(c->attrs, "zero_infinity") ? 0 : INFINITY;
    loss = only_where(grd_lt(loss, grd_full_like(loss, -NEVER / 10)), loss, infinite);
    grd_tensor empty = only_where(labelled, grd_full_like(loss, infinite), 0);
    loss = grd_where(grd_eq(input_lengths, none), empty, loss);
    c->out[0] = only_where(valid, loss, NAN);
    c->out[1] = grd_grad(grd_sum(c->out[0]), c->in[0]);
}

/* The gradient of each loss was made on the way. */
static void ctc_gradient(grdi_gradient *g)
{
    if (g->grad_out[1].node) {
        g->through_compose = true;
        return;
    }
    grd_tensor each = grd_cast(g->grad_out[0], grd_tensor_dtype(g->out[1]));
    g->grad_in[0] = grd_mul(g->out[1], grd_unsqueeze(grd_unsqueeze(each, 1), 1));
}

/* For each step and state, forth and back: three exponentials and a logarithm, of some twenty operations each. */
static double ctc_flops(const grdi_type *in, int32_t input_count, const grdi_type *out, const grd_attr *attrs)
{
    (void)input_count, (void)out, (void)attrs;
    double states = (double)(2 * in[1].dims.dim[1] + 1);
    return 160.0 * (double)(in[0].dims.dim[0] * in[0].dims.dim[1]) * states;
}

static const grdi_sample ctc_samples[] = {
    {.in = {"f32[2,5,4] -3..-0.1", "i32[2,2] =1,2,3,3", "i32[2] =5,4", "i32[2] =2,2"}},
    {.in = {"f32[1,4,3] -3..-0.1", "i32[1,3] =1,2,0", "i32[1] =4", "i32[1] =1"}}, /* what lies behind is not read */
    {.in = {"f32[2,4,3] -3..-0.1", "i32[2,2] =0,1,1,0", "i32[2] =3,4", "i32[2] =2,0"}, .attrs = "blank=2"},
    {.in = {"f32[3,6,5] -3..-0.1", "i32[3,3] =1,1,1,4,2,4,2,3,1", "i32[3] =6,5,3", "i32[3] =3,3,3"}},
    {.in = {"f32[2,3,4] -3..-0.1", "i32[2,2] =1,1,2,3", "i32[2] =2,3", "i32[2] =2,2"}, /* the first is impossible */
     .attrs = "zero_infinity=true"},
    {.in = {"f32[2,2,4] -3..-0.1", "i32[2,2] =1,1,2,3", "i32[2] =2,2", "i32[2] =2,2"},
     .no_gradient = true}, /* is inf */
    {.in = {"f32[3,2,3] -3..-0.1", "i32[3,1] =1,1,2", "i32[3] =0,0,2", "i32[3] =0,1,1"},
     .no_gradient = true}, /* nothing to be said, and no time for it */
    {.in = {"f32[3,40,20] -6..-0.1", "i32[3,17] 1..19", "i32[3] =40,35,38", "i32[3] =17,9,1"}, .no_gradient = true},
    {.in = {"f32[32,100,32] -6..-0.1", "i32[32,20] 1..31", "i32[32] =100", "i32[32] =20"}, .large = true},
    {.in = {"f32[2,5,4]", "i32[3,2]", "i32[2]", "i32[2]"}, .bad = "are needed, not [2,5,4] and [3,2]"},
    {.in = {"f32[2,5,4]", "i32[2,2]", "i32[1]", "i32[2]"}, .bad = "input lengths are [1], must be [2]"},
    {.in = {"f32[2,5,4]", "i32[2,2]", "i32[2]", "f32[2]"}, .bad = "target lengths must be i32, are f32"},
    {.in = {"f32[2,5,4]", "i32[2,2]", "i32[2]", "i32[2]"}, .attrs = "blank=4", .bad = "blank is 4, and there are 4"},
    {.in = {"f32[2,5,4]", "i32[2,1024]", "i32[2]", "i32[2]"}, .bad = "at most 1023 labels"},
    {.in = {"i32[2,5,4]", "i32[2,2]", "i32[2]", "i32[2]"}, .bad = "float"},
    {.in = {NULL}}};

const grdi_op grdi_op_ctc = {.name = "ctc",
                             .inputs = 4,
                             .outputs = 2,
                             .attrs = {GRD_INT("blank", 0), GRD_FLAG("zero_infinity", false)},
                             .shape = ctc_shape,
                             .gradient = ctc_gradient,
                             .compose = ctc_compose,
                             .reference = ctc_reference,
                             .flops = ctc_flops,
                             .tolerance = 2e-5, /* a sum in f32 for each step, each of rounded logarithms */
                             .samples = ctc_samples};

grd_tensor grd_ctc_with(grd_tensor log_probs, grd_tensor targets, grd_tensor input_lengths, grd_tensor target_lengths,
                        const grd_ctc_options *options)
{
    options = options ? options : &(const grd_ctc_options){.size = sizeof(grd_ctc_options)};
    return GRDI_EMIT_ATTRS(
        &grdi_op_ctc,
        GRDI_LIST(grd_attr, GRD_INT("blank", options->blank), GRD_FLAG("zero_infinity", options->zero_infinity)),
        log_probs, targets, input_lengths, target_lengths);
}
