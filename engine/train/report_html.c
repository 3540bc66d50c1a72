/* report_html.c - report.html: one page that needs nothing else, so that it reads offline, on a telephone and in ten
 * years. */
#include "train/report_html.h"

#include "base/memory.h"

#include <math.h>
#include <stdarg.h>
#include <string.h>

enum { TABLE_ROWS = 20, OPEN_SAMPLES = 3 };

static const char head[] =
    "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
    "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<style>\n"
    ":root{color-scheme:light dark;--ink:#1a212c;--soft:#566070;--line:#dbe0e8;--card:#fff;--page:#f3f5f8;--a:#1f5fc4;"
    "--b:#b8400a;--band:#1f5fc42e;--bad:#b3261e;--good:#11693f;--l:42%}\n"
    "@media(prefers-color-scheme:dark){:root{--ink:#e8ecf2;--soft:#a3aebd;--line:#333c49;--card:#1a202a;--page:#11151c;"
    "--a:#82b3ff;--b:#ff9f6b;--band:#82b3ff38;--bad:#ff8a80;--good:#6fd6a0;--l:68%}}\n"
    "*{box-sizing:border-box}body{margin:0 auto;max-width:88rem;padding:1rem 1rem 3rem;background:var(--page);"
    "color:var(--ink);font:15px/1.5 system-ui,sans-serif}\n"
    "h1{font-size:1.6rem;line-height:1.25;margin:.4rem 0 0;overflow-wrap:anywhere}h2{font-size:1.15rem;margin:2rem 0 "
    ".7rem}"
    "h3{font-size:1rem;margin:0}p{margin:.2rem 0;overflow-wrap:anywhere}.soft{color:var(--soft)}\n"
    ".state{font-weight:600}.bad{color:var(--bad)}.good{color:var(--good)}\n"
    ".grid{display:grid;gap:1rem;grid-template-columns:repeat(auto-fit,minmax(min(100%,22rem),1fr))}\n"
    "figure,section,.tiles>div{margin:0;min-width:0;background:var(--card);border:1px solid var(--line);"
    "border-radius:.6rem;padding:.9rem 1rem}\n"
    ".tiles{display:grid;gap:.7rem;margin:1rem 0;grid-template-columns:repeat(auto-fit,minmax(min(100%,9.5rem),1fr))}\n"
    ".tiles>div{padding:.6rem .9rem}.tiles dt{color:var(--soft);font-size:.85rem}.tiles dd{margin:0;font-size:1.35rem;"
    "font-weight:600;font-variant-numeric:tabular-nums;overflow-wrap:anywhere}.tiles small{font-size:.8rem;"
    "font-weight:400;color:var(--soft)}\n"
    ".legend{display:flex;flex-wrap:wrap;gap:0 .9rem;font-size:.85rem}.legend i{display:inline-block;width:1.1rem;"
    "height:.2rem;vertical-align:.25rem;margin-right:.35rem;background:var(--soft)}.legend .la{background:var(--a)}"
    ".legend .lb{background:var(--b)}.ramp{display:inline-flex;margin:0 .4rem}.legend .ramp i{width:.5rem;height:.7rem;"
    "margin:0;vertical-align:0}\n"
    ".plot{display:grid;grid-template-columns:3.2rem 1fr;grid-template-rows:12.5rem 1.5rem;margin:.7rem 1.3rem 0 0;"
    "font-size:12px;color:var(--soft);font-variant-numeric:tabular-nums}\n"
    ".y,.x{position:relative}.x{grid-column:2}.y span{position:absolute;right:.5rem;transform:translateY(-50%);"
    "white-space:nowrap}.x span{position:absolute;top:.3rem;transform:translateX(-50%);white-space:nowrap}\n"
    "svg{display:block;width:100%;height:100%;overflow:visible}svg "
    "path{fill:none;stroke-width:1.8;stroke-linejoin:round;"
    "stroke-linecap:round;vector-effect:non-scaling-stroke}svg .rule{stroke:var(--line);stroke-width:1}svg "
    ".a{stroke:var(--a)}svg .b{stroke:var(--b)}svg .band{fill:var(--band);stroke:none}svg .dot{stroke-width:7}\n"
    "table{border-collapse:collapse;width:100%;font-size:.92rem}th{font-weight:600;color:var(--soft);font-size:.85rem;"
    "vertical-align:bottom}td,th{padding:.2rem .5rem .2rem 0;text-align:right;font-variant-numeric:tabular-nums}"
    "td:first-child,th:first-child{text-align:left}td{vertical-align:top;overflow-wrap:anywhere}tr+tr "
    "td{border-top:1px solid var(--line)}.facts "
    "td:first-child{color:var(--soft);white-space:nowrap}.wide{overflow-x:auto}.wide table{font-size:.84rem}.wide "
    "td{white-space:nowrap}.tiles small{display:block}.start{align-items:start}\n"
    ".bar{display:flex;height:1rem;border-radius:.5rem;overflow:hidden;margin:.5rem 0}.bar i{display:block;height:100%}"
    ".key{display:inline-block;width:.7rem;height:.7rem;border-radius:.2rem;margin-right:.5rem}\n"
    "pre{white-space:pre-wrap;overflow-wrap:anywhere;margin:.2rem 0 1rem;font:14px/1.5 ui-monospace,monospace;"
    "max-height:24rem;overflow-y:auto;border-left:3px solid "
    "var(--line);padding-left:.8rem}summary{cursor:pointer;color:var(--a)}"
    "details>*+*{margin-top:.5rem}@media(max-width:30rem){.wide table,.wide th{font-size:.76rem}.wide td,.wide "
    "th{padding-right:.3rem}.x .mid{display:none}}@media(min-width:48rem){.two{grid-column:span 2}}\n"
    "</style>\n";

