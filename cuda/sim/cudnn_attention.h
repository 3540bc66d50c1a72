/* cudnn_attention.h - graphs of products, reductions and operations on elements, as the stand-in for cuDNN knows them:
 * any that hangs together is computed, one operation after the other; an engine takes those that are attention. */
#ifndef GRDI_SIM_CUDNN_ATTENTION_H
#define GRDI_SIM_CUDNN_ATTENTION_H

#include "cudnn_state.h"

namespace sim_dnn
{

enum drawn_kind { PRODUCT, REDUCTION, ELEMENT, RESHAPE };

struct drawn_step {
    drawn_kind kind = ELEMENT;
    int mode = 0;
    int64_t axis = 0;
    tensor x, second, chosen, y; /* second and chosen with id 0: none */
};

struct drawing {
    std::vector<drawn_step> steps;
    std::vector<tensor> memory, numbers;

    int64_t products() const;
    bool adds_up() const;         /* a product's result lies in memory, in f32, for blocks to add to */
    const tensor &scores() const; /* the first product's result */
};

/* What is wrong with an operation; NULL: nothing. */
const char *wrong_step(const descriptor &operation);
/* Likewise with a graph of them, which then is `drawn`. */
const char *wrong_drawing(const descriptor &graph, drawing *drawn);
/* Whether it is attention or its gradient as an engine wants it: rows without gaps inside. */
bool is_attention(const drawing &d);
/* Whether what lies together and is written shares bytes with another tensor of the graph. */
bool overlaps(const drawing &d, const pointers &at);
/* `numbers`: by the tensor's id, read when the work was asked for. */
void compute(const drawing &d, const pointers &at, const std::map<int64_t, float> &numbers);

} // namespace sim_dnn

#endif
