/* cudnn.c - cuDNN's backend interface: a call is described as a graph of operations (cudnn_graph.h), heuristics name
 * engines for it, and one of them becomes an execution plan. */
#include "lib/cudnn_graph.h"
#include "lib/library.h"

#include "host.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { KNOBS_MAX = 48, RESULTS_MAX = 64, CANDIDATES_MAX = 16 };

typedef grdi_dnn_builder builder;

/* What heuristics answer and a plan is made of: an engine and how its knobs are set. */
typedef struct choice {
    int64_t engine;
    int32_t knobs;
    int32_t type[KNOBS_MAX];
    int64_t value[KNOBS_MAX];
} choice;

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

/* ---- descriptors ---- */

grdi_dnn_descriptor grdi_dnn_make(builder *b, int type)
{
    grdi_dnn_descriptor made = NULL;
    int32_t most = (int32_t)(sizeof b->plan->owned / sizeof *b->plan->owned);
    if (!b->ok) return NULL;
    b->ok = b->plan->owned_count < most &&
            note(b->dnn, "cudnnBackendCreateDescriptor", b->dnn->call.call_cudnnBackendCreateDescriptor(type, &made));
    if (b->ok) b->plan->owned[b->plan->owned_count++] = made;
    return made;
}

void grdi_dnn_set(builder *b, grdi_dnn_descriptor d, int name, int type, int64_t count, const void *elements)
{
    if (b->ok)
        b->ok = note(b->dnn, "cudnnBackendSetAttribute",
                     b->dnn->call.call_cudnnBackendSetAttribute(d, name, type, count, elements));
}

void grdi_dnn_set_part(builder *b, grdi_dnn_descriptor d, int name, grdi_dnn_descriptor part)
{
    grdi_dnn_set(b, d, name, DNN_TYPE_BACKEND_DESCRIPTOR, 1, &part);
}

grdi_dnn_descriptor grdi_dnn_finish(builder *b, grdi_dnn_descriptor d)
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

/* ---- tensors, operations, graphs ---- */

int grdi_dnn_data_type(grd_dtype dtype)
{
    return dtype == GRD_BF16 ? DNN_DATA_BFLOAT16 : dtype == GRD_F16 ? DNN_DATA_HALF : DNN_DATA_FLOAT;
}

static size_t bytes_between(int type, int32_t rank, const int64_t *dims, const int64_t *strides)
{
    int64_t last = 0;
    for (int32_t d = 0; d < rank; d++) last += (dims[d] - 1) * strides[d];
    return (size_t)(last + 1) * (type == DNN_DATA_FLOAT ? 4 : 2);
}

/* A tensor's descriptor, to be finished. */
static grdi_dnn_descriptor describe(builder *b, int64_t id, int type, int64_t alignment, int32_t rank,
                                    const int64_t *dims, const int64_t *strides)
{
    grdi_dnn_descriptor t = grdi_dnn_make(b, DNN_BACKEND_TENSOR_DESCRIPTOR);
    grdi_dnn_set(b, t, DNN_ATTR_TENSOR_UNIQUE_ID, DNN_TYPE_INT64, 1, &id);
    grdi_dnn_set(b, t, DNN_ATTR_TENSOR_DATA_TYPE, DNN_TYPE_DATA_TYPE, 1, &type);
    grdi_dnn_set(b, t, DNN_ATTR_TENSOR_BYTE_ALIGNMENT, DNN_TYPE_INT64, 1, &alignment);
    grdi_dnn_set(b, t, DNN_ATTR_TENSOR_DIMENSIONS, DNN_TYPE_INT64, rank, dims);
    grdi_dnn_set(b, t, DNN_ATTR_TENSOR_STRIDES, DNN_TYPE_INT64, rank, strides);
    return t;
}

grdi_dnn_descriptor grdi_dnn_tensor(builder *b, int32_t place, int type, int32_t rank, const int64_t *dims,
                                    const int64_t *strides)
{
    bool is_virtual = place < 0;
    int64_t id = is_virtual ? GRDI_DNN_FIRST_VIRTUAL + b->virtuals++ : GRDI_DNN_FIRST + place;
    grdi_dnn_descriptor t = describe(b, id, type, GRDI_DNN_ALIGNMENT, rank, dims, strides);
    if (is_virtual) grdi_dnn_set(b, t, DNN_ATTR_TENSOR_IS_VIRTUAL, DNN_TYPE_BOOLEAN, 1, &is_virtual);
    else b->plan->bytes[place] = bytes_between(type, rank, dims, strides);
    return grdi_dnn_finish(b, t);
}

