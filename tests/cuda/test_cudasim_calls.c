/* test_cudasim_calls.c - what a plan says of its launches is what runs: as many calls of the device as were counted
 * without making any, and the same launches for a card that is only planned for. */
#include "plan/plan.h"
#include "run/run.h"
#include "sim_library.h"
#include "small_nets.h"
#include "tiny.h"
#include "train/train.h"

#include <math.h>
#include <stdio.h>

/* ---- as many calls as were counted ---- */

static int64_t calls_made(void)
{
    const grdi_sim_counts *c = SIM(grdi_sim_count)();
    return c->kernels + c->matmuls + c->convolutions + c->attentions + c->copies + c->sets;
}

/* Runs each launch by itself. */
static int64_t check_program(const char *name, grd_program *program)
{
    const grd_engine *engine = program->graph->model->engine;
    int64_t all = 0, several = 0;
    for (size_t n = 0; n < program->plan->launch_count; n++) {
        grdi_launch *launch = &program->plan->launches[n];
        int64_t before = calls_made();
        cr_assert(launch->kernel->run(&launch->call) == GRD_OK, "%s: %s", name, launch->call.op->name);
        engine->backend->wait(engine->device);
        int64_t calls = calls_made() - before;
        cr_expect(calls == launch->device_calls, "%s: %s: %lld calls, %d counted", name, launch->call.op->name,
                  (long long)calls, (int)launch->device_calls);
        all += calls;
        several += calls > 1;
    }
    printf("%s: %zu launches, %lld calls, %lld launches of several\n", name, program->plan->launch_count,
           (long long)all, (long long)several);
    return several;
}

static int64_t check_net(const char *name, grd_dims dims, grd_tensor (*logits)(grd_tensor), bool bf16)
{
    made m = make("cudasim", dims, logits, bf16);
    static const float x[BATCH * 9 * 9 * 2];
    const int32_t y[BATCH] = {0};
    cr_assert(!grd_step_feed(m.step, m.x, x) && !grd_step_feed(m.step, m.y, y));
    int64_t several = check_program(name, m.step->micro);
    check_program("update", m.step->update.program);
    grd_plan_report report;
    cr_assert(grd_step_report(m.step, &report) == GRD_OK);
    cr_expect(report.device_calls > report.launches, "%s: %lld calls", name, (long long)report.device_calls);
    grd_engine_close(m.engine);
    return several;
}

static void check_all(void)
{
    cr_expect(check_net("images, f32", grd_shape(BATCH, 9, 9, 2), images, false) > 2);
    cr_expect(check_net("images, bf16", grd_shape(BATCH, 9, 9, 2), images, true) > 2);
    cr_expect(check_net("series", grd_shape(BATCH, 4, 3), series, false) > 1);
    sim_is_content();
}

Test(cudasim_calls, counted_are_made)
{
    check_all();
}

Test(cudasim_calls, counted_are_made_without_cudnn)
{
    setenv("GRADUS_WITHOUT_CUDNN", "1", 1);
    check_all();
}

static grd_step *tiny_step(tiny *t, const char *device, bool modern)
{
    tiny_build(t, device, modern);
    grd_step *step = grd_step_new(t->loss, grd_adamw(1e-2), .clip_norm = 1, .sum_micro = true, .accumulate = 2,
                                  .program = {.size = sizeof(grd_program_options), .bf16 = true});
    cr_assert(step, "%s", grd_engine_error(t->engine)->message);
    return step;
}

Test(cudasim_calls, of_transformers_are_made)
{
    for (int modern = 0; modern < 2; modern++) {
        tiny t;
        grd_step *step = tiny_step(&t, "cudasim", modern);
        tiny_new_batch(&t, 0);
        tiny_feed(&t, step, 1);
        cr_expect(check_program(modern ? "llama" : "gpt2", step->micro) > 2);
        check_program("update", step->update.program);
        tiny_close(&t);
    }
    sim_is_content();
}

/* ---- a card that is not there ---- */

/* Launch by launch the same kernels in the same shapes, all but what sizes of rounds decide. */
static void check_alike(const char *name, const grdi_plan *real, const grdi_plan *planned)
{
    cr_assert(real->launch_count == planned->launch_count, "%s: %zu launches, %zu planned", name, real->launch_count,
              planned->launch_count);
    for (size_t n = 0; n < real->launch_count; n++) {
        const grdi_launch *a = &real->launches[n], *b = &planned->launches[n];
        bool same = a->kernel == b->kernel && a->call.op == b->call.op && a->call.in[0].dtype == b->call.in[0].dtype &&
                    a->call.out[0].dtype == b->call.out[0].dtype;
        cr_expect(same, "%s: launch %zu is %s, planned %s", name, n, a->call.op->name, b->call.op->name);
        cr_expect(b->device_calls > 0, "%s: %s: no calls counted", name, b->call.op->name);
    }
}

