/* test_spatial_calls.c - calls that are made of other ops: their errors; what ctc says of what does not exist; layers
 * with padding of their own and transposed ones. */
#include <gradus/gradus.h>

#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

static grd_tensor image(grd_graph *g)
{
    return grd_input(g, "x", GRD_F32, grd_shape(1, 4, 5, 6));
}

static grd_tensor wide_reflection(grd_graph *g)
{
    return grd_pad_edges(image(g), grd_shape(0, 4, 0, 0), grd_shape(0, 0, 0, 0), GRD_PADDING_REFLECT);
}

static grd_tensor wide_circle(grd_graph *g)
{
    return grd_pad_edges(image(g), grd_shape(0, 0, 0, 0), grd_shape(0, 0, 6, 0), GRD_PADDING_CIRCULAR);
}

static grd_tensor negative_edge(grd_graph *g)
{
    return grd_pad_edges(image(g), grd_shape(0, 0, -1, 0), grd_shape(0, 0, 0, 0), GRD_PADDING_REPLICATE);
}

static grd_tensor few_edges(grd_graph *g)
{
    return grd_pad_edges(image(g), grd_shape(1, 1), grd_shape(1, 1), GRD_PADDING_REPLICATE);
}

static grd_tensor odd_mode(grd_graph *g)
{
    return grd_pad_edges(image(g), grd_shape(0, 0, 0, 0), grd_shape(0, 0, 0, 0), (grd_padding_mode)7);
}

static grd_tensor odd_shuffle(grd_graph *g)
{
    return grd_pixel_shuffle(image(g), 2);
}

static grd_tensor odd_unshuffle(grd_graph *g)
{
    return grd_pixel_unshuffle(image(g), 2);
}

static grd_tensor no_window(grd_graph *g)
{
    return grd_local_response_norm(image(g), 0);
}

static grd_tensor negative_gamma(grd_graph *g)
{
    grd_tensor x = image(g);
    return grd_focal(x, x, -1, 0.25);
}

static grd_tensor negative_margin(grd_graph *g)
{
    grd_tensor x = image(g);
    return grd_triplet(x, x, x, .margin = -1);
}

static grd_tensor layer_reflection(grd_graph *g)
{
    return grd_conv(image(g), "conv", 2, 3, .padding = 9, .padding_mode = GRD_PADDING_REFLECT);
}

Test(spatial_calls, refuse)
{
    static const struct {
        grd_tensor (*call)(grd_graph *g);
        const char *text;
    } wrong[] = {{wide_reflection, "axis 1 of [1,4,5,6] takes 0 to 3 entries a side in mode reflect, not 4"},
                 {wide_circle, "axis 2 of [1,4,5,6] takes 0 to 5 entries a side in mode circular, not 6"},
                 {negative_edge, "in mode replicate, not -1"},
                 {few_edges, "before has 2 entries and after 2, but [1,4,5,6] has 4 axes"},
                 {odd_mode, "there is no mode 7"},
                 {odd_shuffle, "pixel_shuffle: a factor of 2 does not fit [1,4,5,6]"},
                 {odd_unshuffle, "pixel_unshuffle: a factor of 2 does not fit [1,4,5,6]"},
                 {no_window, "windows of 1 to 1024 channels of x [N,S..,C] are needed, not 0 of [1,4,5,6]"},
                 {negative_gamma, "gamma is -1"},
                 {negative_margin, "margin is -1"},
                 {layer_reflection, "conv: pad_edges: axis 1 of [1,4,5,6] takes 0 to 3"}};
    grd_engine *engine = grd_engine_open("ref");
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        grd_graph *g = grd_graph_new(grd_model_new(engine, 1));
        cr_expect(grd_is_poison(wrong[i].call(g)), "no error where '%s' was expected", wrong[i].text);
        cr_expect(strstr(grd_graph_error(g)->message, wrong[i].text), "the error is '%s', expected '%s'",
                  grd_graph_error(g)->message, wrong[i].text);
    }
    grd_engine_close(engine);
}