grdi_dnn_descriptor grdi_dnn_number(builder *b, float value, int32_t rank)
{
    static const int64_t ones[GRDI_DNN_RANK_MAX] = {1, 1, 1, 1, 1};
    int64_t id = GRDI_DNN_FIRST_VALUE + b->plan->values;
    bool by_value = true;
    b->ok = b->ok && b->plan->values < GRDI_DNN_VALUES_MAX;
    if (b->ok) b->plan->value[b->plan->values++] = value;
    grdi_dnn_descriptor t = describe(b, id, DNN_DATA_FLOAT, sizeof value, rank, ones, ones);
    grdi_dnn_set(b, t, DNN_ATTR_TENSOR_IS_BY_VALUE, DNN_TYPE_BOOLEAN, 1, &by_value);
    return grdi_dnn_finish(b, t);
}

void grdi_dnn_operation(builder *b, grdi_dnn_descriptor operation)
{
    grdi_dnn_finish(b, operation);
    b->ok = b->ok && b->operation_count < GRDI_DNN_OPERATIONS_MAX;
    if (b->ok) b->operations[b->operation_count++] = operation;
}

void grdi_dnn_add_pointwise(builder *b, const grdi_dnn_pointwise *p)
{
    grdi_dnn_descriptor how = grdi_dnn_make(b, DNN_BACKEND_POINTWISE_DESCRIPTOR);
    grdi_dnn_set(b, how, DNN_ATTR_POINTWISE_MODE, DNN_TYPE_POINTWISE_MODE, 1, &p->mode);
    grdi_dnn_set(b, how, DNN_ATTR_POINTWISE_MATH_PREC, DNN_TYPE_DATA_TYPE, 1, &p->compute);
    if (p->mode == DNN_POINTWISE_GEN_INDEX) grdi_dnn_set(b, how, DNN_ATTR_POINTWISE_AXIS, DNN_TYPE_INT64, 1, &p->axis);
    grdi_dnn_finish(b, how);
    grdi_dnn_descriptor operation = grdi_dnn_make(b, DNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR);
    grdi_dnn_set_part(b, operation, DNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, how);
    grdi_dnn_set_part(b, operation, DNN_ATTR_OPERATION_POINTWISE_XDESC, p->x);
    if (p->second) grdi_dnn_set_part(b, operation, DNN_ATTR_OPERATION_POINTWISE_BDESC, p->second);
    if (p->chosen) grdi_dnn_set_part(b, operation, DNN_ATTR_OPERATION_POINTWISE_TDESC, p->chosen);
    grdi_dnn_set_part(b, operation, DNN_ATTR_OPERATION_POINTWISE_YDESC, p->y);
    grdi_dnn_operation(b, operation);
}

