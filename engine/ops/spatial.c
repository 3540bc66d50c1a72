/* spatial.c - calls on images, volumes and series that are made of other ops: padding with what is there, local
 * response normalisation, pixels from channels and back, instance normalisation, the maximum of all positions. */
#include "graph/graph.h"

#include <gradus/ops.h>

static const char *text_of(grd_tensor x, char *text)
{
    return grd_dims_text(grd_tensor_dims(x), text);
}

/* ---- normalisation ---- */

grd_tensor grd_instance_norm_with(grd_tensor x, const grd_norm_options *options)
{
    return grd_group_norm_with(x, grd_tensor_dims(x).rank ? grd_dim(x, -1) : 0, options);
}

grd_tensor grd_local_response_norm_with(grd_tensor x, int64_t channels, const grd_local_response_options *options)
{
    options = options ? options : &(const grd_local_response_options){.size = sizeof(grd_local_response_options)};
    char text[GRD_DIMS_TEXT_MAX];
    grd_dims dims = grd_tensor_dims(x), before = {.rank = dims.rank}, after = before;
    if (!x.node) return x;
    if (dims.rank < 3 || channels < 1 || channels > 1024)
        return grdi_graph_fail(grd_tensor_graph(x), GRD_E_ARGUMENT,
                               "local_response_norm: windows of 1 to 1024 channels of x [N,S..,C] are needed, not %lld "
                               "of %s",
                               (long long)channels, text_of(x, text));
    before.dim[dims.rank - 1] = channels / 2;
    after.dim[dims.rank - 1] = (channels - 1) / 2;
    grd_tensor squares = grd_pad(grd_square(x), before, after, 0), sum = {NULL, 0};
    for (int64_t i = 0; i < channels; i++) {
        grd_tensor part = grd_slice(squares, -1, i, dims.dim[dims.rank - 1]);
        sum = i ? grd_add(sum, part) : part;
    }
    double alpha = options->alpha != 0 ? options->alpha : 1e-4, beta = options->beta != 0 ? options->beta : 0.75;
    double k = options->k != 0 ? options->k : 1;
    grd_tensor base = grd_add_scalar(grd_mul_scalar(sum, alpha / (double)channels), k);
    return grd_mul(x, grd_pow_scalar(base, -beta));
}

/* ---- pixels and channels ---- */

static grd_tensor refuse_shuffle(grd_tensor x, const char *what, int64_t factor)
{
    char text[GRD_DIMS_TEXT_MAX];
    return grdi_graph_fail(grd_tensor_graph(x), GRD_E_SHAPE, "%s: a factor of %lld does not fit %s", what,
                           (long long)factor, text_of(x, text));
}

grd_tensor grd_pixel_shuffle(grd_tensor x, int64_t factor)
{
    grd_dims d = grd_tensor_dims(x);
    if (!x.node) return x;
    if (d.rank != 4 || factor < 1 || factor > 1024 || d.dim[3] % (factor * factor))
        return refuse_shuffle(x, "pixel_shuffle", factor);
    int64_t n = d.dim[0], h = d.dim[1], w = d.dim[2], c = d.dim[3] / (factor * factor);
    x = grd_reshape(x, grd_shape(n, h, w, c, factor, factor));
    x = grd_transpose(x, grd_shape(0, 1, 4, 2, 5, 3)); /* (N, H, r, W, r, C) */
    return grd_reshape(x, grd_shape(n, h * factor, w * factor, c));
}

grd_tensor grd_pixel_unshuffle(grd_tensor x, int64_t factor)
{
    grd_dims d = grd_tensor_dims(x);
    if (!x.node) return x;
    if (d.rank != 4 || factor < 1 || factor > 1024 || d.dim[1] % factor || d.dim[2] % factor)
        return refuse_shuffle(x, "pixel_unshuffle", factor);
    int64_t n = d.dim[0], h = d.dim[1] / factor, w = d.dim[2] / factor, c = d.dim[3];
    x = grd_reshape(x, grd_shape(n, h, factor, w, factor, c));
    x = grd_transpose(x, grd_shape(0, 1, 3, 5, 2, 4)); /* (N, H, W, C, r, r) */
    return grd_reshape(x, grd_shape(n, h, w, c * factor * factor));
}

grd_tensor grd_global_max_pool(grd_tensor x)
{
    static const int64_t ones[] = {1, 1, 1};
    grd_dims dims = grd_tensor_dims(x);
    x = grd_adaptive_max_pool(x, ones);
    return x.node ? grd_reshape(x, grd_shape(dims.dim[0], dims.dim[dims.rank - 1])) : x;
}
