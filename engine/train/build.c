/* build.c - engine, model, training step and evaluation program of a run. */
#include "train/task.h"

#include "base/file.h"
#include "base/memory.h"
#include "base/text.h"
#include "formats/checkpoint.h"
#include "run/run.h"
#include "train/settings.h"
#include "train/table.h"
#include "train/train.h"

#include <stdlib.h>
#include <string.h>

static grd_optimizer lbfgs_of(const grd_settings *settings, double lr)
{
    grd_optimizer o = grd_lbfgs(lr);
    if (grdi_table_solves(settings)) return grd_sgd(lr); /* the task solves; the step is only planned */
    o.history_size = settings->train.history_size;
    o.max_iter = settings->train.max_iter;
    o.max_eval = settings->train.max_eval;
    o.tolerance_grad = settings->train.tolerance_grad;
    o.tolerance_change = settings->train.tolerance_change;
    return o;
}

grd_optimizer grdi_settings_optimizer(const grd_settings *settings, int kind, double lr)
{
    grd_optimizer o;
    switch (kind) {
    case GRD_OPTIMIZER_ADAM: o = grd_adam(lr); break;
    case GRD_OPTIMIZER_SGD: o = grd_sgd(lr); break;
    case GRD_OPTIMIZER_LION: o = grd_lion(lr); break;
    case GRD_OPTIMIZER_MUON: o = grd_muon(lr); break;
    case GRD_OPTIMIZER_LBFGS: return lbfgs_of(settings, lr);
    case GRD_OPTIMIZER_EXACT: return grd_sgd(lr); /* the task solves; the step is only planned */
    default: o = grd_adamw(lr);
    }
    if (kind != GRD_OPTIMIZER_MUON && kind != GRD_OPTIMIZER_SGD) {
        o.beta1 = settings->train.betas[0];
        o.beta2 = settings->train.betas[1];
        o.eps = settings->train.eps;
    } else {
        o.momentum = settings->train.momentum;
    }
    o.weight_decay = settings->train.weight_decay;
    return o;
}

static int optimizer_named(const char *name)
{
    static const char *const names[] = {"none", "adamw", "adam", "sgd", "lion", "muon"};
    for (int i = 1; i < 6; i++)
        if (strcmp(name, names[i]) == 0) return i;
    return -1;
}

/* train.groups, and behind them what Muon needs: AdamW for all that is no hidden matrix. */
static grd_status make_groups(const grdi_session *s, grd_group *groups, int32_t *count)
{
    const grd_settings *settings = s->settings;
    int32_t n = 0;
    for (int i = 0; i < settings->train.group_count; i++) {
        const grd_group_settings *g = &settings->train.groups[i];
        int kind = g->optimizer[0] ? optimizer_named(g->optimizer) : settings->train.optimizer;
        if (kind < 0)
            return grd_fail(s->error, GRD_E_ARGUMENT,
                            "train.groups: optimizer '%s' is not one of: adamw, adam, sgd, lion, muon", g->optimizer);
        groups[n] = (grd_group){.match = g->match, .lr_scale = g->lr_scale, .frozen = g->frozen};
        groups[n].optimizer = grdi_settings_optimizer(settings, kind, g->lr > 0 ? g->lr : settings->train.lr);
        groups[n].set_decay = g->weight_decay >= 0;
        groups[n++].weight_decay = g->weight_decay;
    }
    if (settings->train.optimizer == GRD_OPTIMIZER_MUON) {
        static const char *const others[] = {"embed/**",    "position/**", "head/**",      "norm/**",
                                             "**/norm1/**", "**/norm2/**", "**/q_norm/**", "**/k_norm/**",
                                             "**/bias",     "patch/**",    "class_token"};
        for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
            /* AdamW's rates: two thirds of Muon's for the embedding, a fifth if it is the head, too; a sixth for the
             * rest */
            double embedding = settings->model.gpt.untied ? 2.0 / 3 : 0.2;
            double lr = settings->train.lr * (i == 0 ? embedding : 1.0 / 6);
            groups[n++] = (grd_group){.match = others[i],
                                      .optimizer = grdi_settings_optimizer(settings, GRD_OPTIMIZER_ADAMW, lr),
                                      .set_decay = true};
        }
    }
    *count = n;
    return GRD_OK;
}

