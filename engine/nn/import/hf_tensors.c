/* hf_tensors.c - parameters out of and into Hugging Face's tensors. */
#include "nn/import/hf_names.h"

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* Our parameter behind an entry, and the shape that theirs has. */
static grd_status describe(grd_model *model, const hf_entry *e, grd_variable *v, grd_dims *theirs, grd_error *error)
{
    if (!grd_model_variable_find(model, e->ours, v))
        return grd_fail(error, GRD_E_STATE, "%s: the model has no such parameter (build its graph first)", e->ours);
    *theirs = v->dims;
    if (e->rows) theirs->dim[0] = e->rows;
    if (e->transposed) {
        theirs->dim[0] = v->dims.dim[1];
        theirs->dim[1] = v->dims.dim[0];
    }
    return GRD_OK;
}

/* to[j, i] = from[i, j], of elements of 4 or 2 bytes */
static void transpose(void *to, const void *from, int64_t rows, int64_t columns, size_t element_bytes)
{
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < columns; j++) {
            if (element_bytes == 4) ((uint32_t *)to)[j * rows + i] = ((const uint32_t *)from)[i * columns + j];
            else ((uint16_t *)to)[j * rows + i] = ((const uint16_t *)from)[i * columns + j];
        }
}

static int64_t row_size(grd_dims dims)
{
    return dims.rank > 1 ? grd_dims_count(dims) / dims.dim[0] : 1;
}

/* ---- out ---- */

struct grd_hf_exporter {
    grd_model *model;
    hf_entry *entries; /* in order of their names */
    grd_file_tensor *tensors;
    size_t count;
};

static int by_their_names(const void *a, const void *b)
{
    return strcmp(((const hf_entry *)a)->theirs, ((const hf_entry *)b)->theirs);
}

/* Kind NONE: every parameter under its own path. */
static hf_entry *own_names(grd_model *model, size_t *count)
{
    hf_entry *entries = calloc((size_t)grd_model_variable_count(model) + 1, sizeof(*entries));
    grd_variable v;
    *count = 0;
    for (int64_t i = 0; entries && grd_model_variable_at(model, i, &v); i++) {
        if (v.kind != GRD_VARIABLE_PARAMETER) continue;
        strncpy(entries[*count].theirs, v.path, sizeof(entries->theirs) - 1);
        strncpy(entries[(*count)++].ours, v.path, sizeof(entries->ours) - 1);
    }
    return entries;
}

static hf_entry *table_of(grd_model *model, const grd_gpt *gpt, size_t *count)
{
    return grd_hf_kind_of(gpt) == GRD_HF_NONE ? own_names(model, count) : hf_table(gpt, count);
}

grd_status grd_hf_exporter_new(grd_model *model, const grd_gpt *gpt, grd_hf_exporter **exporter, grd_error *error)
{
    grd_hf_exporter *x = *exporter = calloc(1, sizeof(*x));
    if (!x) return grd_fail(error, GRD_E_MEMORY, "out of memory for tensors");
    x->model = model;
    x->entries = table_of(model, gpt, &x->count);
    x->tensors = x->entries ? calloc(x->count + 1, sizeof(*x->tensors)) : NULL;
    grd_status status = x->tensors ? GRD_OK : grd_fail(error, GRD_E_MEMORY, "out of memory for tensors");
    if (!status) qsort(x->entries, x->count, sizeof(*x->entries), by_their_names);
    for (size_t i = 0; !status && i < x->count; i++) {
        grd_variable v;
        grd_file_tensor *t = &x->tensors[i];
        *t = (grd_file_tensor){.name = x->entries[i].theirs};
        status = describe(model, &x->entries[i], &v, &t->dims, error);
        if (status) break;
        t->dtype = v.dtype;
        t->size_bytes = (size_t)grd_dims_count(t->dims) * grd_dtype_size(v.dtype);
    }
    if (!status) return GRD_OK;
    grd_hf_exporter_free(x);
    *exporter = NULL;
    return status;
}

void grd_hf_exporter_free(grd_hf_exporter *exporter)
{
    if (!exporter) return;
    free(exporter->entries);
    free(exporter->tensors);
    free(exporter);
}

const grd_file_tensor *grd_hf_exporter_tensors(const grd_hf_exporter *exporter, size_t *count)
{
    *count = exporter->count;
    return exporter->tensors;
}

