/* step.c - a training step: the micro program (forward, backward) and the update program over one arena. */
#include "train/train.h"

#include "ops/table.h"
#include "passes/backward.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- which parameters, trained how ---- */

static const grd_group *group_of(const grd_step_options *options, const char *path)
{
    for (int32_t i = 0; i < options->group_count; i++)
        if (grdi_path_matches(options->groups[i].match, path)) return &options->groups[i];
    return NULL;
}

/* The index of that setting, added if it is new. */
static int32_t setting_index(grd_step *step, const grd_group *group, grd_optimizer optimizer, bool matrix)
{
    grdi_setting s;
    memset(&s, 0, sizeof(s));
    s.optimizer = group && group->optimizer.kind ? group->optimizer : optimizer;
    s.lr_scale = group && group->lr_scale != 0 ? group->lr_scale : 1;
    s.weight_decay = matrix ? s.optimizer.weight_decay : 0;
    if (group && group->set_decay) s.weight_decay = group->weight_decay;
    for (int32_t i = 0; i < step->setting_count; i++) {
        const grdi_setting *t = &step->settings[i];
        const grd_optimizer *a = &s.optimizer, *b = &t->optimizer;
        if (a->kind == b->kind && a->lr == b->lr && a->beta1 == b->beta1 && a->beta2 == b->beta2 && a->eps == b->eps &&
            a->momentum == b->momentum && a->dampening == b->dampening && a->nesterov == b->nesterov &&
            s.lr_scale == t->lr_scale && s.weight_decay == t->weight_decay)
            return i;
    }
    snprintf(s.hyper, sizeof(s.hyper), "hyper%d", step->setting_count);
    step->settings[step->setting_count] = s;
    return step->setting_count++;
}

static bool searches(const grd_step *step)
{
    return step->settings[0].optimizer.kind == GRD_OPTIMIZER_LBFGS;
}

static bool known_optimizer(grd_step *step, grd_optimizer_kind kind, const char *whose)
{
    if (kind >= GRD_OPTIMIZER_ADAMW && kind <= GRD_OPTIMIZER_LBFGS) return true;
    return !grd_fail(&step->error, GRD_E_ARGUMENT, "step: %s optimizer has no kind (take grd_adamw, grd_sgd, ...)",
                     whose);
}

/* What the options and the optimizer say, before anything is built of it. */
static bool check_options(grd_step *step, grd_optimizer optimizer)
{
    const grd_step_options *o = &step->options;
    if (!known_optimizer(step, optimizer.kind, "its")) return false;
    if (o->group_count < 0 || (o->group_count > 0 && !o->groups) || o->output_count < 0 ||
        (o->output_count > 0 && !o->outputs))
        return !grd_fail(&step->error, GRD_E_ARGUMENT, "step: %d groups and %d outputs, of which there is no list",
                         o->group_count, o->output_count);
    if (!(o->clip_norm >= 0) || o->accumulate < 0 || !(o->ema_decay >= 0 && o->ema_decay < 1))
        return !grd_fail(&step->error, GRD_E_ARGUMENT,
                         "step: clip_norm %g, accumulate %d, ema_decay %g (0 or more, and the decay below 1)",
                         o->clip_norm, o->accumulate, o->ema_decay);
    for (int32_t i = 0; i < o->group_count; i++) {
        if (!o->groups[i].match)
            return !grd_fail(&step->error, GRD_E_ARGUMENT, "step: group %d has no pattern (set .match)", i);
        if (o->groups[i].optimizer.kind && !known_optimizer(step, o->groups[i].optimizer.kind, "a group's"))
            return false;
    }
    return true;
}

