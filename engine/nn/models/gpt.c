/* gpt.c - decoder-only transformers: GPT-2, Llama, Qwen and their relatives are settings of one model. */
#include <gradus/nn.h>

#include <math.h>
#include <stdlib.h>

/* A graph takes tensors of at most 2^48 elements; here the keys are known that make a larger one. */
static grd_status check_sizes(const grd_gpt *gpt, grd_error *error)
{
    int64_t heads = (gpt->heads + 2 * (int64_t)gpt->kv_heads) * gpt->head_dim;
    const struct {
        const char *key;
        int64_t rows;
    } matrices[] = {{"model.heads", heads},
                    {"model.mlp_width", gpt->mlp == GRD_MLP_SWIGLU ? 2 * gpt->mlp_width : gpt->mlp_width},
                    {"model.vocab", gpt->vocab},
                    {"model.context", gpt->context}};
    for (int i = 0; i < 4; i++)
        if (matrices[i].rows > ((int64_t)1 << 48) / gpt->width)
            return grd_fail(error, GRD_E_ARGUMENT,
                            "model.width: %lld, with %s, makes a matrix of %lld times that, more than 2^48 elements "
                            "(make one of them smaller)",
                            (long long)gpt->width, matrices[i].key, (long long)matrices[i].rows);
    return GRD_OK;
}

grd_status grd_gpt_resolve(grd_gpt *gpt, grd_error *error)
{
    if (gpt->layers < 1) return grd_fail(error, GRD_E_ARGUMENT, "model.layers: must be 1 or more, is %d", gpt->layers);
    if (gpt->heads < 1) return grd_fail(error, GRD_E_ARGUMENT, "model.heads: must be 1 or more, is %d", gpt->heads);
    if (gpt->width < 1 || gpt->context < 1 || gpt->vocab < 1)
        return grd_fail(error, GRD_E_ARGUMENT,
                        "model: width, context and vocab must be 1 or more, are %lld, %lld, %lld",
                        (long long)gpt->width, (long long)gpt->context, (long long)gpt->vocab);
    if (!gpt->kv_heads) gpt->kv_heads = gpt->heads;
    if (gpt->kv_heads < 1 || gpt->heads % gpt->kv_heads)
        return grd_fail(error, GRD_E_ARGUMENT, "model.kv_heads: %d does not divide model.heads: %d", gpt->kv_heads,
                        gpt->heads);
    if (!gpt->head_dim && gpt->width % gpt->heads)
        return grd_fail(error, GRD_E_ARGUMENT,
                        "model.heads: %d does not divide model.width: %lld (or set model.head_dim)", gpt->heads,
                        (long long)gpt->width);
    if (!gpt->head_dim) gpt->head_dim = gpt->width / gpt->heads;
    if (gpt->head_dim < 1) return grd_fail(error, GRD_E_ARGUMENT, "model.head_dim: must be 1 or more");
    if (gpt->position == GRD_POSITION_ROPE && gpt->head_dim % 2)
        return grd_fail(error, GRD_E_ARGUMENT, "model.head_dim: rope needs an even size, is %lld",
                        (long long)gpt->head_dim);
    if (!gpt->mlp_width)
        gpt->mlp_width = gpt->mlp == GRD_MLP_SWIGLU ? (gpt->width * 8 / 3 + 63) / 64 * 64 : 4 * gpt->width;
    if (gpt->mlp_width < 1) return grd_fail(error, GRD_E_ARGUMENT, "model.mlp_width: must be 1 or more");
    if (gpt->norm_eps == 0) gpt->norm_eps = gpt->norm == GRD_NORM_LAYERNORM ? 1e-5 : 1e-6;
    if (gpt->rope_theta == 0) gpt->rope_theta = 10000;
    if (gpt->rope_scaling != GRD_ROPE_PLAIN && !(gpt->rope_factor > 0))
        return grd_fail(error, GRD_E_ARGUMENT,
                        "model.rope_factor: rope scaling needs a factor above 0 (8 for Llama 3.1)");
    if (gpt->rope_scaling == GRD_ROPE_LLAMA3 &&
        !(gpt->rope_low > 0 && gpt->rope_high > gpt->rope_low && gpt->rope_original > 0))
        return grd_fail(error, GRD_E_ARGUMENT,
                        "model.rope_low: scaling llama3 needs 0 < rope_low < rope_high and rope_original above 0 (1, 4 "
                        "and 8192 for Llama 3.1)");
    if (gpt->init_std == 0) gpt->init_std = 0.02;
    if (gpt->dropout < 0 || gpt->dropout >= 1)
        return grd_fail(error, GRD_E_ARGUMENT, "model.dropout: must be in [0, 1), is %g", gpt->dropout);
    return check_sizes(gpt, error);
}

