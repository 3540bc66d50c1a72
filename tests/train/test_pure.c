/* test_pure.c - weights kept in bf16 alone: stochastic rounding is right on average and the same in every run, losses
 * follow those of weights in f32, and memory is what the plan says. */
#include "tiny.h"

#include "base/convert.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { STEPS = 20, FEW = 4, COUNT = 1 << 14, ROUNDS = 16 };

/* ---- the rounding ---- */

typedef struct rounding {
    grd_engine *engine;
    grd_tensor x, key, y;
    grd_program *program;
} rounding;

static rounding open_rounding(const char *device, int64_t count, int64_t first)
{
    rounding r = {.engine = grd_engine_open(device, .threads = 2)};
    grd_graph *graph = grd_graph_new(grd_model_new(r.engine, 1));
    r.x = grd_input(graph, "x", GRD_F32, grd_shape(count));
    r.key = grd_input(graph, "key", GRD_I32, grd_shape(4));
    r.y = grd_stochastic_round(r.x, r.key, first);
    r.program = grd_program_new(&r.y, 1);
    cr_assert(r.program != NULL, "%s", grd_graph_error(graph)->message);
    return r;
}

static void round_values(const rounding *r, const float *x, int32_t seed, int32_t step, uint16_t *y)
{
    const int32_t key[4] = {seed, 0, step, 0};
    cr_assert(!grd_program_feed(r->program, r->x, x) && !grd_program_feed(r->program, r->key, key) &&
                  !grd_program_run(r->program) && !grd_program_read(r->program, r->y, y),
              "%s", grd_program_error(r->program)->message);
}

/* Values a part of the way from one bf16 to the next go up that part of the times: with n of them the mean is off by
 * sqrt(part (1 - part) / n) of the distance, one standard deviation; five of them are allowed. */
Test(pure, stochastic_rounding_is_right_on_average)
{
    static const double parts[] = {0, 0x1p-10, 0.125, 0.5, 0.6875, 1 - 0x1p-10};
    static float x[COUNT];
    static uint16_t y[COUNT];
    rounding r = open_rounding("cpu", COUNT, 0);
    for (size_t k = 0; k < sizeof(parts) / sizeof(parts[0]); k++) {
        double low[2] = {1.5, -0x1.02p-20}, gap[2] = {0x1p-7, -0x1p-27}, up[2] = {0, 0};
        for (int i = 0; i < COUNT; i++) x[i] = (float)(low[i & 1] + parts[k] * gap[i & 1]);
        for (int step = 0; step < ROUNDS; step++) {
            round_values(&r, x, 7, step, y);
            for (int i = 0; i < COUNT; i++) {
                double at = (grdi_bf16_to_f32(y[i]) - low[i & 1]) / gap[i & 1];
                cr_assert(at == 0 || at == 1, "%.9g became %.9g", (double)x[i], (double)grdi_bf16_to_f32(y[i]));
                up[i & 1] += at;
            }
        }
        double n = COUNT / 2.0 * ROUNDS, allowed = 5 * sqrt(parts[k] * (1 - parts[k]) / n);
        for (int sign = 0; sign < 2; sign++)
            cr_expect(fabs(up[sign] / n - parts[k]) <= allowed, "%g of the way: up %.6f of the times, %.1g allowed",
                      parts[k], up[sign] / n, allowed);
    }
    grd_engine_close(r.engine);
}

/* Neighbours, steps and seeds have bits of their own: of pairs half the way up, a quarter go up both. */
Test(pure, roundings_do_not_depend_on_each_other)
{
    static float x[COUNT];
    static uint16_t y[3][COUNT];
    rounding r = open_rounding("cpu", COUNT, 0);
    for (int i = 0; i < COUNT; i++) x[i] = 1 + 0x1p-8f;
    round_values(&r, x, 7, 0, y[0]);
    round_values(&r, x, 7, 1, y[1]);
    round_values(&r, x, 8, 0, y[2]);
    for (int kind = 0; kind < 5; kind++) {
        int both = 0;
        for (int i = 0; i + 8 < COUNT; i++) {
            uint16_t other = kind < 2 ? y[kind + 1][i] : y[0][i + (kind == 2 ? 1 : kind == 3 ? 2 : 8)];
            both += y[0][i] > 0x3F80 && other > 0x3F80;
        }
        double allowed = 5 * sqrt(0.25 * 0.75 / COUNT);
        cr_expect(fabs(both / (double)(COUNT - 8) - 0.25) < allowed, "kind %d: %d of %d", kind, both, COUNT);
    }
    grd_engine_close(r.engine);
}

/* Bits belong to the place in the storage: a range that starts later has those of its elements. The reference has the
 * same ones; what is no number stays none, and infinity stays infinite. */
