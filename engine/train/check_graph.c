/* check_graph.c - what one batch shows of a graph: who depends on whom, and whether gradients are those of the loss. */
#include "train/check.h"
#include "train/train.h"

#include "backend/backend.h"
#include "base/memory.h"
#include "base/random.h"
#include "ops/sample.h"
#include "ops/table.h"
#include "run/interpret.h"
#include "run/run.h"

#include <math.h>
#include <string.h>

/* ---- who depends on whom ---- */

/* The evaluation with some inputs changed, beside what it gave before. */
typedef struct probe {
    grdi_subject *s;
    char *batch, *changed; /* of the input */
    float *before, *after; /* the output */
    int64_t samples, times, per_sample, outputs;
    size_t sample_bytes;
} probe;

static grd_status out_of_memory(const grdi_checker *c)
{
    return grd_fail(c->error, GRD_E_MEMORY, "out of memory for the checks of a graph");
}

/* What the evaluation is fed beside its input: what the step has under the same name, else zeros. */
static grd_status feed_others(grdi_checker *c, grdi_subject *s)
{
    const grd_engine *engine = s->model->engine;
    for (size_t n = 0; n < s->eval_graph->count; n++) {
        grdi_node *node = s->eval_graph->nodes[n];
        if (node->op != &grdi_op_input || node == s->eval_input.node) continue;
        size_t size = grdi_type_bytes(node->out[0]), has = 0;
        char *data = grdi_alloc_zero(1, size);
        if (!data) return out_of_memory(c);
        void *fed = grdi_program_input(s->step->micro, node->name, &has);
        if (fed && has == size) engine->backend->download(engine->device, data, fed, size);
        grd_program_feed(s->eval, (grd_tensor){node, 0}, data);
        grdi_free(data);
    }
    return GRD_OK;
}

/* Other values in the place of elements [from, to) of the input: ids of the same batch, or numbers far from these. */
static void change(probe *p, int64_t from, int64_t to)
{
    const grdi_type *type = grdi_type_of(p->s->eval_input);
    int64_t count = grd_dims_count(type->dims);
    for (int64_t i = from; i < to; i++) {
        if (type->dtype == GRD_F32) {
            ((float *)p->changed)[i] = 1.5f - 2 * ((const float *)p->batch)[i];
            continue;
        }
        const int32_t *ids = (const int32_t *)p->batch;
        int64_t other = i + 1;
        while (other < i + count && ids[other % count] == ids[i]) other++;
        ((int32_t *)p->changed)[i] = ids[other % count];
    }
}

static grd_status evaluate(grdi_checker *c, probe *p, const void *inputs, float *outputs)
{
    grd_program_feed(p->s->eval, p->s->eval_input, inputs);
    grd_status status = grd_program_run(p->s->eval);
    if (!status) status = grd_program_read(p->s->eval, p->s->eval_output, outputs);
    return status ? grd_fail(c->error, status, "%s", grd_program_error(p->s->eval)->message) : GRD_OK;
}

/* The evaluation with elements [from, to) of sample `sample` changed. */
static grd_status evaluate_changed(grdi_checker *c, probe *p, int64_t sample, int64_t from, int64_t to)
{
    int64_t size = grd_dims_count(grdi_type_of(p->s->eval_input)->dims) / p->samples;
    memcpy(p->changed, p->batch, p->sample_bytes * (size_t)p->samples);
    change(p, sample * size + from, sample * size + to);
    return evaluate(c, p, p->changed, p->after);
}

static bool same(const probe *p, int64_t from, int64_t count)
{
    return memcmp(p->before + from, p->after + from, (size_t)count * sizeof(float)) == 0;
}

