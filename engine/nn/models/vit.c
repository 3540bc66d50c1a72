/* vit.c - the vision transformer: an image as a sequence of patches, read by the blocks of gpt.c. */
#include <gradus/nn.h>

#include <math.h>

enum { LAYERS = 6, HEADS = 3, WIDTH = 192, LEAST_PATCHES = 36 };
#define POSITION_STD 0.02
#define USUAL_WIDTH 768.0 /* for which 0.02 is the usual deviation of weights; a narrower layer adds fewer of them */

static int64_t common_divisor(int64_t a, int64_t b)
{
    while (b) {
        int64_t rest = a % b;
        a = b;
        b = rest;
    }
    return a;
}

/* 4 for 28x28 and 32x32, 8 for 64x64, 32 for 224x224: attention's cost grows with the square of their number. */
static int64_t fitting_patch(int64_t height, int64_t width)
{
    int64_t both = common_divisor(height, width), patch = both;
    while (patch > 1 && (both % patch || (height / patch) * (width / patch) < LEAST_PATCHES)) patch--;
    return patch;
}

grd_status grd_vit_resolve(grd_vit *net, int64_t height, int64_t width, grd_error *error)
{
    if (height < 1 || width < 1)
        return grd_fail(error, GRD_E_ARGUMENT, "images of %lldx%lld (1 or more are needed)", (long long)height,
                        (long long)width);
    if (!net->layers) net->layers = LAYERS;
    if (!net->heads) net->heads = HEADS;
    if (!net->width) net->width = WIDTH;
    if (!net->mlp_width) net->mlp_width = 4 * net->width;
    if (!net->patch) net->patch = fitting_patch(height, width);
    if (net->layers < 1 || net->heads < 1 || net->width < 1 || net->mlp_width < 1 || net->patch < 1)
        return grd_fail(error, GRD_E_ARGUMENT,
                        "model: layers, heads, width, mlp_width and patch must be 1 or more, are %d, %d, %lld, %lld, "
                        "%lld",
                        net->layers, net->heads, (long long)net->width, (long long)net->mlp_width,
                        (long long)net->patch);
    if (net->width % net->heads)
        return grd_fail(error, GRD_E_ARGUMENT, "model.heads: %d does not divide model.width: %lld", net->heads,
                        (long long)net->width);
    if (height % net->patch || width % net->patch)
        return grd_fail(error, GRD_E_ARGUMENT, "model.patch: %lld does not divide images of %lldx%lld (%lld does)",
                        (long long)net->patch, (long long)height, (long long)width,
                        (long long)fitting_patch(height, width));
    if (net->classes < 1)
        return grd_fail(error, GRD_E_ARGUMENT, "model.classes: must be 1 or more, is %lld", (long long)net->classes);
    if (net->dropout < 0 || net->dropout >= 1)
        return grd_fail(error, GRD_E_ARGUMENT, "model.dropout: must be in [0, 1), is %g", net->dropout);
    return GRD_OK;
}

/* x [N,H,W,C] to [N,T,width], with their positions; T counts the class token. */
static grd_tensor embed(grd_tensor x, const grd_vit *net)
{
    grd_graph *graph = grd_tensor_graph(x);
    grd_tensor patches = grd_flatten(grd_conv(x, "patch", net->width, net->patch, .stride = net->patch), 1, 2);
    if (!net->mean_pool) {
        grd_tensor token = grd_parameter(graph, "class_token", grd_shape(net->width), .init = GRD_INIT_ZEROS);
        token = grd_broadcast_to(token, grd_shape(grd_dim(x, 0), 1, net->width));
        patches = grd_concat((grd_tensor[]){token, patches}, 2, 1);
    }
    grd_scope_push(graph, "position");
    grd_tensor table = grd_parameter(graph, "weight", grd_shape(grd_dim(patches, 1), net->width),
                                     .init = GRD_INIT_NORMAL, .scale = POSITION_STD);
    grd_scope_pop(graph);
    return grd_add(patches, table);
}

grd_tensor grd_vit_logits(grd_tensor x, const grd_vit *net, grd_tensor key)
{
    if (!grd_tensor_graph(x)) return x;
    grd_gpt gpt = {.layers = net->layers,
                   .heads = net->heads,
                   .width = net->width,
                   .mlp_width = net->mlp_width,
                   .norm_eps = 1e-6,
                   .dropout = net->dropout,
                   .bidirectional = true};
    gpt.kv_heads = gpt.heads;
    gpt.head_dim = gpt.width / gpt.heads;
    gpt.init_std = POSITION_STD * sqrt(USUAL_WIDTH / (double)net->width);
    x = grd_gpt_blocks(embed(x, net), &gpt, key);
    if (grd_is_poison(x)) return x;
    grd_tensor seen = net->mean_pool ? grd_mean_axis(x, 1, false) : grd_squeeze(grd_slice(x, 1, 0, 1), 1);
    return grd_linear(seen, "head", net->classes, .zero_init = true);
}
