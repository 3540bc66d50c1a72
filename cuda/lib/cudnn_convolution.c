/* cudnn_convolution.c - convolutions, described to cuDNN: a graph of one operation, or of two where a bias is added. */
#include "lib/cudnn_graph.h"

#include <stdio.h>

enum { RANK_MAX = GRDI_DNN_RANK_MAX };
enum { PLACE_X, PLACE_W, PLACE_Y, PLACE_BIAS, NO_PLACE = -1 };

typedef grdi_dnn_builder builder;

/* dims [N,C,S..] without gaps; `inner`: channels lie innermost. */
static grdi_dnn_descriptor tensor(builder *b, int32_t place, int type, const int64_t *dims, int32_t rank, bool inner)
{
    int64_t stride[RANK_MAX], next = inner ? dims[1] : 1;
    for (int32_t d = rank - 1; d >= 0; d--) {
        if (inner && d == 1) continue;
        stride[d] = next;
        next *= dims[d];
    }
    if (inner) stride[1] = 1;
    return grdi_dnn_tensor(b, place, type, rank, dims, stride);
}

typedef struct geometry {
    int64_t spatial, x[RANK_MAX], w[RANK_MAX], y[RANK_MAX];
    int64_t stride[GRDI_WINDOW_AXES], padding[GRDI_WINDOW_AXES], dilation[GRDI_WINDOW_AXES];
} geometry;

/* cuDNN has two spatial axes or three. */
static geometry geometry_of(const grdi_convolution *c)
{
    geometry g = {.spatial = c->axes < 2 ? 2 : c->axes};
    g.x[0] = g.y[0] = c->samples, g.w[0] = c->out_channels;
    g.x[1] = c->in_channels, g.y[1] = c->out_channels, g.w[1] = c->in_channels / c->groups;
    for (int64_t a = 0; a < g.spatial; a++) {
        const grdi_window *w = &c->axis[GRDI_WINDOW_AXES - g.spatial + a];
        g.x[2 + a] = w->in, g.w[2 + a] = w->kernel, g.y[2 + a] = w->out;
        g.stride[a] = w->stride, g.padding[a] = w->padding, g.dilation[a] = w->dilation;
    }
    return g;
}

static grdi_dnn_descriptor convolution_of(builder *b, const geometry *g)
{
    int compute = DNN_DATA_FLOAT, mode = DNN_CROSS_CORRELATION;
    grdi_dnn_descriptor d = grdi_dnn_make(b, DNN_BACKEND_CONVOLUTION_DESCRIPTOR);
    grdi_dnn_set(b, d, DNN_ATTR_CONVOLUTION_COMP_TYPE, DNN_TYPE_DATA_TYPE, 1, &compute);
    grdi_dnn_set(b, d, DNN_ATTR_CONVOLUTION_CONV_MODE, DNN_TYPE_CONVOLUTION_MODE, 1, &mode);
    grdi_dnn_set(b, d, DNN_ATTR_CONVOLUTION_SPATIAL_DIMS, DNN_TYPE_INT64, 1, &g->spatial);
    grdi_dnn_set(b, d, DNN_ATTR_CONVOLUTION_DILATIONS, DNN_TYPE_INT64, g->spatial, g->dilation);
    grdi_dnn_set(b, d, DNN_ATTR_CONVOLUTION_FILTER_STRIDES, DNN_TYPE_INT64, g->spatial, g->stride);
    grdi_dnn_set(b, d, DNN_ATTR_CONVOLUTION_PRE_PADDINGS, DNN_TYPE_INT64, g->spatial, g->padding);
    grdi_dnn_set(b, d, DNN_ATTR_CONVOLUTION_POST_PADDINGS, DNN_TYPE_INT64, g->spatial, g->padding);
    return grdi_dnn_finish(b, d);
}