static grd_status check_independence(grdi_checker *c, probe *p)
{
    int64_t last = p->samples - 1, size = grd_dims_count(grdi_type_of(p->s->eval_input)->dims) / p->samples;
    int64_t tried[] = {0, p->samples / 2, last}, leaks = 0, from = 0, to = 0;
    for (int k = 0; k < 3; k++) {
        if (k && tried[k] == tried[k - 1]) continue;
        grd_status status = evaluate_changed(c, p, tried[k], 0, size);
        if (status) return status;
        for (int64_t i = 0; i < p->samples; i++) {
            if (i == tried[k] || same(p, i * p->per_sample, p->per_sample)) continue;
            if (!leaks++) from = tried[k], to = i;
        }
    }
    if (leaks)
        grdi_check_result(
            c, "independence", false,
            "look for what mixes the samples of a batch in evaluation: normalisation over the batch (batch "
            "norm in training mode), a softmax or a mean over the wrong axis, a reshape that swaps axes",
            "the output of sample %lld changes with the input of sample %lld", (long long)to, (long long)from);
    else
        grdi_check_result(c, "independence", true, "",
                          "changing one sample of %lld leaves the others' outputs the same to the bit",
                          (long long)p->samples);
    return GRD_OK;
}

enum { TIMES_TRIED = 4 };

/* A node that draws random numbers among those that the output is made of; NULL: there is none. */
static const grdi_node *find_random(const grdi_subject *s)
{
    static const char *const random[] = {"dropout", "random_uniform", "random_normal"};
    const grd_graph *graph = s->eval->plan->graph; /* what the output needs, and no more */
    for (size_t n = 0; n < graph->count; n++)
        for (size_t i = 0; i < sizeof(random) / sizeof(random[0]); i++)
            if (strcmp(graph->nodes[n]->op->name, random[i]) == 0) return graph->nodes[n];
    return NULL;
}

/* A parameter of the evaluation that the training graph does not have; NULL: there is none. */
static const grdi_variable *find_stranger(const grdi_subject *s)
{
    const grd_graph *graph = s->eval->plan->graph;
    for (size_t n = 0; n < graph->count; n++) {
        const grdi_node *node = graph->nodes[n];
        bool known = node->op != &grdi_op_parameter;
        for (size_t k = 0; k < s->graph->count && !known; k++) known = s->graph->nodes[k]->variable == node->variable;
        if (!known) return node->variable;
    }
    return NULL;
}

static void check_evaluation(grdi_checker *c, const grdi_subject *s)
{
    const grdi_node *node = find_random(s);
    const grdi_variable *stranger = find_stranger(s);
    if (stranger)
        grdi_check_result(c, "evaluation", false,
                          "look at the names of layers: the model that is evaluated is not the one that is trained",
                          "the evaluation reads %s, which training does not have", stranger->path);
    else if (node)
        grdi_check_result(
            c, "evaluation", false, "look at what is switched off in evaluation: dropout belongs to training alone",
            "the evaluation's output is made by %s%s%s", node->op->name, node->scope[0] ? " in " : "", node->scope);
    else
        grdi_check_result(c, "evaluation", true, "",
                          "it has the parameters that are trained, and nothing in it is random");
}

static grd_status check_causality(grdi_checker *c, probe *p)
{
    int64_t size = grd_dims_count(grdi_type_of(p->s->eval_input)->dims) / p->samples, each = size / p->times;
    int64_t outputs = p->per_sample / p->times, worst = -1, seen_by = -1, previous = 0;
    for (int k = 1; k <= TIMES_TRIED && worst < 0; k++) {
        int64_t t = k == TIMES_TRIED ? p->times - 1 : p->times * k / TIMES_TRIED;
        if (t <= previous) continue;
        previous = t;
        grd_status status = evaluate_changed(c, p, 0, t * each, size);
        if (status) return status;
        for (int64_t i = 0; i < t && worst < 0; i++)
            if (!same(p, i * outputs, outputs)) worst = i, seen_by = t;
    }
    if (worst >= 0)
        grdi_check_result(c, "causality", false,
                          "look at the attention mask, at the axis of the softmax, and at convolutions or reversed "
                          "recurrences that see later steps",
                          "the output at step %lld changes with inputs from step %lld on", (long long)worst,
                          (long long)seen_by);
    else
        grdi_check_result(c, "causality", true, "",
                          "changing later inputs leaves earlier outputs the same to the bit (%lld steps)",
                          (long long)p->times);
    return GRD_OK;
}

