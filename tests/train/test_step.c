/* test_step.c - training steps: what they compute must not depend on how the plan computes it. */
#include "tiny.h"

#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

enum { STEPS = 4 };

/* Losses of a few steps under these options. */
static void losses_with(const char *device, bool modern, grd_optimizer optimizer, grd_step_options options,
                        double *losses)
{
    tiny t;
    tiny_build(&t, device, modern);
    options.size = sizeof(options);
    options.sum_micro = true;
    grd_step *step = grd_step_new_with(t.loss, optimizer, &options);
    cr_assert(step != NULL, "%s", grd_engine_error(t.engine)->message);
    int32_t micros = options.accumulate > 0 ? options.accumulate : 1;
    for (int i = 0; i < STEPS; i++) {
        grd_metrics m = {0};
        for (int32_t k = 0; k < micros; k++) {
            tiny_feed(&t, step, 1.0f / (float)micros);
            cr_assert(grd_step_run(step, &m) == GRD_OK, "%s", grd_step_error(step)->message);
        }
        cr_assert(m.updated && m.step == i + 1, "step %d was not counted", i);
        losses[i] = m.loss;
    }
    tiny_close(&t);
}

static void expect_close(const double *a, const double *b, double tolerance, const char *what)
{
    for (int i = 0; i < STEPS; i++)
        cr_assert(fabs(a[i] - b[i]) <= tolerance * fabs(a[i]), "%s: step %d: %.9g and %.9g", what, i, a[i], b[i]);
    cr_assert(a[STEPS - 1] < a[0], "%s: the loss does not fall: %.9g to %.9g", what, a[0], a[STEPS - 1]);
}

Test(step, same_numbers_however_planned)
{
    for (int modern = 0; modern < 2; modern++) {
        double plain[STEPS], other[STEPS];
        losses_with("cpu", modern, grd_adamw(1e-2), (grd_step_options){.clip_norm = 1}, plain);
        static const char *const disabled[] = {"fuse", "simplify", "recompute", "fuse,simplify,recompute"};
        for (size_t i = 0; i < sizeof(disabled) / sizeof(disabled[0]); i++) {
            losses_with("cpu", modern, grd_adamw(1e-2),
                        (grd_step_options){.clip_norm = 1, .program = {.disable = disabled[i]}}, other);
            expect_close(plain, other, 2e-5, disabled[i]); /* f32 sums in another order */
        }
        losses_with("cpu", modern, grd_adamw(1e-2), (grd_step_options){.clip_norm = 1, .program = {.recompute = true}},
                    other);
        expect_close(plain, other, 0, "recompute gives the same bits");
        losses_with("cpu", modern, grd_adamw(1e-2), (grd_step_options){.clip_norm = 1}, other);
        expect_close(plain, other, 0, "a second run gives the same bits");
        losses_with("ref", modern, grd_adamw(1e-2), (grd_step_options){.clip_norm = 1}, other);
        expect_close(plain, other, 2e-5, "cpu follows ref");
    }
}

Test(step, accumulation_is_one_large_batch)
{
    double once[STEPS], thrice[STEPS];
    losses_with("cpu", false, grd_adamw(1e-2), (grd_step_options){.clip_norm = 1}, once);
    losses_with("cpu", false, grd_adamw(1e-2), (grd_step_options){.clip_norm = 1, .accumulate = 3}, thrice);
    expect_close(once, thrice, 2e-5, "three times the same micro-batch");
}

Test(step, every_optimizer_lowers_the_loss)
{
    grd_optimizer nesterov = grd_sgd(0.3);
    nesterov.momentum = 0.9;
    nesterov.nesterov = true;
    const grd_optimizer all[] = {grd_adamw(1e-2), grd_adam(1e-2), grd_sgd(0.5), nesterov, grd_lion(3e-3)};
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
        double cpu[STEPS], ref[STEPS];
        losses_with("cpu", true, all[i], (grd_step_options){.clip_norm = 1}, cpu);
        losses_with("ref", true, all[i], (grd_step_options){.clip_norm = 1}, ref);
        expect_close(cpu, ref, 1e-4, "optimizer"); /* Lion takes signs: a rounding may flip one */
    }
    const grd_group others[] = {{.match = "embed/**", .optimizer = grd_adamw(1e-2)},
                                {.match = "head/**", .optimizer = grd_adamw(1e-2)},
                                {.match = "**/norm*/**", .optimizer = grd_adamw(1e-2)},
                                {.match = "norm/**", .optimizer = grd_adamw(1e-2)},
                                {.match = "**/*_norm/**", .optimizer = grd_adamw(1e-2)}};
    double cpu[STEPS], ref[STEPS];
    losses_with("cpu", true, grd_muon(0.02), (grd_step_options){.groups = others, .group_count = 5}, cpu);
    losses_with("ref", true, grd_muon(0.02), (grd_step_options){.groups = others, .group_count = 5}, ref);
    expect_close(cpu, ref, 1e-3, "muon"); /* five polynomial steps enlarge roundings */
}

