/* cudnn.c - convolutions by cuDNN's backend interface. A convolution is a graph of one operation, or of two where a
 * bias is added; heuristics name engines for it, and the first that will do becomes an execution plan. */
#include "lib/cudnn.h"
#include "lib/library.h"

#include "host.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { RANK_MAX = GRDI_WINDOW_AXES + 2, KNOBS_MAX = 48, RESULTS_MAX = 64, OWNED_MAX = 192, CANDIDATES_MAX = 16 };
enum { ID_X = 1, ID_W, ID_Y, ID_BIAS, ID_SUM };

/* What heuristics answer and a plan is made of: an engine and how its knobs are set. */
typedef struct choice {
    int64_t engine;
    int32_t knobs;
    int32_t type[KNOBS_MAX];
    int64_t value[KNOBS_MAX];
} choice;

struct grdi_dnn_plan {
    grdi_dnn *dnn;
    grdi_dnn_descriptor owned[OWNED_MAX]; /* all that were made, in order */
    int32_t owned_count;
    grdi_dnn_descriptor graph[2], plan[2]; /* overwriting, adding to the result */
    grdi_dnn_descriptor pack;
    int32_t made; /* of `owned`, before the pack */
    bool bias;
    size_t workspace_bytes;
};

/* ---- opening ---- */

bool grdi_dnn_load(grdi_dnn *dnn)
{
    bool complete = true;
#define X(result, name, arguments)                                                                                     \
    *(void **)&dnn->call.call_##name = grdi_library_symbol(GRDI_LIBRARY_CUDNN, #name);                                 \
    complete &= dnn->call.call_##name != NULL;
    GRDI_DNN_FUNCTIONS(X)
#undef X
    if (!complete)
        snprintf(dnn->why, sizeof dnn->why, "%s lacks a function (a version before 9?)",
                 grdi_library_name(GRDI_LIBRARY_CUDNN));
    else dnn->version = dnn->call.call_cudnnGetVersion();
    return complete;
}

static bool note(grdi_dnn *dnn, const char *call, int status)
{
    char text[300] = "";
    if (status == DNN_STATUS_SUCCESS) return true;
    dnn->call.call_cudnnGetLastErrorString(text, sizeof text);
    text[sizeof text - 1] = '\0';
    snprintf(dnn->why, sizeof dnn->why, "%.60s: %.100s (%s)", call, dnn->call.call_cudnnGetErrorString(status), text);
    return false;
}

void grdi_dnn_open(grdi_dnn *dnn, struct CUstream_st *stream)
{
    dnn->stream = stream;
    if (!grdi_library_open(GRDI_LIBRARY_CUDNN))
        snprintf(dnn->why, sizeof dnn->why, "%s is not to be found", grdi_library_name(GRDI_LIBRARY_CUDNN));
    else grdi_dnn_load(dnn);
}

/* The handle is made when a convolution is planned: it loads much, which other models need not wait for. */
static bool is_ready(grdi_dnn *dnn)
{
    if (dnn->properties || dnn->handle) return true;
    if (!dnn->version || dnn->failed) return false;
    dnn->failed = !note(dnn, "cudnnCreate", dnn->call.call_cudnnCreate(&dnn->handle)) ||
                  !note(dnn, "cudnnSetStream", dnn->call.call_cudnnSetStream(dnn->handle, dnn->stream));
    if (dnn->failed) grdi_dnn_close(dnn);
    return !dnn->failed;
}

void grdi_dnn_close(grdi_dnn *dnn)
{
    if (dnn->handle) dnn->call.call_cudnnDestroy(dnn->handle);
    dnn->handle = NULL;
}

/* ---- descriptors; the first failure of a chain ends it ---- */

typedef struct builder {
    grdi_dnn *dnn;
    grdi_dnn_plan *plan;
    bool ok;
} builder;

static grdi_dnn_descriptor make(builder *b, int type)
{
    grdi_dnn_descriptor made = NULL;
    if (!b->ok) return NULL;
    b->ok = b->plan->owned_count < OWNED_MAX &&
            note(b->dnn, "cudnnBackendCreateDescriptor", b->dnn->call.call_cudnnBackendCreateDescriptor(type, &made));
    if (b->ok) b->plan->owned[b->plan->owned_count++] = made;
    return made;
}