/* ---- text ---- */

void grdi_html_escaped(grdi_writer *w, const char *text)
{
    for (size_t run; *text; text += run) {
        for (run = 0; (unsigned char)text[run] >= 0x20 && text[run] != 0x7F && !strchr("&<>\"", text[run]);) run++;
        if (run) {
            grdi_writer_put(w, text, run);
            continue;
        }
        run = 1;
        if (strchr("&<>\"", *text)) grdi_writer_print(w, "&#%d;", *text);
        else grdi_writer_print(w, "%s", *text == '\n' ? "\n" : *text == '\t' ? "\t" : "\xEF\xBF\xBD");
    }
}

const char *grdi_html_amount(double value, const char *unit, char text[32])
{
    static const char prefixes[] = {'k', 'M', 'G', 'T', 'P'};
    int power = -1;
    while ((fabs(value) >= 9999.5 || (power >= 0 && fabs(value) >= 999.5)) && power < 4) {
        value /= 1000;
        power++;
    }
    const char *space = unit[0] ? " " : "";
    if (power < 0) snprintf(text, 32, "%.4g%s%s", value, space, unit);
    else snprintf(text, 32, "%.3g%s%c%s", value, space, prefixes[power], unit);
    return text;
}

const char *grdi_html_count(int64_t value, char text[32])
{
    char digits[24], *to = text;
    int length = snprintf(digits, sizeof(digits), "%lld", (long long)value);
    for (int i = 0; i < length; i++) {
        *to++ = digits[i];
        if ((length - 1 - i) % 3 == 0 && i < length - 1 && digits[i] != '-') *to++ = ',';
    }
    *to = '\0';
    return text;
}

const char *grdi_html_number(double value, char text[32])
{
    if (!isfinite(value)) {
        snprintf(text, 32, "\xE2\x80\x93");
        return text;
    }
    if (fabs(value) >= 9999.5) return grdi_html_amount(value, "", text);
    bool small = value != 0 && fabs(value) < 1e-3;
    snprintf(text, 32, small ? "%.2e" : "%.4g", value);
    char *power = strstr(text, "e-0");
    if (power) memmove(power + 2, power + 3, strlen(power + 3) + 1); /* 3.1e-5 */
    return text;
}

/* A positive number as a whole one; a resumed run's file may hold any. */
static int64_t rounded(double value)
{
    return (int64_t)(fmin(value, 1e15) + 0.5);
}

/* "8.92 ms", "1,740 ms", "210 s" */
static const char *ms_text(double ms, char text[32])
{
    char count[32];
    if (ms >= 1e5) snprintf(text, 32, "%.26s s", grdi_html_count(rounded(ms / 1000), count));
    else if (ms >= 999.5) snprintf(text, 32, "%.26s ms", grdi_html_count(rounded(ms), count));
    else snprintf(text, 32, "%.3g ms", ms);
    return text;
}

