/* check.c - checks of op definitions: samples, references, views, composes. */
#include "check.h"

#include "ops/table.h"

#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

check_counts checks_made;

static bool wrong(char *message, const char *format, ...) __attribute__((format(printf, 2, 3)));

static bool wrong(char *message, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(message, CHECK_TEXT, format, args);
    va_end(args);
    return false;
}

double typical_size(const double *values, int64_t count)
{
    double square = 0;
    int64_t finite = 0;
    for (int64_t i = 0; i < count; i++) {
        if (!isfinite(values[i])) continue;
        square += values[i] * values[i];
        finite++;
    }
    return finite ? sqrt(square / (double)finite) : 0;
}

bool check_close_sized(const double *got, const double *want, int64_t count, double tolerance, double size,
                       char *message)
{
    double worst = -1, typical = fmax(typical_size(want, count), size);
    int64_t at = 0;
    for (int64_t i = 0; i < count; i++) {
        if (got[i] == want[i]) continue;
        if (!isfinite(got[i]) || !isfinite(want[i]))
            return wrong(message, "element %lld is %g, should be %g", (long long)i, got[i], want[i]);
        double excess = fabs(got[i] - want[i]) - tolerance * fmax(fabs(want[i]), typical);
        if (excess > 0 && excess > worst) {
            worst = excess;
            at = i;
        }
    }
    if (worst < 0) return true;
    return wrong(message, "element %lld is %.9g, should be %.9g (off by %.2g, tolerance %.2g of %.3g)", (long long)at,
                 got[at], want[at], fabs(got[at] - want[at]), tolerance, fmax(fabs(want[at]), typical));
}

bool check_close(const double *got, const double *want, int64_t count, double tolerance, char *message)
{
    return check_close_sized(got, want, count, tolerance, 0, message);
}

/* ---- the definition ---- */

bool check_definition(const grdi_op *op, char *message)
{
    int32_t good = 0, bad = 0, most = op->inputs_max ? op->inputs_max : op->inputs;
    if (!op->name || !op->name[0])
        return wrong(message, "an op has no name");
    if (!op->shape)
        return wrong(message, "%s: no shape rule", op->name);
    if (op->inputs < 0 || most < op->inputs || most > GRDI_INPUTS_MAX || op->outputs > GRDI_OUTPUTS_MAX)
        return wrong(message, "%s: counts of inputs or outputs out of range", op->name);
    for (int32_t i = 0; i < GRDI_ATTRS_MAX && op->attrs[i].name; i++)
        for (int32_t j = 0; j < i; j++)
            if (strcmp(op->attrs[i].name, op->attrs[j].name) == 0)
                return wrong(message, "%s: two attributes '%s'", op->name, op->attrs[i].name);
    for (int32_t o = 0; o < GRDI_OUTPUTS_MAX; o++)
        if (op->inplace[o] >> most)
            return wrong(message, "%s: output %d in place of an input that there is not", op->name, o);
    if (op->flags & GRDI_OP_SOURCE)
        return true;
    if ((op->flags & GRDI_OP_VIEW) && !op->view)
        return wrong(message, "%s: VIEW without a view", op->name);
    if ((op->flags & GRDI_OP_MAP) && !op->scalar)
        return wrong(message, "%s: MAP without a scalar", op->name);
    if (!op->reference)
        return wrong(message, "%s: no reference", op->name);
    if ((op->flags & GRDI_OP_NO_GRADIENT) && op->gradient)
        return wrong(message, "%s: NO_GRADIENT and a rule", op->name);
    for (int32_t i = 0, n = grdi_sample_count(op); i < n; i++) {
        good += !op->samples[i].bad && !op->samples[i].large;
        bad += op->samples[i].bad != NULL;
    }
    if (good < 2 || bad < 1)
        return wrong(message, "%s: %d good and %d bad samples (2 and 1 are the least)", op->name, good, bad);
    return true;
}

/* ---- cases ---- */

static bool emit_inputs(op_case *c, char *message)
{
    for (int32_t i = 0; i < c->in_count; i++) {
        char name[16];
        snprintf(name, sizeof name, "in%d", i);
        if (!c->parsed.in[i].from)
            c->in[i] = grd_input(c->graph, name, c->parsed.in[i].type.dtype, c->parsed.in[i].type.dims);
    }
    for (int32_t i = 0; i < c->in_count; i++) {
        const grdi_sample_input *input = &c->parsed.in[i];
        grdi_sample_case attrs;
        grd_error error = {0};
        grd_tensor in[GRDI_INPUTS_MAX], out[GRDI_OUTPUTS_MAX];
        if (!input->from)
            continue;
        if (grdi_sample_read_attrs(input->from, input->from_attrs, &attrs, &error))
            return wrong(message, "%s", error.message);
        for (int32_t k = 0; k < input->from_count; k++)
            in[k] = c->in[input->from_in[k]];
        grdi_emit(c->graph, input->from, in, input->from_count, attrs.attrs, attrs.attr_count, out);
        c->in[i] = out[input->from_output];
    }
    return true;
}