static void set(builder *b, grdi_dnn_descriptor d, int name, int type, int64_t count, const void *elements)
{
    if (b->ok)
        b->ok = note(b->dnn, "cudnnBackendSetAttribute",
                     b->dnn->call.call_cudnnBackendSetAttribute(d, name, type, count, elements));
}

static void set_descriptor(builder *b, grdi_dnn_descriptor d, int name, grdi_dnn_descriptor part)
{
    set(b, d, name, DNN_TYPE_BACKEND_DESCRIPTOR, 1, &part);
}

static grdi_dnn_descriptor finish(builder *b, grdi_dnn_descriptor d)
{
    if (b->ok) b->ok = note(b->dnn, "cudnnBackendFinalize", b->dnn->call.call_cudnnBackendFinalize(d));
    return d;
}

/* Destroys all descriptors but the first `kept`, newest first. */
static void drop(grdi_dnn_plan *plan, int32_t kept)
{
    while (plan->owned_count > kept)
        plan->dnn->call.call_cudnnBackendDestroyDescriptor(plan->owned[--plan->owned_count]);
}

/* ---- the graph ---- */

static int data_type(grd_dtype dtype)
{
    return dtype == GRD_BF16 ? DNN_DATA_BFLOAT16 : DNN_DATA_FLOAT;
}

/* dims [N,C,S..]; `inner`: channels lie innermost. A virtual tensor is no memory. */
static grdi_dnn_descriptor tensor(builder *b, int64_t id, int type, const int64_t *dims, int32_t rank, bool inner,
                                  bool is_virtual)
{
    int64_t stride[RANK_MAX], next = inner ? dims[1] : 1, alignment = GRDI_DNN_ALIGNMENT;
    for (int32_t d = rank - 1; d >= 0; d--) {
        if (inner && d == 1) continue;
        stride[d] = next;
        next *= dims[d];
    }
    if (inner) stride[1] = 1;
    grdi_dnn_descriptor t = make(b, DNN_BACKEND_TENSOR_DESCRIPTOR);
    set(b, t, DNN_ATTR_TENSOR_UNIQUE_ID, DNN_TYPE_INT64, 1, &id);
    set(b, t, DNN_ATTR_TENSOR_DATA_TYPE, DNN_TYPE_DATA_TYPE, 1, &type);
    set(b, t, DNN_ATTR_TENSOR_BYTE_ALIGNMENT, DNN_TYPE_INT64, 1, &alignment);
    set(b, t, DNN_ATTR_TENSOR_DIMENSIONS, DNN_TYPE_INT64, rank, dims);
    set(b, t, DNN_ATTR_TENSOR_STRIDES, DNN_TYPE_INT64, rank, stride);
    if (is_virtual) set(b, t, DNN_ATTR_TENSOR_IS_VIRTUAL, DNN_TYPE_BOOLEAN, 1, &is_virtual);
    return finish(b, t);
}

typedef struct geometry {
    int64_t spatial, x[RANK_MAX], w[RANK_MAX], y[RANK_MAX];
    int64_t stride[GRDI_WINDOW_AXES], padding[GRDI_WINDOW_AXES], dilation[GRDI_WINDOW_AXES];
} geometry;

/* cuDNN has two spatial axes or three. */
static geometry geometry_of(const grdi_convolution *c)
{
    geometry g = {.spatial = c->axes < 2 ? 2 : c->axes};
    g.x[0] = g.y[0] = c->samples, g.w[0] = c->out_channels;
    g.x[1] = c->in_channels, g.y[1] = c->out_channels, g.w[1] = c->in_channels / c->groups;
    for (int64_t a = 0; a < g.spatial; a++) {
        const grdi_window *w = &c->axis[GRDI_WINDOW_AXES - g.spatial + a];
        g.x[2 + a] = w->in, g.w[2 + a] = w->kernel, g.y[2 + a] = w->out;
        g.stride[a] = w->stride, g.padding[a] = w->padding, g.dilation[a] = w->dilation;
    }
    return g;
}