static const char *clock_text(double seconds, char text[32])
{
    long long s = seconds > 0 ? rounded(seconds) : 0;
    snprintf(text, 32, "%lld:%02lld:%02lld", s / 3600, s / 60 % 60, s % 60);
    return text;
}

/* ---- the top ---- */

/* "run" of "runs/run/". */
static const char *last_name(const char *path, size_t *length)
{
    size_t end = strlen(path);
    while (end > 1 && path[end - 1] == '/') end--;
    size_t start = end;
    while (start > 0 && path[start - 1] != '/') start--;
    *length = end - start;
    return path + start;
}

static bool is_done(const grdi_history *h, const grd_settings *s)
{
    bool by_steps = s->train.steps && h->step >= s->train.steps;
    return by_steps || (s->train.minutes > 0 && h->seconds >= 60 * s->train.minutes);
}

static void put_state(grdi_writer *w, const grdi_history *h, const grd_settings *s)
{
    char text[32];
    const char *state = h->problem      ? "<span class=\"state bad\">Failed</span>"
                        : !h->over      ? "<span class=\"state\">In progress</span>"
                        : is_done(h, s) ? "<span class=\"state good\">Finished</span>"
                                        : "<span class=\"state\">Stopped</span>";
    grdi_writer_print(w, "<p>%s. Step %lld", state, (long long)h->step);
    if (s->train.steps) grdi_writer_print(w, " of %lld", (long long)s->train.steps);
    grdi_writer_print(w, " after %s", clock_text(h->seconds, text));
    if (s->train.minutes > 0) grdi_writer_print(w, " of %s", clock_text(60 * s->train.minutes, text));
    grdi_writer_print(w, ".</p>\n");
    if (!h->problem) return;
    grdi_writer_print(w, "<p class=\"bad\">");
    grdi_html_escaped(w, h->problem);
    grdi_writer_print(w, "</p>\n");
}

static void put_tile(grdi_writer *w, const char *name, const char *value, const char *more)
{
    grdi_writer_print(w, "<div><dt>%s</dt><dd>%s <small>%s</small></dd></div>\n", name, value, more);
}

/* Tokens, or what else a run reads. */
static int64_t read_in_step(const grd_settings *s)
{
    bool tokens = strcmp(grd_settings_words(s).samples, "tokens") == 0;
    return s->train.batch * s->train.accumulate * (tokens ? s->model.gpt.context : 1);
}

static const char *with(const char *before, const char *after, char text[64])
{
    snprintf(text, 64, "%s %s", before, after);
    return text;
}

static void put_errors(grdi_writer *w, const grdi_history_eval *eval)
{
    char a[32];
    put_tile(w, "error", grdi_html_number(eval->rmse, a), "root mean square");
    put_tile(w, "error", grdi_html_number(eval->mae, a), "mean absolute");
    if (isfinite(eval->persistence_rmse))
        put_tile(w, "persistence", grdi_html_number(eval->persistence_rmse, a), "root mean square");
    if (isfinite(eval->seasonal_rmse))
        put_tile(w, "seasonal-naive", grdi_html_number(eval->seasonal_rmse, a), "root mean square");
}

/* A figure of an evaluation by the name that JSON lines give it. */
static void put_figure(grdi_writer *w, const char *name, const char *value)
{
    static const char *const known[][3] = {{"baseline_rmse", "always the mean", "root mean square"},
                                           {"baseline_accuracy", "always the commonest", "accuracy"},
                                           {"r2", "R\xC2\xB2", "1 is all that varies"},
                                           {"auc", "AUC", "area under the ROC curve"},
                                           {"f1", "F1", ""},
                                           {"top5", "top 5", "accuracy"}};
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
        if (strcmp(known[i][0], name) == 0) {
            put_tile(w, known[i][1], value, known[i][2]);
            return;
        }
    put_tile(w, name, value, "");
}

