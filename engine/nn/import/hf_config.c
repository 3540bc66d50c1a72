/* hf_config.c - config.json of transformers: written for a model, and read into one. transformers 5 writes
 * `rope_parameters` where 4 wrote `rope_theta` and `rope_scaling`; both are read, the older form is written, which both
 * understand. */
#include "nn/import/config_json.h"

#include <gradus/json.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

enum { CONFIG_MAX = 1 << 24 }; /* bytes; far more than any config.json has */

static grd_hf_kind llama_kind_of(const grd_gpt *g)
{
    bool all = !g->no_bias, qkv = all || g->qkv_bias, out = all || g->out_bias, mlp = all || g->mlp_bias;
    if (g->qk_norm) return qkv == out && !mlp ? GRD_HF_QWEN3 : GRD_HF_NONE;
    if (qkv && !out && !mlp) return GRD_HF_QWEN2;
    /* Llama's config has no window, and demands that heads divide the width even where head_dim is set */
    if (g->window || g->width % g->heads) return qkv || out || mlp ? GRD_HF_NONE : GRD_HF_MISTRAL;
    return qkv == out ? GRD_HF_LLAMA : GRD_HF_NONE;
}

grd_hf_kind grd_hf_kind_of(const grd_gpt *g)
{
    bool square = g->head_dim * g->heads == g->width;
    if (g->softcap != 0 || g->embedding_norm || g->no_norm_gain) return GRD_HF_NONE;
    if (g->norm == GRD_NORM_LAYERNORM && g->position == GRD_POSITION_LEARNED) {
        bool gelu = g->mlp == GRD_MLP_GELU_TANH || g->mlp == GRD_MLP_GELU;
        return gelu && !g->no_bias && !g->qk_norm && !g->window && g->kv_heads == g->heads && square ? GRD_HF_GPT2
                                                                                                     : GRD_HF_NONE;
    }
    bool llama = g->norm == GRD_NORM_RMSNORM && g->position == GRD_POSITION_ROPE && g->mlp == GRD_MLP_SWIGLU;
    return llama ? llama_kind_of(g) : GRD_HF_NONE;
}

/* ---- writing ---- */

static void write_gpt2(hf_object *o, const grd_gpt *g)
{
    hf_set(o, "n_layer", json_integer(g->layers));
    hf_set(o, "n_head", json_integer(g->heads));
    hf_set(o, "n_embd", json_integer(g->width));
    hf_set(o, "n_positions", json_integer(g->context));
    hf_set(o, "n_ctx", json_integer(g->context));
    hf_set(o, "n_inner", json_integer(g->mlp_width));
    hf_set(o, "activation_function", json_string(g->mlp == GRD_MLP_GELU ? "gelu" : "gelu_new"));
    hf_set(o, "layer_norm_epsilon", json_real(g->norm_eps));
    hf_set(o, "embd_pdrop", json_real(g->dropout));
    hf_set(o, "resid_pdrop", json_real(g->dropout));
    hf_set(o, "attn_pdrop", json_real(0));
}

static json_t *rope_scaling(const grd_gpt *g)
{
    if (g->rope_scaling == GRD_ROPE_LINEAR)
        return json_pack("{s:s, s:f}", "rope_type", "linear", "factor", g->rope_factor);
    if (g->rope_scaling != GRD_ROPE_LLAMA3) return json_null();
    return json_pack("{s:s, s:f, s:f, s:f, s:I}", "rope_type", "llama3", "factor", g->rope_factor, "low_freq_factor",
                     g->rope_low, "high_freq_factor", g->rope_high, "original_max_position_embeddings",
                     (json_int_t)g->rope_original);
}

static void write_llama(hf_object *o, const grd_gpt *g, grd_hf_kind kind)
{
    hf_set(o, "num_hidden_layers", json_integer(g->layers));
    hf_set(o, "num_attention_heads", json_integer(g->heads));
    hf_set(o, "num_key_value_heads", json_integer(g->kv_heads));
    hf_set(o, "hidden_size", json_integer(g->width));
    hf_set(o, "head_dim", json_integer(g->head_dim));
    hf_set(o, "intermediate_size", json_integer(g->mlp_width));
    hf_set(o, "max_position_embeddings", json_integer(g->context));
    hf_set(o, "hidden_act", json_string("silu"));
    hf_set(o, "rms_norm_eps", json_real(g->norm_eps));
    hf_set(o, "rope_theta", json_real(g->rope_theta));
    hf_set(o, "rope_scaling", rope_scaling(g));
    hf_set(o, "attention_bias", json_boolean(!g->no_bias || g->out_bias));
    hf_set(o, "mlp_bias", json_boolean(!g->no_bias || g->mlp_bias));
    hf_set(o, "attention_dropout", json_real(0));
    if (kind == GRD_HF_LLAMA) return;
    hf_set(o, "sliding_window", g->window ? json_integer(g->window) : json_null());
    if (kind == GRD_HF_MISTRAL) return;
    hf_set(o, "use_sliding_window", json_boolean(g->window));
    hf_set(o, "max_window_layers", json_integer(g->window ? 0 : g->layers)); /* the first layer with a window */
}

