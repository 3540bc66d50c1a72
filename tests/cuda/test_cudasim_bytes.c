/* test_cudasim_bytes.c - bytes that the plugin's own kernels move in a step of GPT-2 124M in bf16, by its plan, beside
 * the least by hand (docs/cuda-bytes.md); and whether kernels move what the plan says, counted access by access in a
 * library of the simulator's own (cuda/sim/traffic.cpp). */
#include "plan/plan.h"
#include "run/run.h"
#include "sim_library.h"
#include "train/train.h"

#include <gradus/gradus.h>

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

typedef struct sizes {
    int batch, context, layers, heads, width, vocab;
} sizes;

typedef struct inputs {
    grd_tensor ids, targets, scale;
} inputs;

static grd_step *make_step(grd_engine *engine, const sizes *s, inputs *in)
{
    grd_gpt gpt = {.layers = s->layers,
                   .heads = s->heads,
                   .width = s->width,
                   .vocab = s->vocab,
                   .context = s->context,
                   .mlp = GRD_MLP_GELU_TANH};
    grd_error error = {GRD_OK, ""};
    cr_assert(grd_gpt_resolve(&gpt, &error) == GRD_OK, "%s", error.message);
    grd_graph *g = grd_graph_new(grd_model_new(engine, 42));
    grd_tensor ids = grd_input(g, "ids", GRD_I32, grd_shape(s->batch, s->context)), none = {0};
    grd_tensor targets = grd_input(g, "targets", GRD_I32, grd_shape(s->batch, s->context));
    grd_tensor scale = grd_input(g, "scale", GRD_F32, grd_scalar());
    *in = (inputs){ids, targets, scale};
    grd_tensor loss = grd_gpt_loss(grd_gpt_hidden(ids, &gpt, none), &gpt, targets, scale, NULL);
    grd_step *step = grd_step_new(loss, grd_adamw(1e-3), .clip_norm = 1, .sum_micro = true, .accumulate = 2,
                                  .program = {.size = sizeof(grd_program_options), .bf16 = true});
    cr_assert(step, "%s", grd_engine_error(engine)->message);
    return step;
}

/* ---- by the plan, and by hand ---- */

/* Products are the library's. */
static bool is_own(const grdi_launch *launch)
{
    const char *name = launch->call.op->name;
    return !(launch->call.op->flags & GRDI_OP_MATMUL) || strstr(name, "attention") || strstr(name, "cross_entropy");
}

static double elements_of(const grdi_launch *launch, int32_t input)
{
    return (double)grd_dims_count(launch->call.in[input].dims);
}

/* Of the classifier, the part that is not in its products: logits read, slopes written, in bf16; losses written and
 * added up; targets. */
static double of_losses(const sizes *s)
{
    double rows = (double)s->batch * s->context;
    return rows * (4.0 * s->vocab + 3 * sizeof(float));
}

static double planned(const grdi_launch *launch, const sizes *s)
{
    return strcmp(launch->call.op->name, "linear_cross_entropy") ? launch->bytes : of_losses(s);
}

/* Each tensor read once, written once. What is added to is read and written; rows of a table at most once each. */
static double least(const grdi_launch *launch, const sizes *s)
{
    const char *name = launch->call.op->name;
    double rows = (double)s->batch * s->context, a = rows * s->width * 2, row_stats = 2 * rows * sizeof(float);
    double lse = rows * s->heads * sizeof(float), vector = s->width * sizeof(float), table = s->vocab * vector;
    bool adds = launch->call.may_accumulate[0];
    if (strcmp(name, "layer_norm") == 0) return 2 * a + row_stats + 2 * vector;
    if (strcmp(name, "layer_norm_backward") == 0) return (adds ? 4 : 3) * a + row_stats + 5 * vector;
    if (strcmp(name, "attention") == 0) return 4 * a + lse;
    if (strcmp(name, "attention_backward") == 0) return 8 * a + lse;
    if (strcmp(name, "embedding") == 0) return a + (rows < s->vocab ? rows * vector : table) + rows * sizeof(int32_t);
    if (strcmp(name, "embedding_backward") == 0) return a + 2 * table + rows * sizeof(int32_t);
    if (strcmp(name, "add") == 0) return 2 * a + s->context * vector;
    if (strcmp(name, "sum_to") == 0) return a + 2 * s->context * vector;
    if (strcmp(name, "linear_cross_entropy") == 0) return of_losses(s);
    if (strcmp(name, "copy") == 0) return elements_of(launch, 0) * 6; /* f32 to bf16 */
    if (strcmp(name, "sum_squares") == 0) return elements_of(launch, 0) * 4;
    if (strcmp(name, "adamw") == 0) return elements_of(launch, 0) * 7 * 4; /* p, g, m, v; p, m, v */
    if (strcmp(name, "fused_map") == 0 && elements_of(launch, 0) == 1) return launch->bytes;
    cr_assert_fail("%s: not in docs/cuda-bytes.md", name);
    return 0;
}

