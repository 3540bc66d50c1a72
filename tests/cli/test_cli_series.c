/* test_cli_series.c - forecasters of series by the command: training, errors beside simple forecasts, forecasts of what
 * follows, going on. */
#include "command.h"
#include "scratch.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { HOURS = 700, HELD_OUT = 70 };

static double loads[HOURS]; /* as they are written */

static void write_series(const char *name, int changed_from)
{
    static char text[HOURS * 40 + 100];
    unsigned state = 1;
    size_t used = (size_t)sprintf(text, "when,load,wind\n");
    for (int i = 0; i < HOURS; i++) {
        state = state * 1664525u + 1013904223u;
        double wobble = (state >> 8) / 16777216.0 - 0.5;
        double load = 50 + 10 * sin(2 * M_PI * i / 24) + 0.03 * i + 0.3 * wobble;
        if (i >= changed_from) load = 10 * wobble;
        loads[i] = round(load * 1e4) / 1e4;
        used += (size_t)sprintf(text + used, "2026-%02d-%02d %02d:00,%.4f,%.4f\n", 1 + i / 24 / 28, 1 + i / 24 % 28,
                                i % 24, load, wobble);
    }
    scratch_write(scratch_path(name), text, used);
}

static void make_series(void)
{
    write_series("power.csv", HOURS);
}

TestSuite(cli_series, .init = make_series, .fini = scratch_remove);

#define TRAIN "train --data %s --time when --target load --set out=%s --set train.steps=120 "

static json_t *last_eval(outcome o)
{
    cr_assert(o.code == 0, "exit code %d: %s", o.code, o.err);
    json_t *evals = events_named(o.out, "eval");
    return json_array_get(evals, json_array_size(evals) - 1);
}

Test(cli_series, every_model_beats_both_simple_forecasts)
{
    static const char *const models[] = {"lstm", "gru", "tcn", "linear"};
    for (int i = 0; i < 4; i++) {
        json_t *eval = last_eval(gradus(TRAIN "--model %s --horizon 6 --json", "power.csv", models[i], models[i]));
        double rmse = number_of(eval, "rmse"), seasonal = number_of(eval, "seasonal_rmse");
        cr_expect(rmse < seasonal && rmse < number_of(eval, "persistence_rmse"), "%s: rmse %g, seasonal %g", models[i],
                  rmse, seasonal);
        cr_expect(number_of(eval, "mae") <= rmse);
        cr_expect(number_of(eval, "samples") == HELD_OUT - 6 + 1);
        outcome again = gradus("eval %s --json", models[i]);
        cr_expect(fabs(number_of(only_event(again, "eval"), "rmse") - rmse) < 1e-6 * rmse, "%s", again.err);
    }
}

Test(cli_series, drops_out)
{
    static const char *const models[] = {"lstm --set model.layers=2", "tcn"};
    for (int m = 0; m < 2; m++) {
        double rmse[2];
        for (int i = 0; i < 2; i++)
            rmse[i] = number_of(
                last_eval(gradus(TRAIN "--model %s --set train.steps=4 --set model.dropout=%s --json", "power.csv",
                                 m   ? i ? "t1" : "t0"
                                 : i ? "l1"
                                     : "l0",
                                 models[m], i ? "0.4" : "0")),
                "rmse");
        cr_assert(rmse[0] != rmse[1], "%s: no effect: %.9g", models[m], rmse[0]);
    }
}

/* One step ahead each held-out step is scored once, so both figures follow from the errors and the file. */
Test(cli_series, r2_and_mase_are_what_the_errors_make_them)
{
    json_t *eval = last_eval(gradus(TRAIN "--model linear --json", "power.csv", "run"));
    double rmse = number_of(eval, "rmse"), mean = 0, spread = 0, naive = 0;
    for (int i = HOURS - HELD_OUT; i < HOURS; i++) mean += loads[i] / HELD_OUT;
    for (int i = HOURS - HELD_OUT; i < HOURS; i++) spread += (loads[i] - mean) * (loads[i] - mean);
    for (int i = 24; i < HOURS - HELD_OUT; i++) naive += fabs(loads[i] - loads[i - 24]) / (HOURS - HELD_OUT - 24);
    double r2 = 1 - rmse * rmse * HELD_OUT / spread, mase = number_of(eval, "mae") / naive;
    cr_expect(fabs(number_of(eval, "r2") - r2) < 1e-6, "r2 %g, should be %g", number_of(eval, "r2"), r2);
    cr_expect(fabs(number_of(eval, "mase") - mase) < 1e-6 * mase, "mase %g, should be %g", number_of(eval, "mase"),
              mase);
    json_t *again = only_event(gradus("eval run --json"), "eval"); /* the scale comes from the run's files */
    cr_expect(fabs(number_of(again, "mase") - mase) < 1e-6 * mase && fabs(number_of(again, "r2") - r2) < 1e-6);
}

