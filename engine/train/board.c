/* board.c - the events of a run for TensorBoard, beside metrics.jsonl. */
#include "train/session.h"

#include <math.h>
#include <time.h>

static double time_of_day(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

/* Said once; the run itself is worth going on with. */
static void settle(grdi_session *s, grd_status status, const grd_error *error)
{
    if (status) grdi_session_note(s, "%s (no more is written there for TensorBoard)", error->message);
}

void grdi_session_begin_board(grdi_session *s)
{
    grd_error error = {GRD_OK, ""};
    if (!s->settings->out) return;
    settle(s, grdi_board_open(&s->board, s->settings->out, s->done, time_of_day(), &error), &error);
}

/* One chart a layer, grouped by what is drawn: "gradient_rms/h0". */
static grd_status board_layers(grdi_session *s, const grd_event *event, grd_error *error)
{
    static const char *const names[] = {"activation_rms", "gradient_rms", "weight_rms", "update_to_weight"};
    grd_status status = GRD_OK;
    for (int32_t i = 0; i < event->layer_count && !status; i++) {
        const grd_layer_statistics *l = &event->layers[i];
        const double values[] = {l->activation_rms, l->gradient_rms, l->weight_rms, l->update_rms / l->weight_rms};
        char tags[4][96];
        grdi_scalar scalars[4];
        for (int k = 0; k < 4; k++) {
            snprintf(tags[k], sizeof(tags[k]), "%s/%s", names[k], l->name);
            scalars[k] = (grdi_scalar){tags[k], values[k]};
        }
        status = grdi_board_scalars(&s->board, event->step, time_of_day(), scalars, 4, error);
    }
    return status;
}

void grdi_session_board_event(grdi_session *s, const grd_event *event)
{
    grd_error error = {GRD_OK, ""};
    if (s->board.fd < 0) return;
    const grdi_scalar of_step[] = {/* the last one in f16 */ {"loss/train", event->loss},
                                   {"learning_rate", event->lr},
                                   {"gradient_norm", event->grad_norm},
                                   {event->samples ? "samples_per_second" : "tokens_per_second",
                                    event->samples ? event->samples_per_s : event->tokens_per_s},
                                   {"loss_scale", event->loss_scale}};
    grdi_scalar of_eval[2 + GRD_FIGURES_MAX] = {{"loss/validation", event->loss},
                                                {event->regression ? "rmse/validation"
                                                 : event->samples  ? "accuracy/validation"
                                                                   : "bits_per_byte",
                                                 event->regression ? event->rmse
                                                 : event->samples  ? event->accuracy
                                                                   : event->bits_per_byte}};
    size_t eval_count = 2;
    for (int32_t i = 0; i < event->figure_count; i++)
        of_eval[eval_count++] = (grdi_scalar){event->figures[i].name, event->figures[i].value};
    grd_status status = GRD_OK;
    if (event->kind == GRD_EVENT_STEP)
        status =
            grdi_board_scalars(&s->board, event->step, time_of_day(), of_step, event->loss_scale > 0 ? 5 : 4, &error);
    if (event->kind == GRD_EVENT_EVAL)
        status = grdi_board_scalars(&s->board, event->step, time_of_day(), of_eval, eval_count, &error);
    if (event->kind == GRD_EVENT_LAYERS) status = board_layers(s, event, &error);
    if (event->kind == GRD_EVENT_NOTE)
        status = grdi_board_text(&s->board, s->done, time_of_day(), "note", event->text, &error);
    if (event->kind == GRD_EVENT_SAMPLE)
        status = grdi_board_text(&s->board, event->step, time_of_day(), "sample", event->text, &error);
    settle(s, status, &error);
}