typedef struct figure {
    double least, planned;
} figure;

static void add_launch(figure *f, const grdi_launch *launch, const sizes *s)
{
    if (!is_own(launch)) return;
    f->least += least(launch, s);
    f->planned += planned(launch, s);
}

static void expect_within(const char *what, figure f, double a)
{
    printf("%s: %.2f A by the plan, %.2f A at least: %.3f\n", what, f.planned / a, f.least / a, f.planned / f.least);
    cr_expect(f.least > 0 && f.planned >= 0.999 * f.least, "%s: less than the least", what);
    cr_expect(f.planned <= 1.15 * f.least, "%s: %.3f of the least", what, f.planned / f.least);
}

Test(cudasim_bytes, of_own_kernels_are_near_the_least)
{
    const sizes s = {64, 1024, 12, 12, 768, 50304};
    double a = (double)s.batch * s.context * s.width * 2;
    figure layer = {0}, outside = {0}, update = {0}, all = {0};
    setenv("GRADUS_PLUGIN_DIR", GRADUS_BINARY_DIR "/tests", 1);
    grd_engine *engine = grd_engine_open("null:h100");
    inputs in;
    cr_assert(engine);
    grd_step *step = make_step(engine, &s, &in);
    const grdi_plan *micro = step->micro->plan, *updates = step->update.program->plan;
    for (size_t n = 0; n < micro->launch_count; n++) {
        const grdi_launch *launch = &micro->launches[n];
        int index = -1;
        bool inside = sscanf(launch->node->scope, "h%d", &index) == 1 && !launch->of_weights;
        if (is_own(launch) && (!inside || index == 1))
            printf("%-8s %-22s %8.1f MB, at least %8.1f MB\n", launch->node->scope, launch->call.op->name,
                   planned(launch, &s) / 1e6, least(launch, &s) / 1e6);
        add_launch(inside ? &layer : &outside, launch, &s);
        add_launch(&all, launch, &s);
    }
    for (size_t n = 0; n < updates->launch_count; n++) {
        add_launch(&update, &updates->launches[n], &s);
        add_launch(&all, &updates->launches[n], &s);
    }
    layer.least /= s.layers, layer.planned /= s.layers;
    expect_within("a layer", layer, a);
    expect_within("outside of layers", outside, a);
    expect_within("update", update, a);
    expect_within("a step of one batch", all, a);
    grd_engine_close(engine);
}

/* ---- as counted ---- */

#define COUNTED GRADUS_BINARY_DIR "/tests/counted"

static const grdi_sim_traffic *(*traffic_at)(int index);
static void (*forget_traffic)(size_t cache_bytes);

static grd_engine *open_counted(void)
{
    setenv("GRADUS_PLUGIN_DIR", COUNTED, 1);
    setenv("GRADUS_WITHOUT_CUDNN", "1", 1);
    void *library = dlopen(COUNTED "/libgradus_cudasim.so", RTLD_NOW | RTLD_LOCAL);
    cr_assert(library, "%s", dlerror());
    *(void **)&traffic_at = dlsym(library, "grdi_sim_traffic_at");
    *(void **)&forget_traffic = dlsym(library, "grdi_sim_forget_traffic");
    cr_assert(traffic_at && forget_traffic);
    grd_engine *engine = grd_engine_open("cudasim");
    cr_assert(engine);
    return engine;
}

