/* similarity.c - losses that are made of other ops: of hard examples, and of how near vectors lie to each other. */
#include "graph/graph.h"

#include <gradus/ops.h>

/* ---- focal ---- */

grd_tensor grd_focal(grd_tensor logits, grd_tensor target, double gamma, double alpha)
{
    if (logits.node && (!(gamma >= 0) || alpha > 1))
        return grdi_graph_fail(grd_tensor_graph(logits), GRD_E_ARGUMENT,
                               "focal: gamma is %g and alpha %g (gamma is 0 or more, alpha at most 1)", gamma, alpha);
    grd_tensor loss = grd_bce_with_logits(logits, target), other = grd_add_scalar(grd_neg(target), 1);
    /* 1 - p_t, without taking a probability near 1 from 1 */
    grd_tensor missed = grd_add(grd_mul(target, grd_sigmoid(grd_neg(logits))), grd_mul(other, grd_sigmoid(logits)));
    if (gamma > 0) loss = grd_mul(loss, grd_pow_scalar(missed, gamma));
    if (alpha < 0) return loss;
    return grd_mul(loss, grd_add(grd_mul_scalar(target, alpha), grd_mul_scalar(other, 1 - alpha)));
}

/* ---- angles ---- */

static grd_tensor inner(grd_tensor a, grd_tensor b, int32_t axis)
{
    return grd_sum_axis(grd_mul(a, b), axis, false);
}

/* 1 / max(|a|, eps) */
static grd_tensor inverse_length(grd_tensor a, int32_t axis, double eps)
{
    grd_tensor squares = inner(a, a, axis);
    return grd_rsqrt(grd_maximum(squares, grd_full_like(squares, eps * eps)));
}

grd_tensor grd_cosine_similarity(grd_tensor a, grd_tensor b, int32_t axis, double eps)
{
    if (eps <= 0) eps = 1e-8;
    return grd_mul(inner(a, b, axis), grd_mul(inverse_length(a, axis, eps), inverse_length(b, axis, eps)));
}

#define COSINE_EPS 1e-12 /* PyTorch's, added to the squares of both lengths */

grd_tensor grd_cosine_embedding(grd_tensor a, grd_tensor b, grd_tensor same, double margin)
{
    grd_tensor lengths =
        grd_mul(grd_add_scalar(inner(a, a, -1), COSINE_EPS), grd_add_scalar(inner(b, b, -1), COSINE_EPS));
    grd_tensor cosine = grd_mul(inner(a, b, -1), grd_rsqrt(lengths)), none = grd_zeros_like(cosine);
    grd_tensor apart = grd_relu(grd_add_scalar(cosine, -margin)), together = grd_add_scalar(grd_neg(cosine), 1);
    return grd_where(grd_eq(same, grd_full_like(same, 1)), together,
                     grd_where(grd_eq(same, grd_full_like(same, -1)), apart, none));
}

/* ---- distances ---- */

/* (sum |a - b + eps|^p)^(1/p) over the last axis */
static grd_tensor distance(grd_tensor a, grd_tensor b, double p, double eps)
{
    grd_tensor d = grd_add_scalar(grd_sub(a, b), eps);
    if (p == 2) return grd_sqrt(inner(d, d, -1));
    if (p == 1) return grd_sum_axis(grd_abs(d), -1, false);
    return grd_pow_scalar(grd_sum_axis(grd_pow_scalar(grd_abs(d), p), -1, false), 1 / p);
}

grd_tensor grd_triplet_with(grd_tensor anchor, grd_tensor positive, grd_tensor negative,
                            const grd_triplet_options *options)
{
    options = options ? options : &(const grd_triplet_options){.size = sizeof(grd_triplet_options)};
    double margin = options->margin != 0 ? options->margin : 1, p = options->p != 0 ? options->p : 2;
    double eps = options->eps != 0 ? options->eps : 1e-6;
    if (anchor.node && (!(margin > 0) || !(p >= 1)))
        return grdi_graph_fail(grd_tensor_graph(anchor), GRD_E_ARGUMENT,
                               "triplet: margin is %g and p %g (the margin is above 0, p 1 or more)", margin, p);
    grd_tensor near = distance(anchor, positive, p, eps), far = distance(anchor, negative, p, eps);
    if (options->swap) far = grd_minimum(far, distance(positive, negative, p, eps));
    return grd_relu(grd_add_scalar(grd_sub(near, far), margin));
}
