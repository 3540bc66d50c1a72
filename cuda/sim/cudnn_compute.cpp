/* cudnn_compute.cpp - what descriptors of the stand-in for cuDNN mean, and the convolution by plain loops. */
#include "bf16.h"
#include "cudnn_attention.h"

#include <algorithm>
#include <array>

namespace sim_dnn
{

size_t element_bytes(int type)
{
    return type == DNN_DATA_BOOLEAN ? 1 : type == DNN_DATA_BFLOAT16 || type == DNN_DATA_HALF ? 2 : 4;
}

size_t type_bytes(int type)
{
    switch (type) {
    case DNN_TYPE_HANDLE:
    case DNN_TYPE_VOID_PTR:
    case DNN_TYPE_BACKEND_DESCRIPTOR:
    case DNN_TYPE_INT64: return 8;
    case DNN_TYPE_BOOLEAN:
    case DNN_TYPE_CHAR: return 1;
    case DNN_TYPE_DATA_TYPE:
    case DNN_TYPE_FLOAT:
    case DNN_TYPE_CONVOLUTION_MODE:
    case DNN_TYPE_HEUR_MODE:
    case DNN_TYPE_KNOB_TYPE:
    case DNN_TYPE_NUMERICAL_NOTE:
    case DNN_TYPE_REDUCTION_OPERATOR_TYPE:
    case DNN_TYPE_POINTWISE_MODE: return 4;
    }
    return 0;
}

/* As documented; what is not named here is a descriptor. */
int type_of(int name)
{
    switch (name) {
    case DNN_ATTR_OPERATIONGRAPH_HANDLE:
    case DNN_ATTR_EXECUTION_PLAN_HANDLE: return DNN_TYPE_HANDLE;
    case DNN_ATTR_TENSOR_DATA_TYPE:
    case DNN_ATTR_POINTWISE_MATH_PREC:
    case DNN_ATTR_MATMUL_COMP_TYPE:
    case DNN_ATTR_REDUCTION_COMP_TYPE:
    case DNN_ATTR_CONVOLUTION_COMP_TYPE: return DNN_TYPE_DATA_TYPE;
    case DNN_ATTR_TENSOR_IS_BY_VALUE:
    case DNN_ATTR_TENSOR_IS_VIRTUAL: return DNN_TYPE_BOOLEAN;
    case DNN_ATTR_REDUCTION_OPERATOR: return DNN_TYPE_REDUCTION_OPERATOR_TYPE;
    case DNN_ATTR_CONVOLUTION_CONV_MODE: return DNN_TYPE_CONVOLUTION_MODE;
    case DNN_ATTR_ENGINEHEUR_MODE: return DNN_TYPE_HEUR_MODE;
    case DNN_ATTR_KNOB_CHOICE_KNOB_TYPE: return DNN_TYPE_KNOB_TYPE;
    case DNN_ATTR_POINTWISE_MODE: return DNN_TYPE_POINTWISE_MODE;
    case DNN_ATTR_VARIANT_PACK_DATA_POINTERS:
    case DNN_ATTR_VARIANT_PACK_WORKSPACE: return DNN_TYPE_VOID_PTR;
    case DNN_ATTR_POINTWISE_AXIS:
    case DNN_ATTR_CONVOLUTION_DILATIONS:
    case DNN_ATTR_CONVOLUTION_FILTER_STRIDES:
    case DNN_ATTR_CONVOLUTION_POST_PADDINGS:
    case DNN_ATTR_CONVOLUTION_PRE_PADDINGS:
    case DNN_ATTR_CONVOLUTION_SPATIAL_DIMS:
    case DNN_ATTR_KNOB_CHOICE_KNOB_VALUE:
    case DNN_ATTR_TENSOR_BYTE_ALIGNMENT:
    case DNN_ATTR_TENSOR_DIMENSIONS:
    case DNN_ATTR_TENSOR_STRIDES:
    case DNN_ATTR_TENSOR_UNIQUE_ID:
    case DNN_ATTR_VARIANT_PACK_UNIQUE_IDS:
    case DNN_ATTR_ENGINE_GLOBAL_INDEX: return DNN_TYPE_INT64;
    }
    for (int first : {DNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA, DNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_ALPHA,
                      DNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_ALPHA})
        if (name == first || name == first + 1) return DNN_TYPE_FLOAT;
    return DNN_TYPE_BACKEND_DESCRIPTOR;
}

int first_of(int operation)
{
    switch (operation) {
    case DNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR: return DNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA;
    case DNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR:
        return DNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_ALPHA;
    case DNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR:
        return DNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_ALPHA;
    }
    return 0;
}

/* ---- attributes ---- */

std::vector<int64_t> descriptor::ints(int name) const
{
    std::vector<int64_t> all;
    auto found = values.find(name);
    if (found == values.end()) return all;
    size_t each = type_bytes(found->second.type);
    for (int64_t i = 0; i < found->second.count; i++) {
        int64_t one = 0;
        memcpy(&one, found->second.bytes.data() + each * (size_t)i, each); /* all are positive, and low bytes first */
        all.push_back(one);
    }
    return all;
}

int64_t descriptor::one(int name, int64_t otherwise) const
{
    auto all = ints(name);
    return all.size() == 1 ? all[0] : otherwise;
}

float descriptor::number(int name) const
{
    float x = 0;
    auto found = values.find(name);
    if (found != values.end()) memcpy(&x, found->second.bytes.data(), sizeof x);
    return x;
}

std::vector<const descriptor *> descriptor::parts(int name) const
{
    std::vector<const descriptor *> all;
    for (int64_t pointer : ints(name)) all.push_back((const descriptor *)pointer);
    return all;
}

const descriptor *descriptor::part(int name) const
{
    auto all = parts(name);
    return all.size() == 1 ? all[0] : nullptr;
}

tensor::tensor(const descriptor &d)
    : id(d.one(DNN_ATTR_TENSOR_UNIQUE_ID, 0)), alignment(d.one(DNN_ATTR_TENSOR_BYTE_ALIGNMENT, 1)),
      type((int)d.one(DNN_ATTR_TENSOR_DATA_TYPE, -1)), is_virtual(d.one(DNN_ATTR_TENSOR_IS_VIRTUAL, 0) != 0),
      by_value(d.one(DNN_ATTR_TENSOR_IS_BY_VALUE, 0) != 0), dims(d.ints(DNN_ATTR_TENSOR_DIMENSIONS)),
      strides(d.ints(DNN_ATTR_TENSOR_STRIDES))
{
}

size_t tensor::extent() const
{
    int64_t last = 0;
    for (size_t i = 0; i < dims.size(); i++) last += (dims[i] - 1) * strides[i];
    return (size_t)(last + 1) * element_bytes(type);
}

std::vector<const tensor *> problem::memory() const
{
    std::vector<const tensor *> all;
    if (drawn) {
        for (const tensor &t : drawn->memory) all.push_back(&t);
        return all;
    }
    all = {&x, &w, &y};
    if (has_bias) all.push_back(&bias);
    return all;
}

problem problem_of(const descriptor &operation)
{
    problem p;
    int first = first_of(operation.type);
    const descriptor *convolution = operation.part(first + 2);
    p.kind = operation.type == DNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR         ? FORWARD
             : operation.type == DNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR ? INPUT_GRADIENT
                                                                                            : WEIGHT_GRADIENT;
    p.alpha = operation.number(first), p.beta = operation.number(first + 1);
    p.stride = convolution->ints(DNN_ATTR_CONVOLUTION_FILTER_STRIDES);
    p.padding = convolution->ints(DNN_ATTR_CONVOLUTION_PRE_PADDINGS);
    p.behind = convolution->ints(DNN_ATTR_CONVOLUTION_POST_PADDINGS);
    p.dilation = convolution->ints(DNN_ATTR_CONVOLUTION_DILATIONS);
    p.w = tensor(*operation.part(first + 3));
    p.x = tensor(*operation.part(first + 4));
    p.y = tensor(*operation.part(first + 5));
    return p;
}

problem task_of(const descriptor &graph)
{
    auto operations = graph.parts(DNN_ATTR_OPERATIONGRAPH_OPS);
    if (!first_of(operations[0]->type)) {
        problem drawn;
        drawn.drawn = std::make_shared<drawing>();
        wrong_drawing(graph, drawn.drawn.get());
        return drawn;
    }
    problem p = problem_of(*operations[0]);
    if (operations.size() == 1) return p;
    p.has_bias = true;
    p.bias = tensor(*operations[1]->part(DNN_ATTR_OPERATION_POINTWISE_BDESC));
    p.y = tensor(*operations[1]->part(DNN_ATTR_OPERATION_POINTWISE_YDESC));
    return p;
}

/* Sums in parts lie there, in the library's mind, or probabilities. */
int64_t workspace_of(const descriptor &plan)
{
    if (plan.engine == ATTENTION_IN_ROOM) return (int64_t)plan.task.drawn->scores().extent() / 2;
    if (plan.engine == SPACIOUS) return (int64_t)300 << 20;
    return plan.split > 1 ? 4096 + 3 : 0;
}

/* ---- the convolution ---- */

float load(const char *data, int type, int64_t i)
{
    if (type == DNN_DATA_FLOAT) return ((const float *)data)[i];
    uint16_t half = ((const uint16_t *)data)[i];
    return type == DNN_DATA_HALF ? grdi_f16_to_f32(half) : sim_from_bf16(half);
}

void store(char *data, int type, int64_t i, float x)
{
    if (type == DNN_DATA_FLOAT) ((float *)data)[i] = x;
    else ((uint16_t *)data)[i] = type == DNN_DATA_HALF ? grdi_f32_to_f16(x) : sim_to_bf16(x);
}

float rounded_to(int type, float x)
{
    if (type != DNN_DATA_HALF && type != DNN_DATA_BFLOAT16) return x;
    char half[2];
    store(half, type, 0, x);
    return load(half, type, 0);
}

namespace
{

/* To ten bits behind the point, as tensor cores read f32. */
float rounded(float x, bool tf32)
{
    uint32_t bits;
    if (!tf32 || x != x) return x;
    memcpy(&bits, &x, sizeof bits);
    bits = (bits + 0xFFFu + (bits >> 13 & 1u)) & ~0x1FFFu;
    memcpy(&x, &bits, sizeof x);
    return x;
}

using position = std::array<int64_t, 5>;

/* Counts through an index of many axes; false when it has come round. */
bool step(position &index, const position &dims, size_t rank)
{
    for (size_t d = rank; d-- > 0;) {
        if (++index[d] < dims[d]) return true;
        index[d] = 0;
    }
    return false;
}

position dims_of(const tensor &t)
{
    position dims = {};
    std::copy(t.dims.begin(), t.dims.end(), dims.begin());
    return dims;
}

int64_t offset(const tensor &t, const position &index)
{
    int64_t at = 0;
    for (size_t d = 0; d < t.strides.size(); d++) at += index[d] * t.strides[d];
    return at;
}

/* What is read of a tensor, by place: each element is in many products. */
std::vector<float> values_of(const tensor &t, const char *data, bool tf32)
{
    std::vector<float> values(t.extent() / element_bytes(t.type));
    for (size_t i = 0; i < values.size(); i++) values[i] = rounded(load(data, t.type, (int64_t)i), tf32);
    return values;
}

/* A product within a window: how far its element of x and of w lie from those of the window's sample and channels. */
struct tap {
    int64_t x, w;
};

/* A place along y's spatial axes: how far it lies from its channel's first element, and what of x it sees. */
struct window {
    int64_t y;
    std::vector<tap> taps;
};

struct computation {
    const problem &p;
    order_of_sums order;
    size_t rank;
    int64_t per_group;          /* output channels */
    std::vector<float> x, w, y; /* by place; the result's is empty */
    /* of each element of the result, by place: sums in parts, which terms go to by turns */
    std::vector<float> sums;
    std::vector<uint32_t> terms;