enum { TOKENS = 512 };

static void run_micro(grd_step *step, const inputs *in, const sizes *s)
{
    int32_t ids[TOKENS], targets[TOKENS];
    float scale = 1.0f / TOKENS;
    cr_assert(s->batch * s->context == TOKENS);
    for (int k = 0; k < TOKENS; k++) ids[k] = k % s->vocab, targets[k] = (k * 5 + 1) % s->vocab;
    cr_assert(!grd_step_feed(step, in->ids, ids) && !grd_step_feed(step, in->targets, targets) &&
                  !grd_step_feed(step, in->scale, &scale) && !grd_step_run(step, &(grd_metrics){0}),
              "%s", grd_step_error(step)->message);
}

/* What does the work of an op. */
typedef struct work {
    const char *op, *kernels[3];
    double most; /* all loads and stores, beside what is moved: rows that are read again would show, too */
} work;

/* Vectors, ids and scalars come again for each element, and keys and queries for each tile. */
static const work works[] = {{"layer_norm", {"norm_rows_kernel"}, 1.05},
                             {"layer_norm_backward", {"norm_gradient_kernel", "channel_sums_kernel"}, 1.15},
                             {"attention", {"flash_kernel"}, 1.02},
                             {"attention_backward", {"delta_kernel", "flash_gradient_kernel"}, 1.6},
                             {"linear_cross_entropy", {"loss_kernel", "sum_kernel"}, 1.3},
                             {"embedding", {"embedding_kernel"}, 1.7},
                             {"embedding_backward", {"embedding_backward_kernel"}, 1.5},
                             {"add", {"map_kernel", "straight_kernel"}, 1.7},
                             {"sum_to", {"reduce_columns_kernel", "reduce_parts_kernel"}, 1.02},
                             {"sum_squares", {"reduce_wide_kernel"}, 1.02},
                             {"adamw", {"update_kernel"}, 1.4}};
/* Of the first batch alone: biases are rounded by the products that add them, in each. */
static const work copies = {"copy", {"groups_kernel", "float_kernel"}, 1.02};

static grdi_sim_traffic counted(const char *const *names)
{
    grdi_sim_traffic sum = {0};
    const grdi_sim_traffic *t;
    for (int i = 0; (t = traffic_at(i)); i++)
        for (int k = 0; k < 3 && names[k]; k++) {
            size_t length = strlen(names[k]);
            if (strncmp(t->kernel, names[k], length) != 0 || (t->kernel[length] && t->kernel[length] != '<')) continue;
            sum.launches += t->launches;
            sum.read += t->read, sum.written += t->written;
            sum.asked_read += t->asked_read, sum.asked_written += t->asked_written;
            sum.from_memory_read += t->from_memory_read, sum.from_memory_written += t->from_memory_written;
        }
    return sum;
}

static double planned_for(const grd_step *step, const char *op, const sizes *s)
{
    const grdi_plan *plans[] = {step->micro->plan, step->update.program->plan};
    double bytes = 0;
    for (int p = 0; p < 2; p++)
        for (size_t n = 0; n < plans[p]->launch_count; n++)
            if (strcmp(plans[p]->launches[n].call.op->name, op) == 0) bytes += planned(&plans[p]->launches[n], s);
    return bytes;
}

/* Of all heads in turn a fifth fits in, as some fiftieth of GPT-2 124M's does in an H100's; of a layer's value all but.
 */
enum { CACHE_BYTES = 192 << 10 };

static double moved_by(const grdi_sim_traffic *t)
{
    return (double)(t->read + t->written);
}

