/* ops_math.h - creation, element-wise and comparison ops; includes the reductions and the optimizers' updates.
 *
 * Common to all: a call given the poison tensor returns poison; errors are kept by the graph (graph.h). "Float"
 * means f32, f64, bf16 or f16; "number" means float, i32, i64 or u8. Inputs of one call have the same dtype (nothing
 * is promoted; use grd_cast) and broadcast as in NumPy: shapes are aligned at the right, and a dimension of 1 is
 * repeated. Errors: GRD_E_DTYPE for a dtype that the op does not take, GRD_E_SHAPE for shapes that do not broadcast;
 * both name what they got. */
#ifndef GRADUS_OPS_MATH_H
#define GRADUS_OPS_MATH_H

#include <gradus/graph.h>
#include <gradus/ops_optimizer.h>
#include <gradus/ops_reduce.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- creation ---- */

/* A tensor filled with `value` (converted to `dtype`, which must be able to hold it; bool: value != 0). Every dimension
 * is 1 or more. */
GRD_API grd_tensor grd_full(grd_graph *graph, grd_dtype dtype, grd_dims dims, double value);
/* The same with the graph, dtype and shape of `x`, which is not read. */
GRD_API grd_tensor grd_full_like(grd_tensor x, double value);
GRD_API grd_tensor grd_zeros_like(grd_tensor x);
GRD_API grd_tensor grd_ones_like(grd_tensor x);
/* An f32 scalar (shape []). */
GRD_API grd_tensor grd_scalar_constant(grd_graph *graph, double value);
/* [count]: start, start + step, start + 2 step, ...; number dtypes, which must be able to hold them; count >= 1. */
GRD_API grd_tensor grd_arange(grd_graph *graph, grd_dtype dtype, int64_t count, double start, double step);

/* f32 values that depend on `key`, the op's scope path and the element's index alone (Philox4x32-10; Salmon et al.,
 * SC'11). key: i32[4] = {seed's low word, seed's high word, step, micro-batch}. Their gradient is zero. */

/* low + (high - low) u with u uniform in [0, 1). */
GRD_API grd_tensor grd_random_uniform(grd_tensor key, grd_dims dims, double low, double high);
/* mean + std z with z standard normal (Box and Muller, 1958). */
GRD_API grd_tensor grd_random_normal(grd_tensor key, grd_dims dims, double mean, double std);

/* ---- one input, same shape and dtype out; floats, but where another dtype is named ---- */

GRD_API grd_tensor grd_copy(grd_tensor x);                   /* x, contiguous; any dtype */
/* x in another dtype; x itself if it has that dtype already. Float to integer drops the fraction and keeps to the
 * dtype's range (NaN gives 0), to bool gives x != 0, to bf16 and f16 rounds to nearest, ties to even. Gradient
 * (between floats): cast back. */
GRD_API grd_tensor grd_cast(grd_tensor x, grd_dtype dtype);
GRD_API grd_tensor grd_neg(grd_tensor x);                    /* -x; number */
GRD_API grd_tensor grd_abs(grd_tensor x);                    /* |x|; number; gradient 0 at 0 */
GRD_API grd_tensor grd_sign(grd_tensor x);                   /* -1, 0 or 1; number; gradient 0 */
GRD_API grd_tensor grd_exp(grd_tensor x);
GRD_API grd_tensor grd_expm1(grd_tensor x);                  /* exp(x) - 1, accurate near 0 */
GRD_API grd_tensor grd_log(grd_tensor x);
GRD_API grd_tensor grd_log1p(grd_tensor x);                  /* log(1 + x), accurate near 0 */
GRD_API grd_tensor grd_sqrt(grd_tensor x);
GRD_API grd_tensor grd_rsqrt(grd_tensor x);                  /* 1 / sqrt(x) */
GRD_API grd_tensor grd_reciprocal(grd_tensor x);             /* 1 / x */
GRD_API grd_tensor grd_square(grd_tensor x);                 /* x x; number */
GRD_API grd_tensor grd_sin(grd_tensor x);                    /* x in radians, as for cos and tan */
GRD_API grd_tensor grd_cos(grd_tensor x);
GRD_API grd_tensor grd_tan(grd_tensor x);
GRD_API grd_tensor grd_tanh(grd_tensor x);
GRD_API grd_tensor grd_erf(grd_tensor x);                    /* 2 / sqrt(pi) integral of exp(-t t) from 0 to x */
GRD_API grd_tensor grd_floor(grd_tensor x);                  /* gradient 0, as for ceil and round */
GRD_API grd_tensor grd_ceil(grd_tensor x);
GRD_API grd_tensor grd_round(grd_tensor x);                  /* to nearest, ties to even */
GRD_API grd_tensor grd_add_scalar(grd_tensor x, double value); /* x + value; number (integers take whole values) */
GRD_API grd_tensor grd_mul_scalar(grd_tensor x, double value); /* x value; number (integers take whole values) */
GRD_API grd_tensor grd_pow_scalar(grd_tensor x, double value); /* x ^ value */
/* min(max(x, low), high); number; NaN stays NaN. Gradient passes where low <= x <= high. Error: GRD_E_ARGUMENT if
 * low > high. */
GRD_API grd_tensor grd_clamp(grd_tensor x, double low, double high);

/* ---- activations: floats; NaN stays NaN ---- */

