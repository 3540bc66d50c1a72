/* cudnn_attention.cpp - graphs of products, reductions and operations on elements, checked as NVIDIA's cudnn_graph.h
 * documents them, and computed by plain loops in f32. */
#include "cudnn_attention.h"

#include <algorithm>
#include <array>
#include <cmath>

namespace sim_dnn
{

namespace
{

using index4 = std::array<int64_t, 4>;

drawn_step step_of(const descriptor &operation)
{
    drawn_step s;
    auto take = [&](int name, tensor *t) {
        if (operation.part(name)) *t = tensor(*operation.part(name));
    };
    switch (operation.type) {
    case DNN_BACKEND_OPERATION_MATMUL_DESCRIPTOR:
        s.kind = PRODUCT;
        take(DNN_ATTR_OPERATION_MATMUL_ADESC, &s.x);
        take(DNN_ATTR_OPERATION_MATMUL_BDESC, &s.second);
        take(DNN_ATTR_OPERATION_MATMUL_CDESC, &s.y);
        break;
    case DNN_BACKEND_OPERATION_REDUCTION_DESCRIPTOR:
        s.kind = REDUCTION;
        s.mode = (int)operation.part(DNN_ATTR_OPERATION_REDUCTION_DESC)->one(DNN_ATTR_REDUCTION_OPERATOR, -1);
        take(DNN_ATTR_OPERATION_REDUCTION_XDESC, &s.x);
        take(DNN_ATTR_OPERATION_REDUCTION_YDESC, &s.y);
        break;
    case DNN_BACKEND_OPERATION_RESHAPE_DESCRIPTOR:
        s.kind = RESHAPE;
        take(DNN_ATTR_OPERATION_RESHAPE_XDESC, &s.x);
        take(DNN_ATTR_OPERATION_RESHAPE_YDESC, &s.y);
        break;
    default: {
        const descriptor *how = operation.part(DNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR);
        s.mode = (int)how->one(DNN_ATTR_POINTWISE_MODE, -1);
        s.axis = how->one(DNN_ATTR_POINTWISE_AXIS, -1);
        take(DNN_ATTR_OPERATION_POINTWISE_XDESC, &s.x);
        take(DNN_ATTR_OPERATION_POINTWISE_BDESC, &s.second);
        take(DNN_ATTR_OPERATION_POINTWISE_TDESC, &s.chosen);
        take(DNN_ATTR_OPERATION_POINTWISE_YDESC, &s.y);
    }
    }
    return s;
}

int operands_of(int mode)
{
    switch (mode) {
    case DNN_POINTWISE_EXP:
    case DNN_POINTWISE_LOG:
    case DNN_POINTWISE_IDENTITY:
    case DNN_POINTWISE_GEN_INDEX: return 1;
    case DNN_POINTWISE_ADD:
    case DNN_POINTWISE_MUL:
    case DNN_POINTWISE_DIV:
    case DNN_POINTWISE_SUB:
    case DNN_POINTWISE_CMP_GT:
    case DNN_POINTWISE_CMP_GE: return 2;
    case DNN_POINTWISE_BINARY_SELECT: return 3;
    }
    return 0;
}

/* x's sizes are y's, or 1 where it repeats. */
bool repeats_to(const tensor &x, const tensor &y)
{
    for (size_t d = 0; d < 4; d++)
        if (x.dims[d] != y.dims[d] && x.dims[d] != 1) return false;
    return true;
}

const char *wrong_sizes(const drawn_step &s)
{
    for (const tensor *t : {&s.x, &s.y, s.second.id ? &s.second : &s.x, s.chosen.id ? &s.chosen : &s.x})
        if (t->dims.size() != 4) return "a tensor of an attention graph has not four axes";
    const auto &x = s.x.dims, &b = s.second.dims, &y = s.y.dims;
    if (s.kind == PRODUCT) {
        bool rounds = s.x.is_virtual && s.x.type == DNN_DATA_FLOAT;
        if (x[3] != b[2] || y[2] != x[2] || y[3] != b[3] || (s.x.type != s.second.type && !rounds))
            return "the sizes or types of a product do not fit";
        if (x[0] != b[0] || x[0] != y[0] || x[1] != y[1] || x[1] % b[1]) return "the heads of a product do not fit";
    } else if (s.kind == REDUCTION) {
        if (x[0] != y[0] || x[1] % y[1] || x[2] != y[2] || (y[3] != x[3] && y[3] != 1))
            return "the sizes of a reduction do not fit";
    } else if (s.kind == RESHAPE) {
        if (x[0] * x[1] * x[2] * x[3] != y[0] * y[1] * y[2] * y[3] ||
            s.x.extent() / element_bytes(s.x.type) != s.y.extent() / element_bytes(s.y.type))
            return "a reshape changes how much there is";
    } else if (x != y || (s.second.id && !repeats_to(s.second, s.y)) || (s.chosen.id && !repeats_to(s.chosen, s.y))) {
        return "the sizes of an operation on elements do not fit";
    }
    return nullptr;
}

const tensor *find(const std::vector<tensor> &all, int64_t id)
{
    for (const tensor &t : all)
        if (t.id == id) return &t;
    return nullptr;
}

} // namespace

int64_t drawing::products() const
{
    return std::count_if(steps.begin(), steps.end(), [](const drawn_step &s) { return s.kind == PRODUCT; });
}

const tensor &drawing::scores() const
{
    return std::find_if(steps.begin(), steps.end(), [](const drawn_step &s) { return s.kind == PRODUCT; })->y;
}

const char *wrong_step(const descriptor &operation)
{
    if (operation.type == DNN_BACKEND_OPERATION_MATMUL_DESCRIPTOR) {
        for (int name = DNN_ATTR_OPERATION_MATMUL_ADESC; name <= DNN_ATTR_OPERATION_MATMUL_DESC; name++)
            if (!operation.part(name)) return "a product lacks a part";
    } else if (operation.type == DNN_BACKEND_OPERATION_REDUCTION_DESCRIPTOR) {
        for (int name = DNN_ATTR_OPERATION_REDUCTION_XDESC; name <= DNN_ATTR_OPERATION_REDUCTION_DESC; name++)
            if (!operation.part(name)) return "a reduction lacks a part";
    } else if (operation.type == DNN_BACKEND_OPERATION_RESHAPE_DESCRIPTOR) {
        if (!operation.part(DNN_ATTR_OPERATION_RESHAPE_XDESC) || !operation.part(DNN_ATTR_OPERATION_RESHAPE_YDESC))
            return "a reshape lacks a part";
    } else {
        const descriptor *how = operation.part(DNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR);
        if (!how || !operation.part(DNN_ATTR_OPERATION_POINTWISE_XDESC) ||
            !operation.part(DNN_ATTR_OPERATION_POINTWISE_YDESC))
            return "a pointwise operation lacks a part";
        int given =
            1 + operation.has(DNN_ATTR_OPERATION_POINTWISE_BDESC) + operation.has(DNN_ATTR_OPERATION_POINTWISE_TDESC);
        if (given != operands_of((int)how->one(DNN_ATTR_POINTWISE_MODE, -1)))
            return "a pointwise operation has more operands than its mode, or fewer";
        if (tensor(*operation.part(DNN_ATTR_OPERATION_POINTWISE_YDESC)).dims.size() != 4) return nullptr; /* a bias */
        if (tensor(*operation.part(DNN_ATTR_OPERATION_POINTWISE_XDESC)).dims.size() != 4) return nullptr;
    }
    return wrong_sizes(step_of(operation));
}

const char *wrong_drawing(const descriptor &graph, drawing *d)
{
    std::vector<int64_t> written, read;
    auto has = [](const std::vector<int64_t> &all, int64_t id) {
        return std::find(all.begin(), all.end(), id) != all.end();
    };
    for (const descriptor *operation : graph.parts(DNN_ATTR_OPERATIONGRAPH_OPS)) {
        if (first_of(operation->type)) return "a graph mixes a convolution with what is none";
        d->steps.push_back(step_of(*operation));
        const drawn_step &s = d->steps.back();
        for (const tensor *t : {&s.x, &s.second, &s.chosen}) {
            if (!t->id) continue;
            if (t->is_virtual && !has(written, t->id)) return "a graph's virtual tensor is read before it is written";
            read.push_back(t->id);
        }
        if (has(written, s.y.id)) return "a graph's tensor is written twice";
        if (s.y.by_value) return "a graph writes to a number";
        written.push_back(s.y.id);
        for (const tensor *t : {&s.x, &s.second, &s.chosen, &s.y}) {
            auto &all = t->by_value ? d->numbers : d->memory;
            if (t->id && !t->is_virtual && !find(all, t->id)) all.push_back(*t);
        }
    }
    for (const drawn_step &s : d->steps)
        if (s.y.is_virtual && !has(read, s.y.id)) return "nobody reads a graph's virtual tensor";
    for (const tensor &t : d->memory)
        if (t.type == DNN_DATA_INT32 || t.type == DNN_DATA_BOOLEAN) return "places of scores lie in memory";
    return d->products() ? nullptr : "a graph of another pattern";
}

bool drawing::adds_up() const
{
    return std::any_of(steps.begin(), steps.end(), [](const drawn_step &s) {
        return s.kind == PRODUCT && !s.y.is_virtual && s.y.type == DNN_DATA_FLOAT;
    });
}

bool is_attention(const drawing &d)
{
    for (const tensor &t : d.memory)
        if (t.type != DNN_DATA_FLOAT && std::find(t.strides.begin(), t.strides.end(), 1) == t.strides.end())
            return false;
    return d.products() == 2 || d.products() == 5;
}

static bool lies_together(const tensor &t)
{
    int64_t count = 1;
    for (int64_t size : t.dims) count *= size;
    return t.extent() == (size_t)count * element_bytes(t.type);
}

bool overlaps(const drawing &d, const pointers &at)
{
    for (const drawn_step &s : d.steps)
        for (const tensor &t : d.memory) {
            if (s.y.is_virtual || !lies_together(s.y) || t.id == s.y.id) continue;
            const char *a = at.of.at(s.y.id), *b = at.of.at(t.id);
            if (a < b + t.extent() && b < a + s.y.extent()) return true;
        }
    return false;
}

/* ---- computing ---- */

namespace
{

struct values {
    char *memory = nullptr;  /* NULL: virtual */
    std::vector<float> room; /* of a virtual tensor, by place */
};

int64_t offset(const tensor &t, const index4 &i)
{
    int64_t at = 0;
    for (size_t d = 0; d < 4; d++) at += (t.dims[d] == 1 ? 0 : i[d]) * t.strides[d];
    return at;
}

template <class F> void each(const tensor &t, F f)
{
    index4 i = {};
    for (i[0] = 0; i[0] < t.dims[0]; i[0]++)
        for (i[1] = 0; i[1] < t.dims[1]; i[1]++)
            for (i[2] = 0; i[2] < t.dims[2]; i[2]++)
                for (i[3] = 0; i[3] < t.dims[3]; i[3]++) f(i);
}

/* A tensor of a step, with where its values are; a number is the same everywhere. */
struct operand {
    const tensor *t;
    values *v;
    float number;