int64_t grd_gpt_parameters(const grd_gpt *gpt)
{
    int64_t c = gpt->width, f = gpt->mlp_width, q = gpt->heads * gpt->head_dim, kv = gpt->kv_heads * gpt->head_dim;
    int64_t ups = gpt->mlp == GRD_MLP_SWIGLU ? 2 * f : f, bias = gpt->no_bias ? 0 : 1, qkv_bias = bias || gpt->qkv_bias;
    int64_t out_bias = bias || gpt->out_bias, mlp_bias = bias || gpt->mlp_bias;
    int64_t norm = gpt->no_norm_gain ? 0 : c;
    if (gpt->norm == GRD_NORM_LAYERNORM) norm += bias * c;
    int64_t layer = (q + 2 * kv) * (c + qkv_bias) + c * (q + out_bias) + 2 * norm;
    layer += ups * (c + mlp_bias) + c * (f + mlp_bias);
    if (gpt->qk_norm && !gpt->no_norm_gain) layer += 2 * gpt->head_dim;
    int64_t tables =
        gpt->vocab * c * (gpt->untied ? 2 : 1) + (gpt->position == GRD_POSITION_LEARNED ? gpt->context * c : 0);
    return tables + gpt->layers * layer + norm;
}

/* ---- rotary tables ---- */

/* Llama 3.1's change of the frequencies for long contexts: low ones are divided by the factor, high ones kept, those
 * between blended (Hugging Face transformers, modeling_rope_utils, "llama3"). */
static float scaled_frequency(const grd_gpt *gpt, float frequency)
{
    const double pi = 3.14159265358979323846;
    if (gpt->rope_scaling == GRD_ROPE_LINEAR) return frequency / (float)gpt->rope_factor;
    if (gpt->rope_scaling != GRD_ROPE_LLAMA3) return frequency;
    float wavelength = (float)(2 * pi) / frequency, original = (float)gpt->rope_original;
    if (wavelength > original / gpt->rope_low) return frequency / (float)gpt->rope_factor;
    if (wavelength < original / gpt->rope_high) return frequency;
    float blend = (original / wavelength - (float)gpt->rope_low) / (float)(gpt->rope_high - gpt->rope_low);
    return (1 - blend) * frequency / (float)gpt->rope_factor + blend * frequency;
}

/* Cosines and sines [T, head_dim/2] of position times frequency. Frequencies and angles are rounded to float, as
 * PyTorch does: at position 10,000 an angle is off by 1e-3 through that, and models were trained with it. */
static bool rope_tables(grd_graph *graph, const grd_gpt *gpt, int64_t length, grd_tensor *cosines, grd_tensor *sines)
{
    int64_t half = gpt->head_dim / 2;
    float *values = malloc(sizeof(float) * (size_t)(2 * length * half));
    if (!values) return false;
    for (int64_t i = 0; i < half; i++) {
        float power = (float)pow((float)gpt->rope_theta, (float)(2 * i) / (float)gpt->head_dim);
        float frequency = scaled_frequency(gpt, 1 / power);
        for (int64_t t = 0; t < length; t++) {
            float angle = (float)t * frequency;
            values[t * half + i] = (float)cos(angle);
            values[(length + t) * half + i] = (float)sin(angle);
        }
    }
    *cosines = grd_constant(graph, GRD_F32, grd_shape(length, half), values);
    *sines = grd_constant(graph, GRD_F32, grd_shape(length, half), values + length * half);
    free(values);
    return true;
}