static grdi_dnn_descriptor convolution_of(builder *b, const geometry *g)
{
    int compute = DNN_DATA_FLOAT, mode = DNN_CROSS_CORRELATION;
    grdi_dnn_descriptor d = make(b, DNN_BACKEND_CONVOLUTION_DESCRIPTOR);
    set(b, d, DNN_ATTR_CONVOLUTION_COMP_TYPE, DNN_TYPE_DATA_TYPE, 1, &compute);
    set(b, d, DNN_ATTR_CONVOLUTION_CONV_MODE, DNN_TYPE_CONVOLUTION_MODE, 1, &mode);
    set(b, d, DNN_ATTR_CONVOLUTION_SPATIAL_DIMS, DNN_TYPE_INT64, 1, &g->spatial);
    set(b, d, DNN_ATTR_CONVOLUTION_DILATIONS, DNN_TYPE_INT64, g->spatial, g->dilation);
    set(b, d, DNN_ATTR_CONVOLUTION_FILTER_STRIDES, DNN_TYPE_INT64, g->spatial, g->stride);
    set(b, d, DNN_ATTR_CONVOLUTION_PRE_PADDINGS, DNN_TYPE_INT64, g->spatial, g->padding);
    set(b, d, DNN_ATTR_CONVOLUTION_POST_PADDINGS, DNN_TYPE_INT64, g->spatial, g->padding);
    return finish(b, d);
}

/* y = sum + bias, the sum in f32 */
static grdi_dnn_descriptor bias_operation(builder *b, const geometry *g, int type, grdi_dnn_descriptor sum,
                                          grdi_dnn_descriptor y)
{
    int mode = DNN_POINTWISE_ADD, compute = DNN_DATA_FLOAT;
    int64_t dims[RANK_MAX] = {1, g->y[1], 1, 1, 1};
    grdi_dnn_descriptor bias = tensor(b, ID_BIAS, type, dims, (int32_t)g->spatial + 2, true, false);
    grdi_dnn_descriptor add = make(b, DNN_BACKEND_POINTWISE_DESCRIPTOR);
    set(b, add, DNN_ATTR_POINTWISE_MODE, DNN_TYPE_POINTWISE_MODE, 1, &mode);
    set(b, add, DNN_ATTR_POINTWISE_MATH_PREC, DNN_TYPE_DATA_TYPE, 1, &compute);
    finish(b, add);
    grdi_dnn_descriptor operation = make(b, DNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR);
    set_descriptor(b, operation, DNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, add);
    set_descriptor(b, operation, DNN_ATTR_OPERATION_POINTWISE_XDESC, sum);
    set_descriptor(b, operation, DNN_ATTR_OPERATION_POINTWISE_BDESC, bias);
    set_descriptor(b, operation, DNN_ATTR_OPERATION_POINTWISE_YDESC, y);
    return finish(b, operation);
}

static grdi_dnn_descriptor graph_of(builder *b, const grdi_convolution *c, bool adds)
{
    static const struct {
        int operation, first; /* attribute: alpha, then beta, the convolution, w, x and y */
    } kinds[] = {
        {DNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR, DNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA},
        {DNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR, DNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_ALPHA},
        {DNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR,
         DNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_ALPHA}};
    const geometry g = geometry_of(c);
    int32_t rank = (int32_t)g.spatial + 2, first = kinds[c->kind].first;
    const float one = 1, kept = adds ? 1 : 0;
    grdi_dnn_descriptor operations[2];
    grdi_dnn_descriptor x = tensor(b, ID_X, data_type(c->x), g.x, rank, true, false);
    grdi_dnn_descriptor w = tensor(b, ID_W, data_type(c->w), g.w, rank, false, false);
    grdi_dnn_descriptor y = tensor(b, ID_Y, data_type(c->y), g.y, rank, true, false), sum = y;
    if (c->bias) sum = tensor(b, ID_SUM, DNN_DATA_FLOAT, g.y, rank, true, true);
    grdi_dnn_descriptor convolution = convolution_of(b, &g);
    operations[0] = make(b, kinds[c->kind].operation);
    set(b, operations[0], first, DNN_TYPE_FLOAT, 1, &one);
    set(b, operations[0], first + 1, DNN_TYPE_FLOAT, 1, &kept);
    set_descriptor(b, operations[0], first + 2, convolution);
    set_descriptor(b, operations[0], first + 3, w);
    set_descriptor(b, operations[0], first + 4, x);
    set_descriptor(b, operations[0], first + 5, sum);
    finish(b, operations[0]);
    if (c->bias) operations[1] = bias_operation(b, &g, data_type(c->y), sum, y);
    grdi_dnn_descriptor graph = make(b, DNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR);
    if (b->dnn->handle) set(b, graph, DNN_ATTR_OPERATIONGRAPH_HANDLE, DNN_TYPE_HANDLE, 1, &b->dnn->handle);
    set(b, graph, DNN_ATTR_OPERATIONGRAPH_OPS, DNN_TYPE_BACKEND_DESCRIPTOR, c->bias ? 2 : 1, operations);
    return finish(b, graph);
}

