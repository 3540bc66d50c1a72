/* layers.c - statistics by layer, of some steps: how large activations, gradients and updates are. A layer is the first
 * name of a path: "h3" of "h3/attn/qkv/weight". */
#include "train/session.h"

#include <gradus/ops.h>

#include "base/memory.h"
#include "graph/graph.h"

#include <math.h>
#include <string.h>

/* The layer that the path lies in, added if it is new; NULL when there is no room for one more. */
static grdi_layer *layer_of(grdi_layers *l, const char *path)
{
    size_t length = strcspn(path, "/");
    for (size_t i = 0; i < l->count; i++)
        if (strncmp(l->layers[i].name, path, length) == 0 && !l->layers[i].name[length]) return &l->layers[i];
    if (length >= sizeof(l->layers->name) || !GRDI_GROW(l->layers, l->capacity, l->count)) return NULL;
    grdi_layer *layer = &l->layers[l->count++];
    *layer = (grdi_layer){0};
    memcpy(layer->name, path, length);
    return layer;
}

/* Layers in the order in which the model was built, and what each puts out: the last value that was built inside it. */
static bool find_layers(grdi_layers *l, const grd_graph *graph)
{
    for (size_t n = 0; n < graph->count; n++) {
        grdi_node *node = graph->nodes[n];
        bool source = node->op->flags & GRDI_OP_SOURCE;
        const char *path = node->variable ? node->variable->path : source ? "" : node->scope;
        if (!path[0]) continue;
        grdi_layer *layer = layer_of(l, path);
        if (!layer) return false;
        if (!source && node->out[0].dtype == GRD_F32) layer->output = (grd_tensor){node, 0};
    }
    return true;
}

/* Forward up to the layers' outputs, and the sums of their squares; the head and the loss are left out. */
static bool compile(grdi_layers *l)
{
    grd_tensor *roots = grdi_alloc_zero(l->count + 1, sizeof(*roots));
    int32_t count = 0;
    bool ok = roots && (l->statistics = grdi_alloc_zero(l->count + 1, sizeof(*l->statistics)));
    for (size_t i = 0; ok && i < l->count; i++) {
        if (grd_is_poison(l->layers[i].output)) continue;
        l->layers[i].squares = grd_sum_squares(l->layers[i].output);
        roots[count++] = l->layers[i].squares;
    }
    if (ok && count) l->program = grd_program_new(roots, count);
    grdi_free(roots);
    return ok && (!count || l->program);
}

grd_status grdi_layers_open(grdi_layers *l, const grd_graph *graph, grd_error *error)
{
    if (find_layers(l, graph) && compile(l)) return GRD_OK;
    const grd_error *problem = grd_graph_error(graph);
    return problem->status ? grd_fail(error, problem->status, "%s", problem->message)
                           : grd_fail(error, GRD_E_MEMORY, "out of memory for statistics by layer");
}

grd_status grdi_session_build_layers(grdi_session *s)
{
    return s->settings->train.statistics_every ? grdi_layers_open(&s->layers, s->eval_graph, s->error) : GRD_OK;
}

void grdi_layers_close(grdi_layers *l)
{
    grdi_free(l->layers);
    grdi_free(l->statistics);
}

/* ---- a measured step ---- */

typedef struct sums {
    double weight, gradient, update, count;
} sums;

static double root(double sum, double count)
{
    return count > 0 ? sqrt(sum / count) : NAN;
}

/* Of all parameters of the layer together. */
static void add_parameters(const grd_step *step, const grdi_layer *layer, grd_layer_statistics *to)
{
    grd_parameter_statistics p;
    sums all = {0, 0, 0, 0};
    size_t length = strlen(layer->name);
    for (int32_t i = 0; grd_step_statistics_at(step, i, &p); i++) {
        if (strncmp(p.path, layer->name, length) != 0 || (p.path[length] && p.path[length] != '/')) continue;
        double n = (double)p.count;
        all.weight += n * p.weight_rms * p.weight_rms;
        all.gradient += n * p.gradient_rms * p.gradient_rms;
        all.update += n * p.update_rms * p.update_rms;
        all.count += n;
    }
    to->weight_rms = root(all.weight, all.count);
    to->gradient_rms = root(all.gradient, all.count);
    to->update_rms = root(all.update, all.count);
}

grd_status grdi_layers_measure(grdi_layers *l, const grd_step *step, grd_tensor input, const void *data,
                               grd_error *error)
{
    if (l->program) {
        grd_program_feed(l->program, input, data);
        grd_status status = grd_program_run(l->program);
        if (status) return grd_fail(error, status, "%s", grd_program_error(l->program)->message);
    }
    for (size_t i = 0; i < l->count; i++) {
        const grdi_layer *layer = &l->layers[i];
        l->statistics[i] = (grd_layer_statistics){.name = layer->name, .activation_rms = NAN};
        add_parameters(step, layer, &l->statistics[i]);
        float sum;
        if (grd_is_poison(layer->squares)) continue;
        grd_program_read(l->program, layer->squares, &sum);
        l->statistics[i].activation_rms = root(sum, (double)grd_dims_count(grd_tensor_dims(layer->output)));
    }
    return GRD_OK;
}

grd_status grdi_session_emit_layers(grdi_session *s)
{
    grdi_layers *l = &s->layers;
    grd_status status = grdi_layers_measure(l, s->step, s->eval_ids, s->last_inputs, s->error);
    if (status) return status;
    grdi_session_emit(
        s, &(grd_event){
               .kind = GRD_EVENT_LAYERS, .step = s->done, .layers = l->statistics, .layer_count = (int32_t)l->count});
    return GRD_OK;
}