Test(step, muon_refuses_vectors)
{
    tiny t;
    tiny_build(&t, "cpu", false);
    cr_assert(grd_step_new(t.loss, grd_muon(0.02)) == NULL, "muon took a vector");
    cr_assert(strstr(grd_engine_error(t.engine)->message, "muon trains matrices") != NULL, "%s",
              grd_engine_error(t.engine)->message);
    tiny_close(&t);
}

Test(step, frozen_parameters_stay)
{
    tiny t;
    tiny_build(&t, "cpu", false);
    const grd_group frozen = {.match = "h0/**", .frozen = true};
    grd_step *step = grd_step_new(t.loss, grd_adamw(1e-2), .groups = &frozen, .group_count = 1, .sum_micro = true);
    cr_assert(step != NULL, "%s", grd_engine_error(t.engine)->message);
    double before = tiny_square_sum(t.model, "h0/attn/qkv/weight"),
           other = tiny_square_sum(t.model, "h1/attn/qkv/weight");
    tiny_feed(&t, step, 1);
    cr_assert(grd_step_run(step, NULL) == GRD_OK, "%s", grd_step_error(step)->message);
    cr_assert(tiny_square_sum(t.model, "h0/attn/qkv/weight") == before, "a frozen weight changed");
    cr_assert(tiny_square_sum(t.model, "h1/attn/qkv/weight") != other, "a trained weight did not change");
    grd_variable v;
    cr_assert(!grd_model_variable_find(t.model, "gradient/h0/attn/qkv/weight", &v), "a frozen weight has a gradient");
    tiny_close(&t);
}

Test(step, nonfinite_gradient_leaves_weights_and_names_the_op)
{
    tiny t;
    tiny_build(&t, "cpu", false);
    grd_step *step = grd_step_new(t.loss, grd_adamw(1e-2), .sum_micro = true);
    tiny_feed(&t, step, 1);
    cr_assert(grd_step_run(step, NULL) == GRD_OK, "%s", grd_step_error(step)->message);
    grd_error error = {GRD_OK, ""};
    float bias[48] = {0};
    cr_assert(grd_model_read(t.model, "h1/attn/qkv/bias", bias, &error) == GRD_OK, "%s", error.message);
    bias[0] = INFINITY;
    cr_assert(grd_model_write(t.model, "h1/attn/qkv/bias", bias, &error) == GRD_OK, "%s", error.message);
    double before = tiny_square_sum(t.model, "h0/mlp/up/weight"),
           moment = tiny_square_sum(t.model, "exp_avg/h0/mlp/up/weight");
    grd_metrics m;
    cr_assert(grd_step_run(step, &m) == GRD_E_NUMERIC, "an infinite weight went unseen");
    cr_assert(m.skipped, "the update was not skipped");
    cr_assert(strstr(grd_step_error(step)->message, "h1/attn/qkv/linear") != NULL, "%s", grd_step_error(step)->message);
    cr_assert(tiny_square_sum(t.model, "h0/mlp/up/weight") == before, "a weight changed");
    cr_assert(tiny_square_sum(t.model, "exp_avg/h0/mlp/up/weight") == moment, "a moment changed");
    tiny_close(&t);
}

Test(step, clipping_bounds_the_gradient_norm)
{
    tiny t;
    tiny_build(&t, "cpu", false);
    grd_step *step = grd_step_new(t.loss, grd_sgd(1.0), .clip_norm = 1e-3, .sum_micro = true);
    grd_metrics m;
    double before = tiny_square_sum(t.model, "h0/mlp/up/weight");
    tiny_feed(&t, step, 1);
    cr_assert(grd_step_run(step, &m) == GRD_OK, "%s", grd_step_error(step)->message);
    double change = fabs(sqrt(tiny_square_sum(t.model, "h0/mlp/up/weight")) - sqrt(before));
    cr_assert(m.grad_norm > 1e-2, "the norm before clipping is %.3g", m.grad_norm);
    cr_assert(change > 0 && change <= 1e-3, "a step of rate 1 moved one weight by %.3g, the whole norm is 1e-3",
              change);
    tiny_close(&t);
}

