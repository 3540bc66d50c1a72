/* cnn.c - networks for images: a small one in the line of LeNet, and residual networks. */
#include <gradus/nn.h>

#include <stdio.h>

grd_tensor grd_lenet_with(grd_tensor x, int64_t classes, int64_t width, const grd_drop *drop)
{
    if (width < 1) width = 32;
    grd_tensor h = grd_relu(grd_conv(x, "conv1", width, 3));
    h = grd_max_pool(grd_conv(h, "conv2", 2 * width, 3), 2);
    h = grd_flatten(grd_relu(h), 1, -1); /* behind the pool: the same values, and a quarter of them to go through */
    h = grd_linear(h, "fc1", 4 * width, .activation = GRD_ACTIVATION_RELU);
    return grd_linear(grd_drop_some(h, "fc1", drop), "fc2", classes);
}

grd_tensor grd_lenet(grd_tensor x, int64_t classes, int64_t width)
{
    return grd_lenet_with(x, classes, width, NULL);
}

/* ---- residual networks ---- */

/* By depth: blocks in each of four stages, and whether they are bottlenecks. */
static const struct {
    int32_t blocks[4];
    bool bottleneck;
} depths[] = {[GRD_RESNET18] = {{2, 2, 2, 2}, false},
              [GRD_RESNET34] = {{3, 4, 6, 3}, false},
              [GRD_RESNET50] = {{3, 4, 6, 3}, true}};

static grd_tensor conv_norm(grd_tensor x, const char *conv, const char *norm, int64_t channels, int64_t kernel,
                            int64_t stride, const grd_resnet *net)
{
    x = grd_conv(x, conv, channels, kernel, .stride = stride, .padding = kernel / 2, .no_bias = true, .he_init = true);
    return grd_batch_norm(x, norm, net->training);
}

/* Two 3x3 convolutions, or 1x1, 3x3 with the stride and 1x1 to four times the width; around them a way past, with a 1x1
 * convolution where shapes change. */
static grd_tensor block(grd_tensor x, int64_t width, int64_t stride, bool bottleneck, const grd_resnet *net)
{
    int64_t outputs = bottleneck ? 4 * width : width;
    grd_tensor past = x, h;
    if (bottleneck) {
        h = grd_relu(conv_norm(x, "conv1", "norm1", width, 1, 1, net));
        h = grd_relu(conv_norm(h, "conv2", "norm2", width, 3, stride, net));
        h = conv_norm(h, "conv3", "norm3", outputs, 1, 1, net);
    } else {
        h = grd_relu(conv_norm(x, "conv1", "norm1", width, 3, stride, net));
        h = conv_norm(h, "conv2", "norm2", width, 3, 1, net);
    }
    if (stride != 1 || grd_dim(x, -1) != outputs) past = conv_norm(x, "skip", "skip_norm", outputs, 1, stride, net);
    return grd_relu(grd_add(h, past));
}

grd_tensor grd_resnet_logits(grd_tensor x, const grd_resnet *net)
{
    grd_graph *graph = grd_tensor_graph(x);
    int64_t width = net->width > 0 ? net->width : 64;
    if (!graph) return x;
    grd_tensor h =
        grd_relu(conv_norm(x, "stem", "stem_norm", width, net->imagenet_stem ? 7 : 3, net->imagenet_stem ? 2 : 1, net));
    if (net->imagenet_stem) h = grd_max_pool(h, 3, .stride = 2, .padding = 1);
    for (int32_t stage = 0; stage < 4; stage++)
        for (int32_t i = 0; i < depths[net->depth].blocks[stage]; i++) {
            grd_scope_push(graph, "stage%d/block%d", stage + 1, i + 1);
            h = block(h, width << stage, stage > 0 && i == 0 ? 2 : 1, depths[net->depth].bottleneck, net);
            grd_scope_pop(graph);
        }
    h = grd_drop_some(grd_global_average_pool(h), "head", &net->drop);
    return grd_linear(h, "head", net->classes);
}