Test(pure, rounding_is_a_function_of_seed_step_and_place)
{
    enum { N = 1100, SKIPPED = 528 };
    float x[N];
    uint16_t whole[N], part[N], again[N], ref[N];
    for (int i = 0; i < N; i++) x[i] = (float)sin(i) * 1e-3f;
    x[3] = NAN, x[4] = INFINITY, x[5] = -INFINITY, x[6] = 0, x[7] = 0x1p-133f + 0x1p-140f;
    memcpy(&x[8], &(uint32_t){0x7FFFFFFF}, sizeof(x[8])); /* what is added must not make them numbers */
    memcpy(&x[9], &(uint32_t){0xFF800001}, sizeof(x[9]));
    rounding a = open_rounding("cpu", N, 0), b = open_rounding("cpu", N - SKIPPED, SKIPPED),
             c = open_rounding("ref", N, 0);
    round_values(&a, x, 3, 5, whole);
    round_values(&a, x, 3, 6, part);
    cr_assert(memcmp(whole, part, sizeof(whole)) != 0, "every step rounds alike");
    round_values(&a, x, 3, 5, again);
    round_values(&b, x + SKIPPED, 3, 5, part);
    round_values(&c, x, 3, 5, ref);
    cr_assert(memcmp(whole, again, sizeof(whole)) == 0, "a second time gives other bits");
    cr_assert(memcmp(whole + SKIPPED, part, (N - SKIPPED) * sizeof(*part)) == 0, "a part gives other bits");
    cr_assert(memcmp(whole, ref, sizeof(whole)) == 0, "the reference gives other bits");
    for (int i = 8; i < 10; i++) cr_assert(isnan(grdi_bf16_to_f32(whole[i])), "NaN became %x", whole[i]);
    cr_assert(isnan(grdi_bf16_to_f32(whole[3])) && grdi_bf16_to_f32(whole[4]) == INFINITY &&
                  grdi_bf16_to_f32(whole[5]) == -INFINITY && whole[6] == 0,
              "special values change");
    grd_engine_close(a.engine);
    grd_engine_close(b.engine);
    grd_engine_close(c.engine);
}

/* Steps that are a sixty-fourth of the distance to the next bf16: rounded to nearest, no weight would ever move. */
Test(pure, small_steps_are_not_lost)
{
    enum { N = 4096, SMALL = 64 };
    static uint16_t weights[N];
    grd_error error = {GRD_OK, ""};
    grd_engine *engine = grd_engine_open("cpu", .threads = 2);
    grd_model *model = grd_model_new(engine, 1);
    cr_assert(grd_model_set_weight_dtype(model, GRD_BF16) == GRD_OK);
    cr_assert(grd_model_set_weight_dtype(model, GRD_I32) == GRD_E_ARGUMENT);
    grd_graph *graph = grd_graph_new(model);
    grd_tensor w = grd_parameter(graph, "w", grd_shape(N, 1));
    grd_step *step = grd_step_new(grd_sum(w), grd_sgd(0x1p-13));
    cr_assert(step != NULL, "%s", grd_graph_error(graph)->message);
    for (int i = 0; i < N; i++) weights[i] = grdi_f32_to_bf16(1.5f);
    cr_assert(!grd_model_write(model, "w", weights, &error), "%s", error.message);
    for (int i = 0; i < SMALL; i++) cr_assert(grd_step_run(step, NULL) == GRD_OK, "%s", grd_step_error(step)->message);
    cr_assert(!grd_model_read(model, "w", weights, &error), "%s", error.message);
    double sum = 0;
    for (int i = 0; i < N; i++) sum += (double)grdi_bf16_to_f32(weights[i]);
    /* each weight has gone down by 2^-7 a binomial number of times, of mean 1 and variance 1 - 1/64 at most */
    double off = fabs(sum / N - (1.5 - 0x1p-7)), allowed = 5 * 0x1p-7 / sqrt(N);
    cr_assert(off <= allowed, "the mean is %.6f, %.2g off", sum / N, off);
    grd_engine_close(engine);
}

/* ---- training ---- */

typedef struct recipe {
    const char *device;
    grd_dtype weights;
    grd_optimizer optimizer;
    const grd_group *groups;
    int32_t group_count;
    bool measured;
} recipe;

static void losses_with(const recipe *r, bool modern, int steps, double *losses)
{
    tiny t;
    tiny_build_kept(&t, r->device, modern, r->weights);
    grd_step *step = grd_step_new(t.loss, r->optimizer, .clip_norm = 1, .sum_micro = true, .groups = r->groups,
                                  .group_count = r->group_count, .statistics = r->measured,
                                  .program = {.size = sizeof(grd_program_options), .bf16 = true});
    cr_assert(step != NULL, "%s", grd_engine_error(t.engine)->message);
    for (int i = 0; i < steps; i++) {
        grd_metrics m = {0};
        tiny_new_batch(&t, i);
        tiny_feed(&t, step, 1);
        if (r->measured) grd_step_measure(step);
        cr_assert(grd_step_run(step, &m) == GRD_OK, "%s", grd_step_error(step)->message);
        losses[i] = m.loss;
    }
    tiny_close(&t);
}

