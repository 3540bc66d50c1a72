/* test_bf16.c - bf16 precision: losses follow f32, memory shrinks, gradients of weights stay in f32, and kernels are
 * handed what they can take. */
#include "tiny.h"

#include "ops/table.h"
#include "plan/plan.h"
#include "train/train.h"

#include <gradus/custom.h>

#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

enum { STEPS = 50, FEW = 4 };

/* A rate at which models are trained: Adam makes steps of that size even of gradients that are all rounding. */
static grd_step *step_with(tiny *t, const char *device, bool modern, int32_t accumulate, grd_program_options program)
{
    tiny_build(t, device, modern);
    program.size = sizeof(program);
    grd_step *step = grd_step_new(t->loss, grd_adamw(2e-3), .clip_norm = 1, .sum_micro = true,
                                  .accumulate = accumulate, .program = program);
    cr_assert(step != NULL, "%s", grd_engine_error(t->engine)->message);
    return step;
}

static void run_step(tiny *t, grd_step *step, int32_t accumulate, double *loss)
{
    grd_metrics m = {0};
    for (int32_t k = 0; k < accumulate; k++) {
        tiny_feed(t, step, 1.0f / (float)accumulate);
        cr_assert(grd_step_run(step, &m) == GRD_OK, "%s", grd_step_error(step)->message);
    }
    *loss = m.loss;
}

static void losses_with(const char *device, bool modern, int steps, grd_program_options program, double *losses)
{
    tiny t;
    grd_step *step = step_with(&t, device, modern, 1, program);
    for (int i = 0; i < steps; i++) {
        tiny_new_batch(&t, i);
        run_step(&t, step, 1, &losses[i]);
    }
    tiny_close(&t);
}

Test(bf16, losses_follow_f32)
{
    for (int modern = 0; modern < 2; modern++) {
        double wide[STEPS], narrow[STEPS], other[STEPS];
        losses_with("cpu", modern, STEPS, (grd_program_options){0}, wide);
        losses_with("cpu", modern, STEPS, (grd_program_options){.bf16 = true}, narrow);
        double off = tiny_furthest(wide, narrow, STEPS);
        printf("%s: bf16 within %.1e of f32 in %d steps\n", modern ? "llama kind" : "gpt-2 kind", off, STEPS);
        cr_expect(off < 1e-2, "kind %d: %.3g off", modern, off);
        cr_expect(off > 0, "kind %d: nothing was rounded", modern);
        cr_expect(narrow[STEPS - 1] < narrow[0] * 0.9, "kind %d: from %g to %g", modern, narrow[0], narrow[STEPS - 1]);
        losses_with("cpu", modern, STEPS, (grd_program_options){.bf16 = true}, other);
        cr_expect(memcmp(narrow, other, sizeof(other)) == 0, "kind %d: a second run gives other bits", modern);
        losses_with("cpu", modern, STEPS, (grd_program_options){.bf16 = true, .recompute = true}, other);
        cr_expect(memcmp(narrow, other, sizeof(other)) == 0, "kind %d: recomputing gives other bits", modern);
    }
}

Test(bf16, can_be_switched_off)
{
    double wide[FEW], off[FEW];
    losses_with("cpu", true, FEW, (grd_program_options){0}, wide);
    losses_with("cpu", true, FEW, (grd_program_options){.bf16 = true, .disable = "precision"}, off);
    cr_assert(memcmp(wide, off, sizeof(off)) == 0, "without the pass it is not f32");
}

/* The references round where kernels do; they sum in double and round sums made by several ops no differently. */
Test(bf16, cpu_follows_ref)
{
    for (int modern = 0; modern < 2; modern++) {
        double cpu[FEW], ref[FEW];
        losses_with("cpu", modern, FEW, (grd_program_options){.bf16 = true}, cpu);
        losses_with("ref", modern, FEW, (grd_program_options){.bf16 = true}, ref);
        double off = tiny_furthest(ref, cpu, FEW);
        printf("kind %d: cpu within %.1e of ref\n", modern, off);
        cr_expect(off < 2e-3, "kind %d: %.3g off", modern, off); /* roundings to bf16 that fall the other way */
    }
}

/* ---- what is launched ---- */

