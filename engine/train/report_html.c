/* report_html.c - report.html: one page that needs nothing else, drawn as SVG, so that it reads offline, on a telephone
 * and in ten years. */
#include "train/history.h"

#include "base/file.h"
#include "base/memory.h"

#include <math.h>
#include <stdarg.h>
#include <string.h>

static const char head[] =
    "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
    "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<style>\n"
    ":root{color-scheme:light dark;--ink:#1d2430;--soft:#5c6675;--line:#d9dee6;--card:#fff;--page:#f4f6f9;--a:#2463c9;"
    "--b:#c2410c;--band:#2463c933}\n"
    "@media(prefers-color-scheme:dark){:root{--ink:#e6eaf0;--soft:#9aa5b5;--line:#353d4a;--card:#1b212b;--page:#12161d;"
    "--a:#7eb0ff;--b:#ff9d66;--band:#7eb0ff33}}\n"
    "*{box-sizing:border-box}body{margin:0 auto;max-width:76rem;padding:1rem;background:var(--page);color:var(--ink);"
    "font:16px/1.5 system-ui,sans-serif}\n"
    "h1{font-size:1.4rem;margin:.2rem 0;overflow-wrap:anywhere}h2{font-size:1rem;margin:0 0 .4rem}p{margin:.2rem 0}\n"
    ".soft{color:var(--soft)}.grid{display:grid;gap:1rem;margin:1rem 0;"
    "grid-template-columns:repeat(auto-fit,minmax(min(100%,27rem),1fr))}\n"
    "section{background:var(--card);border:1px solid var(--line);border-radius:.5rem;padding:.8rem;min-width:0}\n"
    "svg{display:block;width:100%;height:auto}svg text{fill:var(--soft);font:13px system-ui,sans-serif}\n"
    ".rule{stroke:var(--line);stroke-width:1}.mean{fill:none;stroke:var(--a);stroke-width:2}"
    ".band{fill:var(--band);stroke:none}.other{fill:none;stroke:var(--b);stroke-width:2}.dot{fill:var(--b)}\n"
    "table{border-collapse:collapse;width:100%}td{padding:.15rem .4rem .15rem 0;vertical-align:top;"
    "overflow-wrap:anywhere}td+td{text-align:right;font-variant-numeric:tabular-nums}\n"
    ".bar{display:flex;height:.8rem;border-radius:.4rem;overflow:hidden;margin:.4rem 0}.bar "
    "i{display:block;height:100%}"
    ".key{display:inline-block;width:.7rem;height:.7rem;border-radius:.2rem;margin-right:.4rem}\n"
    "pre{white-space:pre-wrap;overflow-wrap:anywhere;margin:.4rem 0;font:14px/1.45 ui-monospace,monospace}\n"
    "</style>\n";

/* ---- text ---- */

static void put_escaped(grdi_writer *w, const char *text)
{
    for (size_t run; *text; text += run) {
        run = strcspn(text, "&<>\"");
        if (run) grdi_writer_put(w, text, run);
        else {
            grdi_writer_print(w, "&#%d;", *text);
            run = 1;
        }
    }
}

/* "0.0013", "12.5", "41.2k", "3.1G"; with a unit "41.2 kB". */
static const char *with_unit(double value, const char *unit, char text[32])
{
    static const char prefixes[] = {'k', 'M', 'G', 'T', 'P'};
    int power = -1;
    while (fabs(value) >= 9999.5 || (power >= 0 && fabs(value) >= 999.5 && power < 4)) {
        value /= 1000;
        power++;
        if (power == 4) break;
    }
    const char *space = unit[0] ? " " : "";
    if (power < 0) snprintf(text, 32, "%.4g%s%s", value, space, unit);
    else snprintf(text, 32, "%.3g%s%c%s", value, space, prefixes[power], unit);
    return text;
}

static const char *short_number(double value, char text[32])
{
    return with_unit(value, "", text);
}

/* ---- charts ---- */

enum { WIDTH = 460, HEIGHT = 240, LEFT = 58, RIGHT = 22, TOP = 10, BOTTOM = 30, TICKS = 5 };

typedef struct range {
    double least, most;
} range;

typedef struct chart {
    grdi_writer *w;
    range x, y;
    bool log; /* y */
} chart;

static void cover(range *r, double value)
{
    if (!isfinite(value)) return;
    if (!(value >= r->least)) r->least = value;
    if (!(value <= r->most)) r->most = value;
}

/* 1, 2 or 5 times a power of ten, about a fifth of the range. */
static double tick_of(range r)
{
    double rough = (r.most - r.least) / TICKS, power = pow(10, floor(log10(rough)));
    return (rough / power < 1.5 ? 1 : rough / power < 3.5 ? 2 : rough / power < 7.5 ? 5 : 10) * power;
}