/* A label, a number of steps and one of labels that do not exist; behind the last label anything may stand. */
Test(spatial_calls, ctc_of_what_is_not_there)
{
    static const char *const devices[] = {"ref", "cpu"};
    static const int32_t targets[] = {5, 1, 1, 1, 99, 7}, steps[] = {3, 4, 3, -1, 3, 3}, counts[] = {1, 1, 2, 1, 0, -1};
    for (int d = 0; d < 2; d++) {
        grd_engine *engine = grd_engine_open(devices[d]);
        grd_graph *g = grd_graph_new(grd_model_new(engine, 1));
        grd_tensor x = grd_full(g, GRD_F32, grd_shape(6, 3, 4), -1),
                   y = grd_constant(g, GRD_I32, grd_shape(6, 1), targets);
        grd_tensor losses = grd_ctc(x, y, grd_constant(g, GRD_I32, grd_shape(6), steps),
                                    grd_constant(g, GRD_I32, grd_shape(6), counts));
        grd_tensor outputs[] = {losses, grd_grad(grd_sum(losses), x)};
        grd_program *program = grd_program_new(outputs, 2);
        cr_assert(program, "%s", grd_graph_error(g)->message);
        float loss[6], slope[6][12];
        cr_assert(grd_program_run(program) == GRD_OK && grd_program_read(program, outputs[0], loss) == GRD_OK);
        cr_assert(grd_program_read(program, outputs[1], slope) == GRD_OK);
        for (int b = 0; b < 6; b++) {
            if (b == 4) cr_expect(loss[b] == 3 && slope[b][0] == -1, "%g, %g", (double)loss[b], (double)slope[b][0]);
            else cr_expect(isnan(loss[b]) && slope[b][0] == 0, "%d: %g, %g", b, (double)loss[b], (double)slope[b][0]);
        }
        grd_engine_close(engine);
    }
}

/* A convolution with padding of its own gives what the two calls give; a transposed one doubles the size. */
Test(spatial_calls, layers)
{
    grd_engine *engine = grd_engine_open("cpu");
    grd_model *model = grd_model_new(engine, 1);
    grd_graph *g = grd_graph_new(model);
    grd_tensor x = image(g), y = grd_conv(x, "conv", 2, 3, .padding = 1, .padding_mode = GRD_PADDING_CIRCULAR);
    grd_dims one = grd_shape(0, 1, 1, 0);
    grd_tensor w = grd_parameter(g, "conv/weight", grd_shape(2, 6, 3, 3), .tie = true);
    grd_tensor b = grd_parameter(g, "conv/bias", grd_shape(2), .tie = true);
    grd_tensor same = grd_convolution(grd_pad_edges(x, one, one, GRD_PADDING_CIRCULAR), w, .bias = b);
    grd_tensor far = grd_max(grd_abs(grd_sub(y, same)));
    grd_tensor up = grd_conv_transposed(x, "up", 4, 3, .stride = 2, .padding = 1, .output_padding = 1, .groups = 2);
    cr_assert(grd_dims_equal(grd_tensor_dims(up), grd_shape(1, 8, 10, 4)), "%s", grd_graph_error(g)->message);
    grd_program *program = grd_program_new(&far, 1);
    cr_assert(program, "%s", grd_graph_error(g)->message);
    float values[120], got = 1;
    for (int i = 0; i < 120; i++) values[i] = (float)(i * i % 17);
    grd_program_feed(program, x, values);
    cr_assert(grd_program_run(program) == GRD_OK && grd_program_read(program, far, &got) == GRD_OK);
    cr_expect(got == 0, "%g", (double)got);
    grd_variable v;
    cr_assert(grd_model_variable_find(model, "up/weight", &v) && grd_dims_equal(v.dims, grd_shape(6, 2, 3, 3)));
    grd_engine_close(engine);
}
