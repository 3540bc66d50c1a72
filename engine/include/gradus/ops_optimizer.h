/* ops_optimizer.h - one step of an optimizer over flat storages, in one pass and in place.
 *
 * p, g, m, v: float [N], all of one dtype. hyper: [4] of that dtype = {lr, 1 / (1 - beta1^t), 1 / (1 - beta2^t),
 * unused}, t counting steps from 1. scale: a scalar of that dtype by which g is multiplied first (loss and clip
 * scale). scale < 0 or NaN means: skip this step and leave everything as it was. The rate used is lr lr_scale. The
 * results take the place of p, m and v. Called by name (grd_call), each takes a key i32[4] = {seed, seed >> 32, step,
 * step >> 32} as one more input: p is in bf16 then, the others in f32, and the new p is rounded as by
 * grd_stochastic_round, of which it has the attribute `first`. No op here has a gradient. Errors: GRD_E_DTYPE,
 * GRD_E_SHAPE, GRD_E_ARGUMENT. Options: zero is the default. */
#ifndef GRADUS_OPS_OPTIMIZER_H
#define GRADUS_OPS_OPTIMIZER_H

#include <gradus/graph.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct grd_adamw_update_options {
    size_t size;           /* set by the macro */
    double beta1, beta2;   /* 0: 0.9 and 0.999 */
    double eps;            /* 0: 1e-8 */
    double weight_decay;
    double lr_scale;       /* 0: 1 */
    bool coupled;          /* Adam with weight decay added to the gradient, instead of AdamW */
} grd_adamw_update_options;

/* AdamW (Loshchilov and Hutter, 2017), as PyTorch's: g' = scale g; p' = p (1 - lr weight_decay); m' = beta1 m + (1 -
 * beta1) g'; v' = beta2 v + (1 - beta2) g'^2; p'' = p' - lr m' hyper[1] / (sqrt(v' hyper[2]) + eps). coupled: g' =
 * scale g + weight_decay p and p' = p (Adam: Kingma and Ba, 2014). Writes p'', m', v' to updated[0..2] and returns
 * p''. */
GRD_API grd_tensor grd_adamw_update_with(grd_tensor p, grd_tensor g, grd_tensor m, grd_tensor v, grd_tensor hyper,
                                         grd_tensor scale, grd_tensor *updated,
                                         const grd_adamw_update_options *options);
#define grd_adamw_update(...) GRD_ADAMW_UPDATE_(__VA_ARGS__, .size = sizeof(grd_adamw_update_options))
#define GRD_ADAMW_UPDATE_(p, g, m, v, hyper, scale, updated, ...) \
    grd_adamw_update_with(p, g, m, v, hyper, scale, updated, &(grd_adamw_update_options){__VA_ARGS__})

typedef struct grd_sgd_update_options {
    size_t size;
    double momentum;       /* needs m */
    double dampening;
    bool nesterov;
    double weight_decay;
    double lr_scale;       /* 0: 1 */
} grd_sgd_update_options;

/* Stochastic gradient descent, as PyTorch's: g' = scale g + weight_decay p; with m: m' = momentum m + (1 -
 * dampening) g' and the direction is m', or g' + momentum m' if nesterov; p' = p - lr direction. m may be poison
 * (node NULL): no momentum. m starts as zeros, so with dampening the first step is (1 - dampening) times PyTorch's.
 * Writes p', m' to updated[0..1] (m' only with m) and returns p'. */
GRD_API grd_tensor grd_sgd_update_with(grd_tensor p, grd_tensor g, grd_tensor m, grd_tensor hyper, grd_tensor scale,
                                       grd_tensor *updated, const grd_sgd_update_options *options);
#define grd_sgd_update(...) GRD_SGD_UPDATE_(__VA_ARGS__, .size = sizeof(grd_sgd_update_options))
#define GRD_SGD_UPDATE_(p, g, m, hyper, scale, updated, ...) \
    grd_sgd_update_with(p, g, m, hyper, scale, updated, &(grd_sgd_update_options){__VA_ARGS__})

typedef struct grd_lion_update_options {
    size_t size;
    double beta1, beta2;   /* 0: 0.9 and 0.99 */
    double weight_decay;
    double lr_scale;       /* 0: 1 */
} grd_lion_update_options;

/* Lion (Chen et al., "Symbolic discovery of optimization algorithms", 2023): g' = scale g; p' = p (1 - lr
 * weight_decay) - lr sign(beta1 m + (1 - beta1) g'); m' = beta2 m + (1 - beta2) g'. Writes p', m' to updated[0..1]
 * and returns p'. */
GRD_API grd_tensor grd_lion_update_with(grd_tensor p, grd_tensor g, grd_tensor m, grd_tensor hyper, grd_tensor scale,
                                        grd_tensor *updated, const grd_lion_update_options *options);
#define grd_lion_update(...) GRD_LION_UPDATE_(__VA_ARGS__, .size = sizeof(grd_lion_update_options))
#define GRD_LION_UPDATE_(p, g, m, hyper, scale, updated, ...) \
    grd_lion_update_with(p, g, m, hyper, scale, updated, &(grd_lion_update_options){__VA_ARGS__})

/* x, f32 of any shape, in bf16: up with the probability that makes the result x on average, by random bits that are a
 * function of (seed, step, first + index of the element) alone. key: i32[4] as above; first: a multiple of 8, for
 * ranges of one storage. What bf16 holds does not change (Croci et al., "Stochastic rounding", 2022). */
GRD_API grd_tensor grd_stochastic_round(grd_tensor x, grd_tensor key, int64_t first);

/* decay average + (1 - decay) value: an exponential moving average. Both inputs of one float dtype and shape, any
 * rank; 0 <= decay <= 1. */
GRD_API grd_tensor grd_ema_update(grd_tensor average, grd_tensor value, double decay);

#ifdef __cplusplus
}
#endif
#endif