Test(step, moving_average_swaps_in_and_out)
{
    tiny t;
    tiny_build(&t, "cpu", false);
    grd_step *step = grd_step_new(t.loss, grd_adamw(1e-2), .ema_decay = 0.5, .sum_micro = true);
    cr_assert(step != NULL, "%s", grd_engine_error(t.engine)->message);
    for (int i = 0; i < 3; i++) {
        tiny_feed(&t, step, 1);
        cr_assert(grd_step_run(step, NULL) == GRD_OK, "%s", grd_step_error(step)->message);
    }
    double weights = tiny_square_sum(t.model, "h0/mlp/up/weight"),
           average = tiny_square_sum(t.model, "ema/h0/mlp/up/weight");
    cr_assert(weights != average && average > 0, "the average is %.6g, the weight %.6g", average, weights);
    cr_assert(grd_step_swap_ema(step) == GRD_OK, "swap failed");
    cr_assert(tiny_square_sum(t.model, "h0/mlp/up/weight") == average, "the average did not come in");
    cr_assert(grd_step_run(step, NULL) == GRD_E_STATE, "trained the average instead of the weights");
    cr_assert(tiny_square_sum(t.model, "h0/mlp/up/weight") == average, "and changed it");
    cr_assert(grd_step_swap_ema(step) == GRD_OK, "swap failed");
    cr_assert(tiny_square_sum(t.model, "h0/mlp/up/weight") == weights, "the weight did not come back");
    tiny_close(&t);
}

enum { AVERAGED = 3 };

static void read_variable(grd_model *model, const char *path, float *values)
{
    grd_error error = {GRD_OK, ""};
    cr_assert(grd_model_read(model, path, values, &error) == GRD_OK, "%s", error.message);
}

/* sum of (1 - d) d^(t-i) x_i over the steps i, divided by 1 - d^t; statistics of batch norm are averaged, too. */
Test(step, moving_average_is_the_weighted_mean_of_what_was)
{
    static const char *const paths[2] = {"fc/weight", "bn/running_mean"}, *const averages[2] = {"ema/fc/weight",
                                                                                             "ema/bn/running_mean"};
    grd_engine *engine = grd_engine_open("cpu", .threads = 1);
    grd_model *model = grd_model_new(engine, 1);
    grd_graph *graph = grd_graph_new(model);
    grd_tensor x = grd_input(graph, "x", GRD_F32, grd_shape(8, 4));
    grd_tensor h = grd_batch_norm(grd_linear(x, "fc", 6), "bn", true);
    const double decay = 0.9;
    grd_step *step = grd_step_new(grd_mean(grd_square(grd_add_scalar(h, -1))), grd_adamw(0.1), .ema_decay = decay);
    cr_assert(step, "%s", grd_graph_error(graph)->message);
    double sum[2][24] = {{0}};
    float data[32], before[24];
    cr_assert(grd_step_swap_ema(step) == GRD_OK && grd_step_swap_ema(step) == GRD_OK);
    for (int t = 1; t <= AVERAGED; t++) {
        for (int i = 0; i < 32; i++) data[i] = (float)((i * 7 + t * 5) % 11) / 5 - 1;
        cr_assert(!grd_step_feed(step, x, data) && !grd_step_run(step, NULL), "%s", grd_step_error(step)->message);
        for (int k = 0; k < 2; k++) {
            float value[24], average[24];
            read_variable(model, paths[k], value), read_variable(model, averages[k], average);
            for (int i = 0; i < (k ? 6 : 24); i++) {
                sum[k][i] = decay * sum[k][i] + (1 - decay) * (double)value[i];
                double want = sum[k][i] / (1 - pow(decay, t));
                cr_assert(fabs(average[i] - want) < 1e-6, "%s[%d] after step %d: %.9g, must be %.9g", averages[k], i, t,
                          (double)average[i], want);
            }
        }
    }
    float after[24], average[24];
    read_variable(model, paths[1], before), read_variable(model, averages[1], average);
    cr_assert(grd_step_swap_ema(step) == GRD_OK);
    read_variable(model, paths[1], after);
    cr_assert(memcmp(after, average, 6 * sizeof(float)) == 0 && memcmp(after, before, 6 * sizeof(float)) != 0);
    cr_assert(grd_step_swap_ema(step) == GRD_OK);
    read_variable(model, paths[1], after);
    cr_assert(memcmp(after, before, 6 * sizeof(float)) == 0, "the statistics did not come back");
    grd_engine_close(engine);
}

