/* bench_model.c - gradus bench model: times training steps of a model whose name says all about it. Its data is one
 * fixed batch of random ids or numbers; no dropout, no clipping. */
#include "cli/bench.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

typedef struct model_spec {
    const char *name;
    grd_gpt gpt; /* of language models */
    int64_t batch, context;
    grd_tensor (*logits)(grd_tensor x); /* others: from x [batch, sample...] to [batch, classes] */
    grd_dims sample;
    int64_t classes;
    grd_optimizer_kind optimizer;
    double momentum;
} model_spec;

static grd_tensor mlp(grd_tensor x)
{
    return grd_mlp(x, (int64_t[]){256, 10}, 2);
}

static grd_tensor lenet(grd_tensor x)
{
    return grd_lenet(x, 10, 32);
}

static grd_tensor resnet18(grd_tensor x)
{
    return grd_resnet_logits(x, &(grd_resnet){.depth = GRD_RESNET18, .classes = 10, .training = true});
}

static grd_tensor resnet50(grd_tensor x)
{
    return grd_resnet_logits(
        x, &(grd_resnet){.depth = GRD_RESNET50, .classes = 1000, .imagenet_stem = true, .training = true});
}

/* The last state to 64 classes. */
static grd_tensor lstm(grd_tensor x)
{
    grd_tensor last = {0};
    grd_lstm(x, "lstm", 256, .last_h = &last);
    return grd_linear(last, "head", 64);
}

/* Shapes, optimizer and precision of parameters are part of the name: a figure must not depend on what else was said.
 */
static const model_spec specs[] = {
    {.name = "gpt2-124m",
     .gpt = {.layers = 12, .heads = 12, .width = 768, .context = 1024, .vocab = 50304, .mlp = GRD_MLP_GELU_TANH},
     .batch = 4,
     .context = 64},
    /* The next two are GPT-2 XL and Qwen2.5-0.5B, with batches for a GPU of 80 GB. */
    {.name = "gpt2-1.5b",
     .gpt = {.layers = 48, .heads = 25, .width = 1600, .context = 1024, .vocab = 50304, .mlp = GRD_MLP_GELU_TANH},
     .batch = 8,
     .context = 1024},
    {.name = "qwen2.5-0.5b",
     .gpt = {.layers = 24,
             .heads = 14,
             .kv_heads = 2,
             .width = 896,
             .mlp_width = 4864,
             .context = 1024,
             .vocab = 151936,
             .mlp = GRD_MLP_SWIGLU,
             .norm = GRD_NORM_RMSNORM,
             .position = GRD_POSITION_ROPE,
             .rope_theta = 1e6,
             .no_bias = true,
             .qkv_bias = true},
     .batch = 16,
     .context = 1024},
    {.name = "gpt-baby",
     .gpt = {.layers = 6,
             .heads = 6,
             .width = 384,
             .context = 256,
             .vocab = 65,
             .mlp = GRD_MLP_GELU_TANH,
             .no_bias = true},
     .batch = 16,
     .context = 256},
    {.name = "gpt-small",
     .gpt = {.layers = 4, .heads = 4, .width = 128, .context = 128, .vocab = 1024, .mlp = GRD_MLP_GELU_TANH},
     .batch = 16,
     .context = 128},
    {.name = "mlp", .batch = 64, .logits = mlp, .sample = {1, {784}}, .classes = 10, .optimizer = GRD_OPTIMIZER_SGD},
    {.name = "lenet",
     .batch = 64,
     .logits = lenet,
     .sample = {3, {28, 28, 1}},
     .classes = 10,
     .optimizer = GRD_OPTIMIZER_SGD,
     .momentum = 0.9},
    {.name = "resnet18",
     .batch = 32,
     .logits = resnet18,
     .sample = {3, {32, 32, 3}},
     .classes = 10,
     .optimizer = GRD_OPTIMIZER_SGD,
     .momentum = 0.9},
    {.name = "resnet50",
     .batch = 8,
     .logits = resnet50,
     .sample = {3, {224, 224, 3}},
     .classes = 1000,
     .optimizer = GRD_OPTIMIZER_SGD,
     .momentum = 0.9},
    {.name = "lstm",
     .batch = 32,
     .logits = lstm,
     .sample = {2, {64, 64}},
     .classes = 64,
     .optimizer = GRD_OPTIMIZER_ADAMW},
};
enum { SPECS = sizeof(specs) / sizeof(specs[0]) };

/* A model being measured. */
typedef struct bench {
    const bench_args *args;
    model_spec spec;
    grd_engine *engine;
    grd_model *model;
    grd_graph *graph;
    grd_tensor x, y, scale;
    grd_step *step;
    void *inputs;
    int32_t *targets;
    float scale_value;
} bench;

