/* hf_config.c - config.json of transformers: written for a model, and read into one. transformers 5 writes
 * `rope_parameters` where 4 wrote `rope_theta` and `rope_scaling`; both are read, the older form is written, which both
 * understand. */
#include <gradus/hf.h>

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

grd_hf_kind grd_hf_kind_of(const grd_gpt *g)
{
    bool common = g->softcap == 0 && !g->embedding_norm && g->window == 0 && !g->no_norm_gain;
    bool square = g->head_dim * g->heads == g->width;
    if (!common) return GRD_HF_NONE;
    if (g->norm == GRD_NORM_LAYERNORM && g->position == GRD_POSITION_LEARNED) {
        bool gelu = g->mlp == GRD_MLP_GELU_TANH || g->mlp == GRD_MLP_GELU;
        return gelu && !g->no_bias && !g->qk_norm && g->kv_heads == g->heads && square ? GRD_HF_GPT2 : GRD_HF_NONE;
    }
    if (g->norm != GRD_NORM_RMSNORM || g->position != GRD_POSITION_ROPE || g->mlp != GRD_MLP_SWIGLU) return GRD_HF_NONE;
    if (g->qk_norm) return g->no_bias && !g->qkv_bias ? GRD_HF_QWEN3 : GRD_HF_NONE;
    if (g->no_bias && g->qkv_bias) return GRD_HF_QWEN2;
    return GRD_HF_LLAMA;
}

/* ---- writing ---- */

typedef struct object {
    json_t *json;
    bool complete; /* false: out of memory; a key that is silently missing would make it another model's */
} object;

static void set(object *o, const char *key, json_t *value)
{
    if (json_object_set_new(o->json, key, value)) o->complete = false;
}