static bool find_trained(grd_step *step, grd_optimizer optimizer)
{
    const grd_graph *graph = step->graph;
    size_t most = 1;
    for (size_t n = 0; n < graph->count; n++) most += graph->nodes[n]->op == &grdi_op_parameter;
    step->trained = grdi_alloc_zero(most, sizeof(*step->trained));
    step->settings = grdi_alloc_zero(most, sizeof(*step->settings));
    if (!step->trained || !step->settings) return !grd_fail(&step->error, GRD_E_MEMORY, "out of memory for a step");
    for (size_t n = 0; n < graph->count; n++) {
        grdi_node *node = graph->nodes[n];
        if (node->op != &grdi_op_parameter || node->variable->frozen) continue;
        const grd_group *group = group_of(&step->options, node->variable->path);
        if ((group && group->frozen) ||
            (step->options.train && !grdi_path_matches(step->options.train, node->variable->path)))
            continue;
        grdi_trained *t = &step->trained[step->trained_count++];
        t->parameter = node->variable;
        t->node = (grd_tensor){node, 0};
        t->setting = setting_index(step, group, optimizer, node->variable->type.dims.rank >= 2);
        if (step->settings[t->setting].optimizer.kind == GRD_OPTIMIZER_MUON && node->variable->type.dims.rank != 2) {
            char text[GRD_DIMS_TEXT_MAX];
            return !grd_fail(&step->error, GRD_E_SHAPE,
                             "%s: muon trains matrices, this is %s (give it a group with another optimizer)",
                             node->variable->path, grd_dims_text(node->variable->type.dims, text));
        }
    }
    if (step->trained_count) return true;
    return !grd_fail(&step->error, GRD_E_ARGUMENT,
                     "step: there is no parameter to train%s%s (all may be frozen, or none match)",
                     step->options.train ? " that matches " : "", step->options.train ? step->options.train : "");
}

/* ---- gradients ---- */

static bool differentiate(grd_step *step)
{
    const grdi_type *type = grdi_type_of(step->loss);
    if (grd_dims_count(type->dims) != 1 || type->dtype != GRD_F32) {
        char text[GRD_DIMS_TEXT_MAX];
        return !grd_fail(&step->error, GRD_E_SHAPE,
                         "step: the loss must be one f32, is %s%s (reduce it with grd_mean or grd_sum)",
                         grd_dtype_name(type->dtype), grd_dims_text(type->dims, text));
    }
    grd_tensor *wrt = grdi_alloc_zero((size_t)step->trained_count + 1, 2 * sizeof(*wrt));
    if (!wrt) return !grd_fail(&step->error, GRD_E_MEMORY, "out of memory for a step");
    grd_tensor *gradients = wrt + step->trained_count;
    for (int32_t i = 0; i < step->trained_count; i++) wrt[i] = step->trained[i].node;
    double seed_value = step->options.sum_micro ? 1.0 : 1.0 / step->options.accumulate;
    const grd_attr attrs[] = {GRD_INTS("dims", type->dims.dim, type->dims.rank), GRD_FLOAT("value", seed_value)};
    grd_tensor seed = grdi_scaling_seed(step, grd_call(step->graph, "full", NULL, 0, attrs, 2, NULL));
    bool ok = seed.node && grdi_backward(step->graph, &step->loss, &seed, 1, wrt, step->trained_count, 0, gradients);
    int32_t kept = 0; /* parameters that the loss does not depend on are not trained */
    for (int32_t i = 0; ok && i < step->trained_count; i++) {
        if (!gradients[i].node) continue;
        step->trained[kept] = step->trained[i];
        step->trained[kept++].derivative = gradients[i];
    }
    if (ok) step->trained_count = kept;
    grdi_free(wrt);
    if (!ok) return !grd_fail(&step->error, step->graph->error.status, "%s", step->graph->error.message);
    if (kept) return true;
    return !grd_fail(&step->error, GRD_E_ARGUMENT,
                     "step: the loss depends on no parameter that is to be trained (see grd_stop_gradient and .train)");
}

grdi_variable *grdi_step_variable(grd_step *step, const char *name, grdi_variable_kind kind, grdi_type type)
{
    char prefix[32] = "";
    if (step->index) snprintf(prefix, sizeof(prefix), "step%d/", step->index);
    char *path = name ? grdi_format("%s%s", prefix, name) : NULL;
    grdi_variable *v = path ? grdi_model_find(step->model, path) : NULL;
    if (path && !v) v = grdi_model_add(step->model, path, kind, type);
    grdi_free(path);
    if (!v) return grd_fail(&step->error, GRD_E_MEMORY, "out of memory for a step"), NULL;
    if (v->kind == kind && v->type.dtype == type.dtype && grd_dims_equal(v->type.dims, type.dims)) return v;
    char is[GRD_DIMS_TEXT_MAX], needed[GRD_DIMS_TEXT_MAX];
    grd_fail(&step->error, GRD_E_SHAPE, "step: the model has '%s' already, as %s%s instead of %s%s", v->path,
             grd_dtype_name(v->type.dtype), grd_dims_text(v->type.dims, is), grd_dtype_name(type.dtype),
             grd_dims_text(type.dims, needed));
    return NULL;
}