Test(cli_series, what_follows_a_file_is_forecast_with_its_times)
{
    outcome trained = gradus(TRAIN "--horizon 3", "power.csv", "run");
    cr_assert(trained.code == 0, "%s", trained.err);
    cr_expect(strstr(trained.out, "season: 24 steps, found") != NULL, "%s", trained.out);
    cr_expect(strstr(trained.out, "times less error than persistence") != NULL, "%s", trained.out);
    outcome o = gradus("predict run power.csv");
    double value[3];
    char hour[3][3];
    cr_assert(sscanf(o.out,
                     "when,prediction\n2026-02-02 %2s:00:00,%lf\n2026-02-02 %2s:00:00,%lf\n2026-02-02 %2s:00:00,%lf\n",
                     hour[0], &value[0], hour[1], &value[1], hour[2], &value[2]) == 6,
              "%s", o.out);
    for (int h = 0; h < 3; h++) {
        double truth = 50 + 10 * sin(2 * M_PI * (HOURS + h) / 24) + 0.03 * (HOURS + h);
        cr_expect(atoi(hour[h]) == HOURS % 24 + h, "%s", hour[h]);
        cr_expect(fabs(value[h] - truth) < 1, "%g instead of %g", value[h], truth);
    }
    json_t *line = json_loads(gradus("predict run power.csv --json").out, JSON_DISABLE_EOF_CHECK, NULL);
    cr_expect_str_eq(json_string_value(json_object_get(line, "when")), "2026-02-02 04:00:00");
    cr_expect(fabs(number_of(line, "prediction") - value[0]) < 1e-6 * value[0]);
    json_decref(line);
    outcome report = gradus("eval run --data power.csv");
    cr_expect(report.code == 0 && strstr(report.out, "seasonal-naive") != NULL, "%s%s", report.out, report.err);
}

static bool same_weights(const char *a, const char *b)
{
    char first[128], second[128];
    snprintf(first, sizeof first, "%s/model.safetensors", a);
    snprintf(second, sizeof second, "%s/model.safetensors", b);
    return scratch_same(first, second);
}

/* Weights do not depend on anything behind the training part; and would, if it were another part. */
Test(cli_series, the_held_out_part_is_not_seen)
{
    write_series("changed.csv", HOURS - HELD_OUT);
    cr_assert(gradus(TRAIN, "power.csv", "a").code == 0 && gradus(TRAIN, "changed.csv", "b").code == 0);
    cr_expect(same_weights("a/checkpoints/step-000120", "b/checkpoints/step-000120"));
    cr_assert(gradus(TRAIN "--set data.validation_part=0.09", "changed.csv", "c").code == 0);
    cr_expect(!same_weights("a/checkpoints/step-000120", "c/checkpoints/step-000120"));
}

Test(cli_series, a_run_goes_on_to_the_bit)
{
    cr_assert(gradus(TRAIN "--set train.checkpoint_every=60 --set data.inputs=wind", "power.csv", "run").code == 0);
    char command[300];
    snprintf(command, sizeof command, "cd '%s' && mv run/checkpoints/step-000120 kept", scratch_path("."));
    cr_assert(system(command) == 0);
    outcome o = gradus("train --resume run");
    cr_assert(o.code == 0, "%s", o.err);
    cr_expect(same_weights("kept", "run/checkpoints/step-000120"));
}

Test(cli_series, the_report_shows_forecast_and_truth)
{
    cr_assert(gradus(TRAIN, "power.csv", "run").code == 0);
    size_t size;
    char *html = scratch_read(scratch_path("run/report.html"), &size);
    cr_expect(strstr(html, "Forecast of load") && strstr(html, "what came") && strstr(html, "seasonal-naive"));
    free(html);
}
