/* sample.c - reads the sample strings of the op table and makes values for them. */
#include "ops/sample.h"

#include "base/convert.h"
#include "base/random.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static grd_status unreadable(grd_error *error, const char *what, const char *text)
{
    return grd_fail(error, GRD_E_FORMAT, "sample: cannot read %s in '%s'", what, text);
}

/* ---- inputs ---- */

/* "f32[4,7]": the dtype and the dimensions; *rest is what follows. */
static grd_status read_type(const char *text, grdi_type *type, const char **rest, grd_error *error)
{
    char name[8] = "";
    size_t length = strcspn(text, "[");
    if (length < sizeof name) memcpy(name, text, length);
    type->dtype = grd_dtype_from_name(name);
    if (type->dtype == GRD_DTYPE_COUNT || text[length] != '[') return unreadable(error, "the dtype", text);
    const char *at = text + length + 1;
    type->dims = (grd_dims){0};
    while (*at && *at != ']') {
        char *end;
        long long size = strtoll(at, &end, 10);
        if (end == at || size < 0 || type->dims.rank == GRD_RANK_MAX || (*end != ',' && *end != ']'))
            return unreadable(error, "the shape", text);
        type->dims.dim[type->dims.rank++] = size;
        at = *end == ',' ? end + 1 : end;
    }
    if (*at != ']') return unreadable(error, "the shape", text);
    *rest = at + 1;
    return GRD_OK;
}

/* "0.1..3". strtod alone would take the first dot of ".." for a decimal point. */
static bool read_range(const char *text, double *low, double *high)
{
    const char *dots = strstr(text, "..");
    char first[32];
    if (!dots || (size_t)(dots - text) >= sizeof first) return false;
    memcpy(first, text, (size_t)(dots - text));
    first[dots - text] = 0;
    char *first_end, *end;
    *low = strtod(first, &first_end);
    *high = strtod(dots + 2, &end);
    return first_end != first && !*first_end && end != dots + 2 && !*end && *low <= *high;
}

/* "@attention:1(1,2,3) causal=true" */
static grd_status read_from(const char *text, grdi_sample_input *input, grd_error *error)
{
    char name[64] = "", *end;
    size_t length = strcspn(text + 1, ":");
    if (length < sizeof name) memcpy(name, text + 1, length);
    input->from = grdi_op_find(name);
    if (!input->from || text[1 + length] != ':') return unreadable(error, "the op that an input comes from", text);
    input->from_output = (int32_t)strtol(text + length + 2, &end, 10);
    if (*end != '(') return unreadable(error, "the inputs that an input is made of", text);
    for (const char *at = end + 1; *at != ')'; at = *end == ',' ? end + 1 : end) {
        long number = strtol(at, &end, 10);
        if (end == at || number < 0 || number >= GRDI_INPUTS_MAX || input->from_count == GRDI_INPUTS_MAX)
            return unreadable(error, "the inputs that an input is made of", text);
        input->from_in[input->from_count++] = (int32_t)number;
    }
    input->from_attrs = strchr(end, ')') + 1;
    return GRD_OK;
}

grd_status grdi_sample_read_input(const char *text, grdi_sample_input *input, grd_error *error)
{
    const char *rest = text;
    *input = (grdi_sample_input){.low = -2, .high = 2};
    if (*text == '@') return read_from(text, input, error);
    grd_status status = read_type(text, &input->type, &rest, error);
    if (status) return status;
    rest += strspn(rest, " ");
    if (*rest == '=') {
        input->values = rest + 1;
        return GRD_OK;
    }
    if (*rest && !read_range(rest, &input->low, &input->high)) return unreadable(error, "the range", text);
    return GRD_OK;
}

/* ---- attributes ---- */

/* Numbers separated by commas; integers may be written 0x.... */
static bool read_ints(const char *text, grd_attr *attr, grdi_sample_case *out)
{
    attr->ints = out->ints + out->int_count;
    attr->count = 0;
    while (*text) {
        char *end;
        if (out->int_count == GRDI_SAMPLE_INTS_MAX) return false;
        uint64_t bits = *text == '-' ? (uint64_t)strtoll(text, &end, 0) : strtoull(text, &end, 0);
        out->ints[out->int_count++] = (int64_t)bits;
        attr->count++;
        if (end == text || (*end != ',' && *end)) return false;
        text = *end ? end + 1 : end;
    }
    return true;
}

static bool read_value(const char *text, grd_attr *attr, grdi_sample_case *out)
{
    char *end = NULL;
    switch (attr->kind) {
    case GRD_ATTR_INT:
        attr->i = strtoll(text, &end, 0);
        return end != text && !*end;
    case GRD_ATTR_FLOAT:
        attr->f = strtod(text, &end);
        return end != text && !*end;
    case GRD_ATTR_BOOL:
        attr->i = strcmp(text, "true") == 0;
        return attr->i || strcmp(text, "false") == 0;
    case GRD_ATTR_DTYPE:
        attr->i = grd_dtype_from_name(text);
        return attr->i != GRD_DTYPE_COUNT;
    case GRD_ATTR_INTS:
        return read_ints(text, attr, out);
    }
    return false;
}