/* ---- the block ---- */

typedef struct block_context {
    const grd_gpt *gpt;
    grd_tensor cosines, sines, key;
    grd_tensor positions; /* i32 [T] of the tokens, where a cache holds those before them; else poison */
    int64_t cached;       /* tokens that the cache has room for */
} block_context;

typedef struct projection {
    int64_t features;
    bool bias;
    bool residual;  /* writes into the residual stream: starts smaller */
    int32_t blocks; /* matrices that the weight's rows are made of */
    grd_activation activation;
} projection;

/* A linear layer of the block. */
static grd_tensor project(const block_context *c, grd_tensor x, const char *name, projection p)
{
    const grd_gpt *gpt = c->gpt;
    double std = gpt->init_std;
    if (p.residual) std /= sqrt(2.0 * gpt->layers);
    if (gpt->muon_init) std = 0.5 / sqrt((double)grd_dim(x, -1));
    return grd_linear(x, name, p.features, .no_bias = !p.bias, .init_std = std, .blocks = p.blocks,
                      .zero_init = p.residual && gpt->muon_init, .activation = p.activation);
}

static grd_tensor norm(const grd_gpt *gpt, grd_tensor x, const char *name)
{
    return grd_norm(x, name, gpt->norm, gpt->norm_eps, gpt->no_norm_gain, !gpt->no_bias);
}

static grd_tensor maybe_drop(const block_context *c, grd_tensor x)
{
    return c->gpt->dropout > 0 && !grd_is_poison(c->key) ? grd_dropout(x, c->key, c->gpt->dropout) : x;
}

/* Head-wise part of the fused projection: qkv [B,T,(H+2Hkv)*D], columns from `start`, as [B,T,heads,D]; normalised and
 * turned if asked. */
static grd_tensor take_heads(const block_context *c, grd_tensor qkv, int64_t start, int32_t heads,
                             const char *norm_name)
{
    const grd_gpt *gpt = c->gpt;
    grd_tensor x = grd_slice(qkv, 2, start * gpt->head_dim, heads * gpt->head_dim);
    x = grd_reshape(x, grd_shape(grd_dim(qkv, 0), grd_dim(qkv, 1), heads, gpt->head_dim));
    if (!norm_name) return x;
    if (gpt->qk_norm) x = grd_norm(x, norm_name, GRD_NORM_RMSNORM, gpt->norm_eps, gpt->no_norm_gain, false);
    if (gpt->position == GRD_POSITION_ROPE) x = grd_rope(x, c->cosines, c->sines);
    return x;
}

/* Attention over the cache of this layer, states "k" and "v" [B,cached,Hkv,D] of its scope. */
static grd_tensor attend_cached(const block_context *c, grd_tensor q, grd_tensor k, grd_tensor v)
{
    grd_graph *graph = grd_tensor_graph(q);
    grd_dims dims = grd_shape(grd_dim(q, 0), c->cached, c->gpt->kv_heads, c->gpt->head_dim);
    grd_scope_push(graph, "cache");
    grd_tensor keys = grd_state(graph, "k", GRD_F32, dims), values = grd_state(graph, "v", GRD_F32, dims);
    grd_scope_pop(graph);
    grd_tensor next_keys = keys, next_values = values, position = grd_slice(c->positions, 0, 0, 1);
    grd_tensor y = grd_cached_attention(q, k, v, &next_keys, &next_values, position, .window = c->gpt->window);
    grd_assign(keys, next_keys);
    grd_assign(values, next_values);
    return y;
}