static double place_x(const chart *c, double x)
{
    return LEFT + (x - c->x.least) / (c->x.most - c->x.least) * (WIDTH - LEFT - RIGHT);
}

static double place_y(const chart *c, double y)
{
    range r = c->y;
    if (c->log) {
        y = log(y > 0 ? y : r.least);
        r = (range){log(r.least), log(r.most)};
    }
    return HEIGHT - BOTTOM - (y - r.least) / (r.most - r.least) * (HEIGHT - TOP - BOTTOM);
}

static void widen(range *r)
{
    double room = r->most > r->least ? 0.04 * (r->most - r->least) : fabs(r->most) > 0 ? 0.1 * fabs(r->most) : 1;
    r->least = r->least >= 0 && r->least < room ? 0 : r->least - room;
    r->most += room;
}

static void draw_rule(const chart *c, double y)
{
    char text[32];
    double at = place_y(c, y);
    grdi_writer_print(c->w, "<path class=\"rule\" d=\"M%d %.1fH%d\"/>", LEFT, at, WIDTH - RIGHT);
    grdi_writer_print(c->w, "<text x=\"%d\" y=\"%.1f\" text-anchor=\"end\">%s</text>\n", LEFT - 6, at + 4.5,
                      short_number(y, text));
}

/* On a logarithmic scale the rules are at 1, 2 and 5 times powers of ten. */
static void draw_axes(const chart *c)
{
    static const double digits[] = {1, 2, 5};
    char text[32];
    double step = tick_of(c->y);
    for (double power = c->log ? pow(10, floor(log10(c->y.least))) : INFINITY; power <= c->y.most; power *= 10)
        for (int i = 0; i < 3; i++)
            if (digits[i] * power >= c->y.least && digits[i] * power <= c->y.most) draw_rule(c, digits[i] * power);
    for (double y = ceil(c->y.least / step) * step; y <= c->y.most && !c->log; y += step)
        draw_rule(c, fabs(y) < step / 1e6 ? 0 : y);
    step = fmax(tick_of(c->x), 1);
    for (double x = ceil(c->x.least / step) * step; x <= c->x.most; x += step)
        grdi_writer_print(c->w, "<text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%s</text>\n", place_x(c, x),
                          HEIGHT - 10, short_number(x, text));
}

/* The value of a point that is drawn. */
static double value_of(const grdi_history_point *p, size_t field)
{
    return *(const double *)(const void *)((const char *)p + field);
}

static void draw_line(const chart *c, const grdi_history *h, size_t field)
{
    bool pen = false;
    grdi_writer_print(c->w, "<path class=\"mean\" d=\"");
    for (size_t i = 0; i < h->count; i++) {
        double y = value_of(&h->points[i], field);
        if (isfinite(y))
            grdi_writer_print(c->w, "%c%.1f %.1f", pen ? 'L' : 'M', place_x(c, (double)h->points[i].step),
                              place_y(c, y));
        pen = isfinite(y);
    }
    grdi_writer_print(c->w, "\"/>\n");
}

/* From the least to the greatest loss of each point's steps: there above, back below. */
static void draw_band(const chart *c, const grdi_history *h)
{
    bool pen = false;
    if (h->stride < 2) return;
    grdi_writer_print(c->w, "<path class=\"band\" d=\"");
    for (size_t i = 0; i < 2 * h->count; i++) {
        const grdi_history_point *p = &h->points[i < h->count ? i : 2 * h->count - 1 - i];
        if (isnan(p->loss)) continue;
        grdi_writer_print(c->w, "%c%.1f %.1f", pen ? 'L' : 'M', place_x(c, (double)p->step),
                          place_y(c, i < h->count ? p->most : p->least));
        pen = true;
    }
    grdi_writer_print(c->w, "Z\"/>\n");
}

static double eval_value(const grdi_history_eval *e, bool bits)
{
    return bits ? e->bits_per_byte : e->loss;
}

static void draw_evals(const chart *c, const grdi_history *h, bool bits)
{
    grdi_writer_print(c->w, "<path class=\"other\" d=\"");
    for (size_t i = 0; i < h->eval_count; i++)
        grdi_writer_print(c->w, "%c%.1f %.1f", i ? 'L' : 'M', place_x(c, (double)h->evals[i].step),
                          place_y(c, eval_value(&h->evals[i], bits)));
    grdi_writer_print(c->w, "\"/>\n");
    for (size_t i = 0; i < h->eval_count; i++)
        grdi_writer_print(c->w,
                          "<circle class=\"dot\" r=\"3.5\" cx=\"%.1f\" cy=\"%.1f\"><title>step %lld: %.4f</title>"
                          "</circle>\n",
                          place_x(c, (double)h->evals[i].step), place_y(c, eval_value(&h->evals[i], bits)),
                          (long long)h->evals[i].step, eval_value(&h->evals[i], bits));
}

