/* cudnn_state.h - what the stand-in for cuDNN knows: descriptors with their attributes, the convolution that a graph of
 * them means, and how it is computed. */
#ifndef GRDI_SIM_CUDNN_STATE_H
#define GRDI_SIM_CUDNN_STATE_H

#include "lib/cudnn_api.h"

#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <vector>

struct cudnnContext {
    struct CUstream_st *stream;
};

namespace sim_dnn
{

enum { KNOB_SPLIT = 2 };
/* For attention: forward; backward by atomics; backward with room for all probabilities. SPACIOUS: a convolution that
 * wants more workspace than the plugin gives. */
enum {
    ASCENDING,
    DESCENDING,
    TENSOR_CORES,
    ATOMICS,
    WIDENING,
    ATTENTION,
    ATTENTION_ATOMICS,
    ATTENTION_IN_ROOM,
    SPACIOUS,
    ENGINES
};
enum direction { FORWARD, INPUT_GRADIENT, WEIGHT_GRADIENT };

struct value {
    int type;
    std::vector<char> bytes;
    int64_t count;
};

struct descriptor;

struct tensor {
    int64_t id = 0, alignment = 1;
    int type = -1;
    bool is_virtual = false, by_value = false;
    std::vector<int64_t> dims, strides;

    tensor() = default;
    explicit tensor(const descriptor &d);
    size_t extent() const; /* bytes from the first element to the end of the last */
};

struct drawing; /* cudnn_attention.h */

/* A convolution, of whichever kind; with a bias, y is what the bias gives. Or what is drawn, where there is that. */
struct problem {
    std::shared_ptr<drawing> drawn;
    direction kind = FORWARD;
    tensor x, w, y, bias;
    bool has_bias = false;
    std::vector<int64_t> stride, padding, behind, dilation; /* padding before and behind */
    float alpha = 1, beta = 0;

    const tensor &result() const
    {
        return kind == FORWARD ? y : kind == INPUT_GRADIENT ? x : w;
    }
    std::vector<const tensor *> memory() const;
};

struct descriptor {
    int type;
    bool is_final = false;
    std::map<int, value> values;
    /* of engines, their configs and plans */
    int64_t engine = -1, split = 1;
    problem task;

    explicit descriptor(int made) : type(made) {}
    bool has(int name) const
    {
        return values.count(name) > 0;
    }
    std::vector<int64_t> ints(int name) const; /* empty where there are none */
    int64_t one(int name, int64_t otherwise) const;
    float number(int name) const;
    std::vector<const descriptor *> parts(int name) const;
    const descriptor *part(int name) const; /* NULL where there is none */
};

struct pointers {
    std::map<int64_t, char *> of; /* by the tensor's id */
    void *workspace = nullptr;
};

struct order_of_sums {
    bool descending;
    int parts;
    bool tf32;
};

size_t element_bytes(int type);
size_t type_bytes(int type); /* of an attribute's element; 0: none that is known */
int type_of(int name);       /* that the attribute must have */
int first_of(int operation); /* attribute of a convolution: alpha; 0: the operation is none */
float load(const char *data, int type, int64_t i);
void store(char *data, int type, int64_t i, float x);
float rounded_to(int type, float x);
problem problem_of(const descriptor &operation);
problem task_of(const descriptor &graph);
int64_t workspace_of(const descriptor &plan);
void compute(const problem &p, const pointers &at, const order_of_sums &order);

inline std::vector<char> bytes_of(const char *from, size_t size)
{
    return std::vector<char>(from, from + size);
}
template <class T> std::vector<char> bytes_of(const T *from, int count)
{
    return bytes_of((const char *)from, sizeof(T) * (size_t)count);
}

} // namespace sim_dnn

#endif
