/* test_nn_golden.c - normalisation, attention and losses against PyTorch: values, gradients and second derivatives,
 * stored by golden/make_nn_goldens.py. In double precision by the references, and in f32 by the CPU's kernels. */
#include "golden.h"

#include <gradus/ops.h>

#include <criterion/criterion.h>
#include <criterion/parameterized.h>

#define FILE_NAME "nn.safetensors"

static grd_tensor mean_loss(const grd_tensor *in)
{
    return grd_cross_entropy_mean(in[0], in[1], .ignore_index = -1, .label_smoothing = 0.1);
}

static const golden goldens[] = {
    {"softmax", "softmax", "axis=1", NULL},
    {"log_softmax", "log_softmax", "", NULL},
    {"layer_norm", "layer_norm", "has_gain=true has_bias=true", NULL},
    {"layer_norm_plain", "layer_norm", "eps=0.001", NULL},
    {"rms_norm", "rms_norm", "has_gain=true", NULL},
    {"rope", "rope", "", NULL},
    {"rope_pairs", "rope", "interleaved=true", NULL},
    {"attention", "attention", "", NULL},
    {"attention_causal", "attention", "causal=true", NULL},
    {"attention_grouped", "attention", "causal=true scale=0.3", NULL},
    {"attention_late", "attention", "causal=true", NULL},
    {"attention_window", "attention", "causal=true window=2", NULL},
    {"attention_mask", "attention", "has_mask=true", NULL},
    {"attention_segments", "attention", "causal=true has_segments=true", NULL},
    {"cross_entropy", "cross_entropy", "", NULL},
    {"cross_entropy_options", "cross_entropy", "ignore_index=-1 label_smoothing=0.1 z_loss=0.05", NULL},
    {"cross_entropy_mean", NULL, NULL, mean_loss},
    {"linear_cross_entropy", "linear_cross_entropy", "ignore_index=-1", NULL},
    {"linear_cross_entropy_options", "linear_cross_entropy",
     "ignore_index=-1 label_smoothing=0.1 z_loss=0.05 softcap=3", NULL},
    {"mse", "mse", "", NULL},
    {"l1", "l1", "", NULL},
    {"huber", "huber", "delta=0.7", NULL},
    {"bce_with_logits", "bce_with_logits", "", NULL},
    {"kl_div", "kl_div", "", NULL},
    {"attention_grouped_window", "attention", "causal=true window=3", NULL},
    {"attention_one_head", "attention", "causal=true has_mask=true", NULL},
};

enum { COUNT = sizeof(goldens) / sizeof(goldens[0]) };

ParameterizedTestParameters(nn_golden, references_in_double)
{
    return golden_indices(COUNT);
}

/* Both sides compute in double: what differs is the order of sums of at most a hundred terms. */
ParameterizedTest(int *index, nn_golden, references_in_double)
{
    golden_check(&goldens[*index], FILE_NAME, "ref", GRD_F64, 1e-12);
}

ParameterizedTestParameters(nn_golden, kernels_in_f32)
{
    return golden_indices(COUNT);
}

/* f32 has 2^-24 = 6e-8 for each rounding; second derivatives pass through some hundred of them. */
ParameterizedTest(int *index, nn_golden, kernels_in_f32)
{
    golden_check(&goldens[*index], FILE_NAME, "cpu", GRD_F32, 2e-5);
}
