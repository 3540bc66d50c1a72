/* values.c - a graph interpreter made of the ops' references. */
#include "values.h"

#include "ops/sample.h"
#include "ops/table.h"

#include <stdlib.h>
#include <string.h>

const uint64_t unwritten_bits = 0x7FF7DEADBEEF0001ull;

bool is_unwritten(double value)
{
    return memcmp(&value, &unwritten_bits, sizeof value) == 0;
}

void *test_alloc(size_t count, size_t size_bytes)
{
    void *memory = calloc(count ? count : 1, size_bytes ? size_bytes : 1);
    if (!memory) abort();
    return memory;
}

struct values {
    const grd_graph *graph;
    size_t count;                      /* nodes that have a place below */
    double *(*data)[GRDI_OUTPUTS_MAX]; /* by node and output */
    uint8_t *needed;                   /* by node: a bit for each output that is needed */
};

values *values_new(const grd_graph *graph)
{
    values *v = test_alloc(1, sizeof *v);
    v->graph = graph;
    return v;
}

void values_free(values *v)
{
    if (!v) return;
    for (size_t i = 0; i < v->count; i++)
        for (int32_t o = 0; o < GRDI_OUTPUTS_MAX; o++) free(v->data[i][o]);
    free(v->data);
    free(v->needed);
    free(v);
}

/* Room for all nodes that the graph has by now. */
static void grow(values *v)
{
    size_t count = v->graph->count;
    if (count <= v->count) return;
    double *(*data)[GRDI_OUTPUTS_MAX] = test_alloc(count, sizeof *data);
    if (v->count) memcpy(data, v->data, v->count * sizeof *data);
    free(v->data);
    free(v->needed);
    v->data = data;
    v->needed = test_alloc(count, 1);
    v->count = count;
}

static double *room(values *v, grd_tensor t)
{
    double **place = &v->data[t.node->id][t.output];
    if (!*place) *place = test_alloc((size_t)grd_dims_count(grdi_type_of(t)->dims), sizeof(double));
    return *place;
}

void values_set(values *v, grd_tensor input, const double *data)
{
    grow(v);
    memcpy(room(v, input), data, sizeof(double) * (size_t)grd_dims_count(grdi_type_of(input)->dims));
}

const double *values_get(const values *v, grd_tensor t)
{
    return (size_t)t.node->id < v->count ? v->data[t.node->id][t.output] : NULL;
}

static void mark(values *v, const grd_tensor *wanted, int32_t count)
{
    memset(v->needed, 0, v->count);
    for (int32_t i = 0; i < count; i++) v->needed[wanted[i].node->id] |= (uint8_t)(1u << wanted[i].output);
    for (size_t id = v->count; id-- > 0;) {
        const grdi_node *node = v->graph->nodes[id];
        for (int32_t i = 0; v->needed[id] && i < node->input_count; i++)
            v->needed[node->in[i].node->id] |= (uint8_t)(1u << node->in[i].output);
    }
}

static void run_reference(values *v, grdi_node *node)
{
    grdi_type in_type[GRDI_INPUTS_MAX];
    const double *in[GRDI_INPUTS_MAX];
    double *out[GRDI_OUTPUTS_MAX] = {NULL};
    for (int32_t i = 0; i < node->input_count; i++) {
        in_type[i] = *grdi_type_of(node->in[i]);
        in[i] = values_get(v, node->in[i]);
    }
    for (int32_t o = 0; o < node->output_count; o++) {
        if (!(v->needed[node->id] >> o & 1) && !(node->op->flags & GRDI_OP_WHOLE)) continue;
        out[o] = room(v, (grd_tensor){node, o});
        for (int64_t i = 0, n = grd_dims_count(node->out[o].dims); i < n; i++) memcpy(&out[o][i], &unwritten_bits, 8);
    }
    grdi_sample_reference(&(grdi_reference){.op = node->op,
                                            .attrs = node->attrs,
                                            .input_count = node->input_count,
                                            .output_count = node->output_count,
                                            .in_type = in_type,
                                            .out_type = node->out,
                                            .in = in,
                                            .out = out,
                                            .path_hash = node->path_hash,
                                            .literal = node->literal});
}

bool values_run(values *v, const grd_tensor *wanted, int32_t count, char *message, size_t size)
{
    grow(v);
    mark(v, wanted, count);
    for (size_t id = 0; id < v->count; id++) {
        grdi_node *node = v->graph->nodes[id];
        if (!v->needed[id]) continue;
        if (node->literal) {
            grd_tensor t = {node, 0};
            grdi_sample_load(node->out[0].dtype, node->literal, grd_dims_count(node->out[0].dims), room(v, t));
        } else if (node->op->flags & GRDI_OP_SOURCE) {
            if (v->data[id][0]) continue;
            snprintf(message, size, "%s '%s' has no value", node->op->name, node->name ? node->name : "");
            return false;
        } else if (!node->op->reference && !node->op->scalar) {
            snprintf(message, size, "%s has no reference", node->op->name);
            return false;
        } else {
            run_reference(v, node);
        }
    }
    return true;
}
