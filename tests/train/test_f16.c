/* test_f16.c - f16 precision: losses follow f32 though gradients are scaled, an overflow halves the scale and leaves
 * all else alone, good steps double it, and what is no overflow still ends a run. */
#include "tiny.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { STEPS = 20, FEW = 4 };

static grd_step *open_step(tiny *t, const char *device, bool modern, grd_step_options options)
{
    tiny_build(t, device, modern);
    options.size = sizeof(options);
    options.clip_norm = 1;
    options.sum_micro = true;
    grd_step *step = grd_step_new_with(t->loss, grd_adamw(2e-3), &options);
    cr_assert(step != NULL, "%s", grd_engine_error(t->engine)->message);
    return step;
}

static grd_metrics run_step(tiny *t, grd_step *step, int i, int32_t micros)
{
    grd_metrics m = {0};
    for (int32_t k = 0; k < micros; k++) {
        tiny_new_batch(t, i * micros + k);
        tiny_feed(t, step, 1.0f / (float)micros);
        cr_assert(grd_step_run(step, &m) == GRD_OK, "%s", grd_step_error(step)->message);
    }
    cr_assert(m.updated && m.step == i + 1, "step %d is not counted", i);
    return m;
}

static void metrics_of(const char *device, bool modern, int steps, int32_t micros, grd_program_options program,
                       grd_metrics *metrics)
{
    tiny t;
    grd_step *step = open_step(&t, device, modern, (grd_step_options){.accumulate = micros, .program = program});
    for (int i = 0; i < steps; i++) metrics[i] = run_step(&t, step, i, micros);
    tiny_close(&t);
}

static double furthest(const grd_metrics *a, const grd_metrics *b, int steps)
{
    double most = 0;
    for (int i = 0; i < steps; i++) most = fmax(most, fabs(a[i].loss - b[i].loss) / fabs(a[i].loss));
    return most;
}

/* f16 rounds to 5e-4, an eighth of what bf16 does. */
Test(f16, losses_follow_f32)
{
    for (int modern = 0; modern < 2; modern++) {
        grd_metrics wide[STEPS], narrow[STEPS], other[STEPS], ref[FEW];
        metrics_of("cpu", modern, STEPS, 1, (grd_program_options){0}, wide);
        metrics_of("cpu", modern, STEPS, 1, (grd_program_options){.f16 = true}, narrow);
        double off = furthest(wide, narrow, STEPS);
        printf("kind %d: f16 within %.1e of f32 in %d steps, loss %.4f to %.4f\n", modern, off, STEPS, narrow[0].loss,
               narrow[STEPS - 1].loss);
        cr_expect(off < 2e-3 && off > 0, "kind %d: %.3g off", modern, off);
        for (int i = 0; i < STEPS; i++) {
            cr_expect(narrow[i].loss_scale == 65536 && wide[i].loss_scale == 0 && !narrow[i].skipped,
                      "step %d: the loss scale is %g", i, narrow[i].loss_scale);
            double norms = narrow[i].grad_norm / wide[i].grad_norm - 1;
            cr_expect(fabs(norms) < 2e-2, "step %d: a norm of %g, not %g", i, narrow[i].grad_norm, wide[i].grad_norm);
        }
        metrics_of("cpu", modern, STEPS, 1, (grd_program_options){.f16 = true, .recompute = true}, other);
        cr_expect(furthest(narrow, other, STEPS) == 0, "kind %d: recomputing gives other bits", modern);
        metrics_of("ref", modern, FEW, 1, (grd_program_options){.f16 = true}, ref);
        printf("kind %d: cpu within %.1e of ref\n", modern, furthest(ref, narrow, FEW));
        cr_expect(furthest(ref, narrow, FEW) < 5e-4, "kind %d: %.3g off", modern, furthest(ref, narrow, FEW));
        metrics_of("cpu", modern, FEW, 3, (grd_program_options){0}, wide);
        metrics_of("cpu", modern, FEW, 3, (grd_program_options){.f16 = true}, other);
        cr_expect(furthest(wide, other, FEW) < 2e-3, "three micro-batches: %.3g off", furthest(wide, other, FEW));
    }
}

/* ---- the scale ---- */

static float read_one(tiny *t, const char *path)
{
    float value;
    grd_error error = {GRD_OK, ""};
    cr_assert(grd_model_read(t->model, path, &value, &error) == GRD_OK, "%s", error.message);
    return value;
}

static void write_one(tiny *t, const char *path, float value)
{
    grd_error error = {GRD_OK, ""};
    cr_assert(grd_model_write(t->model, path, &value, &error) == GRD_OK, "%s", error.message);
}

#define SCALE "loss_scale/scale"
#define GOOD_STEPS "loss_scale/growth_tracker"