/* ---- candidates ---- */

/* Elements of an attribute, at most `most`; 0 where there are none. */
static int64_t get(const grdi_dnn *dnn, grdi_dnn_descriptor d, int name, int type, int64_t most, void *elements)
{
    int64_t count = 0;
    if (dnn->call.call_cudnnBackendGetAttribute(d, name, type, most, &count, elements) != DNN_STATUS_SUCCESS) return 0;
    return count < most ? count : most;
}

/* Reads descriptors of an attribute into ones made for it; how many there are. */
static int64_t get_parts(const grdi_dnn *dnn, grdi_dnn_descriptor d, int name, int type, int64_t most,
                         grdi_dnn_descriptor *parts)
{
    for (int64_t i = 0; i < most; i++)
        if (dnn->call.call_cudnnBackendCreateDescriptor(type, &parts[i]) != DNN_STATUS_SUCCESS) parts[i] = NULL;
    return get(dnn, d, name, DNN_TYPE_BACKEND_DESCRIPTOR, most, parts);
}

static void drop_parts(const grdi_dnn *dnn, int64_t count, grdi_dnn_descriptor *parts)
{
    for (int64_t i = 0; i < count; i++)
        if (parts[i]) dnn->call.call_cudnnBackendDestroyDescriptor(parts[i]);
}

/* The same bits in each run, operands as they are, sums in f32. Tensor cores take f32 as tf32. */
static bool is_exact(const grdi_dnn *dnn, grdi_dnn_descriptor engine, bool f32)
{
    int32_t notes[DNN_NUMERICAL_NOTES];
    int64_t count =
        get(dnn, engine, DNN_ATTR_ENGINE_NUMERICAL_NOTE, DNN_TYPE_NUMERICAL_NOTE, DNN_NUMERICAL_NOTES, notes);
    for (int64_t i = 0; i < count; i++) {
        if (notes[i] == DNN_NUMERICAL_NOTE_NONDETERMINISTIC || notes[i] == DNN_NUMERICAL_NOTE_DOWN_CONVERT_INPUTS ||
            notes[i] == DNN_NUMERICAL_NOTE_REDUCED_PRECISION_REDUCTION)
            return false;
        if (notes[i] == DNN_NUMERICAL_NOTE_TENSOR_CORE && f32 && !dnn->tf32) return false;
    }
    return true;
}

static bool read_choice(const grdi_dnn *dnn, grdi_dnn_descriptor config, bool f32, choice *c)
{
    grdi_dnn_descriptor engine, knobs[KNOBS_MAX];
    bool good = get_parts(dnn, config, DNN_ATTR_ENGINECFG_ENGINE, DNN_BACKEND_ENGINE_DESCRIPTOR, 1, &engine) == 1 &&
                get(dnn, engine, DNN_ATTR_ENGINE_GLOBAL_INDEX, DNN_TYPE_INT64, 1, &c->engine) == 1 &&
                is_exact(dnn, engine, f32);
    drop_parts(dnn, 1, &engine);
    if (!good) return false;
    c->knobs = (int32_t)get_parts(dnn, config, DNN_ATTR_ENGINECFG_KNOB_CHOICES, DNN_BACKEND_KNOB_CHOICE_DESCRIPTOR,
                                  KNOBS_MAX, knobs);
    for (int32_t k = 0; k < c->knobs && good; k++)
        good = get(dnn, knobs[k], DNN_ATTR_KNOB_CHOICE_KNOB_TYPE, DNN_TYPE_KNOB_TYPE, 1, &c->type[k]) == 1 &&
               get(dnn, knobs[k], DNN_ATTR_KNOB_CHOICE_KNOB_VALUE, DNN_TYPE_INT64, 1, &c->value[k]) == 1;
    drop_parts(dnn, KNOBS_MAX, knobs);
    return good;
}

