/* report_charts.c - the charts of report.html. Lines are SVG that stretches with the page; labels are text beside it,
 * which keeps its size on a telephone. */
#include "train/report_html.h"

#include <float.h>
#include <math.h>
#include <string.h>

enum { SIDE = 1000, TICKS = 4, DOTS_MOST = 80, NAMED_LAYERS = 8 }; /* SIDE: units of the drawing, both ways */

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

/* ---- scales ---- */

/* 1, 2 or 5 times a power of ten, about a quarter of the range. */
static double tick_of(range r)
{
    double rough = (r.most - r.least) / TICKS, power = pow(10, floor(log10(rough)));
    return (rough / power < 1.5 ? 1 : rough / power < 3.5 ? 2 : rough / power < 7.5 ? 5 : 10) * power;
}

static double place_x(const chart *c, double x)
{
    return (x - c->x.least) / (c->x.most - c->x.least) * SIDE;
}

static double place_y(const chart *c, double y)
{
    range r = c->y;
    if (c->log) {
        y = log(y > 0 ? y : r.least);
        r = (range){log(r.least), log(r.most)};
    }
    return SIDE - (y - r.least) / (r.most - r.least) * SIDE;
}

static void widen(range *r)
{
    double room = r->most > r->least ? 0.06 * (r->most - r->least) : fabs(r->most) > 0 ? 0.1 * fabs(r->most) : 1;
    r->least = r->least >= 0 && r->least < room ? 0 : r->least - room;
    r->most += room;
}

/* Values that differ by factors are drawn by their logarithms. */
static void choose_scale(chart *c, bool may_be_log)
{
    c->log = may_be_log && c->y.least > 0 && c->y.most > 8 * c->y.least;
    if (c->log) c->y = (range){c->y.least / 1.2, c->y.most * 1.2};
    else widen(&c->y);
    if (c->x.most <= c->x.least) c->x = (range){c->x.least - 1, c->x.most + 1};
}

/* "2e-5" */
static void tick_power(double value, char text[32])
{
    int power = (int)floor(log10(fabs(value)) + 1e-9);
    snprintf(text, 32, "%.3ge%d", value / pow(10, power), power);
}

/* With the decimals that tell `step` apart. */
static const char *tick_text(double value, double step, char text[32])
{
    int decimals = step < 1 ? (int)ceil(-log10(step) - 1e-9) : 0;
    if (fabs(value) >= 9999.5) return grdi_html_amount(value, "", text);
    if (fabs(value) < step / 1e6) snprintf(text, 32, "0");
    else if (decimals > 4) tick_power(value, text);
    else snprintf(text, 32, "%.*f", decimals, value);
    return text;
}

static void put_y_label(const chart *c, double y, double step)
{
    char text[32];
    grdi_writer_print(c->w, "<span style=\"top:%.2f%%\">%s</span>", 100 * place_y(c, y) / SIDE,
                      tick_text(y, step, text));
}

static void put_rule(const chart *c, double y, double step)
{
    (void)step;
    grdi_writer_print(c->w, "<path class=\"rule\" d=\"M0 %.1fH%d\"/>", place_y(c, y), SIDE);
}

/* No axis has as many: where numbers are so large that adding a step changes nothing, ticks end all the same. */
enum { TICKS_MAX = 64 };

/* On a logarithmic scale ticks are at powers of ten, where these are too few also at 2 and 5 times them. */
static void each_y_tick(const chart *c, void (*put)(const chart *, double y, double step))
{
    static const double digits[] = {1, 2, 5};
    double decades = c->log ? log10(c->y.most / c->y.least) : 0, step = tick_of(c->y);
    int every = decades > 6 ? 2 : 1, first = c->log ? (int)floor(log10(c->y.least)) : 0;
    for (int power = first; c->log && power <= DBL_MAX_10_EXP && pow(10, power) <= c->y.most; power += every)
        for (int i = 0; i < (decades > 2.2 ? 1 : 3); i++) {
            double y = digits[i] * pow(10, power);
            if (y >= c->y.least && y <= c->y.most) put(c, y, pow(10, power));
        }
    double y = ceil(c->y.least / step) * step;
    for (int i = 0; i < TICKS_MAX && y <= c->y.most && !c->log; i++, y += step) put(c, y, step);
}

/* ---- the frame ---- */

static void begin_chart(const chart *c, const char *title, const char *by)
{
    grdi_writer_print(c->w, "<div class=\"plot\"><div class=\"y\">");
    each_y_tick(c, put_y_label);
    grdi_writer_print(c->w,
                      "</div>\n<svg viewBox=\"0 0 %d %d\" preserveAspectRatio=\"none\" role=\"img\" "
                      "aria-label=\"%s by %s\">\n",
                      SIDE, SIDE, title, by);
    each_y_tick(c, put_rule);
}