static const char *const watched[] = {"h0/mlp/up/weight", "exp_avg/h0/mlp/up/weight", "exp_avg_sq/h1/attn/qkv/weight",
                                      "embed/weight"};

static void look(tiny *t, double *sums)
{
    for (int k = 0; k < 4; k++) sums[k] = tiny_square_sum(t->model, watched[k]);
}

/* A scale at which gradients are beyond 65504: it is halved until they are not, and nothing else happens. */
Test(f16, an_overflow_halves_the_scale_and_leaves_weights)
{
    tiny t;
    double before[4], after[4];
    grd_step *step = open_step(&t, "cpu", false, (grd_step_options){.program = {.f16 = true}});
    run_step(&t, step, 0, 1);
    cr_assert(read_one(&t, SCALE) == 65536 && read_one(&t, GOOD_STEPS) == 1);
    write_one(&t, SCALE, 0x1p40f);
    look(&t, before);
    for (int i = 1; i < 4; i++) {
        grd_metrics m = run_step(&t, step, i, 1);
        cr_assert(m.skipped && m.loss_scale == ldexp(1, 40 - i) && !isfinite(m.grad_norm) && isfinite(m.loss),
                  "step %d: scale %g, norm %g", i, m.loss_scale, m.grad_norm);
        look(&t, after);
        cr_assert(memcmp(before, after, sizeof(after)) == 0, "step %d: a weight or moment changed", i);
        cr_assert(read_one(&t, GOOD_STEPS) == 0);
    }
    write_one(&t, SCALE, 65536);
    grd_metrics m = run_step(&t, step, 4, 1);
    look(&t, after);
    cr_assert(!m.skipped && m.loss_scale == 65536 && memcmp(before, after, sizeof(after)) != 0, "it does not go on");
    tiny_close(&t);
}

Test(f16, good_steps_double_the_scale)
{
    tiny t;
    grd_step *step = open_step(&t, "cpu", false, (grd_step_options){.program = {.f16 = true}});
    write_one(&t, GOOD_STEPS, 1998);
    cr_assert(run_step(&t, step, 0, 1).loss_scale == 65536 && read_one(&t, GOOD_STEPS) == 1999);
    cr_assert(run_step(&t, step, 1, 1).loss_scale == 131072 && read_one(&t, GOOD_STEPS) == 0);
    cr_assert(run_step(&t, step, 2, 1).loss_scale == 131072 && read_one(&t, GOOD_STEPS) == 1);
    tiny_close(&t);
}

/* The largest power of two stays: twice as much is infinite. Gradients of nothing are finite at any scale. */
Test(f16, the_scale_stays_finite)
{
    tiny t;
    grd_metrics m;
    grd_step *step = open_step(&t, "cpu", false, (grd_step_options){.program = {.f16 = true}});
    write_one(&t, SCALE, 0x1p127f);
    write_one(&t, GOOD_STEPS, 1999);
    tiny_new_batch(&t, 0);
    tiny_feed(&t, step, 0);
    cr_assert(grd_step_run(step, &m) == GRD_OK, "%s", grd_step_error(step)->message);
    cr_assert(!m.skipped && m.loss_scale == 0x1p127, "skipped %d, scale %g", m.skipped, m.loss_scale);
    tiny_close(&t);
}

/* A loss that is no number, and a gradient that overflows without any scale, end the run as in other precisions, and
 * change nothing; where such steps are to be left out, they halve the scale. */
Test(f16, what_is_no_overflow_is_an_error)
{
    for (int kind = 0; kind < 4; kind++) {
        tiny t;
        double before[4], after[4];
        bool skips = kind & 1, of_loss = kind < 2;
        grd_step *step =
            open_step(&t, "cpu", false, (grd_step_options){.skip_nonfinite = skips, .program = {.f16 = true}});
        run_step(&t, step, 0, 1);
        look(&t, before);
        grd_metrics m;
        if (!of_loss) write_one(&t, SCALE, 1);
        tiny_new_batch(&t, 1);
        tiny_feed(&t, step, of_loss ? NAN : 0x1p40f); /* a loss of 2^42, whose gradient f16 does not hold */
        grd_status status = grd_step_run(step, &m);
        cr_assert(status == (skips ? GRD_OK : GRD_E_NUMERIC) && m.skipped, "kind %d: status %d", kind, status);
        look(&t, after);
        cr_assert(memcmp(before, after, sizeof(after)) == 0, "kind %d: a weight or moment changed", kind);
        float scale = read_one(&t, SCALE);
        cr_assert(scale == (of_loss ? (skips ? 32768 : 65536) : 1), "kind %d: the scale is %g", kind, (double)scale);
        cr_assert(grd_step_count(step) == (skips ? 2 : 1), "kind %d: %lld steps", kind,
                  (long long)grd_step_count(step));
        run_step(&t, step, skips ? 2 : 1, 1);
        look(&t, after);
        cr_assert(memcmp(before, after, sizeof(after)) != 0, "kind %d: it does not go on", kind);
        tiny_close(&t);
    }
}