/* False: the shapes do not say what belongs to which sample. */
static bool shape_probe(probe *p)
{
    grd_dims in = grd_tensor_dims(p->s->eval_input);
    p->outputs = grd_dims_count(grd_tensor_dims(p->s->eval_output));
    p->samples = in.rank > 0 ? in.dim[0] : 0;
    p->times = in.rank > 1 ? in.dim[1] : 1;
    if (p->samples < 1 || p->outputs % p->samples) return false;
    p->per_sample = p->outputs / p->samples;
    p->sample_bytes = grdi_type_bytes(*grdi_type_of(p->s->eval_input)) / (size_t)p->samples;
    grd_dtype dtype = grd_tensor_dtype(p->s->eval_input);
    return (dtype == GRD_F32 || dtype == GRD_I32) && grd_tensor_dtype(p->s->eval_output) == GRD_F32;
}

static grd_status check_dependence(grdi_checker *c, grdi_subject *s)
{
    probe p = {.s = s};
    if (!shape_probe(&p)) {
        grdi_check_note(c, "causality and independence: the output is not f32 with the samples as its first axis");
        return GRD_OK;
    }
    p.batch = grdi_alloc(p.sample_bytes * (size_t)p.samples);
    p.changed = grdi_alloc(p.sample_bytes * (size_t)p.samples);
    p.before = grdi_alloc((size_t)p.outputs * sizeof(float));
    p.after = grdi_alloc((size_t)p.outputs * sizeof(float));
    grd_status status = p.batch && p.changed && p.before && p.after ? feed_others(c, s) : out_of_memory(c);
    if (!status) {
        memcpy(p.batch, s->inputs, p.sample_bytes * (size_t)p.samples);
        status = evaluate(c, &p, p.batch, p.before);
    }
    if (!status && p.samples > 1) status = check_independence(c, &p);
    if (!status && s->causal && p.times > 1 && p.per_sample % p.times == 0) status = check_causality(c, &p);
    grdi_free(p.batch);
    grdi_free(p.changed);
    grdi_free(p.before);
    grdi_free(p.after);
    return status;
}

/* ---- which token is to be told ---- */

#define MOSTLY 0.9 /* of the positions */

/* The part of the positions at which the target is the input `shift` steps on. */
static double shifted(const int32_t *inputs, const int32_t *targets, int64_t samples, int64_t times, int64_t shift)
{
    int64_t equal = 0, all = 0;
    for (int64_t b = 0; b < samples; b++)
        for (int64_t t = 0; t < times; t++) {
            if (t + shift < 0 || t + shift >= times || targets[b * times + t] < 0) continue;
            equal += targets[b * times + t] == inputs[b * times + t + shift];
            all++;
        }
    return all ? (double)equal / (double)all : 0;
}

static grd_status check_targets(grdi_checker *c, grdi_subject *s)
{
    if (!s->causal || !s->target.node) return GRD_OK;
    const grdi_type *in = grdi_type_of(s->input), *out = grdi_type_of(s->target);
    if (in->dtype != GRD_I32 || out->dtype != GRD_I32 || in->dims.rank != 2 || !grd_dims_equal(in->dims, out->dims))
        return GRD_OK;
    const grd_engine *engine = s->model->engine;
    const void *fed = grdi_program_input(s->step->micro, s->target.node->name, NULL);
    int32_t *targets = grdi_alloc(grdi_type_bytes(*out));
    if (!targets) return out_of_memory(c);
    engine->backend->download(engine->device, targets, fed, grdi_type_bytes(*out));
    int64_t found = 1;
    double part = shifted(s->inputs, targets, in->dims.dim[0], in->dims.dim[1], 1), next = part;
    for (int64_t shift = -2; shift <= 2 && next < MOSTLY; shift++) {
        double same = shifted(s->inputs, targets, in->dims.dim[0], in->dims.dim[1], shift);
        if (same > part && same > MOSTLY) part = same, found = shift;
    }
    grdi_free(targets);
    grdi_check_result(c, "targets", found == 1,
                      found <= 0 ? "look at how targets are shifted: the model is asked for what it is given"
                                 : "look at how targets are shifted: the model is not asked for what comes next",
                      "at %.0f%% of the positions the target is the input %+lld steps on", 100 * part,
                      (long long)found);
    return GRD_OK;
}