static int count_launches(const grdi_plan *plan, const char *op)
{
    int count = 0;
    for (size_t n = 0; n < plan->launch_count; n++) count += strcmp(plan->launches[n].call.op->name, op) == 0;
    return count;
}

/* Nothing is converted by itself but, where the device wants it so, the matrices: two layers of four, and the head
 * (tied or not). No reference runs, no gradient is rounded or copied on its way to its storage. */
Test(bf16, only_weights_are_copied)
{
    for (int modern = 0; modern < 2; modern++) {
        tiny t;
        grd_step *step = step_with(&t, "cpu", modern, 1, (grd_program_options){.bf16 = true});
        const grdi_plan *plan = step->micro->plan;
        const grdi_backend *backend = t.engine->backend;
        int casts = count_launches(plan, "cast") + count_launches(plan, "copy"), weights = 0;
        for (size_t n = 0; n < plan->launch_count; n++) {
            const grdi_launch *l = &plan->launches[n];
            cr_expect(l->kernel != &grdi_reference_kernel, "%s/%s runs as its reference", l->node->scope,
                      l->call.op->name);
            weights += l->of_weights;
            for (int32_t o = 0; o < l->call.output_count; o++) {
                bool gradient = l->out[o].buffer >= 0 && plan->buffers[l->out[o].buffer].class == GRDI_CLASS_GRADIENTS;
                cr_expect(!gradient || l->call.out[o].dtype == GRD_F32, "%s/%s rounds a gradient of weights",
                          l->node->scope, l->call.op->name);
            }
            bool product = strcmp(l->call.op->name, "matmul") == 0 || strcmp(l->call.op->name, "linear") == 0;
            for (int i = 0; i < 2 && product; i++)
                cr_expect(l->call.in[i].dtype == GRD_BF16 || l->call.in[i].rounded, "%s/%s multiplies f32",
                          l->node->scope, l->call.op->name);
        }
        int wanted = backend->copies_rounded(t.engine->device) ? 9 : 0;
        cr_expect(casts == wanted && weights == wanted, "kind %d: %d copies, %d of weights", modern, casts, weights);
        cr_expect(count_launches(plan, "assign") == 0, "kind %d: a gradient is copied", modern);
        tiny_close(&t);
    }
}

Test(bf16, needs_less_memory_exactly_as_planned)
{
    size_t arena[2];
    for (int bf16 = 0; bf16 < 2; bf16++) {
        tiny t;
        grd_step *step = step_with(&t, "cpu", true, 1, (grd_program_options){.bf16 = bf16});
        grd_error error = {GRD_OK, ""};
        grd_plan_report report;
        double loss;
        cr_assert(grdi_verify_plan(step->micro->plan, &error), "%s", error.message);
        run_step(&t, step, 1, &loss);
        cr_assert(grd_step_report(step, &report) == GRD_OK, "no report");
        cr_assert(grd_step_high_water(step) == report.arena_bytes, "planned %zu bytes, used %zu", report.arena_bytes,
                  grd_step_high_water(step));
        tiny_close(&t);
        grd_engine *engine = grd_engine_open("null:cpu");
        grd_graph *graph = grd_graph_new(grd_model_new(engine, 1));
        grd_gpt gpt = {.layers = 4, .heads = 4, .width = 128, .vocab = 256, .context = 256};
        cr_assert(grd_gpt_resolve(&gpt, &error) == GRD_OK, "%s", error.message);
        grd_tensor ids = grd_input(graph, "ids", GRD_I32, grd_shape(8, 256)), none = {0};
        grd_tensor targets = grd_input(graph, "targets", GRD_I32, grd_shape(8, 256));
        grd_tensor scale = grd_input(graph, "scale", GRD_F32, grd_scalar());
        grd_tensor large = grd_gpt_loss(grd_gpt_hidden(ids, &gpt, none), &gpt, targets, scale, NULL);
        step = grd_step_new(large, grd_adamw(1e-3), .sum_micro = true, .program = {.bf16 = bf16});
        cr_assert(step && grd_step_report(step, &report) == GRD_OK, "%s", grd_engine_error(engine)->message);
        arena[bf16] = report.arena_bytes;
        grd_engine_close(engine);
    }
    printf("activations and workspace: %zu bytes in f32, %zu in bf16\n", arena[0], arena[1]);
    cr_assert(arena[1] < arena[0] * 6 / 10, "%zu bytes in f32, %zu in bf16", arena[0], arena[1]);
}

