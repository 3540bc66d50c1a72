/* decode.c - logits token by token, with the keys and values of earlier tokens kept in the model's states. */
#include "generate/decode.h"

#include "base/memory.h"

#include <string.h>

enum { SEVERAL = 32 };

static grd_status out_of_memory(const grdi_decoder *d)
{
    return grd_fail(d->error, GRD_E_MEMORY, "out of memory for generating");
}

static grd_status build(const grdi_decoder *d, grdi_decoding *p, int64_t tokens)
{
    const grd_tensor none = {0};
    p->tokens = tokens;
    p->graph = grd_graph_new(d->model);
    p->ids = grd_input(p->graph, "ids", GRD_I32, grd_shape(1, tokens));
    p->last = grd_input(p->graph, "last", GRD_I32, grd_shape(1));
    if (!d->no_cache) p->positions = grd_input(p->graph, "positions", GRD_I32, grd_shape(tokens));
    grd_tensor hidden = d->no_cache ? grd_gpt_hidden(p->ids, d->gpt, none)
                                    : grd_gpt_hidden_cached(p->ids, p->positions, d->window, d->gpt);
    p->logits = grd_gpt_logits(grd_take(hidden, p->last, 1), d->gpt);
    p->program = grd_program_new(&p->logits, 1);
    if (p->program) return GRD_OK;
    const grd_error *problem = grd_graph_error(p->graph);
    return problem->status ? grd_fail(d->error, problem->status, "%s", problem->message) : out_of_memory(d);
}

grd_status grdi_decoder_open(grdi_decoder *d, grd_model *model, const grd_gpt *gpt, int64_t longest, bool no_cache,
                             grd_error *error)
{
    *d = (grdi_decoder){.model = model, .gpt = gpt, .no_cache = no_cache, .error = error};
    d->window = longest < gpt->context ? longest : gpt->context;
    int64_t room = d->window > SEVERAL ? d->window : SEVERAL;
    d->inputs = grdi_alloc_zero((size_t)(2 * room), sizeof(int32_t));
    d->values = grdi_alloc((size_t)gpt->vocab * sizeof(float));
    if (!d->inputs || !d->values) return out_of_memory(d);
    if (no_cache) return build(d, &d->several, d->window);
    grd_status status = build(d, &d->one, 1);
    return status ? status : build(d, &d->several, d->window < SEVERAL ? d->window : SEVERAL);
}

void grdi_decoder_close(grdi_decoder *d)
{
    grdi_free(d->inputs);
    grdi_free(d->values);
}

/* Runs tokens[0..count), the first at `position` of the window; `read` asks for the logits after the last. */
static grd_status run(grdi_decoder *d, grdi_decoding *p, const int32_t *tokens, int64_t position, int64_t count,
                      bool read)
{
    int32_t *ids = d->inputs, *positions = ids + p->tokens, last = (int32_t)(count - 1);
    for (int64_t t = 0; t < p->tokens; t++) {
        ids[t] = t < count ? tokens[t] : 0; /* what stands after the last is overwritten before anybody sees it */
        positions[t] = (int32_t)(position + t < d->window ? position + t : d->window - 1);
    }
    grd_program_feed(p->program, p->ids, ids);
    grd_program_feed(p->program, p->last, &last);
    if (!d->no_cache) grd_program_feed(p->program, p->positions, positions);
    grd_status status = grd_program_run(p->program);
    if (!status && read) status = grd_program_read(p->program, p->logits, d->values);
    return status ? grd_fail(d->error, status, "%s", grd_program_error(p->program)->message) : GRD_OK;
}

/* A full window moves on to its later half, which gets positions from 0 on and so has to be run again. */
static void move_window(grdi_decoder *d, int64_t count)
{
    while (count - d->begin > d->window) {
        d->begin += d->window - d->window / 2;
        d->seen = 0;
    }
}

void grdi_decoder_restart(grdi_decoder *d)
{
    d->begin = d->seen = 0;
}

grd_status grdi_decoder_logits(grdi_decoder *d, const int32_t *tokens, int64_t count, const float **logits)
{
    move_window(d, count);
    const int32_t *window = tokens + d->begin;
    int64_t inside = count - d->begin;
    grd_status status = GRD_OK;
    *logits = d->values;
    if (d->no_cache) return run(d, &d->several, window, 0, inside, true);
    while (!status && d->seen < inside) {
        int64_t left = inside - d->seen, taken = left < d->several.tokens ? left : d->several.tokens;
        grdi_decoding *p = taken > 1 ? &d->several : &d->one;
        status = run(d, p, window + d->seen, d->seen, taken, taken == left);
        d->seen += taken;
    }
    return status;
}