/* Into memory of our own, all of it or nothing: json_dumps leaves out what its buffer cannot grow for. */
static char *indented(const json_t *json)
{
    size_t size = json_dumpb(json, NULL, 0, JSON_INDENT(2));
    char *text = malloc(size + 1);
    if (text && json_dumpb(json, text, size, JSON_INDENT(2)) == size) {
        text[size] = '\0';
        return text;
    }
    free(text);
    return NULL;
}

char *grd_hf_config_text(const grd_gpt *g, int32_t end_of_text)
{
    static const char *const architectures[] = {"GradusForCausalLM", "GPT2LMHeadModel",  "LlamaForCausalLM",
                                                "Qwen2ForCausalLM",  "Qwen3ForCausalLM", "MistralForCausalLM"};
    static const char *const types[] = {"gradus", "gpt2", "llama", "qwen2", "qwen3", "mistral"};
    grd_hf_kind kind = grd_hf_kind_of(g);
    json_t *json = json_pack("{s:[s], s:s}", "architectures", architectures[kind], "model_type", types[kind]);
    hf_object object = {json, json != NULL}, *o = &object;
    if (kind == GRD_HF_NONE) hf_write_own(o, g);
    else if (kind == GRD_HF_GPT2) write_gpt2(o, g);
    else write_llama(o, g, kind);
    hf_set(o, "vocab_size", json_integer(g->vocab));
    hf_set(o, "tie_word_embeddings", json_boolean(!g->untied));
    hf_set(o, "initializer_range", json_real(g->init_std));
    hf_set(o, "torch_dtype", json_string("float32"));
    hf_set(o, "bos_token_id", end_of_text >= 0 ? json_integer(end_of_text) : json_null());
    hf_set(o, "eos_token_id", end_of_text >= 0 ? json_integer(end_of_text) : json_null());
    char *text = object.complete ? indented(json) : NULL;
    json_decref(json);
    return text;
}

void grd_hf_free_text(char *text)
{
    free(text);
}

/* ---- reading ---- */

/* For settings that the model has one value of: `wanted` is it, and what a missing key means. */
static void demand_truth(const hf_reader *r, const char *key, bool wanted)
{
    if (hf_truth(r, key, wanted) != wanted) hf_refuse(r, key, wanted ? "false" : "true", NULL);
}

/* GPT-2's name of a key, or the general one, which transformers takes for it too. */
static const char *either(const hf_reader *r, const char *key, const char *general)
{
    return json_object_get(r->object, key) ? key : general;
}

static double above_zero(const hf_reader *r, const char *key, double otherwise, bool required)
{
    double value = hf_number(r, key, otherwise, required);
    if (value > 0) return value;
    hf_wrong_kind(r, key, "above 0");
    return 1;
}

static void read_gpt2(const hf_reader *r, grd_gpt *g)
{
    static const char *const tanhs[] = {"gelu_new", "gelu_pytorch_tanh", "gelu_fast"};
    g->layers = (int32_t)hf_whole(r, either(r, "n_layer", "num_hidden_layers"), 12, false);
    g->heads = (int32_t)hf_whole(r, either(r, "n_head", "num_attention_heads"), 12, false);
    g->width = hf_whole(r, either(r, "n_embd", "hidden_size"), 768, false);
    g->context = hf_whole(r, either(r, "n_positions", "max_position_embeddings"), 1024, false);
    g->vocab = hf_whole(r, "vocab_size", 50257, false);
    g->mlp_width = hf_whole(r, "n_inner", 0, false);
    g->norm_eps = above_zero(r, "layer_norm_epsilon", 1e-5, false);
    const char *activation = hf_word(r, "activation_function", "gelu_new");
    bool gelu = strcmp(activation, "gelu") == 0, known = gelu;
    for (size_t i = 0; i < sizeof(tanhs) / sizeof(tanhs[0]); i++) known = known || !strcmp(activation, tanhs[i]);
    if (!known) hf_refuse(r, "activation_function", activation, NULL);
    g->mlp = gelu ? GRD_MLP_GELU : GRD_MLP_GELU_TANH;
    demand_truth(r, "scale_attn_weights", true);
    demand_truth(r, "scale_attn_by_inverse_layer_idx", false);
    demand_truth(r, "add_cross_attention", false);
    g->untied = !hf_truth(r, "tie_word_embeddings", true);
}