/* ---- which parameters get a gradient ---- */

static bool is_frozen(const grdi_subject *s, const grdi_variable *v)
{
    if (v->frozen) return true;
    for (int32_t i = 0; i < s->group_count; i++)
        if (grdi_path_matches(s->groups[i].match, v->path)) return s->groups[i].frozen;
    return false;
}

static bool is_trained(const grd_step *step, const grdi_variable *v)
{
    for (int32_t i = 0; i < step->trained_count; i++)
        if (step->trained[i].parameter == v) return true;
    return false;
}

static void check_reach(grdi_checker *c, const grdi_subject *s)
{
    int64_t parameters = 0, without = 0, frozen = 0, leaks = 0;
    const char *first = "";
    for (size_t n = 0; n < s->graph->count; n++) {
        const grdi_node *node = s->graph->nodes[n];
        if (node->op != &grdi_op_parameter) continue;
        const grdi_variable *v = node->variable;
        bool constant = s->constant && grdi_path_matches(s->constant, v->path), trained = is_trained(s->step, v);
        parameters++;
        frozen += is_frozen(s, v);
        if (constant && trained && !leaks++) first = v->path;
        if (!constant && !trained && !is_frozen(s, v) && !without++ && !leaks) first = v->path;
    }
    if (leaks)
        grdi_check_result(c, "gradients_reach", false,
                          "look for a missing grd_stop_gradient: these parameters were to stay as they are",
                          "%lld parameters that are to be constant get a gradient, the first is %s", (long long)leaks,
                          first);
    else
        grdi_check_result(c, "gradients_reach", !without,
                          "look at how these parameters are used: the loss does not depend on them, or through a cut "
                          "(stop_gradient, rounding, argmax)",
                          "%lld of %lld parameters get a gradient%s%s", (long long)(parameters - without - frozen),
                          (long long)parameters, without ? ", the first without is " : "", first);
    if (frozen)
        grdi_check_result(c, "frozen", s->pretrained,
                          "look at what is frozen: it stays at random values, as no trained weights were given",
                          "%lld of %lld parameters are frozen", (long long)frozen, (long long)parameters);
}

/* ---- gradients against differences ---- */

enum { TENSORS_TRIED = 6 };
#define STEP 1e-5         /* of a parameter's size */
#define SIZE_LEAST 1e-2   /* of a parameter that is (nearly) zero */
#define TOLERANCE 5e-3    /* of the gradient's norm: sums in f32 against sums in double */
#define NOISE 1e-6        /* of the loss */
#define DOUBLE_FLOPS 1e10 /* what references in double may take in all */

typedef struct differences {
    grdi_checker *c;
    grdi_subject *s;
    grdi_interpreter *values;
    double **weights, **gradients; /* by trained parameter */
    double loss;
} differences;

static double *in_double(const grdi_subject *s, const void *device_data, grdi_type type)
{
    const grd_engine *engine = s->model->engine;
    int64_t count = grd_dims_count(type.dims);
    char *host = grdi_alloc(grdi_type_bytes(type));
    double *values = grdi_alloc((size_t)count * sizeof(double));
    if (host && values) {
        engine->backend->download(engine->device, host, device_data, grdi_type_bytes(type));
        grdi_sample_load(type.dtype, host, count, values);
    } else {
        grdi_free(values);
        values = NULL;
    }
    grdi_free(host);
    return values;
}