/* Reads "name=value" into the attribute of that name. */
static bool read_attr(char *word, grdi_sample_case *out)
{
    char *equals = strchr(word, '=');
    if (!equals) return false;
    *equals = 0;
    for (int32_t i = 0; i < out->attr_count; i++)
        if (strcmp(out->attrs[i].name, word) == 0) return read_value(equals + 1, &out->attrs[i], out);
    return false;
}

grd_status grdi_sample_read_attrs(const grdi_op *op, const char *text, grdi_sample_case *out, grd_error *error)
{
    out->attr_count = 0;
    out->int_count = 0;
    while (out->attr_count < GRDI_ATTRS_MAX && op->attrs[out->attr_count].name) {
        out->attrs[out->attr_count] = op->attrs[out->attr_count];
        out->attr_count++;
    }
    out->attrs[out->attr_count] = (grd_attr){.name = NULL};
    for (const char *at = text ? text : ""; *at;) {
        char word[4096];
        size_t length = strcspn(at, " ");
        if (length >= sizeof word) return unreadable(error, "so long an attribute", text);
        memcpy(word, at, length);
        word[length] = 0;
        if (length && !read_attr(word, out))
            return grd_fail(error, GRD_E_FORMAT, "sample: %s has no attribute '%s' or cannot read its value in '%s'",
                            op->name, word, text);
        at += length;
        at += *at == ' ';
    }
    return GRD_OK;
}

/* Runs the shape rule of the op that input `at` comes from: `types` by the op's outputs. */
static grd_status infer_from(const grdi_sample_case *sample, int32_t at, const grdi_sample_case *attrs,
                             grdi_type *types, int32_t *output_count, grd_error *error)
{
    const grdi_sample_input *input = &sample->in[at];
    grdi_type in[GRDI_INPUTS_MAX];
    for (int32_t i = 0; i < input->from_count; i++) {
        int32_t number = input->from_in[i];
        if (number >= sample->input_count || sample->in[number].from)
            return grd_fail(error, GRD_E_FORMAT, "sample: input %d is made of input %d, which is none or made itself",
                            at, number);
        in[i] = sample->in[number].type;
    }
    grdi_infer c = {.op = input->from, .attrs = attrs->attrs, .input_count = input->from_count, .in = in,
                    .output_count = input->from->outputs ? input->from->outputs : 1};
    if (!input->from->shape(&c))
        return grd_fail(error, c.status, "sample: input %d: %s: %s", at, c.op->name, c.message);
    if (input->from_output < 0 || input->from_output >= c.output_count)
        return grd_fail(error, GRD_E_FORMAT, "sample: input %d: %s has no output %d", at, c.op->name,
                        input->from_output);
    memcpy(types, c.out, sizeof(*types) * (size_t)c.output_count);
    *output_count = c.output_count;
    return GRD_OK;
}

grd_status grdi_sample_read(const grdi_op *op, const grdi_sample *sample, bool in_double, grdi_sample_case *out,
                            grd_error *error)
{
    grd_status status = GRD_OK;
    out->input_count = 0;
    for (int32_t i = 0; i < GRDI_INPUTS_MAX && sample->in[i] && !status; i++) {
        status = grdi_sample_read_input(sample->in[i], &out->in[i], error);
        if (in_double && out->in[i].type.dtype == GRD_F32) out->in[i].type.dtype = GRD_F64;
        out->input_count++;
    }
    for (int32_t i = 0; i < out->input_count && !status; i++) {
        grdi_sample_case attrs;
        grdi_type types[GRDI_OUTPUTS_MAX];
        int32_t output_count;
        if (!out->in[i].from) continue;
        status = grdi_sample_read_attrs(out->in[i].from, out->in[i].from_attrs, &attrs, error);
        if (!status) status = infer_from(out, i, &attrs, types, &output_count, error);
        if (!status) out->in[i].type = types[out->in[i].from_output];
    }
    return status ? status : grdi_sample_read_attrs(op, sample->attrs, out, error);
}

int32_t grdi_sample_count(const grdi_op *op)
{
    int32_t count = 0;
    while (op->samples && (op->samples[count].in[0] || op->samples[count].attrs)) count++;
    return count;
}

/* ---- values ---- */

static void fill_listed(const grdi_sample_input *input, int64_t count, double *values)
{
    const char *at = input->values;
    double value = 0;
    for (int64_t i = 0; i < count; i++) {
        char *end;
        double next = strtod(at, &end);
        if (end != at) value = next;
        at = *end == ',' ? end + 1 : end;
        values[i] = value;
    }
}

/* The value as `dtype` holds it; f64 keeps what f32 holds, so that runs in either see the same values. */
static double rounded(grd_dtype dtype, double value)
{
    if (dtype == GRD_BF16) return grdi_bf16_to_f32(grdi_f32_to_bf16((float)value));
    if (dtype == GRD_F16) return grdi_f16_to_f32(grdi_f32_to_f16((float)value));
    return (double)(float)value;
}