/* Each of the config's groups must be one of parameters. */
static grd_status check_groups(const grdi_session *s)
{
    const grd_settings *settings = s->settings;
    for (int i = 0; i < settings->train.group_count; i++) {
        const char *match = settings->train.groups[i].match, *nearest = "";
        size_t least = SIZE_MAX;
        bool found = false;
        grd_variable v;
        for (int64_t k = 0; !found && grd_model_variable_at(s->model, k, &v); k++) {
            if (v.kind != GRD_VARIABLE_PARAMETER) continue;
            found = grdi_path_matches(match, v.path);
            size_t d = grdi_text_distance(match, v.path);
            if (d >= least) continue;
            least = d;
            nearest = v.path;
        }
        if (!found)
            return grd_fail(s->error, GRD_E_ARGUMENT,
                            "train.groups: no parameter matches '%s' (the nearest is '%s'; * is any text without a "
                            "slash, ** any text)",
                            match, nearest);
    }
    return GRD_OK;
}

static grd_status graph_failed(const grdi_session *s, const grd_graph *graph)
{
    const grd_error *e = grd_graph_error(graph);
    return grd_fail(s->error, e->status ? e->status : GRD_E_MEMORY, "%s", e->status ? e->message : "out of memory");
}

static grd_status build_step(grdi_session *s)
{
    const grd_settings *settings = s->settings;
    s->graph = grd_graph_new(s->model);
    grd_tensor loss = s->task->loss(s);
    grd_group groups[GRD_GROUPS_MAX + 16];
    int32_t group_count = 0;
    grd_status status = make_groups(s, groups, &group_count);
    if (status) return status;
    grd_optimizer optimizer = grdi_settings_optimizer(settings, settings->train.optimizer, settings->train.lr);
    grd_program_options program = {.recompute = settings->train.recompute};
    grd_precision_ask(settings->train.precision, &program);
    s->step = grd_step_new(loss, optimizer, .clip_norm = settings->train.clip_norm,
                           .accumulate = (int32_t)settings->train.accumulate, .sum_micro = true, .groups = groups,
                           .group_count = group_count, .ema_decay = settings->train.ema,
                           .statistics = settings->train.statistics_every != 0,
                           .skip_nonfinite = settings->train.on_nan == GRD_NAN_SKIP, .program = program);
    return s->step ? check_groups(s) : graph_failed(s, s->graph);
}

/* Whether the device is one that nothing runs on. */
static bool plans_only(const grdi_session *s)
{
    return strncmp(grd_engine_device(s->engine), "null", 4) == 0;
}

grd_status grdi_session_build_evaluation(grdi_session *s)
{
    const grd_gpt *gpt = &s->settings->model.gpt;
    grd_dims dims = grd_shape(s->settings->train.batch, gpt->context);
    size_t count = (size_t)grd_dims_count(dims);
    s->eval_graph = grd_graph_new(s->model);
    s->eval_ids = grd_input(s->eval_graph, "ids", GRD_I32, dims);
    s->eval_targets = grd_input(s->eval_graph, "targets", GRD_I32, dims);
    const float one = 1;
    grd_tensor scale = grd_constant(s->eval_graph, GRD_F32, grd_scalar(), &one), none = {0};
    grd_tensor losses, outputs[2];
    const grd_cross_entropy_options each = {.size = sizeof each, .losses = &losses};
    outputs[0] = grd_gpt_loss(grd_gpt_hidden(s->eval_ids, gpt, none), gpt, s->eval_targets, scale, &each);
    outputs[1] = s->eval_losses = s->eval_output = losses;
    s->eval = grd_program_new(outputs, 2);
    if (!s->eval) return graph_failed(s, s->eval_graph);
    if (plans_only(s)) return GRD_OK;
    s->eval_inputs = grdi_alloc(2 * count * sizeof(int32_t));
    s->eval_values = grdi_alloc(count * sizeof(float));
    if (s->eval_inputs && s->eval_values) return GRD_OK;
    return grd_fail(s->error, GRD_E_MEMORY, "%zu bytes for evaluation are not to be had (a smaller batch or context)",
                    count * (2 * sizeof(int32_t) + sizeof(float)));
}