/* Updates of 2e-3 against weights of 0.02 to 0.25, whose neighbours in bf16 are 1e-4 to 2e-3 away: the noise of their
 * roundings is a few 1e-4 of the loss here. */
Test(pure, losses_follow_weights_in_f32)
{
    const grd_group others[] = {{.match = "embed/**", .optimizer = grd_adamw(2e-3)},
                                {.match = "head/**", .optimizer = grd_adamw(2e-3)},
                                {.match = "**/*norm*/**", .optimizer = grd_adamw(2e-3)},
                                {.match = "norm/**", .optimizer = grd_adamw(2e-3)}};
    const grd_optimizer optimizers[] = {grd_adamw(2e-3), grd_sgd(0.1), grd_lion(1e-3), grd_muon(0.01)};
    for (int k = 0; k < 5; k++) {
        bool modern = k > 0;
        const recipe wide = {.device = "cpu",
                             .optimizer = optimizers[k ? k - 1 : 0],
                             .groups = k == 4 ? others : NULL,
                             .group_count = k == 4 ? 4 : 0};
        recipe pure = wide, ref = wide, measured = wide;
        pure.weights = ref.weights = measured.weights = GRD_BF16;
        ref.device = "ref", measured.measured = true;
        double a[STEPS], b[STEPS], again[STEPS], c[FEW];
        losses_with(&wide, modern, STEPS, a);
        losses_with(&pure, modern, STEPS, b);
        losses_with(&pure, modern, STEPS, again);
        double off = tiny_furthest(a, b, STEPS);
        printf("optimizer %d: within %.1e of weights in f32, loss %.4f to %.4f\n", k, off, b[0], b[STEPS - 1]);
        cr_expect(off < 3e-3 && off > 0, "optimizer %d: %.3g off", k, off);
        cr_expect(b[STEPS - 1] < b[0], "optimizer %d: the loss does not fall", k);
        cr_expect(memcmp(b, again, sizeof(b)) == 0, "optimizer %d: a second run gives other bits", k);
        losses_with(&measured, modern, STEPS, again);
        cr_expect(memcmp(b, again, sizeof(b)) == 0, "optimizer %d: measuring gives other bits", k);
        losses_with(&ref, modern, FEW, c);
        printf("optimizer %d: cpu within %.1e of ref\n", k, tiny_furthest(c, b, FEW));
        cr_expect(tiny_furthest(c, b, FEW) < 5e-4, "optimizer %d: %.3g off the reference", k, tiny_furthest(c, b, FEW));
    }
}

/* Matrices take two bytes instead of four, on devices that copy rounded weights as on others; gradients, moments and
 * vectors stay as they are. */
Test(pure, weights_need_half_the_memory)
{
    grd_plan_report reports[2];
    size_t matrices = 0;
    for (int pure = 0; pure < 2; pure++) {
        tiny t;
        tiny_build_kept(&t, "cpu", true, pure ? GRD_BF16 : GRD_F32);
        grd_step *step = grd_step_new(t.loss, grd_adamw(1e-3), .program = {.bf16 = true});
        cr_assert(step && grd_step_report(step, &reports[pure]) == GRD_OK, "%s", grd_engine_error(t.engine)->message);
        grd_variable v;
        for (int64_t i = 0; grd_model_variable_at(t.model, i, &v); i++) {
            grd_dtype wanted = pure && v.kind == GRD_VARIABLE_PARAMETER && v.dims.rank >= 2 ? GRD_BF16 : GRD_F32;
            cr_expect(v.dtype == wanted, "%s is %s", v.path, grd_dtype_name(v.dtype));
            if (wanted == GRD_BF16) matrices += v.size_bytes;
        }
        tiny_close(&t);
    }
    cr_assert(reports[1].weights_bytes <= reports[0].weights_bytes - matrices, "%zu bytes of weights, %zu in f32",
              reports[1].weights_bytes, reports[0].weights_bytes);
    cr_assert(reports[1].gradients_bytes == reports[0].gradients_bytes &&
                  reports[1].optimizer_bytes == reports[0].optimizer_bytes,
              "gradients or moments have changed");
    printf("weights: %zu bytes, %zu with weights in f32\n", reports[1].weights_bytes, reports[0].weights_bytes);
}

Test(pure, no_average_of_rounded_weights)
{
    tiny t;
    tiny_build_kept(&t, "cpu", true, GRD_BF16);
    cr_assert(grd_step_new(t.loss, grd_adamw(1e-3), .ema_decay = 0.9) == NULL, "an average was made");
    cr_assert(strstr(grd_engine_error(t.engine)->message, "no moving average") != NULL, "%s",
              grd_engine_error(t.engine)->message);
    tiny_close(&t);
}
