/* layers.c - layers that own parameters. */
#include <gradus/nn.h>

#include <math.h>

static grd_tensor scoped_parameter(grd_graph *graph, const char *scope, const char *name, grd_dims dims, grd_init init,
                                   double scale)
{
    grd_scope_push(graph, "%s", scope);
    grd_tensor t = grd_parameter(graph, name, dims, .init = init, .scale = scale);
    grd_scope_pop(graph);
    return t;
}

grd_tensor grd_linear_with(grd_tensor x, const char *name, int64_t features, const grd_linear_options *options)
{
    options = options ? options : &(const grd_linear_options){.size = sizeof(grd_linear_options)};
    grd_graph *graph = grd_tensor_graph(x);
    if (!graph) return x;
    int64_t inputs = grd_dim(x, -1);
    grd_init weight_init = options->zero_init      ? GRD_INIT_ZEROS
                           : options->init_std > 0 ? GRD_INIT_NORMAL
                                                   : GRD_INIT_DEFAULT;
    grd_scope_push(graph, name ? "%s" : NULL, name);
    grd_tensor w = grd_parameter(graph, "weight", grd_shape(features, inputs), .init = weight_init,
                                 .scale = options->init_std, .blocks = options->blocks);
    grd_scope_pop(graph);
    grd_tensor b = {0};
    if (!options->no_bias) {
        bool zeros = options->zero_init || options->init_std > 0;
        b = scoped_parameter(graph, name, "bias", grd_shape(features), zeros ? GRD_INIT_ZEROS : GRD_INIT_UNIFORM,
                             1.0 / sqrt((double)inputs));
        if (grd_is_poison(b)) return b;
    }
    grd_scope_push(graph, name ? "%s" : NULL, name);
    grd_tensor y = grd_affine(x, w, .bias = b, .activation = options->activation);
    grd_scope_pop(graph);
    return y;
}

grd_tensor grd_embed(grd_tensor ids, const char *name, int64_t vocab, int64_t width, double std)
{
    grd_graph *graph = grd_tensor_graph(ids);
    grd_tensor table =
        scoped_parameter(graph, name, "weight", grd_shape(vocab, width), GRD_INIT_NORMAL, std > 0 ? std : 1);
    return grd_embedding(table, ids);
}

grd_tensor grd_drop_some(grd_tensor x, const char *name, const grd_drop *drop)
{
    grd_graph *graph = grd_tensor_graph(x);
    if (!graph || !drop || drop->p == 0 || grd_is_poison(drop->key)) return x;
    grd_scope_push(graph, name ? "%s" : NULL, name);
    x = grd_dropout(x, drop->key, drop->p);
    grd_scope_pop(graph);
    return x;
}

grd_tensor grd_norm(grd_tensor x, const char *name, grd_norm_kind kind, double eps, bool no_gain, bool bias)
{
    grd_graph *graph = grd_tensor_graph(x);
    if (!graph) return x;
    grd_dims width = grd_shape(grd_dim(x, -1));
    grd_tensor gain = {0}, shift = {0};
    if (!no_gain) gain = scoped_parameter(graph, name, "weight", width, GRD_INIT_ONES, 0);
    if (bias && kind == GRD_NORM_LAYERNORM) shift = scoped_parameter(graph, name, "bias", width, GRD_INIT_ZEROS, 0);
    grd_scope_push(graph, name ? "%s" : NULL, name);
    grd_tensor y = kind == GRD_NORM_LAYERNORM ? grd_layer_norm(x, .gain = gain, .bias = shift, .eps = eps)
                                              : grd_rms_norm(x, .gain = gain, .eps = eps);
    grd_scope_pop(graph);
    return y;
}
