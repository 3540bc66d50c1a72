/* mlp.c - the multi-layer perceptron. */
#include <gradus/nn.h>

#include <stdio.h>

grd_tensor grd_mlp_with(grd_tensor x, const int64_t *widths, int32_t count, const grd_drop *drop)
{
    for (int32_t i = 0; i < count; i++) {
        char name[16];
        snprintf(name, sizeof(name), "fc%d", i + 1);
        x = grd_linear(x, name, widths[i], .activation = i + 1 < count ? GRD_ACTIVATION_RELU : GRD_ACTIVATION_NONE);
        if (i + 1 < count) x = grd_drop_some(x, name, drop);
    }
    return x;
}

grd_tensor grd_mlp(grd_tensor x, const int64_t *widths, int32_t count)
{
    return grd_mlp_with(x, widths, count, NULL);
}