void grdi_sample_fill(const grdi_sample_input *input, uint64_t seed, double *values)
{
    int64_t count = grd_dims_count(input->type.dims);
    if (input->values) {
        fill_listed(input, count, values);
        return;
    }
    for (int64_t i = 0; i < count; i++) {
        double u = grdi_unit(grdi_random_u32(seed, 0, 0, (uint64_t)i));
        if (input->type.dtype == GRD_BOOL)
            values[i] = u < 0.5;
        else if (grd_dtype_is_float(input->type.dtype))
            values[i] = rounded(input->type.dtype, input->low + (input->high - input->low) * u);
        else
            values[i] = input->low + floor(u * (input->high - input->low + 1));
    }
}

static const uint64_t unwritten_bits = 0x7FF7DEADBEEF0001ull;

bool grdi_sample_unwritten(double value)
{
    return memcmp(&value, &unwritten_bits, sizeof value) == 0;
}

void grdi_sample_reference(const grdi_reference *r)
{
    for (int32_t o = 0; o < r->output_count; o++)
        for (int64_t i = 0, count = r->out[o] ? grd_dims_count(r->out_type[o].dims) : 0; i < count; i++)
            memcpy(&r->out[o][i], &unwritten_bits, sizeof unwritten_bits);
    r->op->reference(r);
}

/* Input `at`, which another op gives, from the inputs already filled. */
static grd_status fill_from(const grdi_sample_case *sample, int32_t at, double *const *values, grd_error *error)
{
    const grdi_sample_input *input = &sample->in[at];
    grdi_sample_case attrs;
    grdi_type in_type[GRDI_INPUTS_MAX], out_type[GRDI_OUTPUTS_MAX];
    const double *in[GRDI_INPUTS_MAX];
    double *out[GRDI_OUTPUTS_MAX] = {NULL};
    int32_t output_count;
    grd_status status = grdi_sample_read_attrs(input->from, input->from_attrs, &attrs, error);
    if (!status) status = infer_from(sample, at, &attrs, out_type, &output_count, error);
    if (status) return status;
    for (int32_t i = 0; i < input->from_count; i++) {
        in_type[i] = sample->in[input->from_in[i]].type;
        in[i] = values[input->from_in[i]];
    }
    out[input->from_output] = values[at];
    grdi_sample_reference(&(grdi_reference){.op = input->from, .attrs = attrs.attrs, .input_count = input->from_count,
                                            .output_count = output_count, .in_type = in_type, .out_type = out_type,
                                            .in = in, .out = out});
    for (int64_t i = 0, count = grd_dims_count(input->type.dims); i < count; i++)
        values[at][i] = rounded(input->type.dtype, values[at][i]);
    return GRD_OK;
}

grd_status grdi_sample_fill_all(const grdi_sample_case *sample, uint64_t seed, double *const *values, grd_error *error)
{
    grd_status status = GRD_OK;
    for (int32_t i = 0; i < sample->input_count; i++)
        if (!sample->in[i].from) grdi_sample_fill(&sample->in[i], seed + (uint64_t)i, values[i]);
    for (int32_t i = 0; i < sample->input_count && !status; i++)
        if (sample->in[i].from) status = fill_from(sample, i, values, error);
    return status;
}

void grdi_sample_store(grd_dtype dtype, const double *values, int64_t count, void *data)
{
    for (int64_t i = 0; i < count; i++) {
        double v = values[i];
        switch (dtype) {
        case GRD_F32: ((float *)data)[i] = (float)v; break;
        case GRD_F64: ((double *)data)[i] = v; break;
        case GRD_BF16: ((uint16_t *)data)[i] = grdi_f32_to_bf16((float)v); break;
        case GRD_F16: ((uint16_t *)data)[i] = grdi_f32_to_f16((float)v); break;
        case GRD_I32: ((int32_t *)data)[i] = (int32_t)v; break;
        case GRD_I64: ((int64_t *)data)[i] = (int64_t)v; break;
        case GRD_U8: ((uint8_t *)data)[i] = (uint8_t)v; break;
        case GRD_BOOL: ((uint8_t *)data)[i] = v != 0; break;
        case GRD_DTYPE_COUNT: break;
        }
    }
}

void grdi_sample_load(grd_dtype dtype, const void *data, int64_t count, double *values)
{
    for (int64_t i = 0; i < count; i++) {
        switch (dtype) {
        case GRD_F32: values[i] = ((const float *)data)[i]; break;
        case GRD_F64: values[i] = ((const double *)data)[i]; break;
        case GRD_BF16: values[i] = grdi_bf16_to_f32(((const uint16_t *)data)[i]); break;
        case GRD_F16: values[i] = grdi_f16_to_f32(((const uint16_t *)data)[i]); break;
        case GRD_I32: values[i] = ((const int32_t *)data)[i]; break;
        case GRD_I64: values[i] = (double)((const int64_t *)data)[i]; break;
        case GRD_U8: values[i] = ((const uint8_t *)data)[i]; break;
        case GRD_BOOL: values[i] = ((const uint8_t *)data)[i] != 0; break;
        case GRD_DTYPE_COUNT: break;
        }
    }
}