/* Two networks that pull in opposite directions, each trained by its own step over one model. */
Test(step, two_steps_train_disjoint_parts)
{
    grd_engine *engine = grd_engine_open("cpu", .threads = 2);
    grd_model *model = grd_model_new(engine, 1);
    grd_graph *graph = grd_graph_new(model);
    grd_tensor noise = grd_input(graph, "noise", GRD_F32, grd_shape(8, 4)),
               real = grd_input(graph, "real", GRD_F32, grd_shape(8, 3));
    grd_scope_push(graph, "gen");
    grd_tensor fake = grd_linear(noise, "out", 3);
    grd_scope_pop(graph);
    grd_tensor scores[2];
    for (int i = 0; i < 2; i++) {
        grd_scope_push(graph, "disc");
        grd_tensor w = grd_parameter(graph, "weight", grd_shape(1, 3), .tie = i == 1);
        scores[i] = grd_affine(i ? fake : real, w);
        grd_scope_pop(graph);
    }
    grd_tensor difference = grd_sub(grd_mean(scores[1]), grd_mean(scores[0]));
    grd_step *disc = grd_step_new(difference, grd_sgd(0.1), .train = "disc/**");
    grd_step *gen = grd_step_new(grd_neg(difference), grd_sgd(0.1), .train = "gen/**");
    cr_assert(disc && gen, "%s", grd_engine_error(engine)->message);
    float data[32];
    for (int i = 0; i < 32; i++) data[i] = (float)(i % 5) - 2;
    double gen_before = tiny_square_sum(model, "gen/out/weight"), disc_before = tiny_square_sum(model, "disc/weight");
    grd_step_feed(disc, noise, data);
    grd_step_feed(disc, real, data);
    cr_assert(grd_step_run(disc, NULL) == GRD_OK, "%s", grd_step_error(disc)->message);
    cr_assert(tiny_square_sum(model, "gen/out/weight") == gen_before, "the first step changed the other part");
    double disc_after = tiny_square_sum(model, "disc/weight");
    cr_assert(disc_after != disc_before, "the first step changed nothing");
    grd_step_feed(gen, noise, data);
    grd_step_feed(gen, real, data);
    cr_assert(grd_step_run(gen, NULL) == GRD_OK, "%s", grd_step_error(gen)->message);
    cr_assert(tiny_square_sum(model, "disc/weight") == disc_after, "the second step changed the other part");
    cr_assert(tiny_square_sum(model, "gen/out/weight") != gen_before, "the second step changed nothing");
    grd_engine_close(engine);
}

Test(step, errors_are_plain)
{
    tiny t;
    tiny_build(&t, "cpu", false);
    grd_tensor not_scalar = grd_input(t.graph, "other", GRD_F32, grd_shape(3));
    cr_assert(grd_step_new(not_scalar, grd_sgd(1)) == NULL, "a vector was taken for a loss");
    cr_assert(strstr(grd_engine_error(t.engine)->message, "the loss must be one f32, is f32[3]") != NULL, "%s",
              grd_engine_error(t.engine)->message);
    tiny_close(&t);
    tiny_build(&t, "cpu", false);
    cr_assert(grd_step_new(t.loss, grd_sgd(1), .train = "nothing/**") == NULL, "nothing to train, and yet a step");
    cr_assert(strstr(grd_engine_error(t.engine)->message, "no parameter to train") != NULL, "%s",
              grd_engine_error(t.engine)->message);
    tiny_close(&t);
}

/* A graph that goes before its step: the step can say so, and be freed or left to the model. */
Test(step, outlives_its_graph)
{
    for (int freed = 0; freed < 2; freed++) {
        tiny t;
        grd_metrics m = {0};
        grd_plan_report report;
        grd_parameter_statistics statistics;
        tiny_build(&t, "cpu", true);
        grd_step *step = grd_step_new(t.loss, grd_adamw(1e-2), .statistics = true);
        cr_assert(step != NULL, "%s", grd_engine_error(t.engine)->message);
        tiny_feed(&t, step, 1);
        cr_assert(grd_step_measure(step) == GRD_OK && grd_step_run(step, &m) == GRD_OK);
        cr_assert(grd_step_statistics_at(step, 0, &statistics));
        grd_graph_free(t.graph);
        const float one = 1;
        cr_assert(grd_step_feed(step, t.scale, &one) == GRD_E_STATE);
        cr_assert(grd_step_run(step, &m) == GRD_E_STATE && grd_step_measure(step) == GRD_E_STATE);
        cr_assert(grd_step_read(step, t.loss, &m) == GRD_E_STATE && grd_step_report(step, &report) == GRD_E_STATE);
        cr_assert(grd_step_profile(step, true) == GRD_E_STATE);
        cr_assert(grd_step_profile_write(step, stderr, NULL) == GRD_E_STATE);
        cr_assert(!grd_step_statistics_at(step, 0, &statistics) && grd_step_high_water(step) == 0);
        cr_assert(strstr(grd_step_error(step)->message, "its graph was freed"), "%s", grd_step_error(step)->message);
        cr_assert(grd_step_count(step) == 1);
        if (freed) grd_step_free(step);
        tiny_close(&t);
    }
}