/* What the heuristics name in one mode, best first, and may be used; at most `most`. */
static int32_t ask(builder *b, int mode, bool f32, int32_t most, choice *choices)
{
    grdi_dnn_descriptor configs[RESULTS_MAX], heuristics = make(b, DNN_BACKEND_ENGINEHEUR_DESCRIPTOR);
    int32_t found = 0;
    set_descriptor(b, heuristics, DNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, b->plan->graph[0]);
    set(b, heuristics, DNN_ATTR_ENGINEHEUR_MODE, DNN_TYPE_HEUR_MODE, 1, &mode);
    if (b->dnn->properties) set_descriptor(b, heuristics, DNN_ATTR_ENGINEHEUR_DEVICEPROP, b->dnn->properties);
    finish(b, heuristics);
    if (!b->ok) return 0;
    int64_t count = get_parts(b->dnn, heuristics, DNN_ATTR_ENGINEHEUR_RESULTS, DNN_BACKEND_ENGINECFG_DESCRIPTOR,
                              RESULTS_MAX, configs);
    for (int64_t i = 0; i < count && found < most; i++) found += read_choice(b->dnn, configs[i], f32, &choices[found]);
    drop_parts(b->dnn, RESULTS_MAX, configs);
    return found;
}

/* ---- execution plans ---- */

static grdi_dnn_descriptor execution_plan(builder *b, grdi_dnn_descriptor graph, const choice *c)
{
    grdi_dnn_descriptor knobs[KNOBS_MAX], engine = make(b, DNN_BACKEND_ENGINE_DESCRIPTOR);
    set_descriptor(b, engine, DNN_ATTR_ENGINE_OPERATION_GRAPH, graph);
    set(b, engine, DNN_ATTR_ENGINE_GLOBAL_INDEX, DNN_TYPE_INT64, 1, &c->engine);
    if (b->dnn->properties) set_descriptor(b, engine, DNN_ATTR_ENGINE_DEVICEPROP, b->dnn->properties);
    finish(b, engine);
    for (int32_t k = 0; k < c->knobs; k++) {
        knobs[k] = make(b, DNN_BACKEND_KNOB_CHOICE_DESCRIPTOR);
        set(b, knobs[k], DNN_ATTR_KNOB_CHOICE_KNOB_TYPE, DNN_TYPE_KNOB_TYPE, 1, &c->type[k]);
        set(b, knobs[k], DNN_ATTR_KNOB_CHOICE_KNOB_VALUE, DNN_TYPE_INT64, 1, &c->value[k]);
        finish(b, knobs[k]);
    }
    grdi_dnn_descriptor config = make(b, DNN_BACKEND_ENGINECFG_DESCRIPTOR);
    set_descriptor(b, config, DNN_ATTR_ENGINECFG_ENGINE, engine);
    if (c->knobs) set(b, config, DNN_ATTR_ENGINECFG_KNOB_CHOICES, DNN_TYPE_BACKEND_DESCRIPTOR, c->knobs, knobs);
    finish(b, config);
    grdi_dnn_descriptor plan = make(b, DNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR);
    if (b->dnn->handle) set(b, plan, DNN_ATTR_EXECUTION_PLAN_HANDLE, DNN_TYPE_HANDLE, 1, &b->dnn->handle);
    set_descriptor(b, plan, DNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, config);
    if (b->dnn->properties) set_descriptor(b, plan, DNN_ATTR_EXECUTION_PLAN_DEVICEPROP, b->dnn->properties);
    return finish(b, plan);
}