static void check_planned(const char *name, grd_step *real, grd_step *planned, const grdi_backend *planner)
{
    const grdi_backend *used = planned->model->engine->backend;
    cr_assert_str_eq(used->name, "cuda");
    if (used == planner) check_alike(name, real->micro->plan, planned->micro->plan);
    else cr_expect(real->micro->plan->launch_count == planned->micro->plan->launch_count, "%s", name); /* nvcc's */
}

Test(cudasim_calls, planned_as_they_would_run)
{
    setenv("GRADUS_WITHOUT_CUDNN", "1", 1);
    const char *argument;
    const grdi_backend *planner = grdi_backend_find("cudasim", &argument)->planner;
    cr_assert(planner && !planner->runs);
    for (int series_too = 0; series_too < 2; series_too++) {
        grd_dims dims = series_too ? grd_shape(BATCH, 4, 3) : grd_shape(BATCH, 9, 9, 2);
        made real = make("cudasim", dims, series_too ? series : images, true);
        made planned = make("null:h100", dims, series_too ? series : images, true);
        check_planned(series_too ? "series" : "images", real.step, planned.step, planner);
        grd_engine_close(real.engine);
        grd_engine_close(planned.engine);
    }
    for (int modern = 0; modern < 2; modern++) {
        tiny real, planned;
        grd_step *step = tiny_step(&real, "cudasim", modern), *other = tiny_step(&planned, "null:h100", modern);
        check_planned(modern ? "llama" : "gpt2", step, other, planner);
        tiny_close(&real);
        tiny_close(&planned);
    }
}

/* Calls of the device for an LSTM of 64 steps. */
static int64_t lstm_calls(const char *card, int64_t width)
{
    int64_t calls = 0;
    grd_engine *engine = grd_engine_open(card);
    grd_graph *graph = grd_graph_new(grd_model_new(engine, 7));
    grd_tensor last, x = grd_input(graph, "x", GRD_F32, grd_shape(16, 64, 64));
    grd_lstm(x, "lstm", width, .last_h = &last);
    grd_program *program = grd_program_new(&last, 1);
    cr_assert(program, "%s", grd_engine_error(engine)->message);
    for (size_t n = 0; n < program->plan->launch_count; n++) calls += program->plan->launches[n].device_calls;
    grd_engine_close(engine);
    printf("an LSTM, %lld wide: %lld calls on %s\n", (long long)width, (long long)calls, card);
    return calls;
}

/* What is planned is the card's: a layer is one launch where its weight fits the shared memory of all multiprocessors.
 * An RTX 4090 has nearly as many as an H100, with less memory each; an L4 has as much each as an RTX 4090, in fewer. */
Test(cudasim_calls, planned_for_the_card)
{
    cr_expect(lstm_calls("null:h100", 1024) < 64 && lstm_calls("null:rtx4090", 1024) > 2 * 64);
    cr_expect(lstm_calls("null:rtx4090", 512) < 64 && lstm_calls("null:l4", 512) > 2 * 64);
}

/* A step's time has a fixed part for each call; what only changed weights need is done once in runs on end. */
Test(cudasim_calls, time_follows_calls)
{
    tiny t;
    grdi_rates rates;
    const grdi_plan *plan = tiny_step(&t, "null:h100", false)->micro->plan;
    cr_assert(t.engine->backend->rates(t.engine->device, &rates) == GRD_OK);
    double once = grdi_plan_seconds(plan, &rates, 1), often = grdi_plan_seconds(plan, &rates, 8), calls = 0,
           weights = 0;
    double bytes = grdi_plan_bytes(plan, 8), other_bytes = 0;
    rates.launch_s *= 2;
    double dearer = grdi_plan_seconds(plan, &rates, 1) - once;
    for (size_t n = 0; n < plan->launch_count; n++) {
        calls += plan->launches[n].device_calls;
        weights += plan->launches[n].of_weights;
        other_bytes += plan->launches[n].bytes * (plan->launches[n].of_weights ? 1 : 8);
    }
    cr_expect(fabs(dearer / (calls * rates.launch_s / 2) - 1) < 1e-9, "%g s of %g calls", dearer, calls);
    cr_expect(weights > 0 && often < 8 * once && often > 7 * once, "%g s once, %g s of 8", once, often);
    cr_expect(bytes == other_bytes, "%g bytes, not %g", bytes, other_bytes);
    tiny_close(&t);
}
