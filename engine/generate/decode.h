/* decode.h - the logits after a growing row of tokens. */
#ifndef GRDI_GENERATE_DECODE_H
#define GRDI_GENERATE_DECODE_H

#include <gradus/model.h>
#include <gradus/nn.h>

/* One way to run the model: `tokens` of them in, the logits after one of them out. */
typedef struct grdi_decoding {
    grd_graph *graph;
    grd_program *program;
    grd_tensor ids, positions, last, logits;
    int64_t tokens;
} grdi_decoding;

/* The model sees a window of the row: all of it until it has `window` tokens; then, each time that the window is full,
 * its later half, and on from there. With a cache only tokens that are not in it yet are run. */
typedef struct grdi_decoder {
    grd_model *model;
    const grd_gpt *gpt;
    int64_t window;
    bool no_cache;
    grdi_decoding one, several; /* a single token; several at once. Without a cache: unused; the whole window */
    int64_t begin, seen;        /* the window's first token; how many from there are in the cache */
    int32_t *inputs;            /* [2][window]: ids and positions */
    float *values;              /* [vocab] */
    grd_error *error;
} grdi_decoder;

/* `longest`: the most tokens that the row will have. The model's parameters exist after this. `error` is kept. */
grd_status grdi_decoder_open(grdi_decoder *d, grd_model *model, const grd_gpt *gpt, int64_t longest, bool no_cache,
                             grd_error *error);
/* The logits [vocab] after tokens[0..count), valid until the next call. A row may only grow from call to call. */
grd_status grdi_decoder_logits(grdi_decoder *d, const int32_t *tokens, int64_t count, const float **logits);
/* Begins a new row; weights may have changed. */
void grdi_decoder_restart(grdi_decoder *d);
void grdi_decoder_close(grdi_decoder *d);

#endif