typedef struct picture {
    const char *title, *legend;
    size_t field;           /* of the points; SIZE_MAX: none */
    bool band, evals, bits; /* of the loss; validation losses; their bits per byte instead */
} picture;

static void draw(grdi_writer *w, const grdi_history *h, const picture *p)
{
    chart c = {w, {NAN, NAN}, {NAN, NAN}, false};
    for (size_t i = 0; i < h->count; i++) cover(&c.x, (double)h->points[i].step);
    for (size_t i = 0; i < h->count && p->field != SIZE_MAX; i++) cover(&c.y, value_of(&h->points[i], p->field));
    for (size_t i = 0; i < h->eval_count && (p->evals || p->bits); i++) {
        cover(&c.x, (double)h->evals[i].step);
        cover(&c.y, eval_value(&h->evals[i], p->bits));
    }
    if (isnan(c.x.least) || isnan(c.y.least)) return;
    if (c.x.most <= c.x.least) c.x = (range){c.x.least - 1, c.x.most + 1};
    c.log = p->band && c.y.least > 0 && c.y.most > 8 * c.y.least; /* a loss that fell far */
    if (c.log) c.y = (range){c.y.least / 1.1, c.y.most * 1.1};
    else widen(&c.y);
    grdi_writer_print(w,
                      "<section><h2>%s</h2><p class=\"soft\">%s</p>\n<svg viewBox=\"0 0 %d %d\" role=\"img\" "
                      "aria-label=\"%s\">\n<clipPath id=\"c%zu%d\"><rect x=\"%d\" y=\"0\" width=\"%d\" "
                      "height=\"%d\"/></clipPath>\n",
                      p->title, p->legend, WIDTH, HEIGHT, p->title, p->field, p->bits, LEFT - 4,
                      WIDTH - LEFT - RIGHT + 8, HEIGHT - BOTTOM + 4);
    draw_axes(&c);
    grdi_writer_print(w, "<g clip-path=\"url(#c%zu%d)\">\n", p->field, p->bits);
    if (p->band) draw_band(&c, h);
    if (p->field != SIZE_MAX) draw_line(&c, h, p->field);
    if (p->evals || p->bits) draw_evals(&c, h, p->bits);
    grdi_writer_print(w, "</g></svg></section>\n");
}

static bool bits_are_known(const grdi_history *h)
{
    for (size_t i = 0; i < h->eval_count; i++)
        if (!isfinite(h->evals[i].bits_per_byte)) return false;
    return h->eval_count > 0;
}

static void put_charts(grdi_writer *w, const grdi_history *h)
{
    static const picture pictures[] = {
        {"Loss", "nats per token by step; blue: training, orange: validation", offsetof(grdi_history_point, loss), true,
         true, false},
        {"Bits per byte", "of the validation text, by step", SIZE_MAX, false, false, true},
        {"Learning rate", "by step", offsetof(grdi_history_point, lr), false, false, false},
        {"Gradient norm", "over all parameters, before clipping, by step", offsetof(grdi_history_point, grad_norm),
         false, false, false},
        {"Throughput", "tokens per second, by step", offsetof(grdi_history_point, tokens_per_s), false, false, false},
    };
    for (size_t i = 0; i < sizeof(pictures) / sizeof(pictures[0]); i++)
        if (!pictures[i].bits || bits_are_known(h)) draw(w, h, &pictures[i]);
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
    put_escaped(w, text);
    grdi_writer_print(w, "</td></tr>\n");
}

static void put_facts(grdi_writer *w, const grdi_history *h, const grd_settings *s)
{
    static const char *const kinds[] = {"gpt2", "llama", "fast"};
    static const char *const optimizers[] = {"none", "AdamW", "Adam", "SGD", "Lion", "Muon"};
    const grd_gpt *g = &s->model.gpt;
    char a[32], b[32];
    grdi_writer_print(w, "<section><h2>Model and training</h2><table>\n");
    put_row(w, "model", "%s, %d layers, %d heads, %lld wide", kinds[s->model.kind], g->layers, g->heads,
            (long long)g->width);
    put_row(w, "context and vocabulary", "%lld, %lld", (long long)g->context, (long long)g->vocab);
    if (h->plan.parameters) put_row(w, "parameters", "%s", short_number((double)h->plan.parameters, a));
    if (s->data.path) put_row(w, "text", "%s", s->data.path);
    put_row(w, "tokens in a step", "%lld", (long long)(s->train.batch * s->train.accumulate * g->context));
    put_row(w, "optimizer", "%s, learning rate %g", optimizers[s->train.optimizer], s->train.lr);
    if (h->plan.flops_per_step > 0)
        put_row(w, "a step", "%s, %s ms predicted", with_unit(h->plan.flops_per_step, "FLOP", a),
                short_number(h->plan.predicted_step_ms, b));
    put_row(w, "seed", "%lld", (long long)s->train.seed);
    grdi_writer_print(w, "</table></section>\n");
}