/* Inputs as they were fed last, parameters and states as they are now. */
static grd_status set_sources(differences *d)
{
    for (size_t n = 0; n < d->s->graph->count; n++) {
        grdi_node *node = d->s->graph->nodes[n];
        bool input = node->op == &grdi_op_input;
        if (!input && !node->variable) continue;
        const void *data =
            input ? grdi_program_input(d->s->step->micro, node->name, NULL) : grdi_variable_data(node->variable);
        if (!data) continue; /* the loss does not need it */
        double *values = in_double(d->s, data, node->out[0]);
        grd_status status = values ? grdi_interpreter_set(d->values, (grd_tensor){node, 0}, values) : GRD_E_MEMORY;
        grdi_free(values);
        if (status) return out_of_memory(d->c);
    }
    return GRD_OK;
}

/* The weights before a step and the gradient that it makes of them. */
static grd_status read_gradients(differences *d)
{
    const grd_step *step = d->s->step;
    for (int32_t i = 0; i < step->trained_count; i++) {
        const grdi_variable *v = step->trained[i].parameter;
        d->weights[i] = in_double(d->s, grdi_variable_data(v), v->type);
        if (!d->weights[i]) return out_of_memory(d->c);
    }
    grd_metrics metrics;
    grd_status status = grd_step_run(d->s->step, &metrics);
    if (status) return grd_fail(d->c->error, status, "%s", grd_step_error(step)->message);
    for (int32_t i = 0; i < step->trained_count; i++) {
        const grdi_variable *v = step->trained[i].gradient;
        d->gradients[i] = in_double(d->s, grdi_variable_data(v), v->type);
        if (!d->gradients[i]) return out_of_memory(d->c);
    }
    return GRD_OK;
}

static double size_of(const double *x, int64_t count)
{
    double sum = 0;
    for (int64_t i = 0; i < count; i++) sum += x[i] * x[i];
    return sqrt(sum / (double)count);
}

static double direction(int32_t parameter, int64_t i)
{
    return grdi_random_u32(1, 0, (uint64_t)parameter, (uint64_t)i) & 1 ? 1 : -1;
}

/* Moves parameter `i` along its random direction by `by` of its size. */
static grd_status move(differences *d, int32_t i, double by)
{
    const grdi_trained *t = &d->s->step->trained[i];
    int64_t count = grd_dims_count(t->parameter->type.dims);
    double *moved = grdi_alloc((size_t)count * sizeof(double));
    if (!moved) return out_of_memory(d->c);
    double step = by * fmax(size_of(d->weights[i], count), SIZE_LEAST);
    for (int64_t k = 0; k < count; k++) moved[k] = d->weights[i][k] + step * direction(i, k);
    grd_status status = grdi_interpreter_set(d->values, t->node, moved);
    grdi_free(moved);
    return status ? out_of_memory(d->c) : GRD_OK;
}

/* The loss with parameters [first, last] moved. */
static grd_status loss_at(differences *d, int32_t first, int32_t last, double by, double *loss)
{
    grd_status status = GRD_OK;
    for (int32_t i = first; i <= last && !status; i++) status = move(d, i, by);
    if (!status) status = grdi_interpreter_run(d->values, &d->s->loss, 1, d->c->error);
    if (!status) *loss = grdi_interpreter_get(d->values, d->s->loss)[0];
    return status;
}

typedef struct compared {
    double expected, found, allowed; /* differences, gradients */
} compared;

/* Derivatives along the random direction of parameters [first, last]. */
static grd_status compare(differences *d, int32_t first, int32_t last, compared *result)
{
    double up, down, found = 0, squares = 0;
    grd_status status = loss_at(d, first, last, STEP, &up);
    if (!status) status = loss_at(d, first, last, -STEP, &down);
    for (int32_t i = first; i <= last && !status; i++) status = move(d, i, 0);
    for (int32_t i = first; i <= last && !status; i++) {
        int64_t count = grd_dims_count(d->s->step->trained[i].parameter->type.dims);
        double size = fmax(size_of(d->weights[i], count), SIZE_LEAST);
        for (int64_t k = 0; k < count; k++) {
            found += size * d->gradients[i][k] * direction(i, k);
            squares += size * size * d->gradients[i][k] * d->gradients[i][k];
        }
    }
    if (status) return status;
    result->expected = (up - down) / (2 * STEP);
    result->found = found;
    result->allowed = TOLERANCE * fmax(sqrt(squares), fabs(result->expected)) + NOISE * (1 + fabs(d->loss));
    return GRD_OK;
}

