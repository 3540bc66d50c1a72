/* hf_names.c - the table of tensor names, by kind. */
#include "nn/import/hf_names.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct table {
    hf_entry *entries;
    size_t count;
    const grd_gpt *gpt;
} table;

static hf_entry *add(table *t, const char *theirs, const char *ours)
{
    hf_entry *e = &t->entries[t->count++];
    memset(e, 0, sizeof(*e));
    snprintf(e->theirs, sizeof(e->theirs), "%s", theirs);
    snprintf(e->ours, sizeof(e->ours), "%s", ours);
    return e;
}

/* A tensor of layer `layer`: "<theirs_prefix><layer>.<theirs>" is rows [first, first + rows) of "h<layer>/<ours>". */
static hf_entry *add_layer(table *t, const char *prefix, int layer, const char *theirs, const char *ours)
{
    char a[96], b[64];
    snprintf(a, sizeof(a), "%s%d.%s", prefix, layer, theirs);
    snprintf(b, sizeof(b), "h%d/%s", layer, ours);
    return add(t, a, b);
}

static void add_rows(table *t, const char *prefix, int layer, const char *theirs, const char *ours, int64_t first,
                     int64_t rows)
{
    hf_entry *e = add_layer(t, prefix, layer, theirs, ours);
    e->first_row = first;
    e->rows = rows;
}

static void gpt2_layer(table *t, int layer)
{
    static const struct {
        const char *theirs, *ours;
        bool transposed;
    } names[] = {
        {"ln_1.weight", "norm1/weight", false},          {"ln_1.bias", "norm1/bias", false},
        {"attn.c_attn.weight", "attn/qkv/weight", true}, {"attn.c_attn.bias", "attn/qkv/bias", false},
        {"attn.c_proj.weight", "attn/out/weight", true}, {"attn.c_proj.bias", "attn/out/bias", false},
        {"ln_2.weight", "norm2/weight", false},          {"ln_2.bias", "norm2/bias", false},
        {"mlp.c_fc.weight", "mlp/up/weight", true},      {"mlp.c_fc.bias", "mlp/up/bias", false},
        {"mlp.c_proj.weight", "mlp/down/weight", true},  {"mlp.c_proj.bias", "mlp/down/bias", false},
    };
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        add_layer(t, "transformer.h.", layer, names[i].theirs, names[i].ours)->transposed = names[i].transposed;
}

static void llama_layer(table *t, int layer)
{
    const grd_gpt *g = t->gpt;
    const char *p = "model.layers.";
    int64_t q = g->heads * g->head_dim, kv = g->kv_heads * g->head_dim;
    add_layer(t, p, layer, "input_layernorm.weight", "norm1/weight");
    const char *const parts[] = {"weight", "bias"};
    bool all = !g->no_bias, qkv_bias = all || g->qkv_bias, out_bias = all || g->out_bias, mlp_bias = all || g->mlp_bias;
    for (int i = 0; i < 1 + qkv_bias; i++) {
        char theirs[48], ours[48];
        snprintf(ours, sizeof(ours), "attn/qkv/%s", parts[i]);
        snprintf(theirs, sizeof(theirs), "self_attn.q_proj.%s", parts[i]);
        add_rows(t, p, layer, theirs, ours, 0, q);
        snprintf(theirs, sizeof(theirs), "self_attn.k_proj.%s", parts[i]);
        add_rows(t, p, layer, theirs, ours, q, kv);
        snprintf(theirs, sizeof(theirs), "self_attn.v_proj.%s", parts[i]);
        add_rows(t, p, layer, theirs, ours, q + kv, kv);
    }
    add_layer(t, p, layer, "self_attn.o_proj.weight", "attn/out/weight");
    if (out_bias) add_layer(t, p, layer, "self_attn.o_proj.bias", "attn/out/bias");
    if (g->qk_norm) {
        add_layer(t, p, layer, "self_attn.q_norm.weight", "attn/q_norm/weight");
        add_layer(t, p, layer, "self_attn.k_norm.weight", "attn/k_norm/weight");
    }
    add_layer(t, p, layer, "post_attention_layernorm.weight", "norm2/weight");
    for (int i = 0; i < 1 + mlp_bias; i++) {
        char theirs[48], ours[48];
        snprintf(ours, sizeof(ours), "mlp/gate_up/%s", parts[i]);
        snprintf(theirs, sizeof(theirs), "mlp.gate_proj.%s", parts[i]);
        add_rows(t, p, layer, theirs, ours, 0, g->mlp_width);
        snprintf(theirs, sizeof(theirs), "mlp.up_proj.%s", parts[i]);
        add_rows(t, p, layer, theirs, ours, g->mlp_width, g->mlp_width);
    }
    add_layer(t, p, layer, "mlp.down_proj.weight", "mlp/down/weight");
    if (mlp_bias) add_layer(t, p, layer, "mlp.down_proj.bias", "mlp/down/bias");
}

hf_entry *hf_table(const grd_gpt *gpt, size_t *count)
{
    table t = {calloc((size_t)gpt->layers * 20 + 8, sizeof(hf_entry)), 0, gpt};
    if (!t.entries) return NULL;
    bool gpt2 = grd_hf_kind_of(gpt) == GRD_HF_GPT2;
    add(&t, gpt2 ? "transformer.wte.weight" : "model.embed_tokens.weight", "embed/weight");
    if (gpt2) add(&t, "transformer.wpe.weight", "position/weight");
    for (int layer = 0; layer < gpt->layers; layer++) gpt2 ? gpt2_layer(&t, layer) : llama_layer(&t, layer);
    add(&t, gpt2 ? "transformer.ln_f.weight" : "model.norm.weight", "norm/weight");
    if (gpt2) add(&t, "transformer.ln_f.bias", "norm/bias");
    if (gpt->untied) add(&t, "lm_head.weight", "head/weight");
    *count = t.count;
    return t.entries;
}
