/* What the report shows: a history in bounded memory, and the page that is made of it. */
#include "base/file.h"
#include "scratch.h"
#include "train/history.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

TestSuite(report, .fini = scratch_remove);

static void add_step(grdi_history *h, int64_t step, double loss)
{
    grdi_history_add(h, &(grd_event){.kind = GRD_EVENT_STEP,
                                     .step = step,
                                     .loss = loss,
                                     .lr = 0.5,
                                     .grad_norm = 2,
                                     .tokens_per_s = 1000 + (double)step,
                                     .seconds = (double)step});
}

Test(report, any_number_of_steps_fits)
{
    static const int64_t lengths[] = {1, 399, 400, 401, 800, 801, 1000, 100000};
    for (int l = 0; l < 8; l++) {
        grdi_history *h = calloc(1, sizeof *h);
        double sum = 0, kept = 0;
        int64_t steps = 0, last = 0;
        for (int64_t i = 1; i <= lengths[l]; i++) {
            double loss = 3 + sin((double)i);
            sum += loss;
            add_step(h, i, loss);
        }
        cr_assert(h->count <= GRDI_HISTORY_POINTS && (lengths[l] < 200 || h->count >= GRDI_HISTORY_POINTS / 2 - 1),
                  "%zu points of %lld steps", h->count, (long long)lengths[l]);
        for (size_t i = 0; i < h->count; i++) {
            const grdi_history_point *p = &h->points[i];
            cr_assert(p->step == last + p->steps && p->steps <= h->stride, "each step once, in order");
            cr_assert(p->least <= p->loss && p->loss <= p->most && p->lr == 0.5 && fabs(p->grad_norm - 2) < 1e-12);
            last = p->step;
            steps += p->steps;
            kept += p->loss * (double)p->steps;
        }
        cr_assert(steps == lengths[l] && fabs(kept - sum) < 1e-9 * sum, "the mean is that of all");
        grdi_history_free(h);
        free(h);
    }
}

/* The text of an event goes to metrics.jsonl and comes back from there. */
static void add_through_json(grdi_history *h, const grd_event *event)
{
    char line[4096];
    size_t length = grd_event_json(event, line, sizeof line);
    json_t *parsed = json_loadb(line, length, 0, NULL);
    cr_assert(parsed, "%s", line);
    grdi_history_add_json(h, parsed);
    json_decref(parsed);
}

Test(report, events_and_their_lines_tell_the_same)
{
    grdi_history *direct = calloc(1, sizeof *direct), *read = calloc(1, sizeof *read);
    const grd_event events[] = {
        {.kind = GRD_EVENT_NOTE, .text = "nothing"},
        {.kind = GRD_EVENT_PLAN,
         .plan = {.parameters = 12345,
                  .peak_bytes = 1 << 20,
                  .weights_bytes = 1 << 19,
                  .activations_bytes = 1 << 19,
                  .flops_per_step = 1e9}},
        {.kind = GRD_EVENT_STEP, .step = 1, .loss = 2.5, .lr = 0.25, .grad_norm = NAN, .tokens_per_s = 10},
        {.kind = GRD_EVENT_EVAL, .step = 1, .loss = 2.25, .bits_per_byte = NAN, .part = 1},
        {.kind = GRD_EVENT_EVAL, .step = 2, .loss = 2, .bits_per_byte = 1.5, .part = 0.5},
        {.kind = GRD_EVENT_SAMPLE, .step = 2, .text = "a <b> & \"c\"\n"},
    };
    for (size_t i = 0; i < sizeof events / sizeof events[0]; i++) {
        grdi_history_add(direct, &events[i]);
        add_through_json(read, &events[i]);
    }
    cr_assert(read->count == 1 && read->points[0].loss == 2.5 && isnan(read->points[0].grad_norm));
    cr_assert(read->eval_count == 2 && isnan(read->evals[0].bits_per_byte) && read->evals[1].bits_per_byte == 1.5);
    cr_assert(read->plan.parameters == direct->plan.parameters && read->plan.peak_bytes == direct->plan.peak_bytes);
    cr_assert(read->sample_count == 1 && read->samples[0].step == 2);
    cr_assert_str_eq(read->samples[0].text, direct->samples[0].text);
    grdi_history_free(direct);
    grdi_history_free(read);
    free(direct);
    free(read);
}