grdi_dnn_descriptor grdi_dnn_graph(builder *b)
{
    grdi_dnn_descriptor graph = grdi_dnn_make(b, DNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR);
    if (b->dnn->handle) grdi_dnn_set(b, graph, DNN_ATTR_OPERATIONGRAPH_HANDLE, DNN_TYPE_HANDLE, 1, &b->dnn->handle);
    grdi_dnn_set(b, graph, DNN_ATTR_OPERATIONGRAPH_OPS, DNN_TYPE_BACKEND_DESCRIPTOR, b->operation_count, b->operations);
    b->operation_count = 0;
    return grdi_dnn_finish(b, graph);
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

/* The same bits in each run, if that is asked, operands as they are, sums in f32. Tensor cores take f32 as tf32. */
static bool is_exact(const grdi_dnn *dnn, grdi_dnn_descriptor engine, bool strict)
{
    int32_t notes[DNN_NUMERICAL_NOTES];
    int64_t count =
        get(dnn, engine, DNN_ATTR_ENGINE_NUMERICAL_NOTE, DNN_TYPE_NUMERICAL_NOTE, DNN_NUMERICAL_NOTES, notes);
    for (int64_t i = 0; i < count; i++) {
        if (notes[i] == DNN_NUMERICAL_NOTE_DOWN_CONVERT_INPUTS ||
            notes[i] == DNN_NUMERICAL_NOTE_REDUCED_PRECISION_REDUCTION)
            return false;
        if (notes[i] == DNN_NUMERICAL_NOTE_NONDETERMINISTIC && !dnn->any_order) return false;
        if (notes[i] == DNN_NUMERICAL_NOTE_TENSOR_CORE && strict) return false;
    }
    return true;
}

static bool read_choice(const grdi_dnn *dnn, grdi_dnn_descriptor config, bool strict, choice *c)
{
    grdi_dnn_descriptor engine, knobs[KNOBS_MAX];
    bool good = get_parts(dnn, config, DNN_ATTR_ENGINECFG_ENGINE, DNN_BACKEND_ENGINE_DESCRIPTOR, 1, &engine) == 1 &&
                get(dnn, engine, DNN_ATTR_ENGINE_GLOBAL_INDEX, DNN_TYPE_INT64, 1, &c->engine) == 1 &&
                is_exact(dnn, engine, strict);
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
static int32_t ask(builder *b, int mode, int32_t most, choice *choices)
{
    grdi_dnn_descriptor configs[RESULTS_MAX], heuristics = grdi_dnn_make(b, DNN_BACKEND_ENGINEHEUR_DESCRIPTOR);
    int32_t found = 0;
    grdi_dnn_set_part(b, heuristics, DNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, b->plan->graph[0]);
    grdi_dnn_set(b, heuristics, DNN_ATTR_ENGINEHEUR_MODE, DNN_TYPE_HEUR_MODE, 1, &mode);
    if (b->dnn->properties) grdi_dnn_set_part(b, heuristics, DNN_ATTR_ENGINEHEUR_DEVICEPROP, b->dnn->properties);
    grdi_dnn_finish(b, heuristics);
    if (!b->ok) return 0;
    int64_t count = get_parts(b->dnn, heuristics, DNN_ATTR_ENGINEHEUR_RESULTS, DNN_BACKEND_ENGINECFG_DESCRIPTOR,
                              RESULTS_MAX, configs);
    for (int64_t i = 0; i < count && found < most; i++)
        found += read_choice(b->dnn, configs[i], b->plan->strict, &choices[found]);
    drop_parts(b->dnn, RESULTS_MAX, configs);
    return found;
}

/* ---- execution plans ---- */

static grdi_dnn_descriptor execution_plan(builder *b, grdi_dnn_descriptor graph, const choice *c)
{
    grdi_dnn_descriptor knobs[KNOBS_MAX], engine = grdi_dnn_make(b, DNN_BACKEND_ENGINE_DESCRIPTOR);
    grdi_dnn_set_part(b, engine, DNN_ATTR_ENGINE_OPERATION_GRAPH, graph);
    grdi_dnn_set(b, engine, DNN_ATTR_ENGINE_GLOBAL_INDEX, DNN_TYPE_INT64, 1, &c->engine);
    if (b->dnn->properties) grdi_dnn_set_part(b, engine, DNN_ATTR_ENGINE_DEVICEPROP, b->dnn->properties);
    grdi_dnn_finish(b, engine);
    b->ok = b->ok && is_exact(b->dnn, engine, b->plan->strict); /* what a run kept may have been written by anybody */
    for (int32_t k = 0; k < c->knobs; k++) {
        knobs[k] = grdi_dnn_make(b, DNN_BACKEND_KNOB_CHOICE_DESCRIPTOR);
        grdi_dnn_set(b, knobs[k], DNN_ATTR_KNOB_CHOICE_KNOB_TYPE, DNN_TYPE_KNOB_TYPE, 1, &c->type[k]);
        grdi_dnn_set(b, knobs[k], DNN_ATTR_KNOB_CHOICE_KNOB_VALUE, DNN_TYPE_INT64, 1, &c->value[k]);
        grdi_dnn_finish(b, knobs[k]);
    }
    grdi_dnn_descriptor config = grdi_dnn_make(b, DNN_BACKEND_ENGINECFG_DESCRIPTOR);
    grdi_dnn_set_part(b, config, DNN_ATTR_ENGINECFG_ENGINE, engine);
    if (c->knobs)
        grdi_dnn_set(b, config, DNN_ATTR_ENGINECFG_KNOB_CHOICES, DNN_TYPE_BACKEND_DESCRIPTOR, c->knobs, knobs);
    grdi_dnn_finish(b, config);
    grdi_dnn_descriptor plan = grdi_dnn_make(b, DNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR);
    if (b->dnn->handle) grdi_dnn_set(b, plan, DNN_ATTR_EXECUTION_PLAN_HANDLE, DNN_TYPE_HANDLE, 1, &b->dnn->handle);
    grdi_dnn_set_part(b, plan, DNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, config);
    if (b->dnn->properties) grdi_dnn_set_part(b, plan, DNN_ATTR_EXECUTION_PLAN_DEVICEPROP, b->dnn->properties);
    return grdi_dnn_finish(b, plan);
}

/* The plans of a choice, both with the workspace that they need; nothing is left of them where there are none. */
static bool try_choice(grdi_dnn_plan *plan, const choice *c)
{
    builder b = {.dnn = plan->dnn, .plan = plan, .ok = true};
    int32_t before = plan->owned_count;
    plan->workspace_bytes = 0;
    for (int i = 0; i < 2 && b.ok && plan->graph[i]; i++) {
        int64_t bytes = 0;
        plan->plan[i] = execution_plan(&b, plan->graph[i], c);
        if (b.ok) get(b.dnn, plan->plan[i], DNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE, DNN_TYPE_INT64, 1, &bytes);
        if (bytes > (int64_t)plan->workspace_bytes) plan->workspace_bytes = (size_t)bytes;
    }
    if (b.ok && plan->workspace_bytes > plan->workspace_most) {
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

/* Engines that the heuristics rate, then those that they only know. */
static int32_t candidates_of(builder *b, choice *candidates)
{
    int32_t count = ask(b, DNN_HEUR_MODE_A, CANDIDATES_MAX, candidates);
    b->ok = true; /* one mode may know of none */
    count += ask(b, DNN_HEUR_MODE_FALLBACK, CANDIDATES_MAX - count, candidates + count);
    if (count == 0) snprintf(b->dnn->why, sizeof b->dnn->why, "no engine takes the call as it is to be made");
    return count;
}

/* The fastest of the first candidates that will do, or the first where they cannot be timed; -1: none will, or the
 * rival is faster. */
static int32_t fastest(builder *b, const grdi_dnn_rival *rival, int32_t count, const choice *candidates)
{
    int32_t best = -1, before = b->plan->owned_count, tried = 0;
    bool times = b->dnn->time && (count > 1 || rival);
    float least = -1;
    for (int32_t i = 0; i < count && tried < GRDI_CANDIDATES_MAX; i++) {
        if (!try_choice(b->plan, &candidates[i])) continue;
        tried++;
        b->plan->made = b->plan->owned_count;
        if (best < 0) best = i;
        if (!times) break;
        float taken = b->dnn->time(b->dnn, b->plan, NULL);
        drop(b->plan, before);
        if (taken < 0 || (least >= 0 && taken >= least)) continue;
        best = i;
        least = taken;
    }
    drop(b->plan, before);
    if (!rival || !times || least < 0) return best;
    float other = b->dnn->time(b->dnn, b->plan, rival);
    if (other < 0 || other >= least) return best;
    snprintf(b->dnn->why, sizeof b->dnn->why, "the plugin's own kernels are faster");
    return -1;
}

/* The word for a call that the library does not make. */
static const char nobody[] = "own";

static bool choose(builder *b, const char *call, const grdi_dnn_rival *rival)
{
    char algorithm[GRDI_CHOICE_TEXT];
    const char *chosen = b->dnn->choices ? grdi_choices_find(b->dnn->choices, call) : NULL;
    if (chosen && strcmp(chosen, nobody) == 0) {
        snprintf(b->dnn->why, sizeof b->dnn->why, "it was not chosen before");
        return false;
    }
    choice *candidates = grdi_alloc_zero(CANDIDATES_MAX, sizeof *candidates);
    if (!candidates) return false;
    bool good = chosen && parse_choice(chosen, &candidates[0]) && try_choice(b->plan, &candidates[0]);
    if (!good) {
        int32_t best = fastest(b, rival, candidates_of(b, candidates), candidates);
        good = best >= 0 && try_choice(b->plan, &candidates[best]);
        snprintf(algorithm, sizeof algorithm, "%s", nobody);
        if (good) write_choice(&candidates[best], algorithm);
        if (b->dnn->choices && (good || best < 0)) grdi_choices_put(b->dnn->choices, call, algorithm);
    }
    grdi_free(candidates);
    return good;
}

/* ---- plans ---- */

grdi_dnn_plan *grdi_dnn_plan_begin(grdi_dnn *dnn)
{
    grdi_dnn_plan *plan = is_ready(dnn) ? grdi_alloc_zero(1, sizeof *plan) : NULL;
    if (plan) plan->dnn = dnn, plan->workspace_most = GRDI_DNN_WORKSPACE_BYTES;
    return plan;
}

grdi_dnn_plan *grdi_dnn_plan_end(builder *b, const char *call, bool strict, const grdi_dnn_rival *rival)
{
    b->plan->strict = strict;
    if (b->ok && choose(b, call, rival)) {
        b->plan->made = b->plan->owned_count;
        return b->plan;
    }
    grdi_dnn_plan_free(b->plan);
    return NULL;
}

size_t grdi_dnn_plan_workspace(const grdi_dnn_plan *plan)
{
    return plan->workspace_bytes;
}

size_t grdi_dnn_plan_bytes(const grdi_dnn_plan *plan, int32_t place)
{
    return plan->bytes[place];
}

bool grdi_dnn_plan_bind(grdi_dnn_plan *plan, void *const *pointers, void *workspace)
{
    drop(plan, plan->made);
    plan->packs = 0;
    return grdi_dnn_plan_bind_more(plan, pointers, workspace);
}

bool grdi_dnn_plan_bind_more(grdi_dnn_plan *plan, void *const *pointers, void *workspace)
{
    if (plan->packs == GRDI_DNN_PARTS_MAX) return false;
    int64_t ids[GRDI_DNN_POINTERS + GRDI_DNN_VALUES_MAX], count = 0;
    void *given[GRDI_DNN_POINTERS + GRDI_DNN_VALUES_MAX];
    builder b = {.dnn = plan->dnn, .plan = plan, .ok = true};
    for (int32_t i = 0; i < GRDI_DNN_POINTERS; i++) {
        if (!plan->bytes[i]) continue;
        if (!pointers[i] || (uintptr_t)pointers[i] % GRDI_DNN_ALIGNMENT) return false;
        ids[count] = GRDI_DNN_FIRST + i;
        given[count++] = pointers[i];
    }
    for (int32_t i = 0; i < plan->values; i++) {
        ids[count] = GRDI_DNN_FIRST_VALUE + i;
        given[count++] = &plan->value[i];
    }
    grdi_dnn_descriptor pack = grdi_dnn_make(&b, DNN_BACKEND_VARIANT_PACK_DESCRIPTOR);
    grdi_dnn_set(&b, pack, DNN_ATTR_VARIANT_PACK_UNIQUE_IDS, DNN_TYPE_INT64, count, ids);
    grdi_dnn_set(&b, pack, DNN_ATTR_VARIANT_PACK_DATA_POINTERS, DNN_TYPE_VOID_PTR, count, given);
    grdi_dnn_set(&b, pack, DNN_ATTR_VARIANT_PACK_WORKSPACE, DNN_TYPE_VOID_PTR, 1, &workspace);
    grdi_dnn_finish(&b, pack);
    if (b.ok) plan->pack[plan->packs++] = pack;
    return b.ok;
}

bool grdi_dnn_plan_run(const grdi_dnn_plan *plan, bool accumulate)
{
    const grdi_dnn *dnn = plan->dnn;
    if (!plan->plan[accumulate]) return note(plan->dnn, "a plan that does not accumulate", DNN_STATUS_BAD_PARAM);
    for (int32_t i = 0; i < plan->packs; i++)
        if (!note(plan->dnn, "cudnnBackendExecute",
                  dnn->call.call_cudnnBackendExecute(dnn->handle, plan->plan[accumulate], plan->pack[i])))
            return false;
    return true;
}

void grdi_dnn_plan_free(grdi_dnn_plan *plan)
{
    if (!plan) return;
    drop(plan, 0);
    grdi_free(plan);
}