static grdi_dnn_descriptor graph_of(builder *b, const grdi_convolution *c, bool adds)
{
    static const struct {
        int operation, first; /* attribute: alpha, then beta, the convolution, w, x and y */
    } kinds[] = {
        {DNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR, DNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA},
        {DNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR, DNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_ALPHA},
        {DNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR,
         DNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_ALPHA}};
    const geometry g = geometry_of(c);
    int32_t rank = (int32_t)g.spatial + 2, first = kinds[c->kind].first;
    const float one = 1, kept = adds ? 1 : 0;
    grdi_dnn_descriptor x = tensor(b, PLACE_X, grdi_dnn_data_type(c->x), g.x, rank, true);
    grdi_dnn_descriptor w = tensor(b, PLACE_W, grdi_dnn_data_type(c->w), g.w, rank, c->w_inner);
    grdi_dnn_descriptor y = tensor(b, PLACE_Y, grdi_dnn_data_type(c->y), g.y, rank, true), sum = y;
    if (c->bias) sum = tensor(b, NO_PLACE, DNN_DATA_FLOAT, g.y, rank, true);
    grdi_dnn_descriptor convolution = convolution_of(b, &g);
    grdi_dnn_descriptor operation = grdi_dnn_make(b, kinds[c->kind].operation);
    grdi_dnn_set(b, operation, first, DNN_TYPE_FLOAT, 1, &one);
    grdi_dnn_set(b, operation, first + 1, DNN_TYPE_FLOAT, 1, &kept);
    grdi_dnn_set_part(b, operation, first + 2, convolution);
    grdi_dnn_set_part(b, operation, first + 3, w);
    grdi_dnn_set_part(b, operation, first + 4, x);
    grdi_dnn_set_part(b, operation, first + 5, sum);
    grdi_dnn_operation(b, operation);
    if (c->bias) {
        const int64_t dims[RANK_MAX] = {1, g.y[1], 1, 1, 1};
        grdi_dnn_descriptor bias = tensor(b, PLACE_BIAS, grdi_dnn_data_type(c->y), dims, rank, true);
        grdi_dnn_add_pointwise(
            b, &(grdi_dnn_pointwise){
                   .mode = DNN_POINTWISE_ADD, .compute = DNN_DATA_FLOAT, .x = sum, .second = bias, .y = y});
    }
    return grdi_dnn_graph(b);
}

/* What a convolution is known by among the choices. */
static void write_call(const grdi_convolution *c, char text[GRDI_CHOICE_TEXT])
{
    static const char *const kinds[] = {"convolution forward", "convolution backward to x",
                                        "convolution backward to w"};
    int at = snprintf(text, GRDI_CHOICE_TEXT, "%s %s %s %s%s%s%s n=%lld c=%lld o=%lld groups=%lld", kinds[c->kind],
                      grd_dtype_name(c->x), grd_dtype_name(c->w), grd_dtype_name(c->y), c->w_inner ? " inner" : "",
                      c->bias ? " bias" : "", c->accumulates ? " accumulates" : "", (long long)c->samples,
                      (long long)c->in_channels, (long long)c->out_channels, (long long)c->groups);
    for (int a = 0; a < GRDI_WINDOW_AXES && at < GRDI_CHOICE_TEXT; a++) {
        const grdi_window *w = &c->axis[a];
        at += snprintf(text + at, (size_t)(GRDI_CHOICE_TEXT - at), " %lld>%lld/%lld*%lld+%lldx%lld", (long long)w->in,
                       (long long)w->out, (long long)w->stride, (long long)w->kernel, (long long)w->padding,
                       (long long)w->dilation);
    }
}

static bool takes(const grdi_convolution *c)
{
    const grd_dtype all[] = {c->x, c->w, c->y};
    for (int i = 0; i < 3; i++)
        if (all[i] != GRD_F32 && all[i] != GRD_BF16) return false;
    return !(c->bias && (c->accumulates || c->kind != GRDI_CONVOLUTION_FORWARD));
}

grdi_dnn_plan *grdi_dnn_plan_new(grdi_dnn *dnn, const grdi_convolution *c)
{
    char call[GRDI_CHOICE_TEXT];
    builder b = {.dnn = dnn, .plan = takes(c) ? grdi_dnn_plan_begin(dnn) : NULL, .ok = true};
    if (!b.plan) return NULL;
    b.plan->graph[0] = graph_of(&b, c, false);
    if (c->accumulates) b.plan->graph[1] = graph_of(&b, c, true);
    write_call(c, call);
    return grdi_dnn_plan_end(&b, call, c->x == GRD_F32 && c->w == GRD_F32 && c->y == GRD_F32 && !dnn->tf32, NULL);
}