    computation(const problem &given, const pointers &at, const order_of_sums &how)
        : p(given), order(how), rank(given.x.dims.size()),
          per_group(given.w.dims[0] / (given.x.dims[1] / given.w.dims[1]))
    {
        size_t count = given.result().extent() / element_bytes(given.result().type);
        if (p.kind != INPUT_GRADIENT) x = values_of(p.x, at.of.at(p.x.id), order.tf32);
        if (p.kind != WEIGHT_GRADIENT) w = values_of(p.w, at.of.at(p.w.id), order.tf32);
        if (p.kind != FORWARD) y = values_of(p.y, at.of.at(p.y.id), order.tf32);
        sums.resize(count * (size_t)order.parts);
        terms.resize(count);
    }

    float sum(size_t i) const
    {
        float total = 0;
        for (size_t k = 0; k < (size_t)order.parts; k++) total += sums[i * (size_t)order.parts + k];
        return total;
    }

    int64_t turned(int64_t i, int64_t count) const
    {
        return order.descending ? count - 1 - i : i;
    }

    position turned(const position &index, const position &dims) const
    {
        position other = index;
        for (size_t d = 0; d < rank; d++) other[d] = turned(index[d], dims[d]);
        return other;
    }

    /* x[n,c,s stride - padding + k dilation] beside w[o,c,k], for y[n,o,s]. */
    window window_at(const position &yi) const
    {
        window made = {offset(p.y, yi), {}};
        position dims = dims_of(p.w), index = {};
        dims[0] = dims[1] = 1;
        do {
            position wi = turned(index, dims), xi = {};
            bool within = true;
            for (size_t a = 0; a + 2 < rank; a++) {
                xi[2 + a] = yi[2 + a] * p.stride[a] - p.padding[a] + wi[2 + a] * p.dilation[a];
                within = within && xi[2 + a] >= 0 && xi[2 + a] < p.x.dims[2 + a];
            }
            if (within) made.taps.push_back({offset(p.x, xi), offset(p.w, wi)});
        } while (step(index, dims, rank));
        return made;
    }