static grdi_variable *own_variable(grd_step *step, const char *what, const grdi_variable *parameter,
                                   grdi_variable_kind kind, grdi_type type)
{
    char *name = grdi_format("%s/%s", what, parameter->path);
    grdi_variable *v = grdi_step_variable(step, name, kind, type);
    grdi_free(name);
    return v;
}

/* Parameters in the order of their storage, so that neighbours can share a launch. */
static int by_place(const void *a, const void *b)
{
    const grdi_variable *x = ((const grdi_trained *)a)->parameter, *y = ((const grdi_trained *)b)->parameter;
    if (x->storage != y->storage) return x->storage < y->storage ? -1 : 1;
    return x->offset_bytes < y->offset_bytes ? -1 : x->offset_bytes > y->offset_bytes;
}

/* Statistics of batch norm belong to the weights that they were measured with, so they are averaged as these are. */
static bool average_states(grd_step *step)
{
    size_t nodes = step->options.ema_decay > 0 ? step->graph->count : 0;
    step->averaged = grdi_alloc_zero(nodes + 1, sizeof(*step->averaged));
    bool ok = step->averaged || !grd_fail(&step->error, GRD_E_MEMORY, "out of memory for a step");
    for (size_t n = 0; n < nodes && ok; n++) {
        grdi_variable *v = step->graph->nodes[n]->variable;
        bool known = !v || v->kind != GRDI_VARIABLE_STATE || v->type.dtype != GRD_F32;
        for (int32_t i = 0; i < step->averaged_count && !known; i++) known = step->averaged[i].state == v;
        if (known) continue;
        grdi_averaged *a = &step->averaged[step->averaged_count++];
        *a = (grdi_averaged){v, own_variable(step, "ema", v, GRDI_VARIABLE_MOMENT, v->type)};
        ok = a->average != NULL;
    }
    return ok;
}

static bool make_variables(grd_step *step)
{
    if (grdi_model_place(step->model, &step->error)) return false; /* parameters first: gradients follow their order */
    qsort(step->trained, (size_t)step->trained_count, sizeof(*step->trained), by_place);
    step->scale =
        grdi_step_variable(step, "gradient//scale", GRDI_VARIABLE_GRADIENT, (grdi_type){GRD_F32, grd_scalar()});
    if (!step->scale || !grdi_states_find(step)) return false;
    for (int32_t i = step->trained_count - 1; i >= 0; i--) { /* placing reverses the order of creation */
        grdi_trained *t = &step->trained[i];
        t->gradient = own_variable(step, "gradient", t->parameter, GRDI_VARIABLE_GRADIENT,
                                   (grdi_type){GRD_F32, t->parameter->type.dims});
        if (!t->gradient) return false;
    }
    for (int32_t m = 0; m < GRDI_MOMENTS_MAX; m++)
        for (int32_t i = step->trained_count - 1; i >= 0; i--) {
            grdi_trained *t = &step->trained[i];
            const grd_optimizer *o = &step->settings[t->setting].optimizer;
            if (m >= grdi_moment_count(o)) continue;
            t->moment[m] = own_variable(step, grdi_moment_name(o, m), t->parameter, GRDI_VARIABLE_MOMENT,
                                        grdi_moment_type(o, t->parameter->type));
            if (!t->moment[m]) return false;
        }
    for (int32_t i = step->trained_count - 1; i >= 0 && step->options.ema_decay > 0; i--) {
        grdi_trained *t = &step->trained[i];
        if (t->parameter->type.dtype != GRD_F32)
            return !grd_fail(&step->error, GRD_E_DTYPE,
                             "step: there is no moving average of %s, which is kept in %s (keep weights in f32, or set "
                             "no ema_decay)",
                             t->parameter->path, grd_dtype_name(t->parameter->type.dtype));
        t->average = own_variable(step, "ema", t->parameter, GRDI_VARIABLE_MOMENT, t->parameter->type);
        if (!t->average) return false;
    }
    if (!average_states(step) || grdi_model_place(step->model, &step->error)) return false;
    grdi_scaling_begin(step);
    return true;
}