    float at(int64_t place) const
    {
        if (!v) return number;
        return v->memory ? load(v->memory, t->type, place) : v->room[(size_t)place];
    }
    float get(const index4 &i) const
    {
        return v ? at(offset(*t, i)) : number;
    }
    void put(int64_t place, float x) const
    {
        if (v->memory) store(v->memory, t->type, place, x);
        else v->room[(size_t)place] = rounded_to(t->type, x);
    }
    void put(const index4 &i, float x) const
    {
        put(offset(*t, i), x);
    }
};

struct computation {
    operand x, second, chosen, y;

    /* A virtual operand becomes of the other's type. */
    void multiply() const
    {
        int type = second.t->type;
        int64_t group = x.t->dims[1] / second.t->dims[1], count = x.t->dims[3];
        int64_t x_step = x.t->strides[3], second_step = second.t->strides[2];
        each(*y.t, [&](const index4 &i) {
            int64_t a = offset(*x.t, {i[0], i[1], i[2], 0}), b = offset(*second.t, {i[0], i[1] / group, 0, i[3]});
            float sum = 0;
            for (int64_t k = 0; k < count; k++)
                sum += rounded_to(type, x.at(a + k * x_step)) * second.at(b + k * second_step);
            y.put(i, sum);
        });
    }

    void reduce(bool most) const
    {
        int64_t group = x.t->dims[1] / y.t->dims[1], columns = x.t->dims[3] / y.t->dims[3];
        each(*y.t, [&](const index4 &i) {
            float total = most ? -INFINITY : 0;
            for (int64_t h = 0; h < group; h++)
                for (int64_t c = 0; c < columns; c++) {
                    float one = x.get({i[0], i[1] * group + h, i[2], i[3] * columns + c});
                    total = most ? std::max(total, one) : total + one;
                }
            y.put(i, total);
        });
    }