bool op_case_fill(op_case *c, char *message)
{
    grd_error error = {0};
    for (int32_t i = 0; i < c->in_count; i++)
        c->data[i] = test_alloc((size_t)grd_dims_count(c->parsed.in[i].type.dims), sizeof(double));
    if (!grdi_sample_fill_all(&c->parsed, 17, c->data, &error))
        return true;
    return wrong(message, "%s: %s", c->op->name, error.message);
}

static bool open_as(op_case *c, const grdi_op *op, int32_t index, bool in_double, char *message)
{
    grd_error error = {0};
    memset(c, 0, sizeof *c);
    c->op = op;
    c->sample = &op->samples[index];
    c->engine = grd_engine_open("ref");
    c->graph = grd_graph_new(grd_model_new(c->engine, 1));
    if (!c->graph)
        return wrong(message, "no graph: %s", c->engine ? grd_engine_error(c->engine)->message : "no engine");
    if (grdi_sample_read(op, c->sample, in_double, &c->parsed, &error))
        return wrong(message, "sample %d: %s", index, error.message);
    c->in_count = c->parsed.input_count;
    if (!c->sample->large && !c->sample->bad && !op_case_fill(c, message))
        return false;
    if (!emit_inputs(c, message))
        return false;
    grd_tensor first = grdi_emit(c->graph, op, c->in, c->in_count, c->parsed.attrs, c->parsed.attr_count, c->out);
    if (!first.node)
        return wrong(message, "%s sample %d: %s", op->name, index, grd_graph_error(c->graph)->message);
    c->out_count = first.node->output_count;
    return true;
}

bool op_case_open(op_case *c, const grdi_op *op, int32_t index, bool in_double, char *message)
{
    if (open_as(c, op, index, in_double, message))
        return true;
    if (!in_double || !c->graph || grd_graph_error(c->graph)->status != GRD_E_DTYPE)
        return false;
    op_case_close(c);
    return open_as(c, op, index, false, message);
}

void op_case_close(op_case *c)
{
    for (int32_t i = 0; i < c->in_count; i++)
        free(c->data[i]);
    if (c->engine)
        grd_engine_close(c->engine);
}

values *op_case_values(const op_case *c)
{
    values *v = values_new(c->graph);
    for (int32_t i = 0; i < c->in_count; i++)
        if (!c->parsed.in[i].from)
            values_set(v, c->in[i], c->data[i]);
    return v;
}

/* ---- samples ---- */

static bool check_refused(const op_case *c, bool opened, int32_t index, const char *why, char *message)
{
    if (opened)
        return wrong(message, "%s sample %d: accepted, should say '%s'", c->op->name, index, c->sample->bad);
    if (!c->graph || !grd_graph_error(c->graph)->status)
        return wrong(message, "%s", why);
    const char *text = grd_graph_error(c->graph)->message;
    checks_made.refused++;
    if (strstr(text, c->sample->bad) && strstr(text, c->op->name))
        return true;
    return wrong(message, "%s sample %d: the error '%s' should say '%s' and name the op", c->op->name, index, text,
                 c->sample->bad);
}

bool check_sample(const grdi_op *op, int32_t index, char *message)
{
    op_case c;
    char why[CHECK_TEXT] = "";
    bool opened = open_as(&c, op, index, false, why), ok = opened;
    if (c.sample->bad) {
        ok = check_refused(&c, opened, index, why, message);
    } else if (!opened) {
        wrong(message, "%s", why);
    }
    for (int32_t o = 0; ok && o < c.out_count; o++) {
        const grdi_type *type = grdi_type_of(c.out[o]);
        ok = type->dtype < GRD_DTYPE_COUNT && type->dims.rank <= GRD_RANK_MAX && grd_dims_count(type->dims) >= 0;
        checks_made.accepted += o == 0;
        if (!ok)
            wrong(message, "%s sample %d: output %d has no sound type", op->name, index, o);
    }
    op_case_close(&c);
    return ok;
}

static bool skipped(const grdi_op *op, int32_t index)
{
    return op->samples[index].bad || op->samples[index].large || (op->flags & GRDI_OP_SOURCE);
}

/* ---- references ---- */