/* The plans of a choice, both with the workspace that they need; nothing is left of them where there are none. */
static bool try_choice(grdi_dnn_plan *plan, const choice *c)
{
    builder b = {plan->dnn, plan, true};
    int32_t before = plan->owned_count;
    plan->workspace_bytes = 0;
    for (int i = 0; i < 2 && b.ok && plan->graph[i]; i++) {
        int64_t bytes = 0;
        plan->plan[i] = execution_plan(&b, plan->graph[i], c);
        if (b.ok) get(b.dnn, plan->plan[i], DNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE, DNN_TYPE_INT64, 1, &bytes);
        if (bytes > (int64_t)plan->workspace_bytes) plan->workspace_bytes = (size_t)bytes;
    }
    if (b.ok && plan->workspace_bytes > GRDI_DNN_WORKSPACE_BYTES) {
        snprintf(b.dnn->why, sizeof b.dnn->why, "an engine needs a workspace of %zu bytes", plan->workspace_bytes);
        b.ok = false;
    }
    if (!b.ok) drop(plan, before);
    return b.ok;
}

/* ---- which engine ---- */

/* "62 2=5 13=1": an engine and its knobs */
static void write_choice(const choice *c, char text[GRDI_CHOICE_TEXT])
{
    int at = snprintf(text, GRDI_CHOICE_TEXT, "%lld", (long long)c->engine);
    for (int32_t k = 0; k < c->knobs && at < GRDI_CHOICE_TEXT; k++)
        at += snprintf(text + at, (size_t)(GRDI_CHOICE_TEXT - at), " %d=%lld", c->type[k], (long long)c->value[k]);
}

static bool parse_choice(const char *text, choice *c)
{
    char *end;
    c->knobs = 0;
    c->engine = strtoll(text, &end, 10);
    for (; *end == ' ' && c->knobs < KNOBS_MAX; c->knobs++) {
        c->type[c->knobs] = (int32_t)strtol(end, &end, 10);
        if (*end != '=') return false;
        c->value[c->knobs] = strtoll(end + 1, &end, 10);
    }
    return end != text && *end == '\0';
}

/* What a convolution is known by among the choices. */
static void write_call(const grdi_convolution *c, char text[GRDI_CHOICE_TEXT])
{
    static const char *const kinds[] = {"convolution forward", "convolution backward to x",
                                        "convolution backward to w"};
    int at = snprintf(text, GRDI_CHOICE_TEXT, "%s %s %s %s%s%s n=%lld c=%lld o=%lld groups=%lld", kinds[c->kind],
                      grd_dtype_name(c->x), grd_dtype_name(c->w), grd_dtype_name(c->y), c->bias ? " bias" : "",
                      c->accumulates ? " accumulates" : "", (long long)c->samples, (long long)c->in_channels,
                      (long long)c->out_channels, (long long)c->groups);
    for (int a = 0; a < GRDI_WINDOW_AXES && at < GRDI_CHOICE_TEXT; a++) {
        const grdi_window *w = &c->axis[a];
        at += snprintf(text + at, (size_t)(GRDI_CHOICE_TEXT - at), " %lld>%lld/%lld*%lld+%lldx%lld", (long long)w->in,
                       (long long)w->out, (long long)w->stride, (long long)w->kernel, (long long)w->padding,
                       (long long)w->dilation);
    }
}

/* Engines that the heuristics rate, then those that they only know. */
static int32_t candidates_of(builder *b, bool f32, choice *candidates)
{
    int32_t count = ask(b, DNN_HEUR_MODE_A, f32, CANDIDATES_MAX, candidates);
    b->ok = true; /* one mode may know of none */
    count += ask(b, DNN_HEUR_MODE_FALLBACK, f32, CANDIDATES_MAX - count, candidates + count);
    if (count == 0) snprintf(b->dnn->why, sizeof b->dnn->why, "no engine takes the convolution as it is to be made");
    return count;
}

/* The fastest of the first candidates that will do, or the first where they cannot be timed; -1: none will. */
static int32_t fastest(builder *b, const grdi_convolution *c, int32_t count, const choice *candidates)
{
    int32_t best = -1, before = b->plan->owned_count, tried = 0;
    float least = -1;
    for (int32_t i = 0; i < count && tried < GRDI_CANDIDATES_MAX; i++) {
        if (!try_choice(b->plan, &candidates[i])) continue;
        tried++;
        b->plan->made = b->plan->owned_count;
        if (best < 0) best = i;
        if (!b->dnn->time || count == 1) break;
        float taken = b->dnn->time(b->dnn, c, b->plan);
        drop(b->plan, before);
        if (taken < 0 || (least >= 0 && taken >= least)) continue;
        best = i;
        least = taken;
    }
    drop(b->plan, before);
    return best;
}

