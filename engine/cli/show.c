/* show.c - the events of a run: a progress line on a terminal, plain lines elsewhere, JSON lines for programs. */
#include "cli/show.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

enum { PLAIN_EVERY_S = 10, BAR_WIDTH = 20, BAR_LEAST = 5, BRACKETS_WIDTH = 3, PERCENT_WIDTH = 6 };
#define TERMINAL_EVERY_S 0.1

void show_begin(show *s, const cli *c)
{
    *s = (show){.c = c, .terminal = !c->json && !c->quiet && isatty(STDOUT_FILENO), .shown_at = -1, .first_step = -1};
}

void show_end(show *s)
{
    if (s->line_open) printf("\n");
    s->line_open = false;
    cli_flush();
}

/* ---- for programs ---- */

static void show_json(const grd_event *event)
{
    char line[4096], *text = line;
    size_t length = grd_event_json(event, line, sizeof(line));
    if (length >= sizeof(line)) {
        text = malloc(length + 1);
        if (text) grd_event_json(event, text, length + 1);
    }
    if (text) puts(text);
    if (text != line) free(text);
    cli_flush();
}

/* ---- for people ---- */

void show_plan(const grd_plan_report *plan)
{
    printf("model: %s parameters\n", cli_count(plan->parameters));
    printf("memory: %s at most (weights %s, gradients %s, optimizer %s, activations %s, workspace %s)\n",
           cli_bytes((double)plan->peak_bytes), cli_bytes((double)plan->weights_bytes),
           cli_bytes((double)plan->gradients_bytes), cli_bytes((double)plan->optimizer_bytes),
           cli_bytes((double)plan->activations_bytes), cli_bytes((double)plan->workspace_bytes));
    printf("a step: %s, %s moved", cli_amount(plan->flops_per_step, "FLOP"), cli_bytes(plan->bytes_per_step));
    if (plan->predicted_step_ms > 0) printf(", %s predicted", cli_ms(plan->predicted_step_ms));
    printf("\n");
    if (plan->device_calls)
        printf("launches: %s of a micro-batch and the update, %s calls of the device\n", cli_count(plan->launches),
               cli_count(plan->device_calls));
}

static int terminal_columns(void)
{
    struct winsize size;
    return ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
}

enum { STEP_ONLY, STEP_VALIDATION, STEP_SPEED, STEP_ALL };

/* "step 310  loss 3.521  validation 3.614 (1.981 bits/byte)  41,212 tokens/s  1:06 left"; less with less detail. */
static void describe_step(const show *s, const grd_event *event, int detail, char *text, size_t size)
{
    size_t used = (size_t)snprintf(text, size, "step %s", cli_count(event->step));
    if (event->steps) used += (size_t)snprintf(text + used, size - used, "/%s", cli_count(event->steps));
    used += (size_t)snprintf(text + used, size - used, "  loss %.3f", s->loss);
    if (s->validation > 0 && detail >= STEP_VALIDATION) {
        used += (size_t)snprintf(text + used, size - used, "  validation %.3f", s->validation);
        if (s->bits > 0 && detail >= STEP_ALL)
            used += (size_t)snprintf(text + used, size - used, " (%.3f bits/byte)", s->bits);
        if (s->rmse > 0 && detail >= STEP_ALL)
            used += (size_t)snprintf(text + used, size - used, " (rmse %.4g)", s->rmse);
        else if (event->samples && detail >= STEP_ALL)
            used += (size_t)snprintf(text + used, size - used, " (%.2f%% right)", 100 * s->accuracy);
    }
    double seconds = event->seconds - s->first_seconds;
    if (seconds > 0 && detail >= STEP_SPEED)
        used += (size_t)snprintf(text + used, size - used, "  %s %s/s", cli_count((int64_t)(s->counted / seconds)),
                                 event->unit ? event->unit : "tokens");
    if (event->progress > 0)
        snprintf(text + used, size - used, "  %s left",
                 cli_clock(event->seconds * (1 - event->progress) / event->progress));
}

static void draw_bar(show *s, const grd_event *event)
{
    char text[256], bar[BAR_WIDTH + 1];
    int room = terminal_columns() - 1 - PERCENT_WIDTH, detail = STEP_ALL;
    do describe_step(s, event, detail, text, sizeof(text));
    while ((int)strlen(text) > room && detail-- > STEP_ONLY);
    int width = room - (int)strlen(text) - BRACKETS_WIDTH; /* the bar takes what the numbers leave */
    width = width > BAR_WIDTH ? BAR_WIDTH : width;
    int done = (int)(event->progress * width);
    for (int i = 0; i < width; i++) bar[i] = i < done ? '=' : i == done ? '>' : ' ';
    char whole[320];
    if (width >= BAR_LEAST)
        snprintf(whole, sizeof(whole), "[%.*s] %3.0f%%  %s", width, bar, 100 * event->progress, text);
    else snprintf(whole, sizeof(whole), "%3.0f%%  %s", 100 * event->progress, text);
    printf("\r%.*s\033[K", terminal_columns() - 1, whole);
    s->line_open = true;
}