/* ---- copies of weights ---- */

Test(bf16, accumulation_is_one_large_batch)
{
    double once[FEW], thrice[FEW];
    tiny t;
    losses_with("cpu", false, FEW, (grd_program_options){.bf16 = true}, once);
    grd_step *step = step_with(&t, "cpu", false, 3, (grd_program_options){.bf16 = true});
    for (int i = 0; i < FEW; i++) {
        tiny_new_batch(&t, i);
        run_step(&t, step, 3, &thrice[i]);
    }
    tiny_close(&t);
    /* gradients arrive scaled by a third, and their roundings to bf16 fall elsewhere */
    cr_assert(tiny_furthest(once, thrice, FEW) < 2e-3, "%.3g off", tiny_furthest(once, thrice, FEW));
}

/* Attention takes no f32 for bf16, so that it gets a copy of a parameter: one for all who read it, made again when a
 * parameter was written to and only then. */
Test(bf16, copies_follow_the_weights)
{
    grd_engine *engine = grd_engine_open("cpu", .threads = 1);
    grd_model *model = grd_model_new(engine, 4);
    grd_graph *graph = grd_graph_new(model);
    grd_tensor x = grd_input(graph, "x", GRD_F32, grd_shape(1, 1, 2, 4));
    grd_tensor keys = grd_parameter(graph, "keys", grd_shape(1, 3, 2, 4), .init = GRD_INIT_NORMAL, .scale = 1);
    grd_tensor y = grd_attention(grd_attention(x, keys, keys), keys, keys);
    grd_program *program = grd_program_new(&y, 1, .bf16 = true);
    cr_assert(program != NULL, "%s", grd_graph_error(graph)->message);
    int copies = 0;
    for (size_t n = 0; n < program->plan->launch_count; n++) copies += program->plan->launches[n].of_weights;
    cr_assert(copies == 1, "%d copies", copies);
    float queries[8] = {1, -1, 2, 0, 3, 1, -2, 1}, first[8], zeros[24] = {0}, values[24], got[8];
    grd_error error = {GRD_OK, ""};
    cr_assert(!grd_program_feed(program, x, queries) && !grd_program_run(program), "run");
    cr_assert(!grd_program_read(program, y, first) && !grd_model_read(model, "keys", values, &error), "read");
    for (int i = 0; i < 8; i++) cr_assert(first[i] != 0, "nothing was attended to");
    int64_t version = program->weights_version;
    cr_assert(!grd_program_run(program) && program->weights_version == version, "a copy without need");
    cr_assert(!grd_model_write(model, "keys", zeros, &error) && !grd_program_run(program), "%s", error.message);
    grd_program_read(program, y, got);
    for (int i = 0; i < 8; i++) cr_assert(got[i] == 0, "element %d is of the old weights: %g", i, (double)got[i]);
    cr_assert(!grd_model_write(model, "keys", values, &error) && !grd_program_run(program), "%s", error.message);
    grd_program_read(program, y, got);
    cr_assert(memcmp(got, first, sizeof(got)) == 0, "not as with these weights before");
    grd_engine_close(engine);
}

/* A copy follows a step's updates too: what a program made of the weights before is old. */
Test(bf16, steps_make_copies_old)
{
    tiny t;
    double loss;
    grd_step *step = step_with(&t, "cpu", false, 2, (grd_program_options){.bf16 = true});
    tiny_feed(&t, step, 1);
    cr_assert(grd_step_run(step, NULL) == GRD_OK, "%s", grd_step_error(step)->message);
    int64_t version = t.model->weights_version;
    cr_assert(grd_step_run(step, NULL) == GRD_OK, "%s", grd_step_error(step)->message); /* the second of two: updates */
    cr_assert(t.model->weights_version > version, "an update went unnoticed");
    run_step(&t, step, 2, &loss);
    tiny_close(&t);
}

/* ---- ops that know nothing of bf16 ---- */

static void same_shape(grd_op_shape *c)
{
    c->out[0] = c->in[0];
}