static grd_tensor attend(const block_context *c, grd_tensor x)
{
    const grd_gpt *gpt = c->gpt;
    int64_t heads = gpt->heads, kv = gpt->kv_heads, batch = grd_dim(x, 0), length = grd_dim(x, 1);
    grd_tensor qkv = project(c, x, "qkv",
                             (projection){.features = (heads + 2 * kv) * gpt->head_dim,
                                          .bias = !gpt->no_bias || gpt->qkv_bias,
                                          .blocks = kv == heads ? 3 : 1});
    if (grd_is_poison(qkv)) return qkv;
    grd_tensor q = take_heads(c, qkv, 0, gpt->heads, "q_norm");
    grd_tensor k = take_heads(c, qkv, heads, gpt->kv_heads, "k_norm");
    grd_tensor v = take_heads(c, qkv, heads + kv, gpt->kv_heads, NULL);
    grd_tensor y = grd_is_poison(c->positions)
                       ? grd_attention(q, k, v, .causal = !gpt->bidirectional, .window = gpt->window)
                       : attend_cached(c, q, k, v);
    y = grd_reshape(y, grd_shape(batch, length, heads * gpt->head_dim));
    bool bias = !gpt->no_bias || gpt->out_bias;
    return project(c, y, "out", (projection){.features = gpt->width, .bias = bias, .residual = true});
}

static grd_tensor feed_forward(const block_context *c, grd_tensor x)
{
    const grd_gpt *gpt = c->gpt;
    static const grd_activation activations[] = {GRD_ACTIVATION_GELU, GRD_ACTIVATION_GELU_TANH, GRD_ACTIVATION_NONE,
                                                 GRD_ACTIVATION_RELU_SQUARED};
    bool bias = !gpt->no_bias || gpt->mlp_bias;
    grd_tensor h;
    if (gpt->mlp == GRD_MLP_SWIGLU) {
        grd_tensor both =
            project(c, x, "gate_up", (projection){.features = 2 * gpt->mlp_width, .bias = bias, .blocks = 2});
        if (grd_is_poison(both)) return both;
        h = grd_mul(grd_silu(grd_slice(both, 2, 0, gpt->mlp_width)),
                    grd_slice(both, 2, gpt->mlp_width, gpt->mlp_width));
    } else {
        const projection up = {gpt->mlp_width, bias, false, 1, activations[gpt->mlp]};
        h = project(c, x, "up", up);
    }
    return project(c, h, "down", (projection){.features = gpt->width, .bias = bias, .residual = true});
}

static grd_tensor block(const block_context *c, grd_tensor x)
{
    grd_graph *graph = grd_tensor_graph(x);
    grd_tensor h = norm(c->gpt, x, "norm1");
    grd_scope_push(graph, "attn");
    h = maybe_drop(c, attend(c, h));
    grd_scope_pop(graph);
    x = grd_add(x, h);
    h = norm(c->gpt, x, "norm2");
    grd_scope_push(graph, "mlp");
    h = maybe_drop(c, feed_forward(c, h));
    grd_scope_pop(graph);
    return grd_add(x, h);
}

/* The table of learned positions, for T tokens: its first rows, or those of their positions. */
static grd_tensor learned_positions(const block_context *c, grd_graph *graph, int64_t length)
{
    const grd_gpt *gpt = c->gpt;
    grd_scope_push(graph, "position");
    grd_tensor table = grd_parameter(graph, "weight", grd_shape(gpt->context, gpt->width), .init = GRD_INIT_NORMAL,
                                     .scale = gpt->init_std);
    grd_scope_pop(graph);
    return grd_is_poison(c->positions) ? grd_slice(table, 0, 0, length) : grd_embedding(table, c->positions);
}

/* Cosines and sines of the tokens' positions. */
static bool find_rotations(block_context *c, grd_graph *graph, int64_t length)
{
    bool whole = grd_is_poison(c->positions);
    if (!rope_tables(graph, c->gpt, whole ? length : c->cached, &c->cosines, &c->sines)) return false;
    if (whole) return true;
    c->cosines = grd_take(c->cosines, c->positions, 0);
    c->sines = grd_take(c->sines, c->positions, 0);
    return true;
}

/* For training with Muon the embedding's values are ~ 1, as those behind a norm; a head that shares them needs small
 * ones. */
static double table_std(const grd_gpt *gpt)
{
    return gpt->muon_init && gpt->untied ? 1.0 : gpt->init_std;
}