static void put_memory(grdi_writer *w, const grd_plan_report *plan)
{
    static const char *const names[] = {"weights",     "gradients", "optimizer",         "states",
                                        "activations", "workspace", "inputs and outputs"};
    static const char *const colours[] = {"#2463c9", "#0f8b6d", "#c2410c", "#7c3aed", "#b0850b", "#64748b", "#be185d"};
    const size_t bytes[] = {plan->weights_bytes,     plan->gradients_bytes, plan->optimizer_bytes, plan->state_bytes,
                            plan->activations_bytes, plan->workspace_bytes, plan->inputs_bytes};
    char text[32];
    if (!plan->peak_bytes) return;
    grdi_writer_print(w,
                      "<section><h2>Memory</h2><p class=\"soft\">%s at most, by what it is for</p><div class=\"bar\">",
                      with_unit((double)plan->peak_bytes, "B", text));
    for (int i = 0; i < 7; i++)
        grdi_writer_print(w, "<i style=\"background:%s;width:%.2f%%\"></i>", colours[i],
                          100 * (double)bytes[i] / (double)plan->peak_bytes);
    grdi_writer_print(w, "</div><table>\n");
    for (int i = 0; i < 7; i++)
        if (bytes[i])
            grdi_writer_print(w, "<tr><td><span class=\"key\" style=\"background:%s\"></span>%s</td><td>%s</td></tr>\n",
                              colours[i], names[i], with_unit((double)bytes[i], "B", text));
    grdi_writer_print(w, "</table></section>\n");
}

static void put_samples(grdi_writer *w, const grdi_history *h)
{
    if (!h->sample_count) return;
    grdi_writer_print(w, "<section><h2>Samples</h2>\n");
    for (size_t i = h->sample_count; i-- > 0;) { /* the latest first */
        grdi_writer_print(w, "<p class=\"soft\">after step %lld</p><pre>", (long long)h->samples[i].step);
        put_escaped(w, h->samples[i].text);
        grdi_writer_print(w, "</pre>\n");
    }
    grdi_writer_print(w, "</section>\n");
}

static void put_title(grdi_writer *w, const grdi_history *h, const grd_settings *s, const char *out)
{
    const grdi_history_eval *eval = h->eval_count ? &h->evals[h->eval_count - 1] : NULL;
    long long seconds = h->seconds > 0 ? (long long)(h->seconds + 0.5) : 0;
    grdi_writer_print(w, "<title>");
    put_escaped(w, out);
    grdi_writer_print(w, "</title>\n</head>\n<body>\n<h1>");
    put_escaped(w, out);
    grdi_writer_print(w, "</h1>\n<p>Step %lld", (long long)h->step);
    if (s->train.steps) grdi_writer_print(w, " of %lld", (long long)s->train.steps);
    grdi_writer_print(w, " after %lld:%02lld:%02lld", seconds / 3600, seconds / 60 % 60, seconds % 60);
    if (h->count) grdi_writer_print(w, ", training loss %.4f", h->points[h->count - 1].loss);
    if (eval) grdi_writer_print(w, ", validation loss %.4f", eval->loss);
    if (eval && isfinite(eval->bits_per_byte)) grdi_writer_print(w, " (%.4f bits per byte)", eval->bits_per_byte);
    grdi_writer_print(w, "</p>\n");
}

grd_status grdi_report_write(const grdi_history *history, const grd_settings *settings, const char *out,
                             grd_error *error)
{
    char *path = grdi_path_join(out, "report.html");
    if (!path) return grd_fail(error, GRD_E_MEMORY, "%s: out of memory for a report", out);
    grdi_writer w;
    if (!grdi_writer_open(&w, path)) {
        grdi_writer_put(&w, head, sizeof(head) - 1);
        put_title(&w, history, settings, out);
        grdi_writer_print(&w, "<div class=\"grid\">\n");
        put_charts(&w, history);
        put_facts(&w, history, settings);
        put_memory(&w, &history->plan);
        grdi_writer_print(&w, "</div>\n");
        put_samples(&w, history);
        grdi_writer_print(&w, "<p class=\"soft\">Written by gradus %s.</p>\n</body>\n</html>\n", grd_version());
    }
    grdi_free(path);
    return grdi_writer_commit(&w, error);
}