static bool has_checkpoint(const grdi_session *s)
{
    char *root = s->settings->out ? grdi_path_join(s->settings->out, "checkpoints") : NULL, *path = NULL;
    uint64_t step;
    grd_error error = {GRD_OK, ""};
    bool has = root && (grdi_checkpoint_find(root, 0, &step, &path, &error) || path);
    grdi_free(root);
    grdi_free(path);
    return has;
}

/* Whether the folder is a checkpoint, whose checksums must match. */
static grd_status find_checksums(const char *folder, bool *found, grd_error *error)
{
    char *path = grdi_path_join(folder, "checksums.json");
    if (!path) return grd_fail(error, GRD_E_MEMORY, "out of memory for a path");
    *found = grdi_path_exists(path);
    grdi_free(path);
    return GRD_OK;
}

/* init.from: whose weights the run starts with; a resumed one has its own. */
static grd_status load_initial_weights(grdi_session *s)
{
    const char *from = s->settings->init.from;
    if (!from || plans_only(s) || (s->options->resume && has_checkpoint(s))) return GRD_OK;
    grd_safetensors *file = NULL;
    grdi_checkpoint *c = NULL;
    grd_error problem = {GRD_OK, ""};
    bool is_checkpoint = false;
    grd_status status = find_checksums(from, &is_checkpoint, &problem);
    if (!status)
        status = is_checkpoint ? grdi_checkpoint_open(from, &c, &problem) : grd_safetensors_open(from, &file, &problem);
    const grd_safetensors *tensors = c ? grdi_checkpoint_tensors(c, "model.safetensors") : file;
    if (!status && !tensors) status = grd_fail(&problem, GRD_E_FORMAT, "has no model.safetensors");
    if (!status) status = s->task->read_weights(s, tensors, &problem);
    grdi_checkpoint_close(c);
    grd_safetensors_close(file);
    return status ? grd_fail(s->error, status, "init.from: %s: %s", from, problem.message) : GRD_OK;
}

grd_status grdi_session_open_engine(grdi_session *s)
{
    s->engine = grd_engine_open(s->options->device ? s->options->device : "auto", .threads = s->options->threads,
                                .tf32 = s->settings->train.precision == GRD_PRECISION_TF32,
                                .nondeterministic = !s->settings->train.deterministic);
    const grd_error *error = grd_engine_error(s->engine);
    if (error->status) return grd_fail(s->error, error->status, "%s", error->message);
    const grdi_backend *backend = s->engine->backend;
    bool fast = backend->fast_bf16 && backend->fast_bf16(s->engine->device);
    if (s->settings->train.precision == GRD_PRECISION_AUTO)
        s->settings->train.precision = fast ? GRD_PRECISION_BF16 : GRD_PRECISION_F32;
    return grdi_session_take_algorithms(s);
}

grd_status grdi_session_build(grdi_session *s)
{
    if (!s->engine) {
        grd_status opened = grdi_session_open_engine(s);
        if (opened) return opened;
    }
    s->model = grd_model_new(s->engine, (uint64_t)s->settings->train.seed);
    if (!s->model) return grd_fail(s->error, GRD_E_MEMORY, "out of memory for a model");
    grd_model_set_precision(s->model, s->settings->train.precision);
    grd_status status = build_step(s);
    s->variable_count = grd_model_variable_count(s->model);
    if (!status) status = s->task->build_evaluation(s);
    if (!status) status = grdi_session_build_layers(s);
    if (!status) status = grdi_session_build_sampler(s);
    return status ? status : load_initial_weights(s);
}

grd_status grdi_session_report(grdi_session *s, grd_plan_report *report)
{
    const grd_program *const beside[] = {s->eval, s->layers.program, s->sampler.decoder.one.program,
                                         s->sampler.decoder.several.program};
    grd_status status = grd_step_report(s->step, report);
    for (int i = 0; i < 4 && !status; i++)
        if (beside[i]) grdi_report_add_program(report, beside[i]);
    return status ? grd_fail(s->error, status, "%s", grd_step_error(s->step)->message) : GRD_OK;
}