/* The object that says how positions turn, or NULL: version 5 calls it rope_parameters, and takes an older file's
 * rope_scaling where it finds both. */
static const json_t *find_rope(const hf_reader *r, const char **key)
{
    *key = json_object_size(json_object_get(r->object, "rope_scaling")) ? "rope_scaling" : "rope_parameters";
    const json_t *rope = hf_value(r, *key, false);
    if (!rope) *key = "rope_scaling", rope = hf_value(r, *key, false);
    if (!rope || json_is_object(rope)) return rope;
    hf_wrong_kind(r, *key, "an object");
    return NULL;
}

static void read_rope(const hf_reader *r, grd_gpt *g)
{
    const char *key, *inside;
    json_t *value;
    const json_t *rope = find_rope(r, &key);
    g->rope_theta = above_zero(r, "rope_theta", 10000, false);
    if (hf_number(r, "partial_rotary_factor", 1, false) != 1)
        hf_refuse(r, "partial_rotary_factor", "other than 1", NULL);
    if (!rope) return;
    const hf_reader inner = {rope, r->path, r->error};
    json_object_foreach((json_t *)rope, inside, value) if (json_is_object(value))
        hf_refuse(r, key, inside, NULL); /* one for each type of layer */
    g->rope_theta = above_zero(&inner, "rope_theta", g->rope_theta, false);
    if (hf_number(&inner, "partial_rotary_factor", 1, false) != 1)
        hf_refuse(r, "partial_rotary_factor", "other than 1", NULL);
    const char *type = hf_word(&inner, "rope_type", hf_word(&inner, "type", "default"));
    if (strcmp(type, "default") == 0) return;
    if (strcmp(type, "linear") != 0 && strcmp(type, "llama3") != 0) {
        hf_refuse(r, key, type, NULL);
        return;
    }
    g->rope_factor = above_zero(&inner, "factor", 1, true);
    g->rope_scaling = GRD_ROPE_LINEAR;
    if (type[1] == 'i') return;
    g->rope_scaling = GRD_ROPE_LLAMA3;
    g->rope_low = hf_number(&inner, "low_freq_factor", 1, true);
    g->rope_high = hf_number(&inner, "high_freq_factor", 4, true);
    if (g->rope_low <= 0 || g->rope_high <= g->rope_low) hf_wrong_kind(r, "high_freq_factor", "above low_freq_factor");
    const char *original = "original_max_position_embeddings";
    g->rope_original = hf_whole(&inner, original, hf_whole(r, original, g->context, false), false);
}

/* The key's number where it is given or missing (`otherwise`), 0 where it is null. */
static int64_t whole_or_null(const hf_reader *r, const char *key, int64_t otherwise)
{
    return json_is_null(json_object_get(r->object, key)) ? 0 : hf_whole(r, key, otherwise, false);
}

/* How many layers see only the last positions: layer_types says so of each, else those from max_window_layers on. */
static int64_t count_windows(const hf_reader *r, int64_t layers, bool used)
{
    const json_t *types = hf_value(r, "layer_types", false);
    int64_t count = 0;
    for (size_t i = 0; i < json_array_size(types); i++) {
        const char *type = json_string_value(json_array_get(types, i));
        bool sliding = type && strcmp(type, "sliding_attention") == 0;
        if (!sliding && (!type || strcmp(type, "full_attention")))
            hf_refuse(r, "layer_types", type ? type : "other than a text", NULL);
        count += sliding;
    }
    if (types && json_array_size(types) != (size_t)layers) hf_wrong_kind(r, "layer_types", "a list of every layer's");
    if (types || !used) return count;
    double first = hf_number(r, "max_window_layers", 28, false);
    return first < (double)layers ? layers - (int64_t)first : 0;
}

/* Ours have one window for all layers. */
static void read_windows(const hf_reader *r, grd_gpt *g, const char *type)
{
    bool mistral = strcmp(type, "mistral") == 0, qwen = type[0] == 'q';
    bool used = mistral || (qwen && hf_truth(r, "use_sliding_window", false));
    int64_t window = used ? whole_or_null(r, "sliding_window", 4096) : 0;
    int64_t count = count_windows(r, g->layers, window > 0);
    if (mistral && window) count = g->layers;
    if (count && (count < g->layers || !window))
        grd_fail(r->error, GRD_E_UNSUPPORTED,
                 "%s: %s: 'sliding_attention' in %lld of %d layers%s is not supported (one sliding_window for all "
                 "layers is, or none)",
                 r->path, json_object_get(r->object, "layer_types") ? "layer_types" : "max_window_layers",
                 (long long)count, g->layers, window ? "" : " without a window");
    g->window = count ? (int32_t)window : 0;
}