static void put_tiles(grdi_writer *w, const grdi_history *h, const grd_settings *s)
{
    const grdi_history_point *last = h->count ? &h->points[h->count - 1] : NULL;
    const grdi_history_eval *eval = h->eval_count ? &h->evals[h->eval_count - 1] : NULL;
    grd_run_words words = grd_settings_words(s);
    char a[32], b[64];
    grdi_writer_print(w, "<dl class=\"tiles\">\n");
    if (eval) {
        snprintf(a, sizeof(a), "%.4f", eval->loss);
        put_tile(w, with(words.held_out, "loss", b), a, words.loss_unit);
        if (isfinite(eval->rmse)) put_errors(w, eval);
        for (int32_t i = 0; i < eval->figure_count; i++)
            put_figure(w, eval->figures[i].name, grdi_html_number(eval->figures[i].value, a));
    }
    if (eval && isfinite(eval->accuracy)) {
        snprintf(a, sizeof(a), "%.2f%%", 100 * eval->accuracy);
        char part[64], whose[80];
        snprintf(whose, sizeof(whose), "of the %s", with(words.held_out, words.samples, part));
        put_tile(w, with(words.held_out, "accuracy", b), a, whose);
    }
    if (eval && isfinite(eval->bits_per_byte)) {
        snprintf(a, sizeof(a), "%.4f", eval->bits_per_byte);
        put_tile(w, "validation", a, "bits per byte");
    }
    if (last) {
        snprintf(b, sizeof(b), last->steps > 1 ? "mean of %lld steps" : "last step", (long long)last->steps);
        if (isfinite(last->loss)) snprintf(a, sizeof(a), last->loss < 1e4 ? "%.4f" : "%.3g", last->loss);
        put_tile(w, "training loss", isfinite(last->loss) ? a : "not a number", b);
        put_tile(w, with(words.samples, "read", b), grdi_html_amount((double)h->step * (double)read_in_step(s), "", a),
                 "");
        put_tile(w, "throughput", grdi_html_amount(last->tokens_per_s, "", a), with(words.samples, "per second", b));
    }
    if (h->plan.parameters) put_tile(w, "parameters", grdi_html_amount((double)h->plan.parameters, "", a), "");
    if (h->plan.peak_bytes) put_tile(w, "memory", grdi_html_amount((double)h->plan.peak_bytes, "B", a), "planned peak");
    grdi_writer_print(w, "</dl>\n");
}

static void put_top(grdi_writer *w, const grdi_history *h, const grd_settings *s, const char *out)
{
    size_t length;
    const char *name = last_name(out, &length);
    grdi_writer_print(w, "<title>");
    grdi_html_escaped(w, out);
    grdi_writer_print(w, "</title>\n</head>\n<body>\n<h1>");
    grdi_html_escaped(w, name);
    grdi_writer_print(w, "</h1>\n");
    if (name != out) {
        grdi_writer_print(w, "<p class=\"soft\">");
        grdi_html_escaped(w, out);
        grdi_writer_print(w, "</p>\n");
    }
    put_state(w, h, s);
    put_tiles(w, h, s);
}

/* ---- tables ---- */

static void put_row(grdi_writer *w, const char *name, const char *format, ...) __attribute__((format(printf, 3, 4)));

static void put_row(grdi_writer *w, const char *name, const char *format, ...)
{
    char text[512];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    grdi_writer_print(w, "<tr><td>%s</td><td>", name);
    grdi_html_escaped(w, text);
    grdi_writer_print(w, "</td></tr>\n");
}

