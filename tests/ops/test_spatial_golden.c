/* test_spatial_golden.c - what is done to images, volumes and series, and losses made of other ops, against PyTorch:
 * values, gradients and second derivatives, stored by golden/make_spatial_goldens.py. */
#include "golden.h"

#include <gradus/ops.h>

#include <criterion/criterion.h>
#include <criterion/parameterized.h>

#define FILE_NAME "spatial.safetensors"
#define CALL(name, ...)                                                                                                \
    static grd_tensor name(const grd_tensor *in)                                                                       \
    {                                                                                                                  \
        return __VA_ARGS__;                                                                                            \
    }

static grd_tensor transposed1d(const grd_tensor *in)
{
    return grd_transposed_convolution(in[0], in[1], .bias = in[2], .stride = 3, .padding = 1);
}

static grd_tensor transposed2d(const grd_tensor *in)
{
    return grd_transposed_convolution(in[0], in[1], .bias = in[2], .stride = 2, .padding = 1, .output_padding = 1);
}

static grd_tensor transposed2d_groups(const grd_tensor *in)
{
    return grd_transposed_convolution(in[0], in[1], .bias = in[2], .dilation = 2, .groups = 2);
}

static grd_tensor padded_conv(const grd_tensor *in, grd_padding_mode mode)
{
    grd_dims one = grd_shape(0, 1, 1, 0);
    return grd_convolution(grd_pad_edges(in[0], one, one, mode), in[1]);
}

static grd_tensor pad(const grd_tensor *in, grd_padding_mode mode)
{
    return grd_pad_edges(in[0], grd_shape(0, 0, 2, 0), grd_shape(0, 3, 1, 0), mode);
}

static grd_tensor batch_norm(const grd_tensor *in)
{
    grd_tensor mean = in[3], variance = in[4];
    return grd_batch_normalise(in[0], in[1], in[2], &mean, &variance, 1e-3, 0.3);
}

static grd_tensor resized(const grd_tensor *in, grd_interpolation mode, int64_t height, int64_t width)
{
    const int64_t sizes[] = {height, width};
    return grd_interpolate(in[0], sizes, .mode = mode);
}

static grd_tensor corners(const grd_tensor *in)
{
    static const int64_t sizes[] = {7, 3};
    return grd_interpolate(in[0], sizes, .mode = GRD_INTERPOLATION_LINEAR, .align_corners = true);
}

static grd_tensor one_corner(const grd_tensor *in)
{
    static const int64_t sizes[] = {1};
    return grd_interpolate(in[0], sizes, .mode = GRD_INTERPOLATION_LINEAR, .align_corners = true);
}

static grd_tensor trilinear(const grd_tensor *in)
{
    static const int64_t sizes[] = {4, 5, 3};
    return grd_interpolate(in[0], sizes, .mode = GRD_INTERPOLATION_LINEAR);
}

CALL(transposed3d, grd_transposed_convolution(in[0], in[1], .stride = 2))
CALL(conv_reflect, padded_conv(in, GRD_PADDING_REFLECT))
CALL(conv_replicate, padded_conv(in, GRD_PADDING_REPLICATE))
CALL(conv_circular, padded_conv(in, GRD_PADDING_CIRCULAR))
CALL(pad_constant, pad(in, GRD_PADDING_ZEROS))
CALL(pad_reflect, pad(in, GRD_PADDING_REFLECT))
CALL(pad_replicate, pad(in, GRD_PADDING_REPLICATE))
CALL(pad_circular, pad(in, GRD_PADDING_CIRCULAR))
CALL(global_average, grd_global_average_pool(in[0]))
CALL(global_max, grd_global_max_pool(in[0]))
CALL(group_norm, grd_group_norm(in[0], 3, .gain = in[1], .bias = in[2]))
CALL(instance_norm, grd_instance_norm(in[0], .eps = 1e-3))
CALL(instance_norm_gains, grd_instance_norm(in[0], .gain = in[1], .bias = in[2]))
CALL(response_norm, grd_local_response_norm(in[0], 5, .alpha = 0.3, .beta = 0.6, .k = 2))
CALL(response_norm_even, grd_local_response_norm(in[0], 4, .alpha = 0.5))
CALL(shuffle, grd_pixel_shuffle(in[0], 2))
CALL(unshuffle, grd_pixel_unshuffle(in[0], 3))
CALL(nearest_7, resized(in, GRD_INTERPOLATION_NEAREST, 7, 3))
CALL(nearest_8, resized(in, GRD_INTERPOLATION_NEAREST, 8, 10))
CALL(nearest_exact_7, resized(in, GRD_INTERPOLATION_NEAREST_EXACT, 7, 3))
CALL(nearest_exact_8, resized(in, GRD_INTERPOLATION_NEAREST_EXACT, 8, 10))
CALL(bilinear_7, resized(in, GRD_INTERPOLATION_LINEAR, 7, 3))
CALL(bilinear_8, resized(in, GRD_INTERPOLATION_LINEAR, 8, 10))
CALL(focal, grd_focal(in[0], in[1], 2, 0.25))
CALL(focal_plain, grd_focal(in[0], in[1], 1.5, -1))
CALL(cosine, grd_cosine_similarity(in[0], in[1], 1, 0))
CALL(cosine_embedding, grd_cosine_embedding(in[0], in[1], in[2], 0.1))
CALL(triplet, grd_triplet(in[0], in[1], in[2]))
CALL(triplet_options, grd_triplet(in[0], in[1], in[2], .margin = 2.5, .p = 3, .eps = 1e-3, .swap = true))
CALL(triplet_l1, grd_triplet(in[0], in[1], in[2], .margin = 4, .p = 1))

