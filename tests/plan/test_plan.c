/* test_plan.c - plans: memory exact and verified, nothing allocated while running, verifiers that find planted
 * mistakes. */
#include "tiny.h"

#include "plan/plan.h"
#include "run/run.h"
#include "train/train.h"

#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

static grd_step *tiny_step(tiny *t, bool modern, bool recompute)
{
    tiny_build(t, "cpu", modern);
    grd_step *step =
        grd_step_new(t->loss, grd_adamw(1e-2), .clip_norm = 1, .sum_micro = true, .program = {.recompute = recompute});
    cr_assert(step != NULL, "%s", grd_engine_error(t->engine)->message);
    tiny_feed(t, step, 1);
    return step;
}

Test(plan, high_water_is_the_planned_arena)
{
    for (int recompute = 0; recompute < 2; recompute++) {
        tiny t;
        grd_step *step = tiny_step(&t, true, recompute);
        grd_plan_report report;
        cr_assert(grd_step_high_water(step) == 0, "touched before a run");
        cr_assert(grd_step_run(step, NULL) == GRD_OK, "%s", grd_step_error(step)->message);
        cr_assert(grd_step_report(step, &report) == GRD_OK, "no report");
        cr_assert(grd_step_high_water(step) == report.arena_bytes, "planned %zu bytes, used %zu", report.arena_bytes,
                  grd_step_high_water(step));
        cr_assert(report.arena_bytes >= step->micro->plan->arena_floor_bytes, "below the floor");
        tiny_close(&t);
    }
}

/* Bytes of the arena for eight layers at context 512. */
static size_t arena_of(bool recompute)
{
    grd_engine *engine = grd_engine_open("null:cpu");
    grd_graph *graph = grd_graph_new(grd_model_new(engine, 1));
    grd_gpt gpt = {.layers = 8, .heads = 4, .width = 128, .vocab = 256, .context = 512};
    grd_error error = {GRD_OK, ""};
    cr_assert(grd_gpt_resolve(&gpt, &error) == GRD_OK, "%s", error.message);
    grd_tensor ids = grd_input(graph, "ids", GRD_I32, grd_shape(4, 512)), none = {0};
    grd_tensor targets = grd_input(graph, "targets", GRD_I32, grd_shape(4, 512));
    grd_tensor scale = grd_input(graph, "scale", GRD_F32, grd_scalar());
    grd_tensor loss = grd_gpt_loss(grd_gpt_hidden(ids, &gpt, none), &gpt, targets, scale, NULL);
    grd_step *step = grd_step_new(loss, grd_adamw(1e-3), .sum_micro = true, .program = {.recompute = recompute});
    grd_plan_report report;
    cr_assert(step && grd_step_report(step, &report) == GRD_OK, "%s", grd_engine_error(engine)->message);
    grd_engine_close(engine);
    return report.arena_bytes;
}

Test(plan, recompute_saves_memory)
{
    size_t kept = arena_of(false), again = arena_of(true);
    cr_assert(again < kept / 2, "recompute needs %zu bytes, keeping %zu", again, kept);
}

static bool is_product(const grdi_launch *launch)
{
    return launch->call.op->flags & GRDI_OP_MATMUL;
}

/* As much of what a product reads and writes as near caches hold has a rate of its own, so have small launches of other
 * kinds; all else is as without them. */
Test(plan, bytes_in_near_caches_have_rates_of_their_own)
{
    tiny t;
    const grdi_plan *plan = tiny_step(&t, false, false)->micro->plan;
    grdi_rates rates = {.matmul_flops_per_s = 1e11,
                        .matmul_bf16_flops_per_s = 1e11,
                        .copy_bytes_per_s = 1e10,
                        .product_bytes_per_s = 5e9,
                        .map_flops_per_s = 1e10};
    double before = grdi_plan_seconds(plan, &rates, 1), more = 0, near = 0;
    int above[2] = {0}, below[2] = {0}; /* of launches of other kinds, of products */
    for (size_t i = 0; i < plan->launch_count; i++) near += plan->launches[i].bytes / (double)plan->launch_count;
    rates.near_bytes = near, rates.fresh_bytes_per_s = 1e9, rates.near_bytes_per_s = 2e9;
    for (size_t i = 0; i < plan->launch_count; i++) {
        double bytes = plan->launches[i].bytes;
        bool product = is_product(&plan->launches[i]);
        *(bytes < near ? &below[product] : &above[product]) += 1;
        if (product) more += (bytes < near ? bytes : near) * (1e-9 - 1 / 5e9);
        else if (bytes < near) more += bytes * (1 / 2e9 - 1e-10);
    }
    double after = grdi_plan_seconds(plan, &rates, 1);
    for (int i = 0; i < 2; i++) cr_assert(above[i] > 0 && below[i] > 0, "%d: %d and %d", i, above[i], below[i]);
    cr_assert(fabs(after - before - more) < 1e-9 * after, "%g s more, not %g", after - before, more);
    tiny_close(&t);
}