grd_status grd_hf_exporter_read(void *exporter, const grd_file_tensor *tensor, void *data, grd_error *error)
{
    const grd_hf_exporter *x = exporter;
    hf_entry key = {0};
    strncpy(key.theirs, tensor->name, sizeof(key.theirs) - 1);
    const hf_entry *e = bsearch(&key, x->entries, x->count, sizeof(key), by_their_names);
    if (!e) return grd_fail(error, GRD_E_ARGUMENT, "%s: the model has no such tensor", tensor->name);
    grd_variable v;
    grd_dims dims;
    grd_status status = describe(x->model, e, &v, &dims, error);
    if (status) return status;
    bool whole = !e->transposed && !e->rows;
    if (whole) return grd_model_read(x->model, e->ours, data, error);
    size_t element_bytes = grd_dtype_size(v.dtype);
    char *all = malloc(v.size_bytes);
    if (!all) return grd_fail(error, GRD_E_MEMORY, "%s: out of memory", e->ours);
    status = grd_model_read(x->model, e->ours, all, error);
    if (!status && e->transposed) transpose(data, all, v.dims.dim[0], v.dims.dim[1], element_bytes);
    else if (!status) memcpy(data, all + (size_t)(e->first_row * row_size(v.dims)) * element_bytes, tensor->size_bytes);
    free(all);
    return status;
}

static grd_status export_tensor(grd_hf_exporter *x, const grd_file_tensor *from, grd_file_tensor *to, grd_error *error)
{
    char *name = malloc(strlen(from->name) + 1);
    void *data = malloc(from->size_bytes);
    *to = *from;
    to->name = name;
    to->data = data;
    if (!name || !data) return grd_fail(error, GRD_E_MEMORY, "%s: out of memory", from->name);
    strcpy(name, from->name);
    return grd_hf_exporter_read(x, from, data, error);
}

grd_status grd_hf_export(grd_model *model, const grd_gpt *gpt, grd_file_tensor **tensors, size_t *count,
                         grd_error *error)
{
    grd_hf_exporter *x;
    *tensors = NULL;
    *count = 0;
    grd_status status = grd_hf_exporter_new(model, gpt, &x, error);
    if (status) return status;
    *tensors = calloc(x->count + 1, sizeof(**tensors));
    if (!*tensors) status = grd_fail(error, GRD_E_MEMORY, "out of memory for tensors");
    for (; !status && *count < x->count; ++*count)
        status = export_tensor(x, &x->tensors[*count], &(*tensors)[*count], error);
    grd_hf_exporter_free(x);
    if (!status) return GRD_OK;
    grd_hf_free_tensors(*tensors, *count);
    *tensors = NULL;
    *count = 0;
    return status;
}

void grd_hf_free_tensors(grd_file_tensor *tensors, size_t count)
{
    for (size_t i = 0; tensors && i < count; i++) {
        free((void *)tensors[i].name);
        free((void *)tensors[i].data);
    }
    free(tensors);
}

/* ---- in ---- */

/* IEEE 754 half precision: value = mantissa * 2^exponent, subnormal where the exponent field is 0. */
static float half_to_float(uint16_t h)
{
    int exponent = (h >> 10) & 31, mantissa = h & 1023;
    float value;
    if (exponent == 31) value = mantissa ? NAN : INFINITY;
    else if (exponent == 0) value = ldexpf((float)mantissa, -24);
    else value = ldexpf((float)(mantissa | 1024), exponent - 25);
    return h >> 15 ? -value : value;
}

/* Element i of a file's tensor; its data has no alignment. */
static float element(const grd_file_tensor *t, int64_t i)
{
    const char *at = (const char *)t->data + (size_t)i * grd_dtype_size(t->dtype);
    float f;
    uint16_t h;
    uint32_t bits;
    if (t->dtype == GRD_F32) {
        memcpy(&f, at, sizeof(f));
        return f;
    }
    memcpy(&h, at, sizeof(h));
    if (t->dtype == GRD_F16) return half_to_float(h);
    bits = (uint32_t)h << 16;
    memcpy(&f, &bits, sizeof(f));
    return f;
}

/* To nearest, ties to even; NaN stays NaN. */
static uint16_t rounded_to_bf16(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof(bits));
    if ((bits & 0x7FFFFFFFu) > 0x7F800000u) return (uint16_t)(bits >> 16 | 0x40u);
    return (uint16_t)((bits + 0x7FFFu + (bits >> 16 & 1u)) >> 16);
}

/* `all`: the whole of the model's variable, in f32 or bf16. */
static grd_status import_entry(const hf_entry *e, const grd_file_tensor *t, const grd_variable *v, grd_dims want,
                               void *all, grd_error *error)
{
    char a[GRD_DIMS_TEXT_MAX], b[GRD_DIMS_TEXT_MAX];
    if (!grd_dims_equal(t->dims, want))
        return grd_fail(error, GRD_E_FORMAT,
                        "tensor '%s' is %s, the model needs %s (does config.json belong to this file?)", e->theirs,
                        grd_dims_text(t->dims, a), grd_dims_text(want, b));
    if (t->dtype != GRD_F32 && t->dtype != GRD_BF16 && t->dtype != GRD_F16)
        return grd_fail(error, GRD_E_DTYPE, "tensor '%s' is %s (f32, bf16 and f16 can be read)", e->theirs,
                        t->dtype_name);
    int64_t count = grd_dims_count(want), columns = v->dims.rank > 1 ? v->dims.dim[1] : 1, rows = v->dims.dim[0];
    int64_t first = e->first_row * row_size(v->dims);
    for (int64_t i = 0; i < count; i++) {
        float value = element(t, e->transposed ? (i % columns) * rows + i / columns : i);
        if (v->dtype == GRD_BF16) ((uint16_t *)all)[first + i] = rounded_to_bf16(value);
        else ((float *)all)[first + i] = value;
    }
    return GRD_OK;
}