static void put_facts(grdi_writer *w, const grdi_history *h, const grd_settings *s)
{
    const char *kind = grd_model_kind_name(s->model.kind);
    bool classifies = grd_model_classifies(s->model.kind),
         tokens = strcmp(grd_settings_words(s).samples, "tokens") == 0;
    static const char *const optimizers[] = {"none", "AdamW", "Adam", "SGD", "Lion", "Muon", "L-BFGS", "exact"};
    const grd_gpt *g = &s->model.gpt;
    char a[32], b[32];
    grdi_writer_print(w, "<section><h3>Model and training</h3><table class=\"facts\">\n");
    if (s->data.kind == GRD_DATA_TABLE) {
        put_row(w, "model", s->model.kind == GRD_MODEL_MLP ? "%s, %lld wide" : "%s", kind, (long long)g->width);
        if (s->data.target) put_row(w, "target", "%s", s->data.target);
    } else if (classifies) {
        put_row(w, "model", "%s, %lld wide, %lld classes", kind, (long long)g->width, (long long)s->model.classes);
    } else if (!tokens) {
        put_row(w, "model", "%s, %d layer%s, %lld wide", kind, g->layers, g->layers == 1 ? "" : "s",
                (long long)g->width);
    } else {
        put_row(w, "model", "%s, %d layers, %d heads, %lld wide", kind, g->layers, g->heads, (long long)g->width);
        put_row(w, "context", "%s tokens", grdi_html_count(g->context, a));
        put_row(w, "vocabulary", "%s tokens", grdi_html_count(g->vocab, a));
    }
    if (s->data.path)
        put_row(w,
                strcmp(grd_settings_words(s).samples, "images") == 0 ? "images"
                : tokens                                             ? "text"
                                                                     : "data",
                "%s", s->data.path);
    const char *samples = grd_settings_words(s).samples;
    put_row(w, "batch", "%lld x %lld %s, %s %s a step", (long long)s->train.accumulate, (long long)s->train.batch,
            tokens ? "windows" : samples, grdi_html_count(read_in_step(s), a), samples);
    put_row(w, "optimizer", "%s, learning rate %g", optimizers[s->train.optimizer], s->train.lr);
    put_row(w, "precision", "%s", grd_precision_name(s->train.precision));
    if (h->plan.flops_per_step > 0)
        put_row(w, "a step", "%s, %s predicted", grdi_html_amount(h->plan.flops_per_step, "FLOP", a),
                ms_text(h->plan.predicted_step_ms, b));
    put_row(w, "seed", "%lld", (long long)s->train.seed);
    grdi_writer_print(w, "</table></section>\n");
}

static void put_memory(grdi_writer *w, const grd_plan_report *plan)
{
    static const char *const names[] = {"weights",     "gradients", "optimizer",         "states",
                                        "activations", "workspace", "inputs and outputs"};
    static const char *const colours[] = {"#2f6fd6", "#15906f", "#d9622b", "#8a4fe0", "#b98a10", "#6f7d92", "#c93a7a"};
    const size_t bytes[] = {plan->weights_bytes,     plan->gradients_bytes, plan->optimizer_bytes, plan->state_bytes,
                            plan->activations_bytes, plan->workspace_bytes, plan->inputs_bytes};
    char text[32];
    if (!plan->peak_bytes) return;
    grdi_writer_print(w,
                      "<section><h3>Memory</h3><p class=\"soft\">%s at most, by what it is for</p><div class=\"bar\">",
                      grdi_html_amount((double)plan->peak_bytes, "B", text));
    for (int i = 0; i < 7; i++)
        grdi_writer_print(w, "<i style=\"background:%s;width:%.2f%%\"></i>", colours[i],
                          100 * (double)bytes[i] / (double)plan->peak_bytes);
    grdi_writer_print(w, "</div><table>\n");
    for (int i = 0; i < 7; i++)
        if (bytes[i])
            grdi_writer_print(w,
                              "<tr><td><span class=\"key\" style=\"background:%s\"></span>%s</td><td>%s</td>"
                              "<td>%.1f%%</td></tr>\n",
                              colours[i], names[i], grdi_html_amount((double)bytes[i], "B", text),
                              100 * (double)bytes[i] / (double)plan->peak_bytes);
    grdi_writer_print(w, "</table></section>\n");
}

/* ---- a series ---- */

static void put_comparison(grdi_writer *w, const char *name, double rmse, double own)
{
    char a[32], b[32];
    if (isfinite(rmse))
        grdi_writer_print(w, "<tr><td>%s</td><td>%s</td><td>%s</td></tr>\n", name, grdi_html_number(rmse, a),
                          grdi_html_number(rmse / own, b));
}

static void put_forecast(grdi_writer *w, const grdi_history *h, const grd_settings *s)
{
    const grdi_history_eval *eval = h->eval_count ? &h->evals[h->eval_count - 1] : NULL;
    if (!h->forecast.count || !eval || s->data.kind != GRD_DATA_SERIES) return;
    grdi_writer_print(w, "<h2>Forecasts</h2>\n<div class=\"grid start\">\n");
    grdi_html_forecast(w, &h->forecast, s->data.target);
    grdi_writer_print(w,
                      "<section><h3>Against simple forecasts</h3><p class=\"soft\">of the held-out part, %lld step%s "
                      "ahead</p><table>\n<tr><th>forecast</th><th>root mean square error</th><th>times the model's"
                      "</th></tr>\n",
                      (long long)s->data.horizon, s->data.horizon == 1 ? "" : "s");
    put_comparison(w, grd_model_kind_name(s->model.kind), eval->rmse, eval->rmse);
    put_comparison(w, "persistence: the last value", eval->persistence_rmse, eval->rmse);
    put_comparison(w, "seasonal-naive: the value a season before", eval->seasonal_rmse, eval->rmse);
    grdi_writer_print(w, "</table></section>\n</div>\n");
}

