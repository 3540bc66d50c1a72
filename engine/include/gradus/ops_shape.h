/* ops_shape.h - matrix products, views, joining and cutting, indices.
 *
 * Shapes are written outermost first; "..." stands for any number of leading dimensions. An axis may be negative and
 * then counts from the end. Every call returns poison when it is given poison or when its shapes or dtypes do not fit;
 * the graph then holds the error (see graph.h). Inputs of one call have one dtype; nothing is converted silently.
 * Indices ("ids") are i32. */
#ifndef GRADUS_OPS_SHAPE_H
#define GRADUS_OPS_SHAPE_H

#include <gradus/graph.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- matrix products ---- */

/* a [...,M,K] times b [...,K,N] -> [...,M,N], float. The leading dimensions broadcast as in NumPy. Both operands have
 * at least two dimensions: a vector is given as [1,K] or [K,1]. */
GRD_API grd_tensor grd_matmul(grd_tensor a, grd_tensor b);

/* What grd_affine() applies to each element; the formulas stand at the calls of the same name in ops_math.h. */
typedef enum grd_activation {
    GRD_ACTIVATION_NONE = 0,
    GRD_ACTIVATION_RELU,
    GRD_ACTIVATION_GELU,         /* exact, with erf */
    GRD_ACTIVATION_GELU_TANH,
    GRD_ACTIVATION_SILU,
    GRD_ACTIVATION_RELU_SQUARED,
    GRD_ACTIVATION_TANH,
    GRD_ACTIVATION_SIGMOID,
    GRD_ACTIVATION_COUNT
} grd_activation;

typedef struct grd_affine_options {
    size_t size;                 /* set by the macro */
    grd_tensor bias;             /* [N]; left out: none */
    grd_activation activation;
} grd_affine_options;

/* y = activation(x w^T + bias): x [...,K], w [N,K] (PyTorch's layout) -> [...,N], float. This is the op "linear";
 * grd_linear() in nn.h is the layer that makes the parameters too. */
GRD_API grd_tensor grd_affine_with(grd_tensor x, grd_tensor w, const grd_affine_options *options);
#define grd_affine(...) GRD_AFFINE_(__VA_ARGS__, .size = sizeof(grd_affine_options))
#define GRD_AFFINE_(x, w, ...) grd_affine_with(x, w, &(grd_affine_options){__VA_ARGS__})

/* ---- views: the same elements under another shape; nothing is copied unless a kernel needs it ---- */

/* The elements in row-major order under the shape `dims`, of which one may be -1: the size that makes the counts agree.
 */
GRD_API grd_tensor grd_reshape(grd_tensor x, grd_dims dims);
/* Axis i of the result is axis axes.dim[i] of x: grd_transpose(x, grd_shape(0, 2, 1, 3)). `axes` is a permutation of
 * x's axes. */
GRD_API grd_tensor grd_transpose(grd_tensor x, grd_dims axes);
/* Exchanges the last two axes: [...,M,N] -> [...,N,M]. */
GRD_API grd_tensor grd_transpose2(grd_tensor x);
/* Exchanges axes `a` and `b`. */
GRD_API grd_tensor grd_swap(grd_tensor x, int32_t a, int32_t b);
/* The `count` entries of `axis` from `start` on. A negative start counts from the end; count -1 means up to the end. */
GRD_API grd_tensor grd_slice(grd_tensor x, int32_t axis, int64_t start, int64_t count);
/* Cuts `axis` into `parts` slices of one size and writes them to out[0..parts); an error unless the size is a multiple.
 */
GRD_API void grd_split(grd_tensor x, int32_t axis, int32_t parts, grd_tensor *out);
/* Repeats x along new leading axes and along axes of size 1, as NumPy broadcasts, up to the shape `dims`. */
GRD_API grd_tensor grd_broadcast_to(grd_tensor x, grd_dims dims);
/* Removes `axis`, whose size is 1; inserts an axis of size 1 that becomes `axis` of the result. */
GRD_API grd_tensor grd_squeeze(grd_tensor x, int32_t axis);
GRD_API grd_tensor grd_unsqueeze(grd_tensor x, int32_t axis);
/* Merges the axes from `first` to `last`, both included, into one. */
GRD_API grd_tensor grd_flatten(grd_tensor x, int32_t first, int32_t last);
/* x itself, through which no gradient flows. */
GRD_API grd_tensor grd_stop_gradient(grd_tensor x);