/* The name without "transformer." or "model.": files of the model without its head have none in front. */
static const char *bare(const char *name)
{
    static const char *const fronts[] = {"transformer.", "model."};
    for (size_t i = 0; i < sizeof(fronts) / sizeof(fronts[0]); i++)
        if (strncmp(name, fronts[i], strlen(fronts[i])) == 0) return name + strlen(fronts[i]);
    return name;
}

static const grd_file_tensor *find(const grd_safetensors *file, const char *name)
{
    const grd_file_tensor *t = grd_safetensors_find(file, name);
    return t ? t : grd_safetensors_find(file, bare(name));
}

/* Tensors that hold nothing trained: masks and tables of older versions. */
static bool is_left_over(const char *name)
{
    static const char *const ends[] = {".attn.bias", ".attn.masked_bias", ".rotary_emb.inv_freq"};
    size_t length = strlen(name);
    for (size_t i = 0; i < sizeof(ends) / sizeof(ends[0]); i++)
        if (length > strlen(ends[i]) && strcmp(name + length - strlen(ends[i]), ends[i]) == 0) return true;
    return false;
}

/* A tied model's head, which some files hold again. Versions of transformers disagree on which of the two counts. */
static grd_status check_tied_head(const hf_entry *embed, const grd_gpt *gpt, const grd_safetensors *file,
                                  grd_error *error)
{
    const grd_file_tensor *head = gpt->untied ? NULL : grd_safetensors_find(file, "lm_head.weight");
    const grd_file_tensor *table = head ? find(file, embed->theirs) : NULL;
    if (!table) return GRD_OK;
    if (head->size_bytes == table->size_bytes && memcmp(head->data, table->data, head->size_bytes) == 0) return GRD_OK;
    return grd_fail(error, GRD_E_FORMAT,
                    "tensor 'lm_head.weight' differs from '%s', though config.json ties them (set tie_word_embeddings "
                    "to false there, or leave the tensor out)",
                    table->name);
}

/* A tensor that nothing asks for belongs to another model than config.json describes: a bias, a layer, an adapter. */
static grd_status refuse_unknown(const hf_entry *entries, size_t count, const grd_gpt *gpt, const grd_safetensors *file,
                                 grd_error *error)
{
    for (size_t i = 0; i < grd_safetensors_count(file); i++) {
        const char *name = grd_safetensors_at(file, i)->name;
        bool known = is_left_over(name) || (!gpt->untied && strcmp(name, "lm_head.weight") == 0);
        for (size_t k = 0; k < count && !known; k++) known = strcmp(bare(entries[k].theirs), bare(name)) == 0;
        if (!known)
            return grd_fail(error, GRD_E_FORMAT,
                            "tensor '%s' is none of the model's (does config.json belong to this file?)", name);
    }
    return GRD_OK;
}

grd_status grd_hf_import(grd_model *model, const grd_gpt *gpt, const grd_safetensors *file, grd_error *error)
{
    size_t count;
    hf_entry *entries = table_of(model, gpt, &count);
    grd_status status = entries ? GRD_OK : grd_fail(error, GRD_E_MEMORY, "out of memory for tensors");
    for (size_t i = 0; !status && i < count; i++) {
        const hf_entry *e = &entries[i];
        const grd_file_tensor *t = find(file, e->theirs);
        grd_variable v;
        grd_dims want;
        if (!t) {
            status = grd_fail(error, GRD_E_FORMAT,
                              "tensor '%s' is missing (is the folder complete, and of this model?)", e->theirs);
            break;
        }
        status = describe(model, e, &v, &want, error);
        if (status) break;
        void *all = malloc(v.size_bytes);
        status = all ? grd_model_read(model, e->ours, all, error)
                     : grd_fail(error, GRD_E_MEMORY, "%s: out of memory", e->ours);
        if (!status) status = import_entry(e, t, &v, want, all, error);
        if (!status) status = grd_model_write(model, e->ours, all, error);
        free(all);
    }
    if (!status) status = check_tied_head(entries, gpt, file, error);
    if (!status) status = refuse_unknown(entries, count, gpt, file, error);
    free(entries);
    return status;
}