/* All that a checkpoint keeps, from one model into another. */
static void copy_state(const tiny *from, tiny *to)
{
    grd_variable v;
    grd_error error = {GRD_OK, ""};
    for (int64_t i = 0; grd_model_variable_at(from->model, i, &v); i++) {
        if (v.kind == GRD_VARIABLE_GRADIENT) continue;
        void *data = malloc(v.size_bytes);
        cr_assert(!grd_model_read(from->model, v.path, data, &error) &&
                      !grd_model_write(to->model, v.path, data, &error),
                  "%s", error.message);
        free(data);
    }
}

/* A run that goes on from what was saved between two overflows has the bits of one that was never interrupted. */
Test(f16, resumes_between_overflows)
{
    tiny a, b;
    double straight[4], resumed[4];
    grd_step *first = open_step(&a, "cpu", true, (grd_step_options){.program = {.f16 = true}});
    write_one(&a, SCALE, 0x1p30f);
    grd_metrics m = run_step(&a, first, 0, 1);
    cr_assert(m.skipped && m.loss_scale == 0x1p29, "no overflow to begin with");
    grd_step *second = open_step(&b, "cpu", true, (grd_step_options){.program = {.f16 = true}});
    copy_state(&a, &b);
    grd_step_set_count(second, 1);
    int skipped = 0;
    for (int i = 1; i < STEPS + 10; i++) {
        grd_metrics x = run_step(&a, first, i, 1), y = run_step(&b, second, i, 1);
        skipped += x.skipped;
        cr_assert(x.skipped == y.skipped && x.loss_scale == y.loss_scale && x.loss == y.loss, "step %d differs", i);
    }
    static const char *const paths[] = {"h0/attn/qkv/weight", "exp_avg/h0/mlp/down/weight", "exp_avg_sq/head/weight",
                                        SCALE};
    for (int k = 0; k < 4; k++) {
        straight[k] = tiny_square_sum(a.model, paths[k]);
        resumed[k] = tiny_square_sum(b.model, paths[k]);
    }
    printf("%d more steps overflowed\n", skipped);
    cr_assert(skipped > 0 && skipped < STEPS, "%d steps overflowed", skipped);
    cr_assert(memcmp(straight, resumed, sizeof(straight)) == 0, "other weights");
    tiny_close(&a);
    tiny_close(&b);
}

/* A step that takes the place of another goes on with its scale. */
Test(f16, a_step_made_anew_keeps_the_scale)
{
    tiny t;
    grd_step *first = open_step(&t, "cpu", false, (grd_step_options){.program = {.f16 = true}});
    cr_assert(read_one(&t, SCALE) == 65536);
    write_one(&t, SCALE, 1024);
    grd_step_free(first);
    grd_step *second = grd_step_new(t.loss, grd_adamw(2e-3), .sum_micro = true, .program = {.f16 = true});
    cr_assert(second, "%s", grd_engine_error(t.engine)->message);
    cr_assert(read_one(&t, SCALE) == 1024, "the scale is %g", (double)read_one(&t, SCALE));
    tiny_close(&t);
}

/* Statistics are of the gradient as it is, whatever it was multiplied by. */
Test(f16, statistics_are_of_the_gradient_itself)
{
    double rms[2];
    for (int f16 = 0; f16 < 2; f16++) {
        tiny t;
        grd_parameter_statistics of;
        grd_step *step = open_step(&t, "cpu", false, (grd_step_options){.statistics = true, .program = {.f16 = f16}});
        cr_assert(grd_step_measure(step) == GRD_OK);
        run_step(&t, step, 0, 1);
        cr_assert(grd_step_statistics_at(step, 0, &of));
        rms[f16] = of.gradient_rms;
        tiny_close(&t);
    }
    cr_assert(fabs(rms[1] / rms[0] - 1) < 1e-2, "%g in f16, %g in f32", rms[1], rms[0]);
}

Test(f16, refuses_what_it_cannot_do)
{
    tiny t;
    tiny_build(&t, "cpu", false);
    cr_assert(grd_step_new(t.loss, grd_adamw(1e-3), .program = {.f16 = true, .bf16 = true}) == NULL);
    cr_assert(strstr(grd_engine_error(t.engine)->message, "bf16 and f16 at once") != NULL, "%s",
              grd_engine_error(t.engine)->message);
    tiny_close(&t);
    tiny_build(&t, "cpu", false);
    cr_assert(grd_step_new(t.loss, grd_lbfgs(1), .program = {.f16 = true}) == NULL);
    cr_assert(strstr(grd_engine_error(t.engine)->message, "L-BFGS scales no loss") != NULL, "%s",
              grd_engine_error(t.engine)->message);
    tiny_close(&t);
}
