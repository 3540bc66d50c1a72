/* cudnn.cpp - the stand-in for cuDNN's backend interface: descriptors take the attributes that NVIDIA's cudnn_graph.h
 * documents, in order and of the right type, and are checked when they are finalized; a plan checks its pointers and
 * computes by plain loops. Its engines differ in the order of their sums, in what they take and in what they note of
 * themselves. As cuDNN 9.28 says of an H100: no engine that the heuristics rate gives f32 from bf16, one that they only
 * know does, for weights of channels by eights. */
#include "lib/cudnn_api.h"

#include "cudnn_attention.h"

#include "cuda_runtime.h"
#include "sim_state.h"

#include <algorithm>
#include <cstdio>

namespace
{

using namespace sim_dnn;

thread_local std::string last_error;

int refused(const char *what, int status = DNN_STATUS_BAD_PARAM)
{
    last_error = what;
    if (status != DNN_STATUS_NOT_SUPPORTED) grdi_sim_wrong("cuDNN: %s", what);
    return status;
}

/* ---- engines ---- */

bool has_eights(const problem &p)
{
    return p.w.dims[0] % 8 == 0 && p.w.dims[1] % 8 == 0;
}

bool mixes(const problem &p)
{
    return p.x.type != p.w.type || p.x.type != p.y.type;
}

/* Whether the engine takes the graph. */
bool takes(int64_t engine, const problem &p)
{
    if (p.drawn) {
        if (!is_attention(*p.drawn)) return false;
        if (p.drawn->products() != 5) return engine == ATTENTION;
        return engine == ATTENTION_ATOMICS || (engine == ATTENTION_IN_ROOM && !p.drawn->adds_up());
    }
    if (engine == WIDENING)
        return p.kind == WEIGHT_GRADIENT && !p.has_bias && has_eights(p) && p.x.type == DNN_DATA_BFLOAT16 &&
               p.y.type == DNN_DATA_BFLOAT16 && p.w.type == DNN_DATA_FLOAT;
    return engine >= 0 && (engine < ATTENTION || engine == SPACIOUS) && !mixes(p);
}

std::vector<int32_t> notes_of(int64_t engine)
{
    if (engine == TENSOR_CORES || engine == WIDENING || engine == ATTENTION) return {DNN_NUMERICAL_NOTE_TENSOR_CORE};
    if (engine == ATOMICS || engine == ATTENTION_ATOMICS) return {DNN_NUMERICAL_NOTE_NONDETERMINISTIC};
    return {};
}

std::vector<int64_t> rated(int mode)
{
    if (mode == DNN_HEUR_MODE_A)
        return {SPACIOUS, TENSOR_CORES, ATOMICS, DESCENDING, ATTENTION, ATTENTION_ATOMICS, ATTENTION_IN_ROOM};
    return {WIDENING};
}

/* ---- checks ---- */

const char *wrong_tensor(const descriptor &d)
{
    auto dims = d.ints(DNN_ATTR_TENSOR_DIMENSIONS), strides = d.ints(DNN_ATTR_TENSOR_STRIDES);
    int64_t type = d.one(DNN_ATTR_TENSOR_DATA_TYPE, -1), alignment = d.one(DNN_ATTR_TENSOR_BYTE_ALIGNMENT, 0);
    if (!d.has(DNN_ATTR_TENSOR_UNIQUE_ID)) return "a tensor has no id";
    bool half = type == DNN_DATA_BFLOAT16 || type == DNN_DATA_HALF, place = type == DNN_DATA_INT32;
    if (type != DNN_DATA_FLOAT && !half && !place && type != DNN_DATA_BOOLEAN)
        return "a tensor's data type is not known";
    if (dims.empty() || dims.size() != strides.size()) return "a tensor's dimensions and strides differ in number";
    for (size_t i = 0; i < dims.size(); i++)
        if (dims[i] < 1 || strides[i] < 1) return "a dimension or a stride of a tensor is not positive";
    if (alignment < 1 || alignment % element_bytes((int)type)) return "a tensor's alignment does not fit its data type";
    return nullptr;
}

const char *wrong_convolution(const descriptor &d)
{
    size_t spatial = (size_t)d.one(DNN_ATTR_CONVOLUTION_SPATIAL_DIMS, 0);
    if (spatial < 2 || spatial > 3) return "a convolution has two spatial axes or three";
    if (d.one(DNN_ATTR_CONVOLUTION_COMP_TYPE, -1) != DNN_DATA_FLOAT) return "a convolution does not compute in f32";
    if (d.one(DNN_ATTR_CONVOLUTION_CONV_MODE, -1) != DNN_CROSS_CORRELATION) return "a convolution flips its filter";
    for (int name : {DNN_ATTR_CONVOLUTION_DILATIONS, DNN_ATTR_CONVOLUTION_FILTER_STRIDES,
                     DNN_ATTR_CONVOLUTION_PRE_PADDINGS, DNN_ATTR_CONVOLUTION_POST_PADDINGS})
        if (d.ints(name).size() != spatial) return "a convolution's lists are not as long as it has spatial axes";
    return nullptr;
}

/* Channels innermost or outermost, no gaps. */
bool is_packed(const tensor &t, bool inner)
{
    int64_t next = inner ? t.dims[1] : 1;
    for (size_t d = t.dims.size(); d-- > 0;) {
        if (inner && d == 1) continue;
        if (t.dims[d] > 1 && t.strides[d] != next) return false;
        next *= t.dims[d];
    }
    return !inner || t.dims[1] == 1 || t.strides[1] == 1;
}

const char *wrong_problem(const problem &p)
{
    size_t rank = p.x.dims.size(), spatial = p.stride.size();
    if (rank != spatial + 2 || p.w.dims.size() != rank || p.y.dims.size() != rank)
        return "a tensor of a convolution has another number of axes";
    if (p.x.dims[0] != p.y.dims[0] || p.w.dims[0] != p.y.dims[1] || p.x.dims[1] % p.w.dims[1] ||
        p.w.dims[0] % (p.x.dims[1] / p.w.dims[1]))
        return "samples, channels or groups of a convolution do not fit";
    for (size_t a = 0; a < spatial; a++) {
        int64_t span = p.dilation[a] * (p.w.dims[2 + a] - 1) + 1;
        if ((p.x.dims[2 + a] + p.padding[a] + p.behind[a] - span) / p.stride[a] + 1 != p.y.dims[2 + a])
            return "a spatial size of a convolution's result does not fit";
    }
    for (const tensor *t : {&p.x, &p.w, &p.y})
        if (t->type != DNN_DATA_FLOAT && t->type != DNN_DATA_BFLOAT16)
            return "a tensor of a convolution is neither f32 nor bf16";
    for (const tensor *t : {&p.x, &p.w, &p.y})
        if (!is_packed(*t, true) && !is_packed(*t, false)) return "a tensor of a convolution has gaps";
    return nullptr;
}

/* How a product, a reduction or an operation on elements is made. */
const char *wrong_manner(const descriptor &d)
{
    int name = d.type == DNN_BACKEND_MATMUL_DESCRIPTOR      ? DNN_ATTR_MATMUL_COMP_TYPE
               : d.type == DNN_BACKEND_REDUCTION_DESCRIPTOR ? DNN_ATTR_REDUCTION_COMP_TYPE
                                                            : DNN_ATTR_POINTWISE_MATH_PREC;
    int64_t type = d.one(name, -1), mode = d.one(DNN_ATTR_POINTWISE_MODE, -1);
    bool compares = mode == DNN_POINTWISE_CMP_GE || mode == DNN_POINTWISE_CMP_GT;
    if (type != (compares ? DNN_DATA_BOOLEAN : DNN_DATA_FLOAT)) return "an operation does not compute in f32";
    if (d.type == DNN_BACKEND_REDUCTION_DESCRIPTOR && !d.has(DNN_ATTR_REDUCTION_OPERATOR))
        return "a reduction does not say what it is";
    if (mode == DNN_POINTWISE_GEN_INDEX && !d.has(DNN_ATTR_POINTWISE_AXIS)) return "places are counted of no axis";
    return nullptr;
}

const char *wrong_operation(const descriptor &d)
{
    if (!first_of(d.type)) return wrong_step(d);
    for (int i = 0; i < 6; i++)
        if (!d.has(first_of(d.type) + i)) return "an operation of a convolution lacks alpha, beta or a part";
    return wrong_problem(problem_of(d));
}

/* One convolution, or one whose virtual result a bias is added to. */
const char *wrong_graph(const descriptor &d)
{
    auto parts = d.parts(DNN_ATTR_OPERATIONGRAPH_OPS);
    if (!d.has(DNN_ATTR_OPERATIONGRAPH_HANDLE)) return "a graph has no handle";
    if (parts.empty()) return "a graph has no operation";
    if (!first_of(parts[0]->type)) {
        drawing drawn;
        return wrong_drawing(d, &drawn);
    }
    if (parts.size() > 2) return "a graph is not a convolution with at most a bias";
    problem p = problem_of(*parts[0]);
    if (parts.size() == 1) return p.result().is_virtual ? "nobody reads a graph's virtual tensor" : nullptr;
    const descriptor *add = parts[1];
    if (add->type != DNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR || p.kind != FORWARD)
        return "a graph of another pattern";
    tensor sum(*add->part(DNN_ATTR_OPERATION_POINTWISE_XDESC)), bias(*add->part(DNN_ATTR_OPERATION_POINTWISE_BDESC));
    tensor y(*add->part(DNN_ATTR_OPERATION_POINTWISE_YDESC));
    if (!p.y.is_virtual || sum.id != p.y.id || y.is_virtual) return "a graph's tensors do not hang together";
    if (y.dims != p.y.dims || bias.dims[1] != y.dims[1] || bias.type != y.type) return "a bias does not fit its graph";
    return nullptr;
}

int finalize_plan(descriptor &d)
{
    const descriptor *config = d.part(DNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG);
    if (!config || !d.has(DNN_ATTR_EXECUTION_PLAN_HANDLE)) return refused("a plan lacks its handle or its engine");
    d.engine = config->engine, d.split = config->split, d.task = config->task;
    int64_t bytes = workspace_of(d);
    d.values[DNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE] = value{DNN_TYPE_INT64, bytes_of(&bytes, 1), 1};
    return DNN_STATUS_SUCCESS;
}

int finalize_engine(descriptor &d)
{
    const descriptor *graph = d.part(DNN_ATTR_ENGINE_OPERATION_GRAPH);
    if (!graph) return refused("an engine has no graph");
    d.engine = d.one(DNN_ATTR_ENGINE_GLOBAL_INDEX, -1);
    d.task = task_of(*graph);
    if (d.engine < 0 || d.engine >= ENGINES || !takes(d.engine, d.task))
        return refused("the engine does not take this graph", DNN_STATUS_NOT_SUPPORTED);
    return DNN_STATUS_SUCCESS;
}

/* The one knob says in how many parts sums are made, of engine TENSOR_CORES. */
int finalize_config(descriptor &d)
{
    const descriptor *engine = d.part(DNN_ATTR_ENGINECFG_ENGINE);
    if (!engine) return refused("an engine config has no engine");
    d.engine = engine->engine, d.task = engine->task, d.split = 1;
    for (const descriptor *knob : d.parts(DNN_ATTR_ENGINECFG_KNOB_CHOICES)) {
        if (d.engine != TENSOR_CORES || knob->one(DNN_ATTR_KNOB_CHOICE_KNOB_TYPE, -1) != KNOB_SPLIT)
            return refused("the engine has no such knob", DNN_STATUS_NOT_SUPPORTED);
        d.split = knob->one(DNN_ATTR_KNOB_CHOICE_KNOB_VALUE, 1);
    }
    return DNN_STATUS_SUCCESS;
}

int finalize(descriptor &d)
{
    const char *what = nullptr;
    switch (d.type) {
    case DNN_BACKEND_TENSOR_DESCRIPTOR: what = wrong_tensor(d); break;
    case DNN_BACKEND_CONVOLUTION_DESCRIPTOR: what = wrong_convolution(d); break;
    case DNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR:
    case DNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR:
    case DNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR:
    case DNN_BACKEND_OPERATION_MATMUL_DESCRIPTOR:
    case DNN_BACKEND_OPERATION_REDUCTION_DESCRIPTOR:
    case DNN_BACKEND_OPERATION_RESHAPE_DESCRIPTOR:
    case DNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR: what = wrong_operation(d); break;
    case DNN_BACKEND_MATMUL_DESCRIPTOR:
    case DNN_BACKEND_REDUCTION_DESCRIPTOR:
    case DNN_BACKEND_POINTWISE_DESCRIPTOR: what = wrong_manner(d); break;
    case DNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR: what = wrong_graph(d); break;
    case DNN_BACKEND_ENGINEHEUR_DESCRIPTOR:
        if (!d.part(DNN_ATTR_ENGINEHEUR_OPERATION_GRAPH) || !d.has(DNN_ATTR_ENGINEHEUR_MODE))
            what = "heuristics lack their graph or their mode";
        break;
    case DNN_BACKEND_VARIANT_PACK_DESCRIPTOR:
        if (d.values[DNN_ATTR_VARIANT_PACK_UNIQUE_IDS].count != d.values[DNN_ATTR_VARIANT_PACK_DATA_POINTERS].count)
            what = "a variant pack has more pointers than ids, or fewer";
        break;
    case DNN_BACKEND_ENGINE_DESCRIPTOR: return finalize_engine(d);
    case DNN_BACKEND_ENGINECFG_DESCRIPTOR: return finalize_config(d);
    case DNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR: return finalize_plan(d);
    }
    return what ? refused(what) : DNN_STATUS_SUCCESS;
}

/* ---- what can be read ---- */

int hand_out(const void *from, int type, int64_t available, int64_t asked, int64_t *count, void *elements)
{
    *count = available;
    if (elements && available)
        memcpy(elements, from, type_bytes(type) * (size_t)(available < asked ? available : asked));
    return DNN_STATUS_SUCCESS;
}

void make_config(descriptor &config, int64_t engine, const problem &task)
{
    config.engine = engine, config.task = task, config.is_final = true;
    config.split = engine == TENSOR_CORES ? 2 : 1;
}

int results(const descriptor &d, int64_t asked, int64_t *count, void *elements)
{
    problem task = task_of(*d.part(DNN_ATTR_ENGINEHEUR_OPERATION_GRAPH));
    int64_t found = 0;
    for (int64_t engine : rated((int)d.one(DNN_ATTR_ENGINEHEUR_MODE, 0))) {
        if (!takes(engine, task) || found >= asked) continue;
        make_config(**((descriptor **)elements + found++), engine, task);
    }
    *count = found;
    return DNN_STATUS_SUCCESS;
}

int read_config(const descriptor &d, int name, int64_t *count, void *elements)
{
    descriptor *part = *(descriptor **)elements;
    *count = name == DNN_ATTR_ENGINECFG_ENGINE || d.engine == TENSOR_CORES;
    if (!*count) return DNN_STATUS_SUCCESS;
    part->is_final = true;
    if (name == DNN_ATTR_ENGINECFG_ENGINE) {
        part->engine = d.engine;
        part->values[DNN_ATTR_ENGINE_GLOBAL_INDEX] = value{DNN_TYPE_INT64, bytes_of(&d.engine, 1), 1};
    } else {
        int32_t type = KNOB_SPLIT;
        part->values[DNN_ATTR_KNOB_CHOICE_KNOB_TYPE] = value{DNN_TYPE_KNOB_TYPE, bytes_of(&type, 1), 1};
        part->values[DNN_ATTR_KNOB_CHOICE_KNOB_VALUE] = value{DNN_TYPE_INT64, bytes_of(&d.split, 1), 1};
    }
    return DNN_STATUS_SUCCESS;
}

/* ---- running ---- */

const char *wrong_pointers(const descriptor &plan, const descriptor &pack, pointers *found,
                           std::map<int64_t, float> *numbers)
{
    auto ids = pack.ints(DNN_ATTR_VARIANT_PACK_UNIQUE_IDS), given = pack.ints(DNN_ATTR_VARIANT_PACK_DATA_POINTERS);
    for (size_t n = 0; plan.task.drawn && n < plan.task.drawn->numbers.size(); n++) {
        const tensor &t = plan.task.drawn->numbers[n];
        auto place = std::find(ids.begin(), ids.end(), t.id);
        if (place == ids.end()) return "a number has no pointer";
        const void *pointer = (const void *)given[(size_t)(place - ids.begin())];
        if (grdi_sim_on_device(pointer, sizeof(float))) return "a number does not lie in the host's memory";
        memcpy(&(*numbers)[t.id], pointer, sizeof(float));
    }
    for (const tensor *t : plan.task.memory()) {
        char *pointer = nullptr;
        for (size_t i = 0; i < ids.size(); i++)
            if (ids[i] == t->id) pointer = (char *)given[i];
        const char *what = grdi_sim_wrong_memory("a tensor", pointer, t->extent(), (size_t)t->alignment);
        if (what) return what;
        found->of[t->id] = pointer;
    }
    if (plan.task.drawn && overlaps(*plan.task.drawn, *found)) return "a result lies where another tensor does";
    found->workspace = (void *)pack.one(DNN_ATTR_VARIANT_PACK_WORKSPACE, 0);
    size_t bytes = (size_t)plan.one(DNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE, 0);
    return bytes ? grdi_sim_wrong_memory("the workspace", found->workspace, bytes, 1) : nullptr;
}

} // namespace

