/* spatial.c - layers for images, volumes and series: convolutions and batch normalisation. */
#include <gradus/nn.h>

#include <math.h>

enum { AXES_MAX = 3 };

static grd_convolution_options product_options(const grd_conv_options *o, grd_tensor bias)
{
    return (grd_convolution_options){.size = sizeof(grd_convolution_options),
                                     .bias = bias,
                                     .stride = o->stride,
                                     .padding = o->padding,
                                     .dilation = o->dilation,
                                     .strides = o->strides,
                                     .paddings = o->paddings,
                                     .dilations = o->dilations,
                                     .groups = o->groups};
}

/* x with `padding` entries of its own around the spatial axes. */
static grd_tensor pad_around(grd_tensor x, const grd_conv_options *options)
{
    grd_dims around = {.rank = grd_tensor_dims(x).rank};
    for (int32_t axis = 1; axis < around.rank - 1; axis++)
        around.dim[axis] = options->paddings ? options->paddings[axis - 1] : options->padding;
    return grd_pad_edges(x, around, around, options->padding_mode);
}

grd_tensor grd_conv_with(grd_tensor x, const char *name, int64_t channels, int64_t kernel,
                         const grd_conv_options *options)
{
    options = options ? options : &(const grd_conv_options){.size = sizeof(grd_conv_options)};
    grd_graph *graph = grd_tensor_graph(x);
    int32_t axes = grd_tensor_dims(x).rank - 2;
    int64_t groups = options->groups ? options->groups : 1, fan_in = grd_dim(x, -1) / groups;
    if (!graph) return x;
    if (axes < 1 || axes > AXES_MAX) return grd_convolution(x, x); /* refused, with x's shape */
    grd_dims dims = {.rank = axes + 2, .dim = {channels, fan_in}};
    for (int32_t i = 0; i < axes; i++) {
        dims.dim[2 + i] = options->kernels ? options->kernels[i] : kernel;
        fan_in *= dims.dim[2 + i];
    }
    grd_scope_push(graph, name ? "%s" : NULL, name);
    grd_tensor bias = {0},
               w = grd_parameter(graph, "weight", dims, .init = options->he_init ? GRD_INIT_NORMAL : 0,
                                 .scale = sqrt(2.0 * (double)dims.dim[1] / (double)fan_in / (double)channels));
    if (!options->no_bias)
        bias = grd_parameter(graph, "bias", grd_shape(channels),
                             .init = options->he_init ? GRD_INIT_ZEROS : GRD_INIT_UNIFORM,
                             .scale = 1 / sqrt((double)fan_in));
    grd_convolution_options product = product_options(options, bias);
    if (options->padding_mode != GRD_PADDING_ZEROS) {
        x = pad_around(x, options);
        product.padding = 0, product.paddings = NULL;
    }
    grd_tensor y = grd_convolution_with(x, w, &product);
    grd_scope_pop(graph);
    return y;
}

grd_tensor grd_conv_transposed_with(grd_tensor x, const char *name, int64_t channels, int64_t kernel,
                                    const grd_conv_options *options)
{
    options = options ? options : &(const grd_conv_options){.size = sizeof(grd_conv_options)};
    grd_graph *graph = grd_tensor_graph(x);
    int32_t axes = grd_tensor_dims(x).rank - 2;
    int64_t groups = options->groups ? options->groups : 1;
    if (!graph) return x;
    if (axes < 1 || axes > AXES_MAX) return grd_transposed_convolution(x, x); /* refused, with x's shape */
    grd_dims dims = {.rank = axes + 2, .dim = {grd_dim(x, -1), channels / groups}};
    int64_t fan_in = dims.dim[1];
    for (int32_t i = 0; i < axes; i++) {
        dims.dim[2 + i] = options->kernels ? options->kernels[i] : kernel;
        fan_in *= dims.dim[2 + i];
    }
    grd_scope_push(graph, name ? "%s" : NULL, name);
    double scale = 1 / sqrt((double)fan_in);
    grd_tensor w = grd_parameter(graph, "weight", dims, .init = GRD_INIT_UNIFORM, .scale = scale), bias = {0};
    if (!options->no_bias)
        bias = grd_parameter(graph, "bias", grd_shape(channels), .init = GRD_INIT_UNIFORM, .scale = scale);
    grd_convolution_options product = product_options(options, bias);
    product.output_padding = options->output_padding;
    grd_tensor y = grd_transposed_convolution_with(x, w, &product);
    grd_scope_pop(graph);
    return y;
}

/* With statistics of the past: y = x s + t, s = gain / sqrt(variance + eps), t = bias - mean s. */
static grd_tensor by_running(grd_tensor x, grd_tensor gain, grd_tensor bias, grd_tensor mean, grd_tensor variance,
                             double eps)
{
    grd_tensor scale = grd_mul(gain, grd_rsqrt(grd_add_scalar(variance, eps)));
    return grd_add(grd_mul(x, scale), grd_sub(bias, grd_mul(mean, scale)));
}

grd_tensor grd_batch_norm_with(grd_tensor x, const char *name, bool training, const grd_batch_norm_options *options)
{
    options = options ? options : &(const grd_batch_norm_options){.size = sizeof(grd_batch_norm_options)};
    grd_graph *graph = grd_tensor_graph(x);
    if (!graph) return x;
    double eps = options->eps > 0 ? options->eps : 1e-5, momentum = options->momentum > 0 ? options->momentum : 0.1;
    grd_dims channels = grd_shape(grd_dim(x, -1));
    grd_scope_push(graph, name ? "%s" : NULL, name);
    grd_tensor gain =
        grd_parameter(graph, "weight", channels, .init = options->zero_gain ? GRD_INIT_ZEROS : GRD_INIT_ONES);
    grd_tensor bias = grd_parameter(graph, "bias", channels, .init = GRD_INIT_ZEROS);
    grd_tensor mean = grd_state(graph, "running_mean", GRD_F32, channels);
    grd_tensor variance = grd_state_of_ones(graph, "running_var", channels);
    grd_tensor y;
    if (training) {
        grd_tensor new_mean = mean, new_variance = variance;
        y = grd_batch_normalise(x, gain, bias, &new_mean, &new_variance, eps, momentum);
        grd_assign(mean, new_mean);
        grd_assign(variance, new_variance);
    } else {
        y = by_running(x, gain, bias, mean, variance, eps);
    }
    grd_scope_pop(graph);
    return y;
}
