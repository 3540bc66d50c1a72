/* ops_spatial.h - images, volumes and series: convolution, pooling, batch normalisation, resizing.
 *
 * Letters: N samples, S spatial sizes (one, two or three axes: time; height and width; depth, height and width), C
 * input channels, O output channels, K kernel sizes, as many as there are spatial axes. Activations lie with their
 * channels last, [N,S..,C]; weights in PyTorch's order, [O,C/groups,K..]. Floats are f32 (f64 for checks), all inputs
 * of one call of one dtype. Errors are kept by the graph (see graph.h). */
#ifndef GRADUS_OPS_SPATIAL_H
#define GRADUS_OPS_SPATIAL_H

#include <gradus/ops_nn.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- convolution ---- */

typedef struct grd_convolution_options {
    size_t size;
    grd_tensor bias;                   /* [O], added to each output; absent: none */
    int64_t stride, padding, dilation; /* of all spatial axes; zeros on both sides. 0: stride 1, none, dilation 1 */
    const int64_t *strides, *paddings, *dilations; /* instead, one for each spatial axis; NULL: all alike */
    int64_t groups;         /* channels are split into so many parts, each convolved by itself; 0: 1 */
    int64_t output_padding; /* transposed convolution only: rows and columns more at the end */
} grd_convolution_options;

/* y[n,s,o] = bias[o] + sum over k, c of x[n, s stride - padding + k dilation, c] w[o,c,k]: cross-correlation, as
 * torch.nn.functional.conv1d, conv2d and conv3d. x [N,S..,C], w [O,C/groups,K..] -> [N,S'..,O] with S' = floor((S + 2
 * padding - dilation (K - 1) - 1) / stride) + 1. Groups = C: depthwise. Example: grd_convolution(x, w, .bias = b,
 * .padding = 1). */
GRD_API grd_tensor grd_convolution_with(grd_tensor x, grd_tensor w, const grd_convolution_options *options);
#define grd_convolution(...) GRD_CONVOLUTION_(__VA_ARGS__, .size = sizeof(grd_convolution_options))
#define GRD_CONVOLUTION_(x, w, ...) grd_convolution_with(x, w, &(grd_convolution_options){__VA_ARGS__})

/* The gradient of grd_convolution by its x, as a layer of its own: x [N,S..,C], w [C,O/groups,K..] -> [N,S'..,O] with
 * S' = (S - 1) stride - 2 padding + dilation (K - 1) + 1 + output_padding, as torch.nn.functional.conv_transpose2d. */
GRD_API grd_tensor grd_transposed_convolution_with(grd_tensor x, grd_tensor w, const grd_convolution_options *options);
#define grd_transposed_convolution(...)                                                                                \
    GRD_TRANSPOSED_CONVOLUTION_(__VA_ARGS__, .size = sizeof(grd_convolution_options))
#define GRD_TRANSPOSED_CONVOLUTION_(x, w, ...)                                                                         \
    grd_transposed_convolution_with(x, w, &(grd_convolution_options){__VA_ARGS__})

/* ---- pooling ---- */

typedef struct grd_pool_options {
    size_t size;
    int64_t stride, padding, dilation;           /* of all spatial axes; 0: stride = kernel, no padding, dilation 1 */
    const int64_t *kernels, *strides, *paddings; /* instead, one for each spatial axis; NULL: all alike */
    bool exclude_padding; /* average only: divide by the elements inside x, not by the kernel's size */
} grd_pool_options;

/* The largest (the mean) of each window of `kernel` elements along each spatial axis, channel by channel: x [N,S..,C]
 * -> [N,S'..,C], S' as for convolutions. Padding is at most half of the kernel; for the maximum it counts as -infinity,
 * for the average as zeros. NaN is larger than everything; the gradient of a maximum goes to the first element that has
 * it. As torch.nn.functional.max_pool2d and avg_pool2d without ceil_mode. */
GRD_API grd_tensor grd_max_pool_with(grd_tensor x, int64_t kernel, const grd_pool_options *options);
#define grd_max_pool(...) GRD_MAX_POOL_(__VA_ARGS__, .size = sizeof(grd_pool_options))
#define GRD_MAX_POOL_(x, kernel, ...) grd_max_pool_with(x, kernel, &(grd_pool_options){__VA_ARGS__})
GRD_API grd_tensor grd_average_pool_with(grd_tensor x, int64_t kernel, const grd_pool_options *options);
#define grd_average_pool(...) GRD_AVERAGE_POOL_(__VA_ARGS__, .size = sizeof(grd_pool_options))
#define GRD_AVERAGE_POOL_(x, kernel, ...) grd_average_pool_with(x, kernel, &(grd_pool_options){__VA_ARGS__})

/* Pooling to a given spatial size: output i covers floor(i S / S') to ceil((i + 1) S / S'). `sizes` has one entry for
 * each spatial axis. As torch.nn.functional.adaptive_max_pool2d and adaptive_avg_pool2d. */
GRD_API grd_tensor grd_adaptive_max_pool(grd_tensor x, const int64_t *sizes);
GRD_API grd_tensor grd_adaptive_average_pool(grd_tensor x, const int64_t *sizes);
/* The mean (the maximum) over all spatial axes: [N,S..,C] -> [N,C]. */
GRD_API grd_tensor grd_global_average_pool(grd_tensor x);
GRD_API grd_tensor grd_global_max_pool(grd_tensor x);

