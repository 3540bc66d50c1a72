/* ops_reduce.h - sums, means, extremes over axes.
 *
 * Each comes three ways: over all elements (a scalar, shape []), over one axis, and over `axis_count` axes (0: all).
 * Negative axes count from the end. `keep` leaves reduced axes in the shape with size 1; else they are dropped.
 * Errors: GRD_E_ARGUMENT for an axis out of range or named twice, GRD_E_DTYPE. "Number" and "float" as in
 * ops_math.h. */
#ifndef GRADUS_OPS_REDUCE_H
#define GRADUS_OPS_REDUCE_H

#include <gradus/graph.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The sum; number. */
GRD_API grd_tensor grd_sum(grd_tensor x);
GRD_API grd_tensor grd_sum_axis(grd_tensor x, int64_t axis, bool keep);
GRD_API grd_tensor grd_sum_axes(grd_tensor x, const int64_t *axes, int32_t axis_count, bool keep);
/* The sum divided by the number of elements; float. */
GRD_API grd_tensor grd_mean(grd_tensor x);
GRD_API grd_tensor grd_mean_axis(grd_tensor x, int64_t axis, bool keep);
GRD_API grd_tensor grd_mean_axes(grd_tensor x, const int64_t *axes, int32_t axis_count, bool keep);
/* The greatest value, NaN if there is a NaN; number. The gradient is shared equally among equal greatest values. */
GRD_API grd_tensor grd_max(grd_tensor x);
GRD_API grd_tensor grd_max_axis(grd_tensor x, int64_t axis, bool keep);
GRD_API grd_tensor grd_max_axes(grd_tensor x, const int64_t *axes, int32_t axis_count, bool keep);
/* The least value; otherwise as max. */
GRD_API grd_tensor grd_min(grd_tensor x);
GRD_API grd_tensor grd_min_axis(grd_tensor x, int64_t axis, bool keep);
GRD_API grd_tensor grd_min_axes(grd_tensor x, const int64_t *axes, int32_t axis_count, bool keep);
/* The product; number. The gradient is right for zeros too; second derivatives only where no element is zero. */
GRD_API grd_tensor grd_prod(grd_tensor x);
GRD_API grd_tensor grd_prod_axis(grd_tensor x, int64_t axis, bool keep);
GRD_API grd_tensor grd_prod_axes(grd_tensor x, const int64_t *axes, int32_t axis_count, bool keep);
/* log(sum(exp(x))) without overflow; float. */
GRD_API grd_tensor grd_logsumexp(grd_tensor x);
GRD_API grd_tensor grd_logsumexp_axis(grd_tensor x, int64_t axis, bool keep);
GRD_API grd_tensor grd_logsumexp_axes(grd_tensor x, const int64_t *axes, int32_t axis_count, bool keep);
/* sum((x - mean)^2) / (n - correction); float. correction 0: of the population, 1: the unbiased estimate (NaN or
 * infinite where n <= correction). grd_variance() has correction 0. */
GRD_API grd_tensor grd_variance(grd_tensor x);
GRD_API grd_tensor grd_variance_axis(grd_tensor x, int64_t axis, bool keep, double correction);
GRD_API grd_tensor grd_variance_axes(grd_tensor x, const int64_t *axes, int32_t axis_count, bool keep,
                                    double correction);
/* Whether any element, or every one, is true; bool to bool, no gradient. */
GRD_API grd_tensor grd_any(grd_tensor x);
GRD_API grd_tensor grd_any_axis(grd_tensor x, int64_t axis, bool keep);
GRD_API grd_tensor grd_any_axes(grd_tensor x, const int64_t *axes, int32_t axis_count, bool keep);
GRD_API grd_tensor grd_all(grd_tensor x);
GRD_API grd_tensor grd_all_axis(grd_tensor x, int64_t axis, bool keep);
GRD_API grd_tensor grd_all_axes(grd_tensor x, const int64_t *axes, int32_t axis_count, bool keep);

/* The index (i32) of the greatest or least value along one axis; the first of equals; a NaN counts as greatest and
 * as least. Number; no gradient. */
GRD_API grd_tensor grd_argmax(grd_tensor x, int64_t axis, bool keep);
GRD_API grd_tensor grd_argmin(grd_tensor x, int64_t axis, bool keep);

/* Sums x down to `dims`, a shape that broadcasts to x's: the reverse of broadcasting. Number. x itself if the shapes
 * agree. */
GRD_API grd_tensor grd_sum_to(grd_tensor x, grd_dims dims);
/* The sum of the squares of all elements; float to a scalar of the same dtype. */
GRD_API grd_tensor grd_sum_squares(grd_tensor x);

#ifdef __cplusplus
}
#endif
#endif