    std::vector<window> all_windows() const
    {
        std::vector<window> all;
        position dims = dims_of(p.y), index = {};
        dims[0] = dims[1] = 1;
        do all.push_back(window_at(turned(index, dims)));
        while (step(index, dims, rank));
        return all;
    }

    /* The products of two tensors' elements, for the third: of one channel in a window. */
    void add(const std::vector<tap> &taps, int64_t x_at, int64_t w_at, int64_t y_at)
    {
        const uint32_t parts = (uint32_t)order.parts;
        const float *xs = x.data(), *ws = w.data(), yv = p.kind == FORWARD ? 1 : y[(size_t)y_at];
        for (const tap &t : taps) {
            int64_t xi = x_at + t.x, wi = w_at + t.w;
            float product = p.kind == FORWARD ? xs[xi] * ws[wi] : (p.kind == INPUT_GRADIENT ? ws[wi] : xs[xi]) * yv;
            size_t to = (size_t)(p.kind == FORWARD ? y_at : p.kind == INPUT_GRADIENT ? xi : wi);
            sums[parts == 1 ? to : to * parts + terms[to]++ % parts] += product;
        }
    }

    void collect()
    {
        const std::vector<window> windows = all_windows();
        const std::vector<int64_t> &xs = p.x.strides, &ws = p.w.strides, &ys = p.y.strides;
        const int64_t samples = p.y.dims[0], filters = p.y.dims[1], channels = p.w.dims[1];
        for (int64_t i = 0; i < samples * filters; i++) {
            int64_t n = turned(i / filters, samples), o = turned(i % filters, filters);
            int64_t x_at = n * xs[0] + o / per_group * channels * xs[1], w_at = o * ws[0];
            for (const window &seen : windows)
                for (int64_t k = 0; k < channels; k++) {
                    int64_t c = turned(k, channels);
                    add(seen.taps, x_at + c * xs[1], w_at + c * ws[1], n * ys[0] + o * ys[1] + seen.y);
                }
        }
    }
};

} // namespace

void compute(const problem &p, const pointers &at, const order_of_sums &order)
{
    computation c(p, at, order);
    const tensor &result = p.result();
    char *to = at.of.at(result.id);
    c.collect();
    position index = {};
    do {
        int64_t i = offset(result, index);
        float sum = p.alpha * c.sum((size_t)i);
        if (p.beta != 0) sum += p.beta * load(to, result.type, i);
        if (p.has_bias) sum += load(at.of.at(p.bias.id), p.bias.type, index[1]);
        store(to, result.type, i, sum);
    } while (step(index, dims_of(result), result.dims.size()));
}

} // namespace sim_dnn