/* Kernels that say so reach a part of the device's rate: of products, of its loops where it has a rate for them, or of
 * other arithmetic. Bytes and launches cost nothing here. */
Test(plan, kernels_reach_parts_of_rates)
{
    tiny t;
    const grdi_plan *plan = tiny_step(&t, false, false)->micro->plan;
    grdi_kernel half[2] = {*plan->launches[0].kernel, *plan->launches[0].kernel};
    for (int i = 0; i < 2; i++) half[i].rate_part = 0.5, half[i].rate_part_of = NULL, half[i].of_loops = i;
    const grdi_rates rates = {
        .matmul_flops_per_s = 8, .matmul_bf16_flops_per_s = 64, .loops_flops_per_s = 4, .map_flops_per_s = 2};
    int products = 0, others = 0;
    for (size_t i = 0; i < plan->launch_count; i++) {
        grdi_launch launch = plan->launches[i];
        bool product = is_product(&launch);
        *(product ? &products : &others) += 1;
        launch.flops = 16;
        double expected[2][2] = {{product ? 8 : 16, product ? 8 : 16}, {product ? 0.5 : 16, product ? 8 : 16}};
        for (int narrow = 0; narrow < 2 && launch.call.input_count; narrow++) {
            launch.call.in[0].dtype = narrow ? GRD_BF16 : GRD_F32;
            for (int loops = 0; loops < 2; loops++) {
                launch.kernel = &half[loops];
                double seconds = grdi_launch_seconds(&launch, &rates);
                cr_assert(seconds == expected[narrow][loops], "%s: %g s, not %g", launch.call.op->name, seconds,
                          expected[narrow][loops]);
            }
        }
    }
    cr_assert(products > 0 && others > 0);
    tiny_close(&t);
}

Test(plan, gradients_land_in_their_storage)
{
    tiny t;
    grd_step *step = tiny_step(&t, false, false);
    for (size_t i = 0; i < step->micro->plan->launch_count; i++)
        cr_assert(strcmp(step->micro->plan->launches[i].call.op->name, "assign") != 0, "launch %zu copies a gradient",
                  i);
    tiny_close(&t);
}

Test(plan, verifier_finds_overlap)
{
    tiny t;
    grd_step *step = tiny_step(&t, false, false);
    grdi_plan *plan = step->micro->plan;
    grd_error error = {GRD_OK, ""};
    cr_assert(grdi_verify_plan(plan, &error), "%s", error.message);
    grdi_buffer *a = NULL, *b = NULL;
    for (size_t i = 0; i < plan->buffer_count && !b; i++)
        for (size_t k = i + 1; k < plan->buffer_count && !b; k++) {
            grdi_buffer *x = &plan->buffers[i], *y = &plan->buffers[k];
            if (x->place || y->place || x->first > y->last || y->first > x->last) continue;
            a = x;
            b = y;
        }
    cr_assert(b != NULL, "no two buffers live at once");
    size_t right = b->offset_bytes;
    b->offset_bytes = a->offset_bytes;
    cr_assert(!grdi_verify_plan(plan, &error), "an overlap went unseen");
    b->offset_bytes = right;
    tiny_close(&t);
}

Test(plan, verifier_finds_reads_after_overwrites)
{
    tiny t;
    grd_step *step = tiny_step(&t, false, false);
    grdi_plan *plan = step->micro->plan;
    grd_error error = {GRD_OK, ""};
    int planted = 0, found = 0;
    /* Let a launch write into a buffer of which a later launch still reads. */
    for (size_t i = 1; i + 1 < plan->launch_count && planted < 5; i++) {
        grdi_launch *later = &plan->launches[i + 1], *here = &plan->launches[i];
        int32_t victim = later->call.input_count ? later->in[0].buffer : -1;
        if (victim < 0 || plan->buffers[victim].place || here->out[0].buffer == victim || here->out[0].buffer < 0)
            continue;
        if (later->call.op != later->node->op || here->call.output_count != 1) continue;
        int32_t right = here->out[0].buffer;
        here->out[0].buffer = victim;
        planted++;
        memset(&error, 0, sizeof(error));
        found += !grdi_verify_plan(plan, &error);
        here->out[0].buffer = right;
    }
    cr_assert(planted > 0 && found == planted, "%d of %d planted overwrites found", found, planted);
    tiny_close(&t);
}

