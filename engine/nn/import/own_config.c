/* own_config.c - config.json of models that transformers has no architecture for, with the names of config.yaml. */
#include "nn/import/config_json.h"

#include <stddef.h>
#include <string.h>

static const char *const mlps[] = {"gelu", "gelu_tanh", "swiglu", "relu2", NULL};
static const char *const norms[] = {"layernorm", "rmsnorm", NULL};
static const char *const positions[] = {"learned", "rope", NULL};
static const char *const scalings[] = {"none", "linear", "llama3", NULL};

typedef enum field_kind { INT32, INT64, DOUBLE, FLAG, CHOICE } field_kind;

static const struct field {
    const char *key;
    field_kind kind;
    size_t offset;
    const char *const *choices;
} fields[] = {
    {"layers", INT32, offsetof(grd_gpt, layers), NULL},
    {"heads", INT32, offsetof(grd_gpt, heads), NULL},
    {"kv_heads", INT32, offsetof(grd_gpt, kv_heads), NULL},
    {"width", INT64, offsetof(grd_gpt, width), NULL},
    {"head_dim", INT64, offsetof(grd_gpt, head_dim), NULL},
    {"mlp_width", INT64, offsetof(grd_gpt, mlp_width), NULL},
    {"context", INT64, offsetof(grd_gpt, context), NULL},
    {"vocab_size", INT64, offsetof(grd_gpt, vocab), NULL},
    {"mlp", CHOICE, offsetof(grd_gpt, mlp), mlps},
    {"norm", CHOICE, offsetof(grd_gpt, norm), norms},
    {"norm_eps", DOUBLE, offsetof(grd_gpt, norm_eps), NULL},
    {"no_norm_gain", FLAG, offsetof(grd_gpt, no_norm_gain), NULL},
    {"position", CHOICE, offsetof(grd_gpt, position), positions},
    {"rope_theta", DOUBLE, offsetof(grd_gpt, rope_theta), NULL},
    {"rope_scaling", CHOICE, offsetof(grd_gpt, rope_scaling), scalings},
    {"rope_factor", DOUBLE, offsetof(grd_gpt, rope_factor), NULL},
    {"rope_low", DOUBLE, offsetof(grd_gpt, rope_low), NULL},
    {"rope_high", DOUBLE, offsetof(grd_gpt, rope_high), NULL},
    {"rope_original", INT64, offsetof(grd_gpt, rope_original), NULL},
    {"qk_norm", FLAG, offsetof(grd_gpt, qk_norm), NULL},
    {"no_bias", FLAG, offsetof(grd_gpt, no_bias), NULL},
    {"qkv_bias", FLAG, offsetof(grd_gpt, qkv_bias), NULL},
    {"out_bias", FLAG, offsetof(grd_gpt, out_bias), NULL},
    {"mlp_bias", FLAG, offsetof(grd_gpt, mlp_bias), NULL},
    {"untied", FLAG, offsetof(grd_gpt, untied), NULL},
    {"window", INT32, offsetof(grd_gpt, window), NULL},
    {"softcap", DOUBLE, offsetof(grd_gpt, softcap), NULL},
    {"embedding_norm", FLAG, offsetof(grd_gpt, embedding_norm), NULL},
};
enum { FIELDS = sizeof(fields) / sizeof(fields[0]) };

/* A field that is 0 is left out. */
void hf_write_own(hf_object *object, const grd_gpt *gpt)
{
    for (int i = 0; i < FIELDS; i++) {
        const struct field *f = &fields[i];
        const char *at = (const char *)gpt + f->offset;
        int64_t whole = f->kind == INT64 ? *(const int64_t *)at : f->kind == INT32 ? *(const int32_t *)at : 0;
        if (f->kind == CHOICE) hf_set(object, f->key, json_string(f->choices[*(const int *)at]));
        else if (f->kind == FLAG && *(const bool *)at) hf_set(object, f->key, json_true());
        else if (f->kind == DOUBLE && *(const double *)at != 0) hf_set(object, f->key, json_real(*(const double *)at));
        else if (whole) hf_set(object, f->key, json_integer(whole));
    }
}

static int read_choice(const hf_reader *r, const struct field *f)
{
    const char *name = hf_word(r, f->key, f->choices[0]);
    for (int i = 0; f->choices[i]; i++)
        if (strcmp(name, f->choices[i]) == 0) return i;
    hf_refuse(r, f->key, name, NULL);
    return 0;
}

void hf_read_own(const hf_reader *r, grd_gpt *gpt)
{
    for (int i = 0; i < FIELDS; i++) {
        const struct field *f = &fields[i];
        char *at = (char *)gpt + f->offset;
        switch (f->kind) {
        case INT32: *(int32_t *)at = (int32_t)hf_whole(r, f->key, 0, i == 0); break;
        case INT64: *(int64_t *)at = hf_whole(r, f->key, 0, false); break;
        case DOUBLE: *(double *)at = hf_number(r, f->key, 0, false); break;
        case FLAG: *(bool *)at = hf_truth(r, f->key, false); break;
        default: *(int *)at = read_choice(r, f);
        }
    }
}