extern "C" {

size_t cudnnGetVersion(void)
{
    return 92801;
}
const char *cudnnGetErrorString(int status)
{
    return status == DNN_STATUS_SUCCESS         ? "CUDNN_STATUS_SUCCESS"
           : status == DNN_STATUS_NOT_SUPPORTED ? "CUDNN_STATUS_NOT_SUPPORTED"
                                                : "CUDNN_STATUS_BAD_PARAM";
}
void cudnnGetLastErrorString(char *text, size_t size)
{
    snprintf(text, size, "%s", last_error.c_str());
}
int cudnnCreate(grdi_dnn_handle *handle)
{
    *handle = new cudnnContext{};
    return DNN_STATUS_SUCCESS;
}
int cudnnDestroy(grdi_dnn_handle handle)
{
    delete handle;
    return DNN_STATUS_SUCCESS;
}
int cudnnSetStream(grdi_dnn_handle handle, struct CUstream_st *stream)
{
    handle->stream = stream;
    return DNN_STATUS_SUCCESS;
}

int cudnnBackendCreateDescriptor(int type, grdi_dnn_descriptor *made)
{
    *made = new descriptor(type);
    return DNN_STATUS_SUCCESS;
}
int cudnnBackendDestroyDescriptor(grdi_dnn_descriptor d)
{
    delete (descriptor *)d;
    return DNN_STATUS_SUCCESS;
}
int cudnnBackendFinalize(grdi_dnn_descriptor given)
{
    auto *d = (descriptor *)given;
    if (d->is_final) return refused("a descriptor is finalized twice");
    int status = finalize(*d);
    d->is_final = status == DNN_STATUS_SUCCESS;
    return status;
}

int cudnnBackendSetAttribute(grdi_dnn_descriptor given, int name, int type, int64_t count, const void *elements)
{
    auto *d = (descriptor *)given;
    if (d->is_final) return refused("an attribute of a descriptor that is finalized cannot be set");
    if (!type_bytes(type) || type != type_of(name)) return refused("an attribute is given as another type");
    if (count < 0 || !elements) return refused("an attribute has no elements");
    if (type == DNN_TYPE_BACKEND_DESCRIPTOR)
        for (int64_t i = 0; i < count; i++) {
            auto *part = ((descriptor *const *)elements)[i];
            if (!part || !part->is_final) return refused("a part of a descriptor is not finalized");
        }
    d->values[name] = value{type, bytes_of((const char *)elements, type_bytes(type) * (size_t)count), count};
    return DNN_STATUS_SUCCESS;
}

int cudnnBackendGetAttribute(grdi_dnn_descriptor given, int name, int type, int64_t asked, int64_t *count,
                             void *elements)
{
    auto *d = (descriptor *)given;
    if (!d->is_final) return refused("an attribute of a descriptor that is not finalized cannot be read");
    if (name == DNN_ATTR_ENGINEHEUR_RESULTS) return results(*d, asked, count, elements);
    if (name == DNN_ATTR_ENGINECFG_ENGINE || name == DNN_ATTR_ENGINECFG_KNOB_CHOICES)
        return read_config(*d, name, count, elements);
    if (name == DNN_ATTR_ENGINE_NUMERICAL_NOTE) {
        auto notes = notes_of(d->engine);
        return hand_out(notes.data(), type, (int64_t)notes.size(), asked, count, elements);
    }
    auto found = d->values.find(name);
    if (found == d->values.end() || found->second.type != type) return refused("there is no such attribute to be read");
    return hand_out(found->second.bytes.data(), type, found->second.count, asked, count, elements);
}

int cudnnBackendExecute(grdi_dnn_handle handle, grdi_dnn_descriptor given_plan, grdi_dnn_descriptor given_pack)
{
    auto *plan = (descriptor *)given_plan, *pack = (descriptor *)given_pack;
    pointers found;
    std::map<int64_t, float> numbers;
    if (!handle || !handle->stream) return refused("a handle has no stream");
    if (!plan->is_final || !pack->is_final) return refused("a plan or a variant pack is not finalized");
    if ((plan->engine == ATOMICS || plan->engine == ATTENTION_ATOMICS) && !grdi_sim_any_order())
        return refused("an engine was chosen whose sums differ from run to run");
    const char *what = wrong_pointers(*plan, *pack, &found, &numbers);
    if (what) return refused(what);
    problem task = plan->task;
    order_of_sums order = {plan->engine == DESCENDING, (int)plan->split,
                           plan->engine == TENSOR_CORES && task.x.type == DNN_DATA_FLOAT};
    size_t workspace = (size_t)plan->one(DNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE, 0);
    int64_t engine = plan->engine;
    if (!task.drawn) grdi_sim_writes("cudnnBackendExecute", found.of[task.has_bias ? task.y.id : task.result().id]);
    if (workspace) grdi_sim_writes("cudnnBackendExecute, in its workspace", found.workspace);
    grdi_sim_submit(handle->stream, [=] {
        (task.drawn ? grdi_sim_count()->attentions : grdi_sim_count()->convolutions)++;
        grdi_sim_spend(engine);
        if (task.drawn) compute(*task.drawn, found, numbers);
        else compute(task, found, order);
        if (workspace) memset(found.workspace, 0xFF, workspace);
        return cudaSuccess;
    });
    return DNN_STATUS_SUCCESS;
}

} // extern "C"