static void write_gpt2(object *o, const grd_gpt *g)
{
    set(o, "n_layer", json_integer(g->layers));
    set(o, "n_head", json_integer(g->heads));
    set(o, "n_embd", json_integer(g->width));
    set(o, "n_positions", json_integer(g->context));
    set(o, "n_ctx", json_integer(g->context));
    set(o, "n_inner", json_integer(g->mlp_width));
    set(o, "activation_function", json_string(g->mlp == GRD_MLP_GELU ? "gelu" : "gelu_new"));
    set(o, "layer_norm_epsilon", json_real(g->norm_eps));
    set(o, "embd_pdrop", json_real(g->dropout));
    set(o, "resid_pdrop", json_real(g->dropout));
    set(o, "attn_pdrop", json_real(0));
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

static void write_llama(object *o, const grd_gpt *g)
{
    set(o, "num_hidden_layers", json_integer(g->layers));
    set(o, "num_attention_heads", json_integer(g->heads));
    set(o, "num_key_value_heads", json_integer(g->kv_heads));
    set(o, "hidden_size", json_integer(g->width));
    set(o, "head_dim", json_integer(g->head_dim));
    set(o, "intermediate_size", json_integer(g->mlp_width));
    set(o, "max_position_embeddings", json_integer(g->context));
    set(o, "hidden_act", json_string("silu"));
    set(o, "rms_norm_eps", json_real(g->norm_eps));
    set(o, "rope_theta", json_real(g->rope_theta));
    set(o, "rope_scaling", rope_scaling(g));
    set(o, "attention_bias", json_boolean(!g->no_bias));
    set(o, "mlp_bias", json_boolean(!g->no_bias));
    set(o, "attention_dropout", json_real(0));
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
    static const char *const architectures[] = {"GradusForCausalLM", "GPT2LMHeadModel", "LlamaForCausalLM",
                                                "Qwen2ForCausalLM", "Qwen3ForCausalLM"};
    static const char *const types[] = {"gradus", "gpt2", "llama", "qwen2", "qwen3"};
    grd_hf_kind kind = grd_hf_kind_of(g);
    json_t *json = json_pack("{s:[s], s:s}", "architectures", architectures[kind], "model_type", types[kind]);
    object object = {json, json != NULL}, *o = &object;
    if (kind == GRD_HF_GPT2) write_gpt2(o, g);
    else write_llama(o, g);
    set(o, "vocab_size", json_integer(g->vocab));
    set(o, "tie_word_embeddings", json_boolean(!g->untied));
    set(o, "initializer_range", json_real(g->init_std));
    set(o, "torch_dtype", json_string("float32"));
    if (kind == GRD_HF_QWEN2) set(o, "use_sliding_window", json_false());
    set(o, "bos_token_id", end_of_text >= 0 ? json_integer(end_of_text) : json_null());
    set(o, "eos_token_id", end_of_text >= 0 ? json_integer(end_of_text) : json_null());
    char *text = object.complete ? indented(json) : NULL;
    json_decref(json);
    return text;
}

void grd_hf_free_text(char *text)
{
    free(text);
}

/* ---- reading ---- */

typedef struct reader {
    const json_t *object;
    const char *path;
    grd_error *error;
} reader;

enum { LARGEST = 1 << 30 };

/* The key's value, or NULL where it is missing or null; that is an error where it is `required`. */
static const json_t *value_of(const reader *r, const char *key, bool required)
{
    const json_t *v = json_object_get(r->object, key);
    if (v && !json_is_null(v)) return v;
    if (required) grd_fail(r->error, GRD_E_FORMAT, "%s: %s: is missing", r->path, key);
    return NULL;
}

static void wrong_kind(const reader *r, const char *key, const char *wanted)
{
    grd_fail(r->error, GRD_E_FORMAT, "%s: %s: must be %s", r->path, key, wanted);
}

static int64_t whole(const reader *r, const char *key, int64_t otherwise, bool required)
{
    const json_t *v = value_of(r, key, required);
    if (!v) return otherwise;
    int64_t number = json_integer_value(v);
    if (!json_is_integer(v)) wrong_kind(r, key, "a whole number");
    else if (number < 1 || number > LARGEST)
        grd_fail(r->error, GRD_E_FORMAT, "%s: %s: %lld is outside 1 to %d", r->path, key, (long long)number, LARGEST);
    else return number;
    return otherwise;
}

static double number(const reader *r, const char *key, double otherwise, bool required)
{
    const json_t *v = value_of(r, key, required);
    if (json_is_number(v)) return json_number_value(v);
    if (v) wrong_kind(r, key, "a number");
    return otherwise;
}

static bool truth(const reader *r, const char *key, bool otherwise)
{
    const json_t *v = value_of(r, key, false);
    if (v && !json_is_boolean(v)) wrong_kind(r, key, "true or false");
    return json_is_boolean(v) ? json_is_true(v) : otherwise;
}

static const char *word(const reader *r, const char *key, const char *otherwise)
{
    const json_t *v = value_of(r, key, false);
    if (v && !json_is_string(v)) wrong_kind(r, key, "a text");
    return json_is_string(v) ? json_string_value(v) : otherwise;
}

static void refuse(const reader *r, const char *key, const char *value)
{
    grd_fail(r->error, GRD_E_UNSUPPORTED, "%s: %s: '%s' is not supported", r->path, key, value);
}

/* For settings that the model has one value of: `wanted` is it, and what a missing key means. */
static void demand_truth(const reader *r, const char *key, bool wanted)
{
    if (truth(r, key, wanted) != wanted) refuse(r, key, wanted ? "false" : "true");
}

static void read_gpt2(const reader *r, grd_gpt *g)
{
    g->layers = (int32_t)whole(r, "n_layer", 12, false);
    g->heads = (int32_t)whole(r, "n_head", 12, false);
    g->width = whole(r, "n_embd", 768, false);
    g->context = whole(r, "n_positions", 1024, false);
    g->vocab = whole(r, "vocab_size", 50257, false);
    g->mlp_width = whole(r, "n_inner", 0, false);
    g->norm_eps = number(r, "layer_norm_epsilon", 1e-5, false);
    const char *activation = word(r, "activation_function", "gelu_new");
    g->mlp = strcmp(activation, "gelu") == 0 ? GRD_MLP_GELU : GRD_MLP_GELU_TANH;
    if (g->mlp == GRD_MLP_GELU_TANH && strcmp(activation, "gelu_new") && strcmp(activation, "gelu_pytorch_tanh"))
        refuse(r, "activation_function", activation);
    demand_truth(r, "scale_attn_weights", true);
    demand_truth(r, "scale_attn_by_inverse_layer_idx", false);
    demand_truth(r, "add_cross_attention", false);
    g->untied = !truth(r, "tie_word_embeddings", true);
}

static void read_rope(const reader *r, grd_gpt *g)
{
    const char *key = json_is_object(json_object_get(r->object, "rope_parameters")) ? "rope_parameters" /* version 5 */
                                                                                    : "rope_scaling";
    const json_t *scaling = value_of(r, key, false);
    g->rope_theta = number(r, "rope_theta", 10000, false);
    if (!scaling) return;
    if (!json_is_object(scaling)) {
        wrong_kind(r, key, "an object");
        return;
    }
    const reader inner = {scaling, r->path, r->error};
    g->rope_theta = number(&inner, "rope_theta", g->rope_theta, false);
    if (number(&inner, "partial_rotary_factor", 1, false) != 1) refuse(r, "partial_rotary_factor", "other than 1");
    const char *type = word(&inner, "rope_type", word(&inner, "type", "default"));
    if (strcmp(type, "default") == 0) return;
    if (strcmp(type, "linear") != 0 && strcmp(type, "llama3") != 0) {
        refuse(r, key, type);
        return;
    }
    g->rope_factor = number(&inner, "factor", 1, true);
    if (g->rope_factor <= 0) wrong_kind(r, "factor", "above 0");
    g->rope_scaling = GRD_ROPE_LINEAR;
    if (type[1] == 'i') return;
    g->rope_scaling = GRD_ROPE_LLAMA3;
    g->rope_low = number(&inner, "low_freq_factor", 1, true);
    g->rope_high = number(&inner, "high_freq_factor", 4, true);
    if (g->rope_low <= 0 || g->rope_high <= g->rope_low) wrong_kind(r, "high_freq_factor", "above low_freq_factor");
    g->rope_original = whole(&inner, "original_max_position_embeddings", g->context, false);
}

/* Qwen's windows: some layers, or all, may see only the last positions; ours have one setting for all. */
static void refuse_windows(const reader *r)
{
    demand_truth(r, "use_sliding_window", false);
    const json_t *types = value_of(r, "layer_types", false);
    for (size_t i = 0; i < json_array_size(types); i++) {
        const char *type = json_string_value(json_array_get(types, i));
        if (!type || strcmp(type, "full_attention")) refuse(r, "layer_types", type ? type : "other than a text");
    }
}

static void read_llama(const reader *r, grd_gpt *g, const char *type)
{
    bool qwen2 = strcmp(type, "qwen2") == 0, qwen3 = strcmp(type, "qwen3") == 0;
    g->norm = GRD_NORM_RMSNORM;
    g->position = GRD_POSITION_ROPE;
    g->mlp = GRD_MLP_SWIGLU;
    g->layers = (int32_t)whole(r, "num_hidden_layers", 0, true);
    g->heads = (int32_t)whole(r, "num_attention_heads", 0, true);
    g->kv_heads = (int32_t)whole(r, "num_key_value_heads", g->heads, false);
    g->width = whole(r, "hidden_size", 0, true);
    g->head_dim = whole(r, "head_dim", qwen3 ? 128 : 0, false);
    g->mlp_width = whole(r, "intermediate_size", 0, true);
    g->context = whole(r, "max_position_embeddings", qwen2 || qwen3 ? 32768 : 2048, false);
    g->vocab = whole(r, "vocab_size", 0, true);
    g->norm_eps = number(r, "rms_norm_eps", 1e-6, false);
    read_rope(r, g);
    bool attention_bias = truth(r, "attention_bias", false), mlp_bias = truth(r, "mlp_bias", false);
    g->no_bias = !(attention_bias && mlp_bias);
    if (attention_bias != mlp_bias)
        refuse(r, attention_bias ? "attention_bias" : "mlp_bias",
               attention_bias ? "without mlp_bias" : "without attention_bias");
    g->qkv_bias = qwen2;
    g->qk_norm = qwen3;
    g->untied = !truth(r, "tie_word_embeddings", false);
    refuse_windows(r);
    const char *activation = word(r, "hidden_act", "silu");
    if (strcmp(activation, "silu")) refuse(r, "hidden_act", activation);
}

static void read_model(const reader *r, grd_gpt *gpt)
{
    if (!json_is_object(r->object)) {
        grd_fail(r->error, GRD_E_FORMAT, "%s: must be an object", r->path);
        return;
    }
    const json_t *given = value_of(r, "model_type", true);
    const char *type = given ? word(r, "model_type", "") : "";
    if (strcmp(type, "gpt2") == 0) read_gpt2(r, gpt);
    else if (!strcmp(type, "llama") || !strcmp(type, "qwen2") || !strcmp(type, "qwen3")) read_llama(r, gpt, type);
    else refuse(r, "model_type", type);
    gpt->init_std = number(r, "initializer_range", 0.02, false);
}

grd_status grd_hf_read_config(const char *folder, grd_gpt *gpt, grd_error *error)
{
    char path[4096];
    grd_error own = {GRD_OK, ""};
    json_error_t problem;
    snprintf(path, sizeof(path), "%s/config.json", folder);
    json_t *object = json_load_file(path, JSON_REJECT_DUPLICATES, &problem);
    if (!object) {
        if (problem.line < 0) return grd_fail(error, GRD_E_IO, "%s: cannot be read", path);
        return grd_fail(error, GRD_E_FORMAT, "%s:%d:%d: %s", path, problem.line, problem.column, problem.text);
    }
    const reader r = {object, path, &own};
    memset(gpt, 0, sizeof(*gpt));
    read_model(&r, gpt);
    json_decref(object);
    grd_error fits = {GRD_OK, ""};
    if (!own.status && grd_gpt_resolve(gpt, &fits)) grd_fail(&own, fits.status, "%s: %s", path, fits.message);
    return own.status ? grd_fail(error, own.status, "%s", own.message) : GRD_OK;
}