enum { PARTS_MAX = 8 };

/* The summands of a gradient, so that each can be added to the gradient's storage by the op that makes it. */
static int32_t summands(grd_tensor t, grd_tensor *parts, int32_t count)
{
    bool sum = t.node->phase == GRDI_BACKWARD && strcmp(t.node->op->name, "add") == 0 &&
               grd_dims_equal(grdi_type_of(t.node->in[0])->dims, grdi_type_of(t.node->in[1])->dims);
    if (!sum || count >= PARTS_MAX - 2) {
        parts[count++] = t;
        return count;
    }
    count = summands(t.node->in[0], parts, count);
    return summands(t.node->in[1], parts, count);
}

/* Every summand is assigned to the gradient's storage: the first overwrites (or adds, after the first micro-batch), the
 * others add. */
static bool store_gradients(grd_step *step, grd_tensor *roots, int32_t *count)
{
    static const grd_attr first[] = {GRD_INT("mode", 2)}, further[] = {GRD_INT("mode", 1)};
    for (int32_t i = 0; i < step->trained_count; i++) {
        grdi_trained *t = &step->trained[i];
        grd_tensor storage = grdi_variable_node(step->graph, t->gradient), parts[PARTS_MAX], last = {NULL, 0};
        int32_t n = summands(t->derivative, parts, 0);
        for (int32_t k = 0; k < n; k++)
            last = grdi_emit(NULL, &grdi_op_assign, (grd_tensor[]){storage, parts[k]}, 2, k ? further : first, 1, NULL);
        if (!last.node) return !grd_fail(&step->error, step->graph->error.status, "%s", step->graph->error.message);
        roots[(*count)++] = last;
    }
    return true;
}

/* ---- programs ---- */

static bool compile_micro(grd_step *step)
{
    int32_t count = 0;
    grd_tensor *roots = grdi_alloc_zero((size_t)(step->trained_count + step->options.output_count) + 2, sizeof(*roots));
    if (!roots) return !grd_fail(&step->error, GRD_E_MEMORY, "out of memory for a step");
    roots[count++] = step->loss;
    bool ok = true;
    for (int32_t i = 0; ok && i < step->options.output_count; i++) {
        roots[count++] = step->options.outputs[i];
        const grdi_node *node = roots[count - 1].node;
        int32_t output = roots[count - 1].output;
        ok = node && node->graph == step->graph && output >= 0 && output < node->output_count;
        if (!ok)
            grd_fail(&step->error, GRD_E_ARGUMENT,
                     "step: output %d does not belong to the loss's graph (read it by a program)", i);
    }
    ok = ok && store_gradients(step, roots, &count) && grdi_scaling_keep_loss(step, roots, &count);
    if (ok) step->micro = grdi_program_compile(step->graph, roots, count, &step->options.program, &step->error);
    grdi_free(roots);
    return step->micro != NULL;
}

static bool compile_update(grd_step *step, grdi_update *u, bool measured)
{
    int32_t max = (4 + GRDI_MEASURES) * step->trained_count + step->kept_count + step->averaged_count + 4, count = 0;
    grd_tensor *roots = grdi_alloc_zero((size_t)max, sizeof(*roots));
    *u = (grdi_update){.step = step, .graph = grdi_graph_create(step->model)};
    if (measured) u->squares = grdi_alloc_zero((size_t)step->trained_count, GRDI_MEASURES * sizeof(*u->squares));
    if (!roots || !u->graph || (measured && !u->squares)) {
        grdi_free(roots);
        return !grd_fail(&step->error, GRD_E_MEMORY, "out of memory for a step");
    }
    u->graph->phase = GRDI_UPDATE;
    grd_program_options options = step->options.program;
    options.bf16 = options.f16 = false; /* what an optimizer has in bf16 it says itself */
    if (grdi_build_update(u, roots, &count, max))
        u->program = grdi_program_compile(u->graph, roots, count, &options, &step->error);
    else grd_fail(&step->error, u->graph->error.status, "%s", u->graph->error.message);
    grdi_free(roots);
    return u->program != NULL;
}

