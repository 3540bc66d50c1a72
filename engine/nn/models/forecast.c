/* forecast.c - networks that continue a series: recurrent ones, temporal convolutions and a linear one. */
#include <gradus/nn.h>

#include <stdio.h>

enum { TCN_KERNEL = 3 };

/* A convolution that sees no later step: zeros stand before the first one. */
static grd_tensor causal(grd_tensor x, const char *name, int64_t width, int64_t kernel, int64_t dilation)
{
    x = grd_pad(x, grd_shape(0, (kernel - 1) * dilation, 0), grd_shape(0, 0, 0), 0);
    return grd_conv(x, name, width, kernel, .dilation = dilation);
}

grd_tensor grd_tcn(grd_tensor x, int64_t width, int32_t blocks, int64_t kernel)
{
    grd_graph *graph = grd_tensor_graph(x);
    for (int32_t i = 0; graph && i < blocks; i++) {
        grd_scope_push(graph, "layer%d", i + 1);
        grd_tensor h = grd_relu(causal(x, "conv1", width, kernel, (int64_t)1 << i));
        h = grd_relu(causal(h, "conv2", width, kernel, (int64_t)1 << i));
        if (grd_dim(x, -1) != width) x = grd_conv(x, "skip", width, 1);
        x = grd_relu(grd_add(x, h));
        grd_scope_pop(graph);
    }
    return x;
}

int32_t grd_tcn_blocks(int64_t steps, int64_t kernel)
{
    int32_t blocks = 1;
    while (kernel > 1 && blocks < 32 && 2 * (kernel - 1) * (((int64_t)1 << blocks) - 1) < steps - 1) blocks++;
    return blocks;
}

static grd_tensor recurrent(grd_tensor x, const grd_forecaster *net, int64_t width)
{
    grd_tensor last = x;
    int32_t layers = net->layers > 0 ? net->layers : 1;
    for (int32_t i = 0; i < layers; i++) {
        char name[24];
        snprintf(name, sizeof(name), "layer%d", i + 1);
        if (i > 0) x = grd_drop_some(x, name, &net->drop);
        x = net->kind == GRD_FORECASTER_GRU ? grd_gru(x, name, width, .last_h = &last)
                                            : grd_lstm(x, name, width, .last_h = &last);
    }
    return last;
}

grd_tensor grd_forecaster_values(grd_tensor x, const grd_forecaster *net)
{
    int64_t width = net->width > 0 ? net->width : 32, steps = grd_dim(x, 1);
    grd_tensor h;
    switch (net->kind) {
    case GRD_FORECASTER_LINEAR: h = grd_flatten(x, 1, -1); break;
    case GRD_FORECASTER_TCN:
        h = grd_tcn(x, width, net->layers > 0 ? net->layers : grd_tcn_blocks(steps, TCN_KERNEL), TCN_KERNEL);
        h = grd_squeeze(grd_slice(h, 1, steps - 1, 1), 1);
        break;
    default: h = recurrent(x, net, width);
    }
    h = grd_drop_some(h, "head", &net->drop);
    return grd_linear(h, "head", net->horizon, .zero_init = net->zero_head);
}