/* ---- normalisation ---- */

/* (x - mean) / sqrt(variance + eps) * gain + bias, with mean and variance (divided by the count) of each channel over
 * all rows of x [N,S..,C], of which there must be two or more. gain, bias, *running_mean, *running_variance: [C] in
 * f32. The last two are replaced by (1 - momentum) running + momentum now, for the variance with count - 1 as divisor;
 * hand them to grd_assign(). grd_batch_norm in nn.h does all that. Ioffe, Szegedy, "Batch normalization", 2015; as
 * torch.nn.functional.batch_norm in training. */
GRD_API grd_tensor grd_batch_normalise(grd_tensor x, grd_tensor gain, grd_tensor bias, grd_tensor *running_mean,
                                       grd_tensor *running_variance, double eps, double momentum);

/* The same with mean and variance of each sample and each of `groups` parts of its channels, over all positions; gain
 * and bias [C] as in grd_layer_norm, eps 0: 1e-5. groups = 1 is LayerNorm over all of a sample, groups = C instance
 * normalisation. Wu, He, "Group normalization", 2018; as torch.nn.functional.group_norm. */
GRD_API grd_tensor grd_group_norm_with(grd_tensor x, int64_t groups, const grd_norm_options *options);
#define grd_group_norm(...) GRD_GROUP_NORM_(__VA_ARGS__, .size = sizeof(grd_norm_options))
#define GRD_GROUP_NORM_(x, groups, ...) grd_group_norm_with(x, groups, &(grd_norm_options){__VA_ARGS__})

/* grd_group_norm with one group a channel: each sample and channel by its own mean and variance. Ulyanov, Vedaldi,
 * Lempitsky, "Instance normalization", 2016; as torch.nn.functional.instance_norm by the input's statistics. */
GRD_API grd_tensor grd_instance_norm_with(grd_tensor x, const grd_norm_options *options);
#define grd_instance_norm(...) GRD_INSTANCE_NORM_(__VA_ARGS__, .size = sizeof(grd_norm_options))
#define GRD_INSTANCE_NORM_(x, ...) grd_instance_norm_with(x, &(grd_norm_options){__VA_ARGS__})

typedef struct grd_local_response_options {
    size_t size;
    double alpha, beta, k; /* 0: 1e-4, 0.75, 1 */
} grd_local_response_options;

/* x / (k + alpha mean(x^2))^beta, the mean over a window of `channels` channels around each, of which `channels` / 2
 * stand before it; those outside x count as zeros. Shape of x [N,S..,C]. Krizhevsky, Sutskever, Hinton, 2012; as
 * torch.nn.functional.local_response_norm. */
GRD_API grd_tensor grd_local_response_norm_with(grd_tensor x, int64_t channels,
                                                const grd_local_response_options *options);
#define grd_local_response_norm(...) GRD_LOCAL_RESPONSE_NORM_(__VA_ARGS__, .size = sizeof(grd_local_response_options))
#define GRD_LOCAL_RESPONSE_NORM_(x, channels, ...)                                                                     \
    grd_local_response_norm_with(x, channels, &(grd_local_response_options){__VA_ARGS__})

/* ---- sizes ---- */

typedef enum grd_interpolation {
    GRD_INTERPOLATION_NEAREST = 0, /* point floor(o S / S') */
    GRD_INTERPOLATION_LINEAR,      /* between two points an axis: linear, bilinear, trilinear by the number of axes */
    GRD_INTERPOLATION_NEAREST_EXACT /* point floor((o + 1/2) S / S') */
} grd_interpolation;

typedef struct grd_interpolate_options {
    size_t size;
    grd_interpolation mode;
    bool align_corners; /* linear: first and last points fall together, o (S - 1) / (S' - 1); else (o + 1/2) S / S' -
                         * 1/2, and never below 0 */
} grd_interpolate_options;

/* x [N,S..,C] in other spatial sizes: [N,S'..,C]; `sizes` has one entry for each spatial axis. As
 * torch.nn.functional.interpolate with `size`, down to which point is the nearest. */
GRD_API grd_tensor grd_interpolate_with(grd_tensor x, const int64_t *sizes, const grd_interpolate_options *options);
#define grd_interpolate(...) GRD_INTERPOLATE_(__VA_ARGS__, .size = sizeof(grd_interpolate_options))
#define GRD_INTERPOLATE_(x, sizes, ...) grd_interpolate_with(x, sizes, &(grd_interpolate_options){__VA_ARGS__})

/* Images of r = `factor` times the size from channels: [N,H,W,C r r] -> [N,H r,W r,C], where channel c r r + i r + j
 * becomes row i and column j of each r x r square of channel c; and back. Shi et al., "Real-time single image and video
 * super-resolution", 2016; as torch.nn.functional.pixel_shuffle and pixel_unshuffle. */
GRD_API grd_tensor grd_pixel_shuffle(grd_tensor x, int64_t factor);
GRD_API grd_tensor grd_pixel_unshuffle(grd_tensor x, int64_t factor);

#ifdef __cplusplus
}
#endif
#endif