static grd_tensor nearest_rounded(const grd_tensor *in)
{
    static const int64_t sizes[] = {46, 2};
    return grd_interpolate(in[0], sizes);
}

static grd_tensor ctc(const grd_tensor *in)
{
    return grd_ctc(grd_log_softmax(in[0], -1), in[1], in[2], in[3]);
}

static grd_tensor ctc_blank(const grd_tensor *in)
{
    return grd_ctc(grd_log_softmax(in[0], -1), in[1], in[2], in[3], .blank = 3, .zero_infinity = true);
}

static const golden goldens[] = {
    {"ctc", NULL, NULL, ctc},
    {"ctc_blank", NULL, NULL, ctc_blank},
    {"ctc_long", NULL, NULL, ctc},
    {"conv1d", "convolution", "stride=2 padding=1", NULL},
    {"conv2d", "convolution", "padding=1", NULL},
    {"conv2d_groups", "convolution", "stride=2,1 padding=1,2 dilation=1,2 groups=2", NULL},
    {"conv2d_depthwise", "convolution", "padding=1 groups=3", NULL},
    {"conv3d", "convolution", "padding=1,0,1 stride=1,1,2", NULL},
    {"transposed1d", NULL, NULL, transposed1d},
    {"transposed2d", NULL, NULL, transposed2d},
    {"transposed2d_groups", NULL, NULL, transposed2d_groups},
    {"transposed3d", NULL, NULL, transposed3d},
    {"conv_reflect", NULL, NULL, conv_reflect},
    {"conv_replicate", NULL, NULL, conv_replicate},
    {"conv_circular", NULL, NULL, conv_circular},
    {"max_pool", "max_pool", "kernel=3 stride=2 padding=1", NULL},
    {"max_pool_dilated", "max_pool", "kernel=3 stride=2 padding=1 dilation=2", NULL},
    {"max_pool3d", "max_pool", "kernel=2", NULL},
    {"average_pool", "average_pool", "kernel=3 stride=2 padding=1", NULL},
    {"average_pool_inside", "average_pool", "kernel=3,2 stride=2,1 padding=1 exclude_padding=true", NULL},
    {"adaptive_max_pool", "max_pool", "size=3,2", NULL},
    {"adaptive_average_pool", "average_pool", "size=3,2", NULL},
    {"global_average_pool", NULL, NULL, global_average},
    {"global_max_pool", NULL, NULL, global_max},
    {"batch_norm", NULL, NULL, batch_norm},
    {"group_norm", NULL, NULL, group_norm},
    {"instance_norm", NULL, NULL, instance_norm},
    {"instance_norm_gains", NULL, NULL, instance_norm_gains},
    {"local_response_norm", NULL, NULL, response_norm},
    {"local_response_norm_even", NULL, NULL, response_norm_even},
    {"pad_constant", NULL, NULL, pad_constant},
    {"pad_reflect", NULL, NULL, pad_reflect},
    {"pad_replicate", NULL, NULL, pad_replicate},
    {"pad_circular", NULL, NULL, pad_circular},
    {"pixel_shuffle", NULL, NULL, shuffle},
    {"pixel_unshuffle", NULL, NULL, unshuffle},
    {"nearest_7", NULL, NULL, nearest_7},
    {"nearest_8", NULL, NULL, nearest_8},
    {"nearest_exact_7", NULL, NULL, nearest_exact_7},
    {"nearest_exact_8", NULL, NULL, nearest_exact_8},
    {"bilinear_7", NULL, NULL, bilinear_7},
    {"bilinear_8", NULL, NULL, bilinear_8},
    {"bilinear_corners", NULL, NULL, corners},
    {"linear_corners_one", NULL, NULL, one_corner},
    {"trilinear", NULL, NULL, trilinear},
    {"nearest_rounded", NULL, NULL, nearest_rounded},
    {"focal", NULL, NULL, focal},
    {"focal_plain", NULL, NULL, focal_plain},
    {"cosine_similarity", NULL, NULL, cosine},
    {"cosine_embedding", NULL, NULL, cosine_embedding},
    {"triplet", NULL, NULL, triplet},
    {"triplet_options", NULL, NULL, triplet_options},
    {"triplet_l1", NULL, NULL, triplet_l1},
};

enum { COUNT = sizeof(goldens) / sizeof(goldens[0]) };

ParameterizedTestParameters(spatial_golden, references_in_double)
{
    return golden_indices(COUNT);
}

/* Both sides compute in double: what differs is the order of sums of at most a hundred terms. */
ParameterizedTest(int *index, spatial_golden, references_in_double)
{
    golden_check(&goldens[*index], FILE_NAME, "ref", GRD_F64, 1e-12);
}

ParameterizedTestParameters(spatial_golden, kernels_in_f32)
{
    return golden_indices(COUNT);
}

/* f32 has 2^-24 = 6e-8 for each rounding; second derivatives pass through some hundred of them. */
ParameterizedTest(int *index, spatial_golden, kernels_in_f32)
{
    golden_check(&goldens[*index], FILE_NAME, "cpu", GRD_F32, 2e-5);
}