/* ---- layers ---- */

static void put_layers(grdi_writer *w, const grdi_history *h)
{
    char a[32], b[32], c[32], d[32];
    if (!h->layers_count) return;
    const grdi_history_layers *last = &h->layers[h->layers_count - 1];
    grdi_writer_print(w, "<h2>Layers</h2>\n<div class=\"grid\">\n");
    grdi_html_layer_charts(w, h);
    grdi_writer_print(w,
                      "<section class=\"two\"><h3>At step %lld</h3><p class=\"soft\">root mean squares; "
                      "update relative to the weights</p><div class=\"wide\"><table>\n"
                      "<tr><th>layer</th><th>activation</th><th>gradient</th>"
                      "<th>weight</th><th>update</th></tr>\n",
                      (long long)last->step);
    for (int32_t i = 0; i < last->count; i++) {
        const grd_layer_statistics *l = &last->layers[i];
        grdi_writer_print(w, "<tr><td>%s</td><td>%s</td><td>%s</td><td>%s</td><td>%s</td></tr>\n", l->name,
                          grdi_html_number(l->activation_rms, a), grdi_html_number(l->gradient_rms, b),
                          grdi_html_number(l->weight_rms, c), grdi_html_number(l->update_rms / l->weight_rms, d));
    }
    grdi_writer_print(w, "</table></div></section>\n</div>\n");
}

/* ---- numbers to read off ---- */

/* Whether row `i` of `count` is among about TABLE_ROWS that are spread evenly, the last one included. */
static bool is_row(size_t i, size_t count)
{
    size_t every = (count + TABLE_ROWS - 1) / TABLE_ROWS;
    return (count - 1 - i) % every == 0;
}

/* Accuracy, error or bits per byte. */
static double judgement(const grdi_history_eval *eval)
{
    return isfinite(eval->rmse) ? eval->rmse : isfinite(eval->accuracy) ? eval->accuracy : eval->bits_per_byte;
}

static void put_evals(grdi_writer *w, const grdi_history *h)
{
    char a[32], b[32];
    if (!h->eval_count) return;
    grdi_writer_print(w, "<section><details open><summary>Evaluations</summary><div class=\"wide\"><table>\n"
                         "<tr><th>step</th><th>loss</th>");
    grdi_writer_print(w, "<th>%s</th></tr>\n",
                      isfinite(h->evals[0].rmse)       ? "root mean square error"
                      : isfinite(h->evals[0].accuracy) ? "accuracy"
                                                       : "bits per byte");
    for (size_t i = 0; i < h->eval_count; i++)
        if (is_row(i, h->eval_count))
            grdi_writer_print(w, "<tr><td>%s</td><td>%.4f</td><td>%s</td></tr>\n", grdi_html_count(h->evals[i].step, a),
                              h->evals[i].loss, grdi_html_number(judgement(&h->evals[i]), b));
    grdi_writer_print(w, "</table></div></details></section>\n");
}

static void put_steps(grdi_writer *w, const grdi_history *h, const grd_run_words *words)
{
    char a[32], b[32], c[32], d[32], e[32];
    if (!h->count) return;
    grdi_writer_print(w,
                      "<section><details open><summary>Steps%s</summary><div class=\"wide\"><table>\n"
                      "<tr><th>step</th><th>loss</th><th>learning rate</th><th>gradient norm</th>"
                      "<th>%s/s</th></tr>\n",
                      h->stride > 1 ? ", means" : "", words->samples);
    for (size_t i = 0; i < h->count; i++) {
        const grdi_history_point *p = &h->points[i];
        if (is_row(i, h->count))
            grdi_writer_print(w, "<tr><td>%s</td><td>%s</td><td>%s</td><td>%s</td><td>%s</td></tr>\n",
                              grdi_html_count(p->step, a), grdi_html_number(p->loss, b), grdi_html_number(p->lr, c),
                              grdi_html_number(p->grad_norm, d), grdi_html_amount(p->tokens_per_s, "", e));
    }
    grdi_writer_print(w, "</table></div></details></section>\n");
}