static bool compile_updates(grd_step *step)
{
    return compile_update(step, &step->update, false) &&
           (!step->options.statistics || compile_update(step, &step->measured, true));
}

/* The loss's graph is freed, and the micro program with it: what is left of the step can say so. */
static void lose_graph(void *object)
{
    grd_step *step = object;
    grdi_graph_destroy(step->update.graph); /* with the update program */
    grdi_graph_destroy(step->measured.graph);
    grdi_graph_destroy(step->begin_graph);
    step->graph = step->update.graph = step->measured.graph = step->begin_graph = NULL;
    step->was_measured = false;
    step->micro = step->update.program = step->measured.program = step->begin = NULL;
}

/* Steps are newer than their graphs, so a model that is closed releases them first. */
static void step_destroy(void *object)
{
    grd_step *step = object;
    if (step->graph) {
        grdi_children_remove(&step->graph->children, step);
        grd_program_free(step->micro);
        lose_graph(step);
    }
    grdi_results_close(step);
    grdi_search_close(step->search);
    grdi_free(step->update.squares);
    grdi_free(step->measured.squares);
    grdi_free(step->kept);
    grdi_free(step->trained);
    grdi_free(step->averaged);
    grdi_free(step->settings);
    grdi_free(step);
}

grd_step *grd_step_new_with(grd_tensor loss, grd_optimizer optimizer, const grd_step_options *options)
{
    options = options ? options : &(const grd_step_options){.size = sizeof(grd_step_options)};
    grd_graph *graph = grd_tensor_graph(loss);
    if (!graph) return NULL; /* the graph that made the poison holds the error */
    grd_step *step = grdi_alloc_zero(1, sizeof(*step));
    bool known = step && grdi_children_add(&graph->model->children, step, step_destroy);
    if (!known || !grdi_children_add(&graph->children, step, lose_graph)) {
        if (known) grdi_children_remove(&graph->model->children, step);
        grdi_free(step);
        grdi_graph_fail(graph, GRD_E_MEMORY, "out of memory for a step");
        return NULL;
    }
    step->model = graph->model;
    step->graph = graph;
    step->loss = loss;
    step->options = *options;
    step->options.program.size = sizeof(grd_program_options);
    if (step->options.accumulate == 0) step->options.accumulate = 1;
    step->lr_factor = 1;
    for (grdi_child *c = graph->model->children; c; c = c->next)
        step->index += c->release == step_destroy && c->object != step;
    bool ok = check_options(step, optimizer) && find_trained(step, optimizer) && grdi_search_check(step) &&
              grdi_scaling_open(step) && differentiate(step) && make_variables(step) && !grdi_results_open(step) &&
              grdi_states_compile(step) && compile_micro(step) &&
              (searches(step) ? grdi_search_open(step) : compile_updates(step));
    step->options.groups = NULL; /* the caller's arrays are not needed any more */
    step->options.outputs = NULL;
    if (ok) return step;
    grdi_graph_fail(graph, step->error.status, "%s", step->error.message);
    grd_step_free(step);
    return NULL;
}

void grd_step_free(grd_step *step)
{
    if (!step) return;
    grdi_children_remove(&step->model->children, step);
    step_destroy(step);
}

/* ---- running ---- */

grd_status grdi_step_usable(grd_step *step)
{
    if (!step) return GRD_E_ARGUMENT;
    if (step->graph) return GRD_OK;
    return grd_fail(&step->error, GRD_E_STATE,
                    "step: its graph was freed (keep the graph of the loss as long as the step)");
}

grd_status grd_step_feed(grd_step *step, grd_tensor input, const void *data)
{
    grd_status usable = grdi_step_usable(step);
    if (usable) return usable;
    grd_status status = grd_program_feed(step->micro, input, data);
    return status ? grd_fail(&step->error, status, "%s", step->micro->error.message) : GRD_OK;
}

static grd_status run_program(grd_step *step, grd_program *program)
{
    grd_status status = grd_program_run(program);
    return status ? grd_fail(&step->error, status, "%s", program->error.message) : GRD_OK;
}