    float element(int mode, int64_t axis, const index4 &i) const
    {
        if (mode == DNN_POINTWISE_GEN_INDEX) return (float)i[(size_t)axis];
        float a = x.get(i), b = second.t->id ? second.get(i) : 0;
        switch (mode) {
        case DNN_POINTWISE_ADD: return a + b;
        case DNN_POINTWISE_MUL: return a * b;
        case DNN_POINTWISE_DIV: return a / b;
        case DNN_POINTWISE_SUB: return a - b;
        case DNN_POINTWISE_EXP: return expf(a);
        case DNN_POINTWISE_LOG: return logf(a);
        case DNN_POINTWISE_IDENTITY: return a;
        case DNN_POINTWISE_CMP_GT: return a > b;
        case DNN_POINTWISE_CMP_GE: return a >= b;
        case DNN_POINTWISE_BINARY_SELECT: return chosen.get(i) != 0 ? a : b;
        }
        return NAN;
    }

    void run(const drawn_step &s) const
    {
        if (s.kind == PRODUCT) multiply();
        else if (s.kind == REDUCTION) reduce(s.mode == DNN_REDUCE_TENSOR_MAX);
        else if (s.kind == ELEMENT) each(s.y, [&](const index4 &i) { y.put(i, element(s.mode, s.axis, i)); });
        else
            for (int64_t i = 0, n = (int64_t)(s.y.extent() / element_bytes(s.y.type)); i < n; i++) y.put(i, x.at(i));
    }
};

} // namespace

void compute(const drawing &d, const pointers &at, const std::map<int64_t, float> &numbers)
{
    std::map<int64_t, values> all;
    for (const tensor &t : d.memory) all[t.id].memory = at.of.at(t.id);
    for (const drawn_step &s : d.steps)
        if (s.y.is_virtual) all[s.y.id].room.assign(s.y.extent() / element_bytes(s.y.type), NAN);
    auto operand_of = [&](const tensor &t) {
        return operand{&t, all.count(t.id) ? &all[t.id] : nullptr, t.by_value ? numbers.at(t.id) : NAN};
    };
    for (const drawn_step &s : d.steps)
        computation{operand_of(s.x), operand_of(s.second), operand_of(s.chosen), operand_of(s.y)}.run(s);
}

} // namespace sim_dnn