/* ---- joining and cutting ---- */

/* Joins 1 to 16 tensors along `axis`; all other dimensions are equal. */
GRD_API grd_tensor grd_concat(const grd_tensor *parts, int32_t count, int32_t axis);
/* Stacks 1 to 16 tensors of one shape along a new `axis` of the result. */
GRD_API grd_tensor grd_stack(const grd_tensor *parts, int32_t count, int32_t axis);
/* Puts before.dim[i] entries of `value` in front of axis i and after.dim[i] behind it; both have one entry (0 or more)
 * per axis. */
GRD_API grd_tensor grd_pad(grd_tensor x, grd_dims before, grd_dims after, double value);
typedef enum grd_padding_mode {
    GRD_PADDING_ZEROS = 0,
    GRD_PADDING_REFLECT,   /* mirrored at the outermost entry, which is not repeated: c b [a b c] b a */
    GRD_PADDING_REPLICATE, /* the outermost entry: a a [a b c] c c */
    GRD_PADDING_CIRCULAR   /* from the other end: b c [a b c] a b */
} grd_padding_mode;

/* x with before.dim[i] entries in front of axis i and after.dim[i] behind it, which x itself gives; at most size - 1
 * of them a side in mode reflect, at most size in mode circular. Other values: grd_pad. As torch.nn.functional.pad. */
GRD_API grd_tensor grd_pad_edges(grd_tensor x, grd_dims before, grd_dims after, grd_padding_mode mode);
/* Reverses the order of the entries along `axis`. */
GRD_API grd_tensor grd_flip(grd_tensor x, int32_t axis);
/* Keeps the elements [...,i,j] with j - i <= diagonal (tril) or j - i >= diagonal (triu); zeros elsewhere. Rank 2 or
 * more. */
GRD_API grd_tensor grd_tril(grd_tensor x, int64_t diagonal);
GRD_API grd_tensor grd_triu(grd_tensor x, int64_t diagonal);
/* Running sums along `axis`: y[i] = x[0] + ... + x[i]. `reverse` sums from the end; `exclusive` leaves x[i] itself out.
 */
GRD_API grd_tensor grd_cumsum(grd_tensor x, int32_t axis, bool reverse, bool exclusive);

/* ---- indices ----
 * Reading at an id outside the axis gives NaN (0 for integers), adding at one is left out: ids are checked where data
 * enter. */

/* y[.., j, ..] = x[.., ids[.., j, ..], ..] along `axis` (PyTorch's gather): ids has x's rank, and no other axis longer
 * than x's. The result has the shape of ids. */
GRD_API grd_tensor grd_gather(grd_tensor x, grd_tensor ids, int32_t axis);
/* Whole slices by number: ids [n] picks entries of `axis`, whose size becomes n (PyTorch's index_select). */
GRD_API grd_tensor grd_take(grd_tensor x, grd_tensor ids, int32_t axis);
/* base with src[.., j, ..] added at [.., ids[.., j, ..], ..] along `axis`; src has the shape of ids. Entries of one
 * place are added in the order in which they stand. */
GRD_API grd_tensor grd_scatter_add(grd_tensor base, grd_tensor ids, grd_tensor src, int32_t axis);
/* ids [...] -> [...,depth] of `dtype`: 1 at the id, 0 elsewhere; all zeros for an id outside 0..depth-1. */
GRD_API grd_tensor grd_one_hot(grd_tensor ids, int64_t depth, grd_dtype dtype);
/* The k largest along `axis`, largest first, equal ones by lower index first, NaN before all numbers. Writes their
 * indices (i32) to *ids unless it is NULL. */
GRD_API grd_tensor grd_topk(grd_tensor x, int64_t k, int32_t axis, grd_tensor *ids);
/* Rows by number: table [V,C], ids [...] -> [...,C]. */
GRD_API grd_tensor grd_embedding(grd_tensor table, grd_tensor ids);
/* Its gradient: g [...,C], ids [...] -> [vocab,C]; row v is the sum of g's rows whose id is v, in the order in which
 * they stand. */
GRD_API grd_tensor grd_embedding_backward(grd_tensor g, grd_tensor ids, int64_t vocab);

#ifdef __cplusplus
}
#endif
#endif