static void pass_on(grd_op_gradient *g)
{
    g->grad_in[0] = g->grad_out[0];
}

static void reference(const grd_op_reference *r)
{
    for (int64_t i = 0; i < grd_dims_count(r->in_type[0].dims); i++) r->out[0][i] = r->in[0][i] + 1;
}

static int ran_in_f32;

static void plus_one(const grd_op_kernel *k)
{
    ran_in_f32 += k->in_type[0].dtype == GRD_F32 && k->out_type[0].dtype == GRD_F32;
    for (int64_t i = 0; i < grd_dims_count(k->in_type[0].dims); i++) k->out[0][i] = k->in[0][i] + 1;
}

/* A program's own op between two products: its kernel gets f32. */
Test(bf16, own_ops_compute_in_f32)
{
    const grd_op_definition d = {.size = sizeof(d),
                                 .name = "plus_one",
                                 .inputs = 1,
                                 .shape = same_shape,
                                 .gradient = pass_on,
                                 .reference = reference,
                                 .kernel_f32 = plus_one};
    grd_engine *engine = grd_engine_open("cpu", .threads = 1);
    cr_assert(grd_op_register(engine, &d) == GRD_OK, "%s", grd_engine_error(engine)->message);
    grd_graph *graph = grd_graph_new(grd_model_new(engine, 4));
    grd_tensor x = grd_input(graph, "x", GRD_F32, grd_shape(3, 4)), w = grd_input(graph, "w", GRD_F32, grd_shape(4, 4));
    grd_tensor product = grd_matmul(x, w), one = grd_call(graph, "plus_one", &product, 1, NULL, 0, NULL);
    grd_tensor y = grd_matmul(one, w);
    grd_program *program = grd_program_new(&y, 1, .bf16 = true);
    cr_assert(program != NULL, "%s", grd_graph_error(graph)->message);
    float a[12], b[16] = {0}, got[12];
    for (int i = 0; i < 12; i++) a[i] = 1.0f + (float)i / 64; /* bf16 holds them */
    for (int i = 0; i < 4; i++) b[5 * i] = 2;
    cr_assert(!grd_program_feed(program, x, a) && !grd_program_feed(program, w, b) && !grd_program_run(program), "run");
    cr_assert(!grd_program_read(program, y, got), "read");
    cr_assert(ran_in_f32 == 1, "the kernel ran %d times in f32", ran_in_f32);
    for (int i = 0; i < 12; i++)
        cr_assert(got[i] == 2 * (2 * a[i] + 1) || fabsf(got[i] / (2 * (2 * a[i] + 1)) - 1) < 0x1p-8f,
                  "element %d is %g", i, (double)got[i]);
    grd_engine_close(engine);
}

/* Values that are read from outside, and what leads to them alone, are not rounded. */
Test(bf16, outputs_are_not_rounded)
{
    grd_engine *engine = grd_engine_open("cpu", .threads = 1);
    grd_graph *graph = grd_graph_new(grd_model_new(engine, 4));
    grd_tensor x = grd_input(graph, "x", GRD_F32, grd_shape(2, 3)), w = grd_input(graph, "w", GRD_F32, grd_shape(3, 2));
    grd_tensor y = grd_add_scalar(grd_reshape(grd_matmul(x, w), grd_shape(4)), 0x1p-12);
    grd_program *program = grd_program_new(&y, 1, .bf16 = true);
    cr_assert(program != NULL, "%s", grd_graph_error(graph)->message);
    const float a[6] = {1, 1.00390625f /* 1 + 2^-8: rounded to 1 */, 3, 1, 0, 0}, b[6] = {1, 0, 0, 256, 0x1p-10f, 0};
    float got[4];
    cr_assert(!grd_program_feed(program, x, a) && !grd_program_feed(program, w, b) && !grd_program_run(program), "run");
    cr_assert(!grd_program_read(program, y, got), "read");
    cr_assert(got[0] == 1 + 3 * 0x1p-10f + 0x1p-12f, "the output was rounded: %.9g", (double)got[0]);
    cr_assert(got[1] == 256 + 0x1p-12f, "the operand was not rounded: %.9g", (double)got[1]);
    grd_engine_close(engine);
}