static bool choose(builder *b, const grdi_convolution *c, bool f32)
{
    char call[GRDI_CHOICE_TEXT], algorithm[GRDI_CHOICE_TEXT];
    choice *candidates = grdi_alloc_zero(CANDIDATES_MAX, sizeof *candidates);
    if (!candidates) return false;
    write_call(c, call);
    const char *chosen = b->dnn->choices ? grdi_choices_find(b->dnn->choices, call) : NULL;
    bool good = chosen && parse_choice(chosen, &candidates[0]) && try_choice(b->plan, &candidates[0]);
    if (!good) {
        int32_t best = fastest(b, c, candidates_of(b, f32, candidates), candidates);
        good = best >= 0 && try_choice(b->plan, &candidates[best]);
        if (good) write_choice(&candidates[best], algorithm);
        if (good && b->dnn->choices) grdi_choices_put(b->dnn->choices, call, algorithm);
    }
    grdi_free(candidates);
    return good;
}

static bool takes(const grdi_convolution *c)
{
    const grd_dtype all[] = {c->x, c->w, c->y};
    for (int i = 0; i < 3; i++)
        if (all[i] != GRD_F32 && all[i] != GRD_BF16) return false;
    return !(c->bias && (c->accumulates || c->kind != GRDI_CONVOLUTION_FORWARD));
}

grdi_dnn_plan *grdi_dnn_plan_new(grdi_dnn *dnn, const grdi_convolution *c)
{
    if (!takes(c) || !is_ready(dnn)) return NULL;
    grdi_dnn_plan *plan = grdi_alloc_zero(1, sizeof *plan);
    if (!plan) return NULL;
    plan->dnn = dnn;
    plan->bias = c->bias;
    builder b = {dnn, plan, true};
    plan->graph[0] = graph_of(&b, c, false);
    if (c->accumulates) plan->graph[1] = graph_of(&b, c, true);
    bool f32 = c->x == GRD_F32 && c->w == GRD_F32 && c->y == GRD_F32;
    if (b.ok && choose(&b, c, f32)) {
        plan->made = plan->owned_count;
        return plan;
    }
    grdi_dnn_plan_free(plan);
    return NULL;
}

size_t grdi_dnn_plan_workspace(const grdi_dnn_plan *plan)
{
    return plan->workspace_bytes;
}

bool grdi_dnn_plan_bind(grdi_dnn_plan *plan, void *x, void *w, void *y, const void *bias, void *workspace)
{
    const int64_t ids[] = {ID_X, ID_W, ID_Y, ID_BIAS};
    const void *pointers[] = {x, w, y, bias};
    builder b = {plan->dnn, plan, true};
    int64_t count = plan->bias ? 4 : 3;
    for (int64_t i = 0; i < count; i++)
        if ((uintptr_t)pointers[i] % GRDI_DNN_ALIGNMENT) return false;
    drop(plan, plan->made);
    plan->pack = make(&b, DNN_BACKEND_VARIANT_PACK_DESCRIPTOR);
    set(&b, plan->pack, DNN_ATTR_VARIANT_PACK_UNIQUE_IDS, DNN_TYPE_INT64, count, ids);
    set(&b, plan->pack, DNN_ATTR_VARIANT_PACK_DATA_POINTERS, DNN_TYPE_VOID_PTR, count, pointers);
    set(&b, plan->pack, DNN_ATTR_VARIANT_PACK_WORKSPACE, DNN_TYPE_VOID_PTR, 1, &workspace);
    finish(&b, plan->pack);
    return b.ok;
}

bool grdi_dnn_plan_run(const grdi_dnn_plan *plan, bool accumulate)
{
    const grdi_dnn *dnn = plan->dnn;
    if (!plan->plan[accumulate]) return note(plan->dnn, "a plan that does not accumulate", DNN_STATUS_BAD_PARAM);
    return note(plan->dnn, "cudnnBackendExecute",
                dnn->call.call_cudnnBackendExecute(dnn->handle, plan->plan[accumulate], plan->pack));
}

void grdi_dnn_plan_free(grdi_dnn_plan *plan)
{
    if (!plan) return;
    drop(plan, 0);
    grdi_free(plan);
}