/* What its kernels move is what the plan says, and comes from memory once; the bytes that they move. */
static double expect_as_planned(const grd_step *step, const work *w, const sizes *s)
{
    grdi_sim_traffic t = counted(w->kernels);
    double moved = moved_by(&t), asked = (double)(t.asked_read + t.asked_written);
    double from_memory = (double)(t.from_memory_read + t.from_memory_written), plan = planned_for(step, w->op, s);
    if (strcmp(w->op, "embedding_backward") == 0) /* rows that no id names are left alone */
        plan -= 2.0 * (s->vocab - TOKENS) * s->width * sizeof(float);
    printf("%-22s %8.0f bytes planned, %8.0f moved (%.3f), %8.0f from and to memory (%.3f), %9.0f asked for (%.2f)\n",
           w->op, plan, moved, moved / plan, from_memory, from_memory / moved, asked, asked / moved);
    cr_expect(t.launches > 0 && moved < 1.03 * plan && moved > 0.97 * plan, "%s: %.0f bytes moved, %.0f planned", w->op,
              moved, plan);
    cr_expect(from_memory < 1.05 * moved, "%s: %.0f bytes from and to memory, %.0f moved", w->op, from_memory, moved);
    cr_expect(asked <= w->most * moved, "%s: %.0f bytes asked for, %.0f moved", w->op, asked, moved);
    return moved;
}

/* The second batch adds to the gradients of the first, and the update follows. What no plan names, biases that are
 * rounded and added to, is next to nothing. */
Test(cudasim_bytes, are_as_planned)
{
    const sizes s = {4, 128, 2, 2, 128, 1024};
    const grdi_sim_traffic *t;
    double known = 0, all = 0;
    inputs in;
    grd_engine *engine = open_counted();
    grd_step *step = make_step(engine, &s, &in);
    forget_traffic(CACHE_BYTES);
    run_micro(step, &in, &s);
    expect_as_planned(step, &copies, &s);
    forget_traffic(CACHE_BYTES);
    run_micro(step, &in, &s);
    for (size_t i = 0; i < sizeof(works) / sizeof(works[0]); i++) known += expect_as_planned(step, &works[i], &s);
    for (int i = 0; (t = traffic_at(i)); i++) all += moved_by(t);
    cr_expect(known > 0.995 * all, "%.0f of %.0f bytes are of kernels named here", known, all);
    grd_engine_close(engine);
}

/* A row of GPT-2's logits in bf16, 98 KB, is kept as a short one is: 99 KB are what every card gives a block. */
Test(cudasim_bytes, rows_of_a_large_vocabulary_are_read_once)
{
    const sizes s = {1, 4, 0, 0, 16, 50304};
    static const char *const kernels[3] = {"loss_kernel"};
    const int32_t targets[] = {0, 50303, 7, 25000};
    const float scale = 0.25f;
    float x[4 * 16];
    grd_engine *engine = open_counted();
    grd_graph *g = grd_graph_new(grd_model_new(engine, 42));
    grd_tensor in = grd_input(g, "x", GRD_F32, grd_shape(s.context, s.width));
    grd_tensor to = grd_input(g, "targets", GRD_I32, grd_shape(s.context));
    grd_tensor by = grd_input(g, "scale", GRD_F32, grd_scalar());
    grd_tensor w = grd_parameter(g, "w", grd_shape(s.vocab, s.width));
    grd_step *step = grd_step_new(grd_linear_cross_entropy(in, w, to, by), grd_sgd(1e-3),
                                  .program = {.size = sizeof(grd_program_options), .bf16 = true});
    cr_assert(step, "%s", grd_engine_error(engine)->message);
    for (int i = 0; i < s.context * s.width; i++) x[i] = (float)(i % 5) - 2;
    forget_traffic(CACHE_BYTES);
    cr_assert(!grd_step_feed(step, in, x) && !grd_step_feed(step, to, targets) && !grd_step_feed(step, by, &scale) &&
                  !grd_step_run(step, &(grd_metrics){0}),
              "%s", grd_step_error(step)->message);
    grdi_sim_traffic t = counted(kernels);
    double asked = (double)(t.asked_read + t.asked_written), rows = of_losses(&s);
    printf("%d rows of %d: %.0f bytes, %.0f moved, %.0f asked for\n", s.context, s.vocab, rows, moved_by(&t), asked);
    cr_expect(t.launches > 0 && fabs(moved_by(&t) / rows - 1) < 1e-3, "%.0f bytes moved", moved_by(&t));
    cr_expect(asked < 1.05 * rows, "%.0f bytes asked for of %.0f", asked, rows);
    grd_engine_close(engine);
}