/* The page of a history; free() it. */
static char *page(const grdi_history *h)
{
    grd_error error = {GRD_OK, ""};
    grd_settings *settings = grd_settings_new();
    size_t size;
    settings->train.steps = 5000;
    grdi_directory_make(scratch_path("a<b"), &error);
    cr_assert(grdi_report_write(h, settings, scratch_path("a<b"), NULL, &error) == GRD_OK, "%s", error.message);
    grd_settings_free(settings);
    return scratch_read(scratch_path("a<b/report.html"), &size);
}

Test(report, the_page_needs_nothing_else_and_escapes_texts)
{
    grdi_history *h = calloc(1, sizeof *h);
    char *empty = page(h);
    cr_assert(strstr(empty, "</html>") && !strstr(empty, "<svg"), "a run that has not begun");
    free(empty);
    for (int64_t i = 1; i <= 1000; i++) add_step(h, i, i == 7 ? INFINITY : 5 / (double)i);
    grdi_history_add(
        h, &(grd_event){.kind = GRD_EVENT_PLAN, .plan = {.parameters = 7, .peak_bytes = 10, .weights_bytes = 10}});
    grdi_history_add(h, &(grd_event){.kind = GRD_EVENT_EVAL, .step = 1000, .loss = 0.5, .bits_per_byte = 0.25});
    grdi_history_add(h, &(grd_event){.kind = GRD_EVENT_SAMPLE, .step = 1000, .text = "<script>alert(1)</script> & so"});
    const grd_layer_statistics layers[] = {{"embed", NAN, 3e-4, 0.02, 2e-5}, {"h0", 0.125, 1e-3, 0.5, 5e-4}};
    for (int i = 1; i <= 1000; i += 3)
        grdi_history_add(h, &(grd_event){.kind = GRD_EVENT_LAYERS, .step = i, .layers = layers, .layer_count = 2});
    cr_assert(h->layers_count <= GRDI_HISTORY_LAYERS && h->layers[h->layers_count - 1].step == 1000,
              "the last one stays");
    char *text = page(h);
    static const char *const pieces[] = {
        "Loss",
        "Bits per byte",
        "Learning rate",
        "Gradient norm",
        "Throughput",
        "Memory",
        "Samples",
        "Step 1000 of 5000 after 0:16:40",
        "class=\"band\"",
        "Activations",
        "<td>embed</td><td>\xE2\x80\x93</td><td>3.00e-4</td><td>0.02</td><td>0.001</td>",
        "<td>h0</td><td>0.125</td><td>0.001</td><td>0.5</td><td>0.001</td>",
        "<title>h0</title>",
        "a&#60;b",
        "&#60;script&#62;alert(1)"};
    for (int i = 0; i < 15; i++) cr_assert(strstr(text, pieces[i]), "no '%s'", pieces[i]);
    static const char *const foreign[] = {"<script", "http", "src=", "url(/", "nan", "inf"};
    for (int i = 0; i < 6; i++) cr_assert(!strstr(text, foreign[i]), "'%s' in the page", foreign[i]);
    free(text);
    grdi_history_free(h);
    free(h);
}

Test(report, says_how_the_run_ended)
{
    grdi_history *h = calloc(1, sizeof *h);
    add_step(h, 1, 2);
    char *text = page(h);
    cr_assert(strstr(text, "In progress"), "%s", text);
    free(text);
    add_through_json(h, &(grd_event){.kind = GRD_EVENT_ERROR, .step = 1, .text = "step 1: <bad>"});
    text = page(h);
    cr_assert(strstr(text, ">Failed<") && strstr(text, "step 1: &#60;bad&#62;"), "%s", text);
    free(text);
    add_step(h, 2, 1); /* resumed */
    grdi_history_add(h, &(grd_event){.kind = GRD_EVENT_DONE, .step = 2, .seconds = 2});
    text = page(h);
    cr_assert(strstr(text, ">Stopped<") && !strstr(text, "bad&#62;"), "%s", text);
    free(text);
    add_step(h, 5000, 1);
    grdi_history_add(h, &(grd_event){.kind = GRD_EVENT_DONE, .step = 5000, .seconds = 9});
    text = page(h);
    cr_assert(strstr(text, ">Finished<"), "%s", text);
    free(text);
    grdi_history_free(h);
    free(h);
}