static void put_samples(grdi_writer *w, const grdi_history *h)
{
    if (!h->sample_count) return;
    grdi_writer_print(w, "<h2>Samples</h2>\n<section>\n");
    for (size_t i = h->sample_count; i-- > 0;) { /* the latest first */
        size_t shown = h->sample_count - 1 - i;
        if (shown == OPEN_SAMPLES)
            grdi_writer_print(w, "<details><summary>earlier ones (%zu)</summary>\n", h->sample_count - shown);
        grdi_writer_print(w, "<p class=\"soft\">after step %lld</p><pre dir=\"auto\">", (long long)h->samples[i].step);
        grdi_html_escaped(w, h->samples[i].text);
        grdi_writer_print(w, "</pre>\n");
    }
    grdi_writer_print(w, "%s</section>\n", h->sample_count > OPEN_SAMPLES ? "</details>" : "");
}

/* ---- coefficients ---- */

enum { COEFFICIENTS_SHOWN = 300 };

/* Of a linear or logistic model of a table, once it is saved. */
static void put_coefficients(grdi_writer *w, const grd_settings *s, const char *out)
{
    bool linear = s->model.kind == GRD_MODEL_LINEAR || s->model.kind == GRD_MODEL_LOGISTIC;
    grd_coefficients *all;
    if (!linear || s->data.kind != GRD_DATA_TABLE || grd_coefficients_open(out, &all, NULL)) return;
    int64_t count = grd_coefficients_count(all);
    grdi_writer_print(w, "<h2>Coefficients</h2>\n<p class=\"soft\">in the units of the columns%s</p>\n<table>\n",
                      count > COEFFICIENTS_SHOWN ? "; the first ones, gradus inspect has all" : "");
    for (int64_t i = 0; i < count && i < COEFFICIENTS_SHOWN; i++) {
        grd_coefficient c = grd_coefficients_at(all, i);
        char name[512];
        snprintf(name, sizeof(name), "%s%s%s%s", c.column ? c.column : "(intercept)", c.category ? "=" : "",
                 c.category ? c.category : "", c.missing ? " (missing)" : "");
        grdi_writer_print(w, "<tr><td>");
        grdi_html_escaped(w, name);
        grdi_writer_print(w, "</td><td>%.6g</td><td>", c.value);
        grdi_html_escaped(w, c.of_class ? c.of_class : "");
        grdi_writer_print(w, "</td></tr>\n");
    }
    grdi_writer_print(w, "</table>\n");
    grd_coefficients_free(all);
}

grd_status grdi_report_write(const grdi_history *history, const grd_settings *settings, const char *out,
                             const grdi_report_more *more, grd_error *error)
{
    char *path = grdi_path_join(out, "report.html");
    if (!path) return grd_fail(error, GRD_E_MEMORY, "%s: out of memory for a report", out);
    grd_run_words words = grd_settings_words(settings);
    grdi_writer w;
    if (!grdi_writer_open(&w, path)) {
        grdi_writer_put(&w, head, sizeof(head) - 1);
        put_top(&w, history, settings, out);
        grdi_writer_print(&w, "<div class=\"grid\">\n");
        grdi_html_charts(&w, history, &words);
        put_memory(&w, &history->plan);
        grdi_writer_print(&w, "</div>\n");
        if (more) more->put(more->context, &w);
        put_forecast(&w, history, settings);
        put_samples(&w, history);
        put_layers(&w, history);
        put_coefficients(&w, settings, out);
        grdi_writer_print(&w, "<h2>Numbers</h2>\n<div class=\"grid start\">\n");
        put_facts(&w, history, settings);
        put_evals(&w, history);
        put_steps(&w, history, &words);
        grdi_writer_print(&w, "</div>\n<p class=\"soft\">Written by gradus %s.</p>\n</body>\n</html>\n", grd_version());
    }
    grdi_free(path);
    return grdi_writer_commit(&w, error);
}