/* Whether integers are integers that their dtype holds, and bools 0 or 1. */
static bool fits_dtype(grd_dtype dtype, double value)
{
    switch (dtype) {
    case GRD_BOOL: return value == 0 || value == 1;
    case GRD_U8: return value == floor(value) && value >= 0 && value <= 255;
    case GRD_I32: return value == floor(value) && value >= INT32_MIN && value <= INT32_MAX;
    case GRD_I64: return value == floor(value);
    default: return true;
    }
}

static bool check_output(const op_case *c, int32_t o, const double *value, char *message)
{
    const grdi_type *type = grdi_type_of(c->out[o]);
    int64_t count = grd_dims_count(type->dims), unwritten = 0;
    for (int64_t i = 0; i < count; i++)
        unwritten += grdi_sample_unwritten(value[i]);
    if (unwritten == count && o > 0)
        return true; /* not given in this case */
    checks_made.outputs |= 1u << o;
    for (int64_t i = 0; i < count; i++) {
        const char *what = grdi_sample_unwritten(value[i]) ? "never written" : isnan(value[i]) ? "NaN" : NULL;
        if (!what && isinf(value[i]) && o == 0 && !c->sample->no_gradient)
            what = "infinite";
        if (!what && !fits_dtype(type->dtype, value[i]))
            what = "outside its dtype";
        if (what)
            return wrong(message, "output %d, element %lld (%g) is %s", o, (long long)i, value[i], what);
    }
    return true;
}

/* Evaluates the outputs of `mask` and compares them bit for bit with `want`. */
static bool check_again(const op_case *c, const values *want, uint32_t mask, char *message)
{
    values *v = op_case_values(c);
    grd_tensor wanted[GRDI_OUTPUTS_MAX];
    int32_t count = 0;
    for (int32_t o = 0; o < c->out_count; o++)
        if (mask >> o & 1)
            wanted[count++] = c->out[o];
    bool ok = values_run(v, wanted, count, message, CHECK_TEXT);
    for (int32_t i = 0; ok && i < count; i++) {
        size_t size = sizeof(double) * (size_t)grd_dims_count(grdi_type_of(wanted[i])->dims);
        checks_made.reference++;
        ok = memcmp(values_get(v, wanted[i]), values_get(want, wanted[i]), size) == 0;
        if (!ok)
            wrong(message, "output %d differs between two runs (outputs asked for: %x)", wanted[i].output, mask);
    }
    for (int32_t i = 0; ok && i < c->in_count; i++) {
        size_t size = sizeof(double) * (size_t)grd_dims_count(c->parsed.in[i].type.dims);
        ok = c->parsed.in[i].from || memcmp(values_get(v, c->in[i]), c->data[i], size) == 0;
        if (!ok)
            wrong(message, "input %d was changed", i);
    }
    values_free(v);
    return ok;
}

bool check_reference(const grdi_op *op, int32_t index, char *message)
{
    op_case c;
    char why[CHECK_TEXT] = "";
    if (skipped(op, index))
        return true;
    bool ok = op_case_open(&c, op, index, true, why);
    values *v = ok ? op_case_values(&c) : NULL;
    for (int32_t i = 0; ok && i < c.in_count; i++) /* all inputs are asked for too: derived ones have values then */
        ok = c.in[i].node != NULL;
    ok = ok && values_run(v, c.out, c.out_count, why, sizeof why);
    for (int32_t o = 0; ok && o < c.out_count; o++)
        ok = check_output(&c, o, values_get(v, c.out[o]), why);
    ok = ok && check_again(&c, v, (1u << c.out_count) - 1, why);
    for (int32_t o = 0; ok && c.out_count > 1 && o < c.out_count; o++)
        ok = check_again(&c, v, 1u << o, why);
    values_free(v);
    op_case_close(&c);
    return ok || wrong(message, "%s sample %d: reference: %s", op->name, index, why);
}

/* ---- views ---- */

static int64_t element_at(grd_dims dims, const grdi_strides *strides, int64_t index)
{
    int64_t at = strides->offset;
    for (int32_t i = dims.rank - 1; i >= 0; i--) {
        at += index % dims.dim[i] * strides->stride[i];
        index /= dims.dim[i];
    }
    return at;
}

/* Lays the input out by `strides` in a NaN-filled buffer and reads the view there. `must`: the view has to be possible.
 */