static void end_chart(const chart *c)
{
    char text[32];
    double step = fmax(tick_of(c->x), 1), x = ceil(c->x.least / step) * step;
    grdi_writer_print(c->w, "</svg>\n<div class=\"x\">");
    for (int i = 0; i < TICKS_MAX && x <= c->x.most; i++, x += step)
        grdi_writer_print(c->w, "<span style=\"left:%.2f%%\">%s</span>", 100 * place_x(c, x) / SIDE,
                          fabs(x) < 99999.5 ? grdi_html_count((int64_t)(x + 0.5), text) : tick_text(x, step, text));
    grdi_writer_print(c->w, "</div></div></figure>\n");
}

/* ---- by step ---- */

/* The value of a point that is drawn. */
static double value_of(const grdi_history_point *p, size_t field)
{
    return *(const double *)(const void *)((const char *)p + field);
}

static void draw_line(const chart *c, const grdi_history *h, size_t field)
{
    bool pen = false;
    grdi_writer_print(c->w, "<path class=\"a%s\" d=\"", h->count == 1 ? " dot" : "");
    for (size_t i = 0; i < h->count; i++) {
        double y = value_of(&h->points[i], field);
        if (isfinite(y))
            grdi_writer_print(c->w, "%c%.1f %.1f", pen ? 'L' : 'M', place_x(c, (double)h->points[i].step),
                              place_y(c, y));
        if (isfinite(y) && !pen) grdi_writer_print(c->w, "h0"); /* a point alone is seen, too */
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
    grdi_writer_print(c->w, "<path class=\"b\" d=\"");
    for (size_t i = 0; i < h->eval_count; i++)
        grdi_writer_print(c->w, "%c%.1f %.1f", i ? 'L' : 'M', place_x(c, (double)h->evals[i].step),
                          place_y(c, eval_value(&h->evals[i], bits)));
    grdi_writer_print(c->w, "\"/>\n");
    for (size_t i = 0; i < h->eval_count && h->eval_count <= DOTS_MOST; i++)
        grdi_writer_print(c->w, "<path class=\"b dot\" d=\"M%.1f %.1fh0\"><title>step %lld: %.4f</title></path>\n",
                          place_x(c, (double)h->evals[i].step), place_y(c, eval_value(&h->evals[i], bits)),
                          (long long)h->evals[i].step, eval_value(&h->evals[i], bits));
}

typedef struct picture {
    const char *title, *unit;
    size_t field;           /* of the points; SIZE_MAX: none */
    bool band, evals, bits; /* of the loss; validation losses; their bits per byte instead */
    bool log;               /* if its values differ by factors */
} picture;

static void put_legend(grdi_writer *w, const grdi_history *h, const picture *p)
{
    grdi_writer_print(w, "<p class=\"legend\">");
    if (p->evals)
        grdi_writer_print(w, "<span><i class=\"la\"></i>training%s</span>", h->stride > 1 ? ", mean and range" : "");
    if (p->evals && h->eval_count) grdi_writer_print(w, "<span><i class=\"lb\"></i>validation</span>");
    grdi_writer_print(w, "<span class=\"soft\">%s</span></p>\n", p->unit);
}

static void draw(grdi_writer *w, const grdi_history *h, const picture *p)
{
    chart c = {w, {NAN, NAN}, {NAN, NAN}, false};
    for (size_t i = 0; i < h->count; i++) cover(&c.x, (double)h->points[i].step);
    for (size_t i = 0; i < h->count && p->field != SIZE_MAX; i++) {
        cover(&c.y, value_of(&h->points[i], p->field));
        if (p->band) cover(&c.y, h->points[i].least), cover(&c.y, h->points[i].most);
    }
    for (size_t i = 0; i < h->eval_count && (p->evals || p->bits); i++) {
        cover(&c.x, (double)h->evals[i].step);
        cover(&c.y, eval_value(&h->evals[i], p->bits));
    }
    if (isnan(c.x.least) || isnan(c.y.least)) return;
    choose_scale(&c, p->log);
    grdi_writer_print(w, "<figure><h3>%s</h3>", p->title);
    put_legend(w, h, p);
    begin_chart(&c, p->title, "step");
    if (p->band) draw_band(&c, h);
    if (p->field != SIZE_MAX) draw_line(&c, h, p->field);
    if (p->evals || p->bits) draw_evals(&c, h, p->bits);
    end_chart(&c);
}

static bool bits_are_known(const grdi_history *h)
{
    for (size_t i = 0; i < h->eval_count; i++)
        if (!isfinite(h->evals[i].bits_per_byte)) return false;
    return h->eval_count > 0;
}

void grdi_html_charts(grdi_writer *w, const grdi_history *h, const grd_run_words *words)
{
    char per_second[64];
    if (h->count < 2) return; /* of a model that was solved, or a run that just began: one point is no picture */
    snprintf(per_second, sizeof(per_second), "%s per second", words->samples);
    const picture pictures[] = {
        {"Loss", words->loss_unit, offsetof(grdi_history_point, loss), true, true, false, true},
        {"Bits per byte", "of the validation text", SIZE_MAX, false, false, true, false},
        {"Learning rate", "the base rate", offsetof(grdi_history_point, lr), false, false, false, false},
        {"Gradient norm", "over all parameters, before clipping", offsetof(grdi_history_point, grad_norm), false, false,
         false, true},
        {"Throughput", per_second, offsetof(grdi_history_point, tokens_per_s), false, false, false, false},
    };
    for (size_t i = 0; i < sizeof(pictures) / sizeof(pictures[0]); i++)
        if (!pictures[i].bits || bits_are_known(h)) draw(w, h, &pictures[i]);
}

/* ---- forecasts ---- */

static void draw_series(const chart *c, const double *values, size_t count, const char *class)
{
    bool pen = false;
    grdi_writer_print(c->w, "<path class=\"%s\" d=\"", class);
    for (size_t i = 0; i < count; i++) {
        bool here = isfinite(values[i]);
        if (here) grdi_writer_print(c->w, "%c%.1f %.1f", pen ? 'L' : 'M', place_x(c, (double)i), place_y(c, values[i]));
        if (here && !pen) grdi_writer_print(c->w, "h0");
        pen = here;
    }
    grdi_writer_print(c->w, "\"/>\n");
}

void grdi_html_forecast(grdi_writer *w, const grdi_history_forecast *f, const char *target)
{
    chart c = {w, {0, (double)f->count - 1}, {NAN, NAN}, false};
    for (size_t i = 0; i < f->count; i++) cover(&c.y, f->truth[i]), cover(&c.y, f->values[i]);
    if (isnan(c.y.least)) return;
    choose_scale(&c, false);
    grdi_writer_print(w, "<figure class=\"two\"><h3>Forecast of ");
    grdi_html_escaped(w, target);
    grdi_writer_print(w,
                      "</h3><p class=\"legend\"><span><i class=\"la\"></i>what came</span><span><i "
                      "class=\"lb\"></i>forecast</span><span class=\"soft\">the last %zu of %lld steps held out, by "
                      "the model after step %lld</span></p>\n",
                      f->count, (long long)f->held_out, (long long)f->step);
    begin_chart(&c, "Forecast", "time");
    draw_series(&c, f->truth, f->count, "a");
    draw_series(&c, f->values, f->count, "b");
    grdi_writer_print(w,
                      "</svg>\n<div class=\"x\"><span style=\"left:0;transform:none\">%s</span>"
                      "<span class=\"mid\" style=\"left:50%%\">%s</span>"
                      "<span style=\"left:100%%;transform:translateX(-100%%)\">%s"
                      "</span></div></div></figure>\n",
                      f->first, f->middle, f->last);
}

/* ---- residuals ---- */

void grdi_html_residuals(grdi_writer *w, const grdi_row_said *rows, int32_t count, int64_t all)
{
    chart c = {w, {NAN, NAN}, {NAN, NAN}, false};
    char text[32];
    for (int32_t i = 0; i < count; i++) cover(&c.x, rows[i].said), cover(&c.y, rows[i].is - rows[i].said);
    cover(&c.y, 0);
    if (isnan(c.x.least)) return;
    choose_scale(&c, false);
    double step = tick_of(c.x), x = ceil(c.x.least / step) * step;
    grdi_writer_print(
        w,
        "<figure class=\"two\"><h3>Residuals</h3><p class=\"legend\"><span class=\"soft\">what it is minus "
        "what was said (upwards), by what was said (to the right); %d of %lld rows</span></p>\n",
        count, (long long)all);
    begin_chart(&c, "Residuals", "prediction");
    grdi_writer_print(w, "<path class=\"b\" d=\"M0 %.1fH%d\"/>\n", place_y(&c, 0), SIDE);
    grdi_writer_print(w, "<path class=\"a dot\" style=\"stroke-width:5;stroke-opacity:.55\" d=\"");
    for (int32_t i = 0; i < count; i++)
        if (isfinite(rows[i].said))
            grdi_writer_print(w, "M%.1f %.1fh0", place_x(&c, rows[i].said), place_y(&c, rows[i].is - rows[i].said));
    grdi_writer_print(w, "\"/></svg>\n<div class=\"x\">");
    for (int i = 0; i < TICKS_MAX && x <= c.x.most; i++, x += step)
        grdi_writer_print(w, "<span style=\"left:%.2f%%\">%s</span>", 100 * place_x(&c, x) / SIDE,
                          tick_text(x, step, text));
    grdi_writer_print(w, "</div></div></figure>\n");
}

/* ---- by layer ---- */

enum { ACTIVATION, GRADIENT, RATIO };

static double statistic(const grd_layer_statistics *l, int which)
{
    return which == ACTIVATION ? l->activation_rms
           : which == GRADIENT ? l->gradient_rms
                               : l->update_rms / l->weight_rms;
}

/* The statistics of that layer at one time; NULL when they are not there. */
static const grd_layer_statistics *find(const grdi_history_layers *at, const char *name)
{
    for (int32_t i = 0; i < at->count; i++)
        if (at->layers[i].name == name) return &at->layers[i];
    return NULL;
}

/* From blue for the first layer over violet to orange for the last one. */
static int hue(size_t layer, size_t count)
{
    return (215 + (count > 1 ? (int)(180 * layer / (count - 1)) : 0)) % 360;
}

static void cover_layer(chart *c, const grdi_history *h, int which, size_t *drawn)
{
    for (size_t n = 0; n < h->name_count; n++) {
        bool seen = false;
        for (size_t i = 0; i < h->layers_count; i++) {
            const grd_layer_statistics *l = find(&h->layers[i], h->names[n]);
            double y = l ? statistic(l, which) : NAN;
            if (!isfinite(y) || y <= 0) continue;
            seen = true;
            cover(&c->x, (double)h->layers[i].step);
            cover(&c->y, y);
        }
        *drawn += seen;
    }
}

static bool draw_layer(const chart *c, const grdi_history *h, int which, const char *name, int colour)
{
    bool pen = false, any = false, alone = h->layers_count == 1; /* a dot, as there is no line to see */
    for (size_t i = 0; i < h->layers_count; i++) {
        const grd_layer_statistics *l = find(&h->layers[i], name);
        double y = l ? statistic(l, which) : NAN;
        bool here = isfinite(y) && y > 0; /* what is zero has no place on a logarithmic scale */
        if (here && !any)
            grdi_writer_print(c->w, "<path%s style=\"stroke:hsl(%d 62%% var(--l))\" d=\"",
                              alone ? " class=\"dot\"" : "", colour);
        if (here)
            grdi_writer_print(c->w, "%c%.1f %.1f", pen ? 'L' : 'M', place_x(c, (double)h->layers[i].step),
                              place_y(c, y));
        if (here && !pen) grdi_writer_print(c->w, "h0");
        any |= here;
        pen = here;
    }
    if (any) grdi_writer_print(c->w, "\"><title>%s</title></path>\n", name);
    return any;
}

/* Few layers by name, many by the first, the last and the colours between. */
static void put_layer_legend(grdi_writer *w, const grdi_history *h)
{
    bool few = h->name_count <= NAMED_LAYERS;
    grdi_writer_print(w, "<p class=\"legend\">");
    if (!few) grdi_writer_print(w, "<span>%s<span class=\"ramp\">", h->names[0]);
    for (size_t n = 0; n < h->name_count; n++) {
        int colour = hue(n, h->name_count);
        if (few)
            grdi_writer_print(w, "<span><i style=\"background:hsl(%d 62%% var(--l))\"></i>%s</span>", colour,
                              h->names[n]);
        else grdi_writer_print(w, "<i style=\"background:hsl(%d 62%% var(--l))\"></i>", colour);
    }
    if (!few) grdi_writer_print(w, "</span>%s</span>", h->names[h->name_count - 1]);
    grdi_writer_print(w, "</p>\n");
}

void grdi_html_layer_charts(grdi_writer *w, const grdi_history *h)
{
    static const char *const titles[] = {"Activations", "Gradients", "Updates"};
    static const char *const units[] = {"root mean square of what a layer puts out",
                                        "root mean square over a layer's parameters",
                                        "relative to the weights: RMS of the update over RMS of the weights"};
    for (int which = 0; which < 3; which++) {
        chart c = {w, {NAN, NAN}, {NAN, NAN}, false};
        size_t drawn = 0;
        cover_layer(&c, h, which, &drawn);
        if (!drawn) continue;
        choose_scale(&c, true);
        grdi_writer_print(w, "<figure><h3>%s</h3><p class=\"legend\"><span class=\"soft\">%s</span></p>", titles[which],
                          units[which]);
        put_layer_legend(w, h);
        begin_chart(&c, titles[which], "step");
        for (size_t n = 0; n < h->name_count; n++) draw_layer(&c, h, which, h->names[n], hue(n, h->name_count));
        end_chart(&c);
    }
}
