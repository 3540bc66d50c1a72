/* Decoding with a cache gives the logits that the whole text gives, for every kind of model and any way to feed it. */
#include "generate/decode.h"
#include "plan/plan.h"
#include "run/run.h"

#include <criterion/criterion.h>
#include <gradus/gradus.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { VOCAB = 50, LONGEST = 100 };

#define SMALL .layers = 2, .heads = 4, .width = 32, .context = 48, .vocab = VOCAB

static const struct kind {
    const char *name;
    grd_gpt gpt;
} kinds[] = {
    {"gpt2", {SMALL, .mlp = GRD_MLP_GELU_TANH}},
    {"llama with grouped queries",
     {SMALL, .kv_heads = 2, .mlp = GRD_MLP_SWIGLU, .norm = GRD_NORM_RMSNORM, .position = GRD_POSITION_ROPE,
      .no_bias = true, .untied = true, .rope_scaling = GRD_ROPE_LLAMA3, .rope_factor = 8, .rope_low = 1, .rope_high = 4,
      .rope_original = 16}},
    {"fast",
     {SMALL, .mlp = GRD_MLP_RELU2, .norm = GRD_NORM_RMSNORM, .position = GRD_POSITION_ROPE, .no_bias = true,
      .untied = true, .qk_norm = true, .no_norm_gain = true, .muon_init = true, .embedding_norm = true}},
    {"one key head, a window, a softcap",
     {SMALL, .kv_heads = 1, .head_dim = 10, .window = 7, .softcap = 5, .norm = GRD_NORM_RMSNORM,
      .position = GRD_POSITION_ROPE, .qkv_bias = true, .no_bias = true}},
    {"learned positions and a window", {SMALL, .window = 5}},
};
enum { KINDS = sizeof kinds / sizeof kinds[0] };

static uint32_t state;

static float random_value(void)
{
    state = state * 1664525u + 1013904223u;
    return (float)(state >> 8) / (1 << 23) - 1; /* in [-1, 1) */
}

/* Values that make every token matter: the kinds start with matrices that are zero. */
static void fill(grd_model *model)
{
    grd_variable v;
    state = 7;
    for (int64_t i = 0; grd_model_variable_at(model, i, &v); i++) {
        if (v.kind != GRD_VARIABLE_PARAMETER) continue;
        size_t count = v.size_bytes / sizeof(float);
        float *values = malloc(v.size_bytes);
        for (size_t k = 0; k < count; k++)
            values[k] = v.dims.rank > 1 ? 0.5f * random_value() : 1 + 0.3f * random_value();
        cr_assert(grd_model_write(model, v.path, values, NULL) == GRD_OK);
        free(values);
    }
}

typedef struct machine {
    grd_engine *engine;
    grd_model *model;
    grdi_decoder decoder;
    grd_error error;
} machine;

static void start(machine *m, grd_gpt *gpt, bool no_cache)
{
    *m = (machine){.engine = grd_engine_open("cpu", .threads = 1)};
    cr_assert(grd_gpt_resolve(gpt, &m->error) == GRD_OK, "%s", m->error.message);
    m->model = grd_model_new(m->engine, 1);
    cr_assert(grdi_decoder_open(&m->decoder, m->model, gpt, LONGEST, no_cache, &m->error) == GRD_OK, "%s",
              m->error.message);
    fill(m->model);
}

static void stop(machine *m)
{
    grdi_decoder_close(&m->decoder);
    grd_engine_close(m->engine);
}

static void make_tokens(int32_t *tokens)
{
    state = 3;
    for (int i = 0; i < LONGEST; i++) tokens[i] = (int32_t)((random_value() + 1) / 2 * VOCAB) % VOCAB;
}

/* Both machines' logits after tokens[0..count). */
static void compare(machine *fast, machine *plain, const int32_t *tokens, int64_t count, const char *name)
{
    const float *a, *b;
    cr_assert(grdi_decoder_logits(&fast->decoder, tokens, count, &a) == GRD_OK, "%s", fast->error.message);
    cr_assert(grdi_decoder_logits(&plain->decoder, tokens, count, &b) == GRD_OK, "%s", plain->error.message);
    double largest = 0, apart = 0;
    for (int i = 0; i < VOCAB; i++) {
        cr_assert(isfinite(a[i]) && isfinite(b[i]), "%s: %g and %g", name, (double)a[i], (double)b[i]);
        largest = fmax(largest, fabs((double)b[i]));
        apart = fmax(apart, fabs((double)a[i] - (double)b[i]));
    }
    cr_assert(largest > 0.1, "%s: logits that say nothing", name);
    /* f32 through two layers, sums in another order */
    cr_assert(apart < 1e-4 * largest, "%s: %g of %g apart after %lld tokens", name, apart, largest, (long long)count);
}

Test(decode, one_by_one_as_the_whole_text)
{
    int32_t tokens[LONGEST];
    make_tokens(tokens);
    for (int k = 0; k < KINDS; k++) {
        machine fast, plain;
        grd_gpt gpt = kinds[k].gpt;
        start(&fast, &gpt, false);
        start(&plain, &gpt, true);
        for (int64_t count = 1; count <= LONGEST; count++) compare(&fast, &plain, tokens, count, kinds[k].name);
        cr_assert(fast.decoder.begin == plain.decoder.begin && fast.decoder.begin > 0, "the context was full");
        stop(&fast);
        stop(&plain);
    }
}

/* Prompts of many tokens go through the program for several; what it leaves behind a prompt must not be seen. */
Test(decode, in_pieces_as_the_whole_text)
{
    static const int64_t counts[] = {3, 33, 34, 40, 47, 48, 49, 80, 81, 100};
    int32_t tokens[LONGEST];
    make_tokens(tokens);
    for (int k = 0; k < KINDS; k++) {
        machine fast, plain;
        grd_gpt gpt = kinds[k].gpt;
        start(&fast, &gpt, false);
        start(&plain, &gpt, true);
        for (int i = 0; i < 10; i++) compare(&fast, &plain, tokens, counts[i], kinds[k].name);
        stop(&fast);
        stop(&plain);
    }
}

Test(decode, a_context_of_one_and_of_few)
{
    int32_t tokens[LONGEST];
    make_tokens(tokens);
    for (int64_t context = 1; context < 4; context++) {
        machine fast, plain;
        grd_gpt gpt = kinds[1].gpt;
        gpt.context = context;
        start(&fast, &gpt, false);
        start(&plain, &gpt, true);
        for (int64_t count = 1; count <= 12; count++) compare(&fast, &plain, tokens, count, "short");
        stop(&fast);
        stop(&plain);
    }
}

/* The new rows are written where the cache lies: its states are the arena's business in no way. */
Test(decode, the_cache_is_not_copied)
{
    machine m;
    grd_gpt gpt = kinds[0].gpt;
    start(&m, &gpt, false);
    grd_variable cache;
    cr_assert(grd_model_variable_find(m.model, "h1/attn/cache/v", &cache) && cache.kind == GRD_VARIABLE_STATE);
    const grdi_plan *plan = m.decoder.one.program->plan;
    for (size_t i = 0; i < plan->launch_count; i++) {
        const grdi_launch *launch = &plan->launches[i];
        cr_assert(strcmp(launch->call.op->name, "assign") != 0, "an assign was left to do");
        for (int32_t o = 0; o < launch->call.output_count; o++)
            if (launch->out[o].buffer >= 0 && plan->buffers[launch->out[o].buffer].variable)
                cr_assert(strcmp(launch->call.op->name, "cached_attention") == 0, "%s", launch->call.op->name);
    }
    stop(&m);
}