/* y = relu(x W^T) read again after an in-place candidate: the planner must not reuse what is still needed. */
Test(plan, views_and_outputs_survive)
{
    grd_engine *engine = grd_engine_open("cpu", .threads = 1);
    grd_graph *graph = grd_graph_new(grd_model_new(engine, 1));
    grd_tensor x = grd_input(graph, "x", GRD_F32, grd_shape(2, 3));
    grd_tensor a = grd_add_scalar(x, 1), b = grd_mul_scalar(a, 2), left = grd_slice(a, 1, 0, 2),
               sum = grd_add(left, grd_slice(b, 1, 1, 2));
    grd_tensor outputs[] = {a, left, grd_transpose2(b), sum};
    grd_program *program = grd_program_new(outputs, 4);
    cr_assert(program != NULL, "%s", grd_graph_error(graph)->message);
    const float data[6] = {1, 2, 3, 4, 5, 6};
    for (int run = 0; run < 2; run++) {
        float got[6];
        cr_assert(grd_program_feed(program, x, data) == GRD_OK && grd_program_run(program) == GRD_OK, "run failed");
        grd_program_read(program, outputs[0], got);
        cr_assert(got[0] == 2 && got[5] == 7, "a is wrong: %g %g", got[0], got[5]);
        grd_program_read(program, outputs[1], got);
        cr_assert(got[0] == 2 && got[1] == 3 && got[2] == 5 && got[3] == 6, "the slice is wrong");
        grd_program_read(program, outputs[2], got);
        cr_assert(got[0] == 4 && got[1] == 10 && got[2] == 6, "the transpose is wrong: %g %g %g", got[0], got[1],
                  got[2]);
        grd_program_read(program, outputs[3], got);
        cr_assert(got[0] == 2 + 6 && got[3] == 6 + 14, "the sum is wrong: %g %g", got[0], got[3]);
    }
    grd_engine_close(engine);
}

/* A state keeps its value from run to run, and reads in a run see the value from before. */
/* out = (x w + x w^T) w: the sum is made by the second product, where the first one lies; unless that one is an output
 * itself. Returns how many adds run; -1 for wrong values, or where the verifier overlooks a planted mistake. */
static int adds_that_run(bool root, bool *verified)
{
    float a[12], w[9], out[12], first[12];
    for (int i = 0; i < 12; i++) a[i] = (float)(i % 5) - 2;
    for (int i = 0; i < 9; i++) w[i] = (float)(i % 4) - 1;
    grd_engine *engine = grd_engine_open("cpu", .threads = 1);
    grd_graph *graph = grd_graph_new(grd_model_new(engine, 1));
    grd_tensor x = grd_input(graph, "x", GRD_F32, grd_shape(4, 3)), m = grd_input(graph, "w", GRD_F32, grd_shape(3, 3));
    grd_tensor one = grd_matmul(x, m), two = grd_matmul(grd_reshape(x, grd_shape(4, 3)), grd_transpose2(m));
    grd_tensor roots[] = {grd_matmul(grd_add(one, two), m), one};
    grd_program *program = grd_program_new(roots, root ? 2 : 1);
    cr_assert(program, "%s", grd_engine_error(engine)->message);
    grd_program_feed(program, x, a);
    grd_program_feed(program, m, w);
    cr_assert(grd_program_run(program) == GRD_OK && grd_program_read(program, roots[0], out) == GRD_OK);
    if (root) grd_program_read(program, roots[1], first);
    int adds = 0;
    for (size_t n = 0; n < program->plan->launch_count; n++)
        adds += strcmp(program->plan->launches[n].call.op->name, "add") == 0;
    for (int r = 0; r < 4; r++) {
        float sum[3] = {0, 0, 0}, product[3] = {0, 0, 0};
        for (int c = 0; c < 3; c++)
            for (int k = 0; k < 3; k++) {
                product[c] += a[r * 3 + k] * w[k * 3 + c];
                sum[c] += a[r * 3 + k] * (w[k * 3 + c] + w[c * 3 + k]);
            }
        for (int c = 0; c < 3; c++) {
            float want = sum[0] * w[c] + sum[1] * w[3 + c] + sum[2] * w[6 + c];
            if (out[r * 3 + c] != want || (root && first[r * 3 + c] != product[c])) adds = -1;
        }
    }
    grd_error error = {GRD_OK, ""};
    *verified = grdi_verify_plan(program->plan, &error);
    for (size_t n = 0; n < program->plan->launch_count; n++) /* what it adds to is no longer what was there */
        if (program->plan->launches[n].sum) program->plan->launches[n].sum_other ^= 1;
    if (!root && grdi_verify_plan(program->plan, &error)) adds = -1;
    grd_engine_close(engine);
    return adds;
}