static grd_status update(grd_step *step, const grdi_update *u)
{
    const grd_engine *engine = step->model->engine;
    double t = (double)(step->count + 1), decay = step->options.ema_decay;
    for (int32_t i = 0; i < step->setting_count; i++) {
        const grdi_setting *s = &step->settings[i];
        const float hyper[4] = {(float)(s->optimizer.lr * s->lr_scale * step->lr_factor),
                                (float)(1 / (1 - pow(s->optimizer.beta1, t))),
                                (float)(1 / (1 - pow(s->optimizer.beta2, t))),
                                (float)((1 - decay) / (1 - pow(decay, t)))};
        void *to = grdi_program_input(u->program, s->hyper, NULL);
        if (to) engine->backend->upload(engine->device, to, hyper, sizeof(hyper));
    }
    uint64_t seed = step->model->seed;
    const int32_t key[4] = {(int32_t)seed, (int32_t)(seed >> 32), (int32_t)step->count, (int32_t)(step->count >> 32)};
    void *to = u->key.node ? grdi_program_input(u->program, GRDI_UPDATE_KEY, NULL) : NULL;
    if (to) engine->backend->upload(engine->device, to, key, sizeof(key));
    return run_program(step, u->program);
}

/* L-BFGS after the last micro-batch: nothing is asked for ahead, as each point depends on those before. */
static grd_status search(grd_step *step)
{
    grd_metrics metrics = {.step = step->count + 1, .updated = true};
    step->was_measured = step->measure;
    step->measure = false;
    grd_status status = grdi_search_update(step, &metrics);
    return status ? status : grdi_results_put(step, metrics);
}

/* Asks for a micro-batch, and after the last one for the update. */
static grd_status ask(grd_step *step)
{
    step->micro->accumulating = step->micro_done > 0;
    grd_status status = step->begin && step->micro_done == 0 ? run_program(step, step->begin) : GRD_OK;
    if (!status) status = run_program(step, step->micro);
    if (status) return status;
    grdi_results_fetch_loss(step);
    if (step->search && (status = grdi_search_take_micro(step, step->micro_done))) return status;
    if (++step->micro_done < step->options.accumulate) return GRD_OK;
    const grdi_update *u = step->measure ? &step->measured : &step->update;
    step->micro_done = 0;
    if (step->search) return search(step);
    status = update(step, u);
    if (status) return status;
    step->was_measured = step->measure;
    step->measure = false;
    grdi_results_fetch_update(step, u);
    step->count++;
    return GRD_OK;
}

/* The last result known, with which all before it are taken. */
static void take_last(grd_step *step, grd_metrics *metrics)
{
    grdi_results *r = &step->results;
    r->first = (r->first + r->known) % (GRD_STEPS_AHEAD + 1);
    r->known = 0;
    r->failed = false;
    *metrics = r->ring[(r->first + GRD_STEPS_AHEAD) % (GRD_STEPS_AHEAD + 1)].metrics;
}

grd_status grd_step_run(grd_step *step, grd_metrics *metrics)
{
    grd_status usable = grdi_step_usable(step);
    if (usable) return usable;
    if (step->ema_swapped)
        return grd_fail(&step->error, GRD_E_STATE,
                        "step %lld: the moving average is in the weights' place (grd_step_swap_ema brings them back)",
                        (long long)step->count);
    grd_status status = grdi_results_make_room(step);
    if (!status) status = ask(step);
    if (!status) status = grdi_results_look(step, metrics != NULL);
    if (!metrics) return status;
    if (step->results.known) take_last(step, metrics);
    if (!status && step->micro_done) grdi_results_of_micro(step, metrics);
    return status;
}

int32_t grd_step_pending(const grd_step *step)
{
    return step ? step->results.known + step->results.asked : 0;
}

grd_status grd_step_result(grd_step *step, bool wait, grd_metrics *metrics)
{
    grd_status usable = grdi_step_usable(step);
    if (metrics) *metrics = (grd_metrics){0};
    if (usable) return usable;
    if (!metrics) return grd_fail(&step->error, GRD_E_ARGUMENT, "step: no place for the metrics");
    grdi_results *r = &step->results;
    grd_status status = GRD_OK;
    if (!r->known) status = grdi_results_look(step, wait);
    if (!r->known) return status;
    *metrics = r->ring[r->first].metrics;
    r->first = (r->first + 1) % (GRD_STEPS_AHEAD + 1);
    bool failed = --r->known == 0 && r->failed;
    r->failed = r->failed && !failed;
    return failed ? step->error.status : GRD_OK;
}