/* All parameters together, then some alone, chosen by a fixed permutation. */
static grd_status compare_all(differences *d, int tried)
{
    int32_t count = d->s->step->trained_count, wrong = -1, compared_count = 0;
    compared all, one, worst = {0, 0, 0};
    grd_status status = grdi_interpreter_run(d->values, &d->s->loss, 1, d->c->error);
    if (status) return status;
    d->loss = grdi_interpreter_get(d->values, d->s->loss)[0];
    if (d->s->cuts_are_meant) grdi_interpreter_hold_cuts(d->values);
    status = compare(d, 0, count - 1, &all);
    bool together = fabs(all.found - all.expected) <= all.allowed;
    if (!together) tried = count; /* to find whose gradient it is */
    for (int32_t k = 0; k < count && k < tried && !status && wrong < 0; k++) {
        int32_t i = (int32_t)grdi_permute(7, (uint64_t)count, (uint64_t)k);
        if (grdi_check_stopped(d->c)) return GRD_E_STOPPED;
        status = compare(d, i, i, &one);
        compared_count++;
        if (status || fabs(one.found - one.expected) <= one.allowed) continue;
        wrong = i;
        worst = one;
    }
    if (status) return status;
    static const char *const look_at =
        "look for a cut on the way to it (stop_gradient, rounding, argmax) or for a wrong "
        "gradient of an op of your own";
    if (wrong >= 0)
        grdi_check_result(d->c, "gradients", false, look_at,
                          "%s: the derivative along a random direction is %.6g, differences in double say %.6g",
                          d->s->step->trained[wrong].parameter->path, worst.found, worst.expected);
    else
        grdi_check_result(d->c, "gradients", together, look_at,
                          "derivative along a random direction of all %d parameters %.6g, differences in double %.6g; "
                          "%d were compared alone, too",
                          count, all.found, all.expected, compared_count);
    return GRD_OK;
}

static grd_status check_gradients(grdi_checker *c, grdi_subject *s)
{
    int32_t count = s->step->trained_count;
    grd_plan_report report;
    double flops = grd_step_report(s->step, &report) ? 0 : report.flops_per_step / 3; /* of a forward pass */
    double runs = flops > 0 ? DOUBLE_FLOPS / flops : 1e3;
    if (runs < 3) {
        grdi_check_note(c,
                        "gradients: not compared with differences in double, which would take too long (%.3g FLOP "
                        "each time)",
                        flops);
        return GRD_OK;
    }
    int tried = runs < 5 ? 0 : (int)fmin((runs - 3) / 2, TENSORS_TRIED);
    differences d = {.c = c, .s = s, .values = grdi_interpreter_new(s->graph)};
    d.weights = grdi_alloc_zero((size_t)count + 1, sizeof(*d.weights));
    d.gradients = grdi_alloc_zero((size_t)count + 1, sizeof(*d.gradients));
    grd_status status = d.values && d.weights && d.gradients ? set_sources(&d) : out_of_memory(c);
    if (!status) status = read_gradients(&d);
    if (!status) status = compare_all(&d, tried);
    for (int32_t i = 0; i < count; i++) {
        if (d.weights) grdi_free(d.weights[i]);
        if (d.gradients) grdi_free(d.gradients[i]);
    }
    grdi_free(d.weights);
    grdi_free(d.gradients);
    grdi_interpreter_free(d.values);
    return status;
}

grd_status grdi_check_structure(grdi_checker *c, grdi_subject *s)
{
    grd_status status = check_targets(c, s);
    check_evaluation(c, s);
    if (!status) status = check_dependence(c, s);
    if (status) return status;
    check_reach(c, s);
    return check_gradients(c, s);
}