static bool check_layout(const op_case *c, const double *want, const grdi_strides *strides, int64_t size, bool must,
                         char *message)
{
    const grdi_type *in = grdi_type_of(c->in[0]), *out = grdi_type_of(c->out[0]);
    grdi_strides seen = {0};
    if (!c->op->view(in, strides, c->parsed.attrs, out, &seen))
        return !must || wrong(message, "no view of a row-major input");
    double *buffer = test_alloc((size_t)size, sizeof *buffer);
    bool ok = true;
    checks_made.view++;
    for (int64_t i = 0; i < size; i++)
        buffer[i] = NAN;
    for (int64_t i = 0, n = grd_dims_count(in->dims); i < n; i++)
        buffer[element_at(in->dims, strides, i)] = c->data[0][i];
    for (int64_t i = 0, n = grd_dims_count(out->dims); ok && i < n; i++) {
        int64_t at = element_at(out->dims, &seen, i);
        ok = at >= 0 && at < size && buffer[at] == want[i];
        if (!ok)
            wrong(message, "view: element %lld lies at %lld, which is wrong", (long long)i, (long long)at);
    }
    free(buffer);
    return ok;
}

bool check_view(const grdi_op *op, int32_t index, char *message)
{
    op_case c;
    char why[CHECK_TEXT] = "";
    if (skipped(op, index) || !(op->flags & GRDI_OP_VIEW))
        return true;
    bool ok = op_case_open(&c, op, index, true, why);
    values *v = ok ? op_case_values(&c) : NULL;
    ok = ok && values_run(v, c.out, 1, why, sizeof why);
    if (ok) {
        grd_dims dims = grdi_type_of(c.in[0])->dims;
        grdi_strides row_major = {0}, first_fastest = {.offset = 3}, spaced = {.offset = 1};
        int64_t row_step = 1, first_step = 2, spaced_step = 1;
        for (int32_t i = 0; i < dims.rank; i++) {
            int32_t last = dims.rank - 1 - i;
            row_major.stride[last] = row_step;
            row_step *= dims.dim[last];
            first_fastest.stride[i] = first_step;
            first_step *= dims.dim[i];
            spaced.stride[last] =
                spaced_step; /* row-major with a gap after every run of the last axis, as a slice leaves */
            spaced_step *= dims.dim[last] + (i == 0 ? 2 : 0);
        }
        const double *want = values_get(v, c.out[0]);
        ok = check_layout(&c, want, &row_major, row_step, true, why) &&
             check_layout(&c, want, &first_fastest, first_step + 3, false, why) &&
             check_layout(&c, want, &spaced, spaced_step + 3, false, why);
    }
    values_free(v);
    op_case_close(&c);
    return ok || wrong(message, "%s sample %d: %s", op->name, index, why);
}

/* ---- compose ---- */

static bool compare_composed(const op_case *c, const grd_tensor *composed, char *message)
{
    values *v = op_case_values(c);
    grd_tensor wanted[2 * GRDI_OUTPUTS_MAX];
    int32_t count = 0;
    bool ok = true;
    for (int32_t o = 0; ok && o < c->out_count; o++) {
        const grdi_type *want = grdi_type_of(c->out[o]);
        if (!composed[o].node)
            continue;
        const grdi_type *have = grdi_type_of(composed[o]);
        ok = have->dtype == want->dtype && grd_dims_equal(have->dims, want->dims);
        if (!ok)
            wrong(message, "output %d is composed in another type", o);
        wanted[count++] = c->out[o];
        wanted[count++] = composed[o];
    }
    if (ok && count == 0)
        ok = wrong(message, "no output is composed");
    ok = ok && values_run(v, wanted, count, message, CHECK_TEXT);
    for (int32_t i = 0; ok && i < count; i += 2) {
        char why[CHECK_TEXT];
        const double *want = values_get(v, wanted[i]), *have = values_get(v, wanted[i + 1]);
        if (grdi_sample_unwritten(want[0]))
            continue; /* not given in this case */
        checks_made.compose++;
        ok = check_close(have, want, grd_dims_count(grdi_type_of(wanted[i])->dims), 1e-9,
                         why); /* some rounding in double */
        if (!ok)
            wrong(message, "output %d: %s", wanted[i].output, why);
    }
    values_free(v);
    return ok;
}

bool check_compose(const grdi_op *op, int32_t index, char *message)
{
    op_case c;
    char why[CHECK_TEXT] = "";
    if (skipped(op, index) || !op->compose)
        return true;
    bool ok = op_case_open(&c, op, index, true, why);
    if (ok) {
        const grdi_node *node = c.out[0].node;
        grdi_compose compose = {.graph = c.graph,
                                .attrs = node->attrs,
                                .input_count = c.in_count,
                                .in = c.in,
                                .path_hash = node->path_hash};
        op->compose(&compose);
        if (grd_graph_error(c.graph)->status)
            ok = wrong(why, "%s", grd_graph_error(c.graph)->message);
        else
            ok = compare_composed(&c, compose.out, why);
    }
    op_case_close(&c);
    return ok || wrong(message, "%s sample %d: compose: %s", op->name, index, why);
}