static void read_biases(const hf_reader *r, grd_gpt *g, const char *type)
{
    bool llama = strcmp(type, "llama") == 0, qwen2 = strcmp(type, "qwen2") == 0, qwen3 = strcmp(type, "qwen3") == 0;
    bool attention = (llama || qwen3) && hf_truth(r, "attention_bias", false);
    bool mlp = llama && hf_truth(r, "mlp_bias", false);
    g->no_bias = !(attention && mlp);
    g->qkv_bias = qwen2 || (attention && !mlp);
    g->out_bias = attention && !mlp;
    g->mlp_bias = mlp && !attention;
}

static void read_llama(const hf_reader *r, grd_gpt *g, const char *type)
{
    bool llama = strcmp(type, "llama") == 0, mistral = strcmp(type, "mistral") == 0;
    g->norm = GRD_NORM_RMSNORM;
    g->position = GRD_POSITION_ROPE;
    g->mlp = GRD_MLP_SWIGLU;
    g->layers = (int32_t)hf_whole(r, "num_hidden_layers", 0, true);
    g->heads = (int32_t)hf_whole(r, "num_attention_heads", 0, true);
    g->kv_heads = (int32_t)whole_or_null(r, "num_key_value_heads", llama ? 0 : mistral ? 8 : 32);
    g->width = hf_whole(r, "hidden_size", 0, true);
    g->qk_norm = strcmp(type, "qwen3") == 0;
    g->head_dim = hf_whole(r, "head_dim", g->qk_norm ? 128 : 0, false);
    g->mlp_width = hf_whole(r, "intermediate_size", 0, true);
    g->context = hf_whole(r, "max_position_embeddings", llama ? 2048 : mistral ? 131072 : 32768, false);
    g->vocab = hf_whole(r, "vocab_size", 0, true);
    g->norm_eps = above_zero(r, "rms_norm_eps", 1e-6, false);
    read_rope(r, g);
    read_biases(r, g, type);
    g->untied = !hf_truth(r, "tie_word_embeddings", false);
    read_windows(r, g, type);
    const char *activation = hf_word(r, "hidden_act", "silu");
    if (strcmp(activation, "silu") && strcmp(activation, "swish")) hf_refuse(r, "hidden_act", activation, "silu is");
}

static void read_model(const hf_reader *r, grd_gpt *gpt)
{
    static const char *const llamas[] = {"llama", "qwen2", "qwen3", "mistral"};
    if (!json_is_object(r->object)) {
        grd_fail(r->error, GRD_E_FORMAT, "%s: must be an object", r->path);
        return;
    }
    const json_t *given = hf_value(r, "model_type", true);
    const char *type = given ? hf_word(r, "model_type", "") : "";
    bool llama = false;
    for (size_t i = 0; i < sizeof(llamas) / sizeof(llamas[0]); i++) llama = llama || strcmp(type, llamas[i]) == 0;
    if (strcmp(type, "gpt2") == 0) read_gpt2(r, gpt);
    else if (llama) read_llama(r, gpt, type);
    else if (strcmp(type, "gradus") == 0) hf_read_own(r, gpt);
    else if (!given || json_is_string(given))
        hf_refuse(r, "model_type", type, "GPT-2, Llama and Qwen 2 kinds are read");
    gpt->init_std = hf_number(r, "initializer_range", 0.02, false);
}

/* Takes `object`; NULL when it could not be parsed, which `error` tells then. */
static grd_status read_object(json_t *object, const char *path, grd_gpt *gpt, grd_error *error)
{
    grd_error own = {GRD_OK, ""}, fits = {GRD_OK, ""};
    memset(gpt, 0, sizeof(*gpt));
    if (!object) return error->status;
    const hf_reader r = {object, path, &own};
    read_model(&r, gpt);
    json_decref(object);
    if (!own.status && grd_gpt_resolve(gpt, &fits)) grd_fail(&own, fits.status, "%s: %s", path, fits.message);
    return own.status ? grd_fail(error, own.status, "%s", own.message) : GRD_OK;
}

grd_status grd_hf_parse_config(const char *text, size_t size_bytes, const char *place, grd_gpt *gpt, grd_error *error)
{
    grd_error own = {GRD_OK, ""};
    if (read_object(grd_json_parse(text, size_bytes, place, &own), place, gpt, &own))
        grd_fail(error, own.status, "%s", own.message);
    return own.status;
}

grd_status grd_hf_read_config(const char *folder, grd_gpt *gpt, grd_error *error)
{
    char path[4096];
    grd_error own = {GRD_OK, ""};
    snprintf(path, sizeof(path), "%s/config.json", folder);
    if (read_object(grd_json_read(path, CONFIG_MAX, &own), path, gpt, &own))
        grd_fail(error, own.status, "%s", own.message);
    return own.status;
}