static void show_step(show *s, const grd_event *event)
{
    if (s->first_step < 0) {
        s->first_step = event->step - 1;
        s->first_seconds = event->seconds - event->time_ms / 1e3;
        s->loss = event->loss;
    }
    double weight = 2.0 / (double)(event->step - s->first_step + 1); /* a plain mean at first, then the last 50 or so */
    s->loss += (weight < 0.04 ? 0.04 : weight > 1 ? 1 : weight) * (event->loss - s->loss);
    s->counted += (double)(event->samples ? event->samples : event->tokens);
    double every = s->terminal ? TERMINAL_EVERY_S : PLAIN_EVERY_S;
    bool last = s->over = event->progress >= 1;
    if (s->shown_at >= 0 && event->seconds - s->shown_at < every && !last) return;
    s->shown_at = event->seconds;
    if (s->terminal) {
        draw_bar(s, event);
        return;
    }
    char text[256];
    describe_step(s, event, STEP_ALL, text, sizeof(text));
    printf("%3.0f%%  %s\n", 100 * event->progress, text);
}

static void show_errors(const grd_event *event)
{
    printf(", rmse %.4g, mae %.4g", event->rmse, event->mae);
    if (isfinite(event->persistence_rmse)) printf(" (persistence: rmse %.4g", event->persistence_rmse);
    if (isfinite(event->seasonal_rmse)) printf(", seasonal-naive: %.4g", event->seasonal_rmse);
    if (isfinite(event->persistence_rmse)) printf(")");
}

void show_figures(const grd_event *event)
{
    const char *unit = event->unit ? event->unit : "tokens";
    printf("loss %.4f", event->loss);
    if (event->regression) show_errors(event);
    else if (event->samples)
        printf(", accuracy %.2f%% of %s %s", 100 * event->accuracy, cli_count(event->samples), unit);
    else if (isfinite(event->bits_per_byte)) printf(", %.4f bits per byte", event->bits_per_byte);
    for (int32_t i = 0; i < event->figure_count; i++)
        printf(", %s %.4g", event->figures[i].name, event->figures[i].value);
}

static void compare(const char *before, double other, double own, const char *name)
{
    bool better = own < other;
    printf("%s%.3g times %s error than %s", before, better ? other / own : own / other, better ? "less" : "MORE", name);
}

void show_comparison(const grd_event *event)
{
    if (!event->regression || !isfinite(event->persistence_rmse) || !(event->rmse > 0)) return;
    compare("", event->persistence_rmse, event->rmse, "persistence");
    if (isfinite(event->seasonal_rmse)) compare(", ", event->seasonal_rmse, event->rmse, "seasonal-naive");
    printf("\n");
}

static void show_eval(show *s, const grd_event *event)
{
    s->validation = event->loss;
    s->bits = isfinite(event->bits_per_byte) ? event->bits_per_byte : 0;
    s->accuracy = event->accuracy;
    s->rmse = event->regression ? event->rmse : 0;
    if (s->terminal && event->part < 1) return; /* the progress line has it from now on */
    show_end(s);
    const char *held_out = event->unit && strcmp(event->unit, "images") == 0 ? "test" : "validation";
    printf("%s at step %s: ", held_out, cli_count(event->step));
    show_figures(event);
    if (event->part < 1)
        printf(" (from %.0f%% of the %s %s)", 100 * event->part, held_out, event->unit ? event->unit : "text");
    printf("\n");
    if (s->over) show_comparison(event);
}

enum { CUT = 60, DOTS_WIDTH = 4 };

/* The last one in full, others by their beginning: the report has them all. Models of bytes write control characters,
 * which a terminal would obey. */
static void show_sample(const show *s, const grd_event *event)
{
    bool whole = event->progress >= 1;
    int before = whole ? printf("\n") : printf("sample at step %s: ", cli_count(event->step)), columns = 0;
    int room = s->terminal ? terminal_columns() - before - DOTS_WIDTH : CUT, cut = room < CUT ? room : CUT;
    for (const char *at = event->text; *at && (whole || columns < cut); at++) {
        unsigned char c = (unsigned char)*at;
        columns += c < 0x80 ? 1 : c >= 0xE3 ? 2 : c >= 0xC0 ? 1 : 0; /* first bytes; from there on most are wide */
        if (c == '\n' || c == '\t') putchar(whole ? c : ' ');
        else if (c < 0x20 || c == 0x7F) printf("\xEF\xBF\xBD");
        else putchar(c);
        for (; !whole && columns >= cut && (at[1] & 0xC0) == 0x80; at++) putchar(at[1]);
        if (!whole && columns >= cut && at[1]) printf("...");
    }
    printf(whole ? "\n\n" : "\n");
}

static void show_for_people(show *s, const grd_event *event)
{
    bool own_line = event->kind != GRD_EVENT_STEP && event->kind != GRD_EVENT_EVAL && event->kind != GRD_EVENT_LAYERS;
    if (own_line) show_end(s);
    switch (event->kind) {
    case GRD_EVENT_NOTE: printf("%s\n", event->text); break;
    case GRD_EVENT_PLAN: show_plan(&event->plan); break;
    case GRD_EVENT_STEP: show_step(s, event); break;
    case GRD_EVENT_EVAL: show_eval(s, event); break;
    case GRD_EVENT_LAYERS: break; /* too many numbers for a line: the report draws them */
    case GRD_EVENT_SAMPLE: show_sample(s, event); break;
    case GRD_EVENT_SAVED: printf("saved %s\n", event->text); break;
    case GRD_EVENT_ERROR: break;
    case GRD_EVENT_DONE:
        printf("%s step%s in %s\n", cli_count(event->step), event->step == 1 ? "" : "s", cli_clock(event->seconds));
        break;
    }
}

void show_event(void *context, const grd_event *event)
{
    show *s = context;
    s->planned |= event->kind == GRD_EVENT_PLAN;
    if (s->c->json) show_json(event);
    else if (!s->c->quiet) show_for_people(s, event);
    if (cli_flush()) return;
    s->deaf = true; /* nobody hears of the run any more: it saves and ends */
    cli_stop = 1;
}