GRD_API grd_tensor grd_sigmoid(grd_tensor x);                /* 1 / (1 + exp(-x)) */
GRD_API grd_tensor grd_relu(grd_tensor x);                   /* max(x, 0); gradient 0 at 0 */
GRD_API grd_tensor grd_relu_squared(grd_tensor x);           /* max(x, 0)^2 (So et al., "Primer", 2021) */
GRD_API grd_tensor grd_leaky_relu(grd_tensor x, double slope); /* x > 0 ? x : slope x */
GRD_API grd_tensor grd_elu(grd_tensor x, double alpha);      /* x > 0 ? x : alpha (exp(x) - 1) (Clevert et al., 2015) */
/* x Phi(x) = x (1 + erf(x / sqrt 2)) / 2 (Hendrycks and Gimpel, 2016). */
GRD_API grd_tensor grd_gelu(grd_tensor x);
/* x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2: the approximation of GELU that GPT-2 uses. */
GRD_API grd_tensor grd_gelu_tanh(grd_tensor x);
GRD_API grd_tensor grd_silu(grd_tensor x);                   /* x sigmoid(x) (Elfwing et al., 2017) */
GRD_API grd_tensor grd_softplus(grd_tensor x);               /* log(1 + exp(x)) without overflow */

/* Their derivatives times the gradient g (shape and dtype of x), as ops of their own: one pass over memory instead
 * of many. */
GRD_API grd_tensor grd_relu_backward(grd_tensor g, grd_tensor x);         /* x > 0 ? g : 0; x may be relu's output */
GRD_API grd_tensor grd_relu_squared_backward(grd_tensor g, grd_tensor x); /* 2 g max(x, 0) */
GRD_API grd_tensor grd_gelu_backward(grd_tensor g, grd_tensor x);         /* g (Phi(x) + x phi(x)) */
GRD_API grd_tensor grd_gelu_tanh_backward(grd_tensor g, grd_tensor x);
GRD_API grd_tensor grd_silu_backward(grd_tensor g, grd_tensor x);         /* g s (1 + x (1 - s)), s = sigmoid(x) */
GRD_API grd_tensor grd_tanh_backward(grd_tensor g, grd_tensor y);         /* g (1 - y^2), y = tanh(x) */
GRD_API grd_tensor grd_sigmoid_backward(grd_tensor g, grd_tensor y);      /* g y (1 - y), y = sigmoid(x) */

/* ---- two inputs with broadcasting; floats, but where another dtype is named ---- */

GRD_API grd_tensor grd_add(grd_tensor a, grd_tensor b);      /* number */
GRD_API grd_tensor grd_sub(grd_tensor a, grd_tensor b);      /* number */
GRD_API grd_tensor grd_mul(grd_tensor a, grd_tensor b);      /* number */
GRD_API grd_tensor grd_div(grd_tensor a, grd_tensor b);
GRD_API grd_tensor grd_pow(grd_tensor a, grd_tensor b);      /* a ^ b; gradient by b is 0 where a is 0 */
GRD_API grd_tensor grd_maximum(grd_tensor a, grd_tensor b);  /* number; NaN if either is; half the gradient at ties */
GRD_API grd_tensor grd_minimum(grd_tensor a, grd_tensor b);  /* number; likewise */
GRD_API grd_tensor grd_atan2(grd_tensor y, grd_tensor x);    /* the angle of (x, y), in -pi..pi */
GRD_API grd_tensor grd_fmod(grd_tensor a, grd_tensor b);     /* a - b trunc(a / b): C's fmod, with the sign of a */

/* ---- comparison and logic: results are bool and have no gradient ---- */

GRD_API grd_tensor grd_eq(grd_tensor a, grd_tensor b);       /* a == b; any dtype; as in C, NaN equals nothing */
GRD_API grd_tensor grd_ne(grd_tensor a, grd_tensor b);       /* any dtype */
GRD_API grd_tensor grd_lt(grd_tensor a, grd_tensor b);       /* a < b; number, as for the next three */
GRD_API grd_tensor grd_le(grd_tensor a, grd_tensor b);
GRD_API grd_tensor grd_gt(grd_tensor a, grd_tensor b);
GRD_API grd_tensor grd_ge(grd_tensor a, grd_tensor b);
GRD_API grd_tensor grd_and(grd_tensor a, grd_tensor b);      /* bool */
GRD_API grd_tensor grd_or(grd_tensor a, grd_tensor b);       /* bool */
GRD_API grd_tensor grd_not(grd_tensor x);                    /* bool */
GRD_API grd_tensor grd_isfinite(grd_tensor x);               /* neither NaN nor infinite; float */
/* condition ? a : b, element by element; condition is bool, a and b have any one dtype. The side not taken gets no
 * gradient. */
GRD_API grd_tensor grd_where(grd_tensor condition, grd_tensor a, grd_tensor b);

/* ---- chains ---- */

/* Several element-wise ops in one pass: what the fuse pass makes of chains. Inputs (float or bool) broadcast to one
 * shape, which all outputs have; computed and returned in f32 (f64 if an input is f64). Registers 0..input_count-1
 * hold the inputs; each instruction of `code` defines the next one: {index in the op table, number of arguments,
 * their registers..., number of attributes, their values...}, every value of an attribute being the bits of a
 * double, in the op's order. outputs[i] is the register returned as results[i]. Errors: GRD_E_ARGUMENT for code that
 * does not follow these rules. Returns results[0]; `results` may be NULL. */
GRD_API grd_tensor grd_fused_map(const grd_tensor *inputs, int32_t input_count, const int64_t *code, int32_t code_count,
                                 const int64_t *outputs, int32_t output_count, grd_tensor *results);

#ifdef __cplusplus
}
#endif
#endif