/* All blocks, each a recompute segment, and the last norm. */
static grd_tensor run_blocks(const block_context *c, grd_tensor x)
{
    grd_graph *graph = grd_tensor_graph(x);
    for (int32_t i = 0; i < c->gpt->layers && !grd_is_poison(x); i++) {
        grd_scope_push(graph, "h%d", i);
        grd_segment_begin(graph);
        x = block(c, x);
        grd_segment_end(graph);
        grd_scope_pop(graph);
    }
    return grd_is_poison(x) ? x : norm(c->gpt, x, "norm");
}

grd_tensor grd_gpt_blocks(grd_tensor x, const grd_gpt *gpt, grd_tensor key)
{
    block_context c = {.gpt = gpt, .key = key};
    const grd_tensor poison = {0};
    grd_graph *graph = grd_tensor_graph(x);
    if (!graph) return poison;
    if (gpt->position == GRD_POSITION_ROPE && !find_rotations(&c, graph, grd_dim(x, 1))) return poison;
    return run_blocks(&c, maybe_drop(&c, x));
}

static grd_tensor hidden(block_context *c, grd_tensor ids)
{
    const grd_tensor poison = {0};
    const grd_gpt *gpt = c->gpt;
    grd_graph *graph = grd_tensor_graph(ids);
    int64_t length = grd_dim(ids, 1);
    if (!graph || length < 1) return poison;
    grd_tensor x = grd_embed(ids, "embed", gpt->vocab, gpt->width, table_std(gpt));
    if (gpt->position == GRD_POSITION_LEARNED) x = grd_add(x, learned_positions(c, graph, length));
    else if (!find_rotations(c, graph, length)) return poison;
    if (gpt->embedding_norm) x = grd_norm(x, "embed_norm", GRD_NORM_RMSNORM, gpt->norm_eps, true, false);
    return run_blocks(c, maybe_drop(c, x));
}

grd_tensor grd_gpt_hidden(grd_tensor ids, const grd_gpt *gpt, grd_tensor key)
{
    block_context c = {.gpt = gpt, .key = key};
    return hidden(&c, ids);
}

grd_tensor grd_gpt_hidden_cached(grd_tensor ids, grd_tensor positions, int64_t length, const grd_gpt *gpt)
{
    block_context c = {.gpt = gpt, .positions = positions, .cached = length};
    const grd_tensor poison = {0};
    return grd_is_poison(positions) ? poison : hidden(&c, ids);
}

static grd_tensor head_weight(grd_graph *graph, const grd_gpt *gpt)
{
    grd_init init = gpt->muon_init && gpt->untied ? GRD_INIT_ZEROS : GRD_INIT_NORMAL;
    grd_scope_push(graph, gpt->untied ? "head" : "embed");
    grd_tensor w = grd_parameter(graph, "weight", grd_shape(gpt->vocab, gpt->width), .init = init,
                                 .scale = gpt->init_std, .tie = true);
    grd_scope_pop(graph);
    return w;
}

grd_tensor grd_gpt_logits(grd_tensor hidden, const grd_gpt *gpt)
{
    if (grd_is_poison(hidden)) return hidden;
    grd_tensor logits = grd_affine(hidden, head_weight(grd_tensor_graph(hidden), gpt));
    if (gpt->softcap <= 0) return logits;
    return grd_mul_scalar(grd_tanh(grd_mul_scalar(logits, 1.0 / gpt->softcap)), gpt->softcap);
}

grd_tensor grd_gpt_loss(grd_tensor hidden, const grd_gpt *gpt, grd_tensor targets, grd_tensor scale,
                        const grd_cross_entropy_options *options)
{
    if (grd_is_poison(hidden)) return hidden;
    int64_t rows = grd_dim(hidden, 0) * grd_dim(hidden, 1);
    grd_tensor x = grd_reshape(hidden, grd_shape(rows, gpt->width));
    grd_tensor y = grd_reshape(targets, grd_shape(rows));
    grd_cross_entropy_options capped =
        options ? *options : (grd_cross_entropy_options){.size = sizeof(grd_cross_entropy_options)};
    capped.softcap = gpt->softcap;
    return grd_linear_cross_entropy_with(x, head_weight(grd_tensor_graph(hidden), gpt), y, scale, &capped);
}