/* ---- statistics ---- */

grd_status grd_step_measure(grd_step *step)
{
    grd_status usable = grdi_step_usable(step);
    if (usable) return usable;
    if (!step->options.statistics)
        return grd_fail(&step->error, GRD_E_STATE, "step: not prepared for statistics (set .statistics)");
    step->measure = true;
    return GRD_OK;
}

static double root_mean(const grd_step *step, int32_t index, int measure, int64_t count)
{
    float sum = NAN;
    const grdi_update *u = &step->measured;
    if (step->search) return sqrt(grdi_search_squares(step, index, measure) / (double)count);
    grd_program_read(u->program, u->squares[index * GRDI_MEASURES + measure], &sum);
    return sqrt((double)sum / (double)count);
}

bool grd_step_statistics_at(const grd_step *step, int32_t index, grd_parameter_statistics *statistics)
{
    if (!step || !step->was_measured || index < 0 || index >= step->trained_count) return false;
    const grdi_variable *v = step->trained[index].parameter;
    int64_t count = grd_dims_count(v->type.dims);
    *statistics = (grd_parameter_statistics){.path = v->path,
                                             .count = count,
                                             .weight_rms = root_mean(step, index, GRDI_MEASURE_WEIGHT, count),
                                             .gradient_rms = root_mean(step, index, GRDI_MEASURE_GRADIENT, count),
                                             .update_rms = root_mean(step, index, GRDI_MEASURE_CHANGE, count)};
    return true;
}

void grd_step_set_lr(grd_step *step, double factor)
{
    if (step) step->lr_factor = factor;
}

grd_status grd_step_read(grd_step *step, grd_tensor output, void *data)
{
    grd_status usable = grdi_step_usable(step);
    if (usable) return usable;
    grd_status status = grd_program_read(step->micro, output, data);
    return status ? grd_fail(&step->error, status, "%s", step->micro->error.message) : GRD_OK;
}

const grd_error *grd_step_error(const grd_step *step)
{
    static const grd_error none = {GRD_E_ARGUMENT, "no step (its graph holds the error)"};
    return step ? &step->error : &none;
}

int64_t grd_step_count(const grd_step *step)
{
    return step ? step->count : 0;
}

void grd_step_set_count(grd_step *step, int64_t count)
{
    if (!step) return;
    grdi_results_look(step, true);
    step->results.known = 0;
    step->results.failed = false;
    step->count = count;
}

/* Parameters first, then states. */
static grdi_averaged averaged_at(const grd_step *step, int32_t i)
{
    if (i >= step->trained_count) return step->averaged[i - step->trained_count];
    return (grdi_averaged){step->trained[i].parameter, step->trained[i].average};
}

static void swap(const grd_engine *engine, grdi_averaged a, char *room)
{
    size_t size = grdi_type_bytes(a.state->type);
    void *value = grdi_variable_data(a.state), *average = grdi_variable_data(a.average);
    engine->backend->download(engine->device, room, value, size);
    engine->backend->download(engine->device, room + size, average, size);
    engine->backend->upload(engine->device, value, room + size, size);
    engine->backend->upload(engine->device, average, room, size);
}

grd_status grd_step_swap_ema(grd_step *step)
{
    if (!step) return GRD_E_STATE;
    if (step->options.ema_decay <= 0)
        return grd_fail(&step->error, GRD_E_STATE, "step: there is no moving average (set .ema_decay)");
    grd_status status = grdi_results_look(step, true);
    if (status) return status;
    const int32_t count = step->count > 0 ? step->trained_count + step->averaged_count : 0;
    size_t most = 0;
    for (int32_t i = 0; i < count; i++) {
        size_t size = grdi_type_bytes(averaged_at(step, i).state->type);
        most = size > most ? size : most;
    }
    char *room = grdi_alloc_zero(2, most + 1); /* once, before anything moves: half of them swapped helps nobody */
    if (!room) return grd_fail(&step->error, GRD_E_MEMORY, "out of memory for swapping in the moving average");
    for (int32_t i = 0; i < count; i++) swap(step->model->engine, averaged_at(step, i), room);
    grdi_free(room);
    step->ema_swapped = !step->ema_swapped;
    step->model->weights_version++;
    return GRD_OK;
}