typedef struct result {
    double first_step_s, ms_min, ms_median, ms_mean, waited_part;
    int64_t steps, resident_bytes;
    size_t arena_used_bytes;
    grd_plan_report plan;
    grd_rates rates;
} result;

static double now_s(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static uint32_t next_random(uint32_t *state)
{
    *state = *state * 1664525u + 1013904223u; /* any numbers will do: the time does not depend on them */
    return *state >> 8;
}

/* ---- the models ---- */

static grd_tensor build_gpt(bench *b)
{
    grd_gpt *gpt = &b->spec.gpt;
    grd_tensor none = {0};
    grd_dims dims = grd_shape(b->spec.batch, b->spec.context);
    if (gpt->context < b->spec.context) gpt->context = b->spec.context;
    grd_error error = {GRD_OK, ""};
    grd_gpt_resolve(gpt, &error);
    b->x = grd_input(b->graph, "ids", GRD_I32, dims);
    b->y = grd_input(b->graph, "targets", GRD_I32, dims);
    b->scale = grd_input(b->graph, "scale", GRD_F32, grd_scalar());
    b->scale_value = 1.0f / (float)grd_dims_count(dims);
    return grd_gpt_loss(grd_gpt_hidden(b->x, gpt, none), gpt, b->y, b->scale, NULL);
}

static grd_tensor build_classifier(bench *b)
{
    grd_dims dims = {.rank = b->spec.sample.rank + 1, .dim = {b->spec.batch}};
    for (int32_t i = 0; i < b->spec.sample.rank; i++) dims.dim[i + 1] = b->spec.sample.dim[i];
    b->x = grd_input(b->graph, "x", GRD_F32, dims);
    b->y = grd_input(b->graph, "y", GRD_I32, grd_shape(b->spec.batch));
    return grd_cross_entropy_mean(b->spec.logits(b->x), b->y);
}

static grd_optimizer optimizer_of(const model_spec *spec)
{
    grd_optimizer o = spec->optimizer == GRD_OPTIMIZER_SGD ? grd_sgd(0.01) : grd_adamw(3e-4);
    o.momentum = spec->momentum;
    if (spec->optimizer == GRD_OPTIMIZER_SGD) return o;
    o.beta2 = 0.95;
    o.weight_decay = 0.1;
    return o;
}

static bool make_data(bench *b)
{
    bool gpt = !b->spec.logits;
    size_t inputs = (size_t)(b->spec.batch * (gpt ? b->spec.context : grd_dims_count(b->spec.sample)));
    size_t targets = (size_t)(b->spec.batch * (gpt ? b->spec.context : 1));
    uint32_t state = 1, classes = (uint32_t)(gpt ? b->spec.gpt.vocab : b->spec.classes);
    b->inputs = malloc(inputs * sizeof(float));
    b->targets = malloc(targets * sizeof(int32_t));
    if (!b->inputs || !b->targets) return false;
    for (size_t i = 0; i < inputs; i++) {
        if (gpt) ((int32_t *)b->inputs)[i] = (int32_t)(next_random(&state) % classes);
        else ((float *)b->inputs)[i] = (float)next_random(&state) / (float)(1 << 24);
    }
    for (size_t i = 0; i < targets; i++) b->targets[i] = (int32_t)(next_random(&state) % classes);
    return true;
}

static grd_status build(bench *b, grd_error *error)
{
    grd_program_options program = {.recompute = b->args->recompute};
    b->engine = grd_engine_open(b->args->common.device, .threads = b->args->common.threads,
                                .tf32 = b->args->precision == GRD_PRECISION_TF32,
                                .nondeterministic = b->args->nondeterministic);
    b->model = grd_model_new(b->engine, 1);
    const grd_error *e = grd_engine_error(b->engine);
    if (!b->model) return grd_fail(error, e->status, "%s", e->message);
    grd_model_set_precision(b->model, b->args->precision);
    grd_precision_ask(b->args->precision, &program);
    b->graph = grd_graph_new(b->model);
    grd_tensor loss = b->spec.logits ? build_classifier(b) : build_gpt(b);
    b->step = grd_step_new(loss, optimizer_of(&b->spec), .program = program);
    e = grd_graph_error(b->graph);
    if (!b->step) return grd_fail(error, e->status ? e->status : GRD_E_MEMORY, "%s", e->message);
    return make_data(b) ? GRD_OK : grd_fail(error, GRD_E_MEMORY, "out of memory");
}

/* ---- measuring ---- */

/* The batch is given once and stays on the device, as that of the peers in benchmarks/peers does. */
static grd_status feed(bench *b, grd_error *error)
{
    grd_status status = grd_step_feed(b->step, b->x, b->inputs);
    if (!status) status = grd_step_feed(b->step, b->y, b->targets);
    if (!status && !grd_is_poison(b->scale)) status = grd_step_feed(b->step, b->scale, &b->scale_value);
    return status ? grd_fail(error, status, "%s", grd_step_error(b->step)->message) : GRD_OK;
}

static grd_status one_step(bench *b, grd_error *error)
{
    grd_metrics metrics; /* a step that is timed is waited for */
    grd_status status = grd_step_run(b->step, &metrics);
    return status ? grd_fail(error, status, "%s", grd_step_error(b->step)->message) : GRD_OK;
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

enum { WARM_UP = 3, LEAST_STEPS = 5 };
#define SLICE_S 1.0

/* Adds the time of one step, if all goes well. */
static grd_status timed_step(bench *b, result *r, double *times_ms, grd_error *error)
{
    double before = now_s();
    grd_status status = one_step(b, error);
    if (status) return status;
    times_ms[r->steps++] = 1e3 * (now_s() - before);
    r->ms_mean += (times_ms[r->steps - 1] - r->ms_mean) / (double)r->steps;
    return GRD_OK;
}

/* Before the limits are measured, which takes memory of its own. */
static void note_resident(result *r)
{
    if (!r->resident_bytes) r->resident_bytes = cli_resident_bytes(true);
}

/* As many steps as were asked for, with nothing in between. */
static grd_status time_steps(bench *b, result *r, double *times_ms, grd_error *error)
{
    grd_status status = GRD_OK;
    while (!status && r->steps < b->args->steps && !cli_stop) status = timed_step(b, r, times_ms, error);
    note_resident(r);
    return status;
}

/* Steps for some seconds, and a measurement of the device's rates after each of them: processors change their
 * pace from one second to the next, and what is predicted is to be of the pace at which the steps were made. */
static grd_status time_seconds(bench *b, result *r, double *times_ms, grd_error *error)
{
    const double begin = now_s();
    double slice = begin;
    bool measures = true, more = true;
    grd_status status = GRD_OK;
    while (more && !status && !cli_stop) {
        status = timed_step(b, r, times_ms, error);
        more = r->steps < BENCH_STEPS_MAX && (r->steps < LEAST_STEPS || now_s() - begin < b->args->seconds);
        if (status || !measures || now_s() - slice <= SLICE_S) continue;
        note_resident(r);
        measures = grd_engine_measure(b->engine);
        slice = now_s();
    }
    note_resident(r);
    return status;
}

static grd_status measure(bench *b, result *r, grd_error *error)
{
    static double times_ms[BENCH_STEPS_MAX]; /* touched as far as it is used */
    const cli_turns turns = cli_turns_now(); /* not between steps, where nothing is to be allocated */
    grd_status status = feed(b, error);
    if (!status) status = one_step(b, error);
    r->first_step_s = cli_seconds_since_start();
    for (int i = 1; i < WARM_UP && !status && !cli_stop; i++) status = one_step(b, error);
    if (!status && b->args->profile) grd_step_profile(b->step, true);
    if (!status) status = (b->args->steps ? time_steps : time_seconds)(b, r, times_ms, error);
    if (status || !r->steps) return status; /* none: stopped before there was anything to show */
    if ((status = grd_engine_rates(b->engine, &r->rates, error))) return status;
    r->arena_used_bytes = grd_step_high_water(b->step);
    qsort(times_ms, (size_t)r->steps, sizeof(double), ascending);
    r->ms_min = times_ms[0];
    r->ms_median = times_ms[r->steps / 2];
    r->waited_part = cli_waited_part(turns);
    status = grd_step_report(b->step, &r->plan);
    return status ? grd_fail(error, status, "%s", grd_step_error(b->step)->message) : GRD_OK;
}

/* ---- showing ---- */

/* Of products of 16-bit values, or of f32. */
static double product_rate(const bench *b, const result *r)
{
    bool wide = b->args->precision == GRD_PRECISION_F32 || b->args->precision == GRD_PRECISION_TF32;
    return wide ? r->rates.matmul_flops_per_s : r->rates.matmul_bf16_flops_per_s;
}

static void show_json(const bench *b, const result *r, double samples)
{
    json_t *line = json_pack(
        "{s:s, s:s, s:f, s:f, s:f, s:f, s:f, s:I, s:I, s:I, s:I, s:f, s:f, s:f, s:s, s:i, s:I, s:I, s:I, s:f, s:f, "
        "s:s, "
        "s:s, s:o}",
        "event", "bench", "name", b->spec.name, "ms_min", r->ms_min, "ms_median", r->ms_median, "ms_mean", r->ms_mean,
        b->spec.context ? "tokens_per_s" : "samples_per_s", 1e3 * samples / r->ms_median, "flops_per_s",
        1e3 * r->plan.flops_per_step / r->ms_median, "planned_peak_bytes", (json_int_t)r->plan.peak_bytes,
        "arena_bytes", (json_int_t)r->plan.arena_bytes, "arena_used_bytes", (json_int_t)r->arena_used_bytes,
        "resident_bytes", (json_int_t)r->resident_bytes, "first_step_s", r->first_step_s, "matmul_flops_per_s",
        product_rate(b, r), "copy_bytes_per_s", r->rates.copy_bytes_per_s, "precision",
        grd_precision_name(b->args->precision), "threads", cli_threads(&b->args->common), "steps", (json_int_t)r->steps,
        "batch", (json_int_t)b->spec.batch, "context", (json_int_t)b->spec.context, "flops_per_step",
        r->plan.flops_per_step, "predicted_step_ms", r->plan.predicted_step_ms, "device",
        grd_engine_device_kind(b->engine), "version", grd_version(), "contended", cli_contended(r->waited_part));
    if (line) json_dumpf(line, stdout, JSON_COMPACT);
    printf("\n");
    json_decref(line);
}

static void show_text(const bench *b, const result *r, double samples)
{
    double rate = product_rate(b, r);
    double flops = 1e3 * r->plan.flops_per_step / r->ms_median;
    printf("%s, %s, batch %lld", b->spec.name, grd_precision_name(b->args->precision), (long long)b->spec.batch);
    if (b->spec.context) printf(" of %lld tokens", (long long)b->spec.context);
    printf(", on %s\n", grd_engine_device_kind(b->engine));
    printf("a step       %s (median of %lld; best %s, mean %s; %s predicted)\n", cli_ms(r->ms_median),
           (long long)r->steps, cli_ms(r->ms_min), cli_ms(r->ms_mean), cli_ms(r->plan.predicted_step_ms));
    printf("speed        %s %s/s, %s\n", cli_count((int64_t)(1e3 * samples / r->ms_median)),
           b->spec.context ? "tokens" : "samples", cli_amount(flops, "FLOP/s"));
    printf("limits       matrix products %s (this step reaches %.0f%% of it), memory %s\n", cli_amount(rate, "FLOP/s"),
           100 * flops / rate, cli_amount(r->rates.copy_bytes_per_s, "B/s"));
    printf("memory       %s planned, %s resident at its peak\n", cli_bytes((double)r->plan.peak_bytes),
           cli_bytes((double)r->resident_bytes));
    printf("first step   %.2f s after the start of the process\n", r->first_step_s);
    cli_note_contended(&b->args->common, r->waited_part);
}

int bench_model(const bench_args *args)
{
    bench b = {.args = args};
    result r = {0};
    grd_error error = {GRD_OK, ""};
    for (int i = 0; i < SPECS && args->name; i++)
        if (strcmp(args->name, specs[i].name) == 0) b.spec = specs[i];
    if (!b.spec.name)
        return cli_error(&args->common, CLI_USAGE, "gradus bench model: '%s' is not one of: " BENCH_MODELS,
                         args->name ? args->name : "");
    if (args->context && !b.spec.context)
        return cli_error(&args->common, CLI_USAGE, "--context: %s has no tokens", b.spec.name);
    if (args->batch) b.spec.batch = args->batch;
    if (args->context) b.spec.context = args->context;
    cli_catch_signals();
    grd_status status = build(&b, &error);
    bool built = status == GRD_OK;
    if (built) status = measure(&b, &r, &error);
    double samples = (double)(b.spec.batch * (b.spec.context ? b.spec.context : 1));
    if (r.steps && !status && args->common.json) show_json(&b, &r, samples);
    if (r.steps && !status && !args->common.json) show_text(&b, &r, samples);
    if (r.steps && !status && args->profile) { /* last: what was measured is shown, whatever becomes of the file */
        fflush(stdout);
        status = grd_step_profile_write(b.step, stderr, args->profile_path);
        if (status) grd_fail(&error, status, "%s", grd_step_error(b.step)->message);
    }
    grd_engine_close(b.engine);
    free(b.inputs);
    free(b.targets);
    if (!status && cli_stop) return CLI_STOPPED;
    return status ? cli_fail(&args->common, &error, built) : CLI_DONE;
}
