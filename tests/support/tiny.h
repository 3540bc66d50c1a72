/* tiny.h - a tiny transformer and its data, for tests of plans and steps. */
#ifndef TESTS_TINY_H
#define TESTS_TINY_H

#include <gradus/gradus.h>

enum { TINY_BATCH = 2, TINY_LENGTH = 8, TINY_VOCAB = 32 };

typedef struct tiny {
    grd_engine *engine;
    grd_model *model;
    grd_graph *graph;
    grd_tensor ids, targets, scale, loss;
    int32_t inputs[TINY_BATCH * TINY_LENGTH], wanted[TINY_BATCH * TINY_LENGTH];
} tiny;

/* Two layers, 16 wide; `modern`: rotary, RMSNorm, grouped queries, SwiGLU, untied; else GPT-2's kind, tied. */
void tiny_build(tiny *t, const char *device, bool modern);
/* The same with matrices kept in that dtype. */
void tiny_build_kept(tiny *t, const char *device, bool modern, grd_dtype weights);
/* New data for step `i`: what follows a token can be learnt but for every fourth, so that losses stay well above 0. */
void tiny_new_batch(tiny *t, int i);
/* The largest distance of two rows of losses, as a share of the first one's. */
double tiny_furthest(const double *a, const double *b, int steps);
/* Feeds the batch, its targets and scale = part / tokens. */
void tiny_feed(tiny *t, grd_step *step, float part);
void tiny_close(tiny *t);
/* The sum of squares of a variable; fails the test when there is none. */
double tiny_square_sum(grd_model *model, const char *path);

#endif