Test(plan, a_product_is_added_where_the_other_operand_lies)
{
    bool verified;
    cr_assert(adds_that_run(false, &verified) == 0 && verified);
    cr_assert(adds_that_run(true, &verified) == 1 && verified);
}

Test(plan, states_are_read_before_they_are_assigned)
{
    grd_engine *engine = grd_engine_open("cpu", .threads = 1);
    grd_graph *graph = grd_graph_new(grd_model_new(engine, 1));
    grd_tensor state = grd_state(graph, "count", GRD_F32, grd_shape(2));
    grd_assign(state, grd_add_scalar(state, 1));
    grd_tensor seen = grd_mul_scalar(state, 10); /* built after the assign, reads the old value all the same */
    grd_program *program = grd_program_new(&seen, 1);
    cr_assert(program != NULL, "%s", grd_graph_error(graph)->message);
    for (int run = 0; run < 3; run++) {
        float got[2];
        cr_assert(grd_program_run(program) == GRD_OK && grd_program_read(program, seen, got) == GRD_OK, "run failed");
        cr_assert(got[0] == 10.0f * (float)run, "run %d saw %g", run, got[0]);
    }
    grd_engine_close(engine);
}

Test(plan, large_models_are_planned_without_their_memory)
{
    grd_engine *engine = grd_engine_open("null:cpu");
    cr_assert(grd_engine_error(engine)->status == GRD_OK, "%s", grd_engine_error(engine)->message);
    grd_graph *graph = grd_graph_new(grd_model_new(engine, 1));
    grd_gpt llama = {.layers = 32,
                     .heads = 32,
                     .kv_heads = 8,
                     .width = 4096,
                     .mlp_width = 14336,
                     .vocab = 128256,
                     .context = 32768,
                     .mlp = GRD_MLP_SWIGLU,
                     .norm = GRD_NORM_RMSNORM,
                     .position = GRD_POSITION_ROPE,
                     .rope_theta = 5e5,
                     .no_bias = true,
                     .untied = true};
    grd_error error = {GRD_OK, ""};
    cr_assert(grd_gpt_resolve(&llama, &error) == GRD_OK, "%s", error.message);
    cr_assert(grd_gpt_parameters(&llama) == 8030261248, "Llama-3 8B has 8,030,261,248 parameters, not %lld",
              (long long)grd_gpt_parameters(&llama));
    grd_tensor ids = grd_input(graph, "ids", GRD_I32, grd_shape(1, 32768)),
               targets = grd_input(graph, "targets", GRD_I32, grd_shape(1, 32768));
    grd_tensor scale = grd_input(graph, "scale", GRD_F32, grd_scalar()), none = {0};
    grd_tensor loss = grd_gpt_loss(grd_gpt_hidden(ids, &llama, none), &llama, targets, scale, NULL);
    grd_step *step = grd_step_new(loss, grd_adamw(1e-4), .sum_micro = true);
    cr_assert(step != NULL, "%s", grd_engine_error(engine)->message);
    grd_plan_report report;
    grd_step_report(step, &report);
    cr_assert(report.parameters == 8030261248, "%lld parameters", (long long)report.parameters);
    cr_assert(report.optimizer_bytes >= 2 * 4 * 8030261248u, "two f32 moments need more than %zu bytes",
              report.optimizer_bytes);
    cr_assert(grd_step_run(step, NULL) == GRD_E_UNSUPPORTED, "a device that only plans ran");
    grd_engine_close(engine);
}
