/* test_shape_ops.c - the typed calls of ops_shape.h that are more than one op, what they refuse, ids that do not exist,
 * and the reading of sample strings. */
#include "values.h"

#include "ops/sample.h"
#include "ops/table.h"

#include <criterion/criterion.h>
#include <gradus/ops.h>
#include <math.h>
#include <string.h>

static grd_engine *engine;
static grd_graph *graph;

static void open_graph(void)
{
    engine = grd_engine_open("ref");
    graph = grd_graph_new(grd_model_new(engine, 1));
    cr_assert(graph, "no graph");
}

static void close_graph(void)
{
    grd_engine_close(engine);
}

TestSuite(shape_ops, .init = open_graph, .fini = close_graph);

/* An f32 constant that counts 0, 1, 2, ... */
static grd_tensor counting(grd_dims dims)
{
    float data[1024];
    int64_t count = grd_dims_count(dims);
    for (int64_t i = 0; i < count; i++) data[i] = (float)i;
    return grd_constant(graph, GRD_F32, dims, data);
}

static void has_dims(grd_tensor t, grd_dims dims)
{
    char is[GRD_DIMS_TEXT_MAX], wanted[GRD_DIMS_TEXT_MAX];
    cr_assert(!grd_is_poison(t), "%s", grd_graph_error(graph)->message);
    cr_assert(grd_dims_equal(grd_tensor_dims(t), dims), "the shape is %s, should be %s",
              grd_dims_text(grd_tensor_dims(t), is), grd_dims_text(dims, wanted));
}

static void has_values(grd_tensor t, const double *wanted)
{
    char message[256];
    values *v = values_new(graph);
    cr_assert(!grd_is_poison(t), "%s", grd_graph_error(graph)->message);
    cr_assert(values_run(v, &t, 1, message, sizeof message), "%s", message);
    const double *is = values_get(v, t);
    for (int64_t i = 0, n = grd_dims_count(grd_tensor_dims(t)); i < n; i++)
        cr_assert(is[i] == wanted[i], "element %lld is %g, should be %g", (long long)i, is[i], wanted[i]);
    values_free(v);
}

/* The graph's error holds `piece`. */
static void refused(grd_tensor t, const char *piece)
{
    cr_assert(grd_is_poison(t), "accepted");
    cr_assert(strstr(grd_graph_error(graph)->message, piece), "the error is '%s'", grd_graph_error(graph)->message);
}

Test(shape_ops, axes_come_and_go)
{
    grd_tensor x = counting(grd_shape(2, 1, 3));
    has_dims(grd_squeeze(x, 1), grd_shape(2, 3));
    has_dims(grd_squeeze(x, -2), grd_shape(2, 3));
    has_dims(grd_unsqueeze(x, 0), grd_shape(1, 2, 1, 3));
    has_dims(grd_unsqueeze(x, -1), grd_shape(2, 1, 3, 1));
    has_dims(grd_unsqueeze(x, 3), grd_shape(2, 1, 3, 1));
    has_dims(grd_flatten(x, 0, -1), grd_shape(6));
    has_dims(grd_flatten(x, 1, 2), grd_shape(2, 3));
    has_dims(grd_flatten(x, 1, 1), grd_shape(2, 1, 3));
    has_dims(grd_swap(x, 0, -1), grd_shape(3, 1, 2));
    has_dims(grd_transpose2(x), grd_shape(2, 3, 1));
    has_dims(grd_reshape(grd_squeeze(counting(grd_shape(1)), 0), grd_shape(1, 1)), grd_shape(1, 1));
}

Test(shape_ops, axes_that_do_not_exist)
{
    refused(grd_squeeze(counting(grd_shape(2, 3)), 2), "squeeze: axis 2 is outside the shape [2,3]");
}

Test(shape_ops, squeeze_of_a_long_axis)
{
    refused(grd_squeeze(counting(grd_shape(2, 3)), 0), "squeeze: axis 0 of [2,3] is not of size 1");
}

Test(shape_ops, flatten_backwards)
{
    refused(grd_flatten(counting(grd_shape(2, 3)), 1, 0), "flatten: axis 0");
}

Test(shape_ops, ninth_axis)
{
    refused(grd_unsqueeze(counting(grd_shape(1, 1, 1, 1, 1, 1, 1, 1)), 0), "unsqueeze: axis 0");
}

Test(shape_ops, split_and_concat_are_inverse)
{
    grd_tensor x = counting(grd_shape(2, 6)), part[3];
    grd_split(x, -1, 3, part);
    has_dims(part[2], grd_shape(2, 2));
    has_values(part[1], (double[]){2, 3, 8, 9});
    has_values(grd_concat(part, 3, 1), (double[]){0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11});
}

Test(shape_ops, split_into_unequal_parts)
{
    grd_tensor part[4];
    grd_split(counting(grd_shape(2, 6)), 1, 4, part);
    for (int i = 0; i < 4; i++) refused(part[i], "split: axis 1 of [2,6] cannot be cut into 4 equal parts");
}

Test(shape_ops, stack)
{
    grd_tensor x[2] = {counting(grd_shape(2)), counting(grd_shape(2))};
    has_dims(grd_stack(x, 2, -1), grd_shape(2, 2));
    has_values(grd_stack(x, 2, 1), (double[]){0, 0, 1, 1});
    has_values(grd_stack(x, 2, 0), (double[]){0, 1, 0, 1});
    x[1] = counting(grd_shape(3));
    refused(grd_stack(x, 2, 0), "stack: shapes differ: [2] and [3]");
}

Test(shape_ops, too_many_to_join)
{
    grd_tensor x[17];
    for (int i = 0; i < 17; i++) x[i] = counting(grd_shape(2));
    refused(grd_concat(x, 17, 0), "concat: 17 tensors, at most 16");
}

Test(shape_ops, poison_passes_through)
{
    grd_tensor poison = grd_reshape(counting(grd_shape(2, 3)), grd_shape(5)), part[2];
    const char *first = grd_graph_error(graph)->message;
    grd_tensor parts[2] = {poison, poison};
    grd_split(poison, 0, 2, part);
    cr_assert(grd_is_poison(part[1]) && grd_is_poison(grd_squeeze(poison, 0)) && grd_is_poison(grd_swap(poison, 0, 1)));
    cr_assert(grd_is_poison(grd_stack(parts, 2, 0)) && grd_is_poison(grd_matmul(poison, poison)));
    cr_assert(grd_is_poison(grd_affine(poison, poison)) && grd_is_poison(grd_topk(poison, 1, 0, &part[0])));
    cr_assert(grd_is_poison(part[0]) && strstr(first, "cannot become [5]"), "%s", first);
}

/* dx and dw of relu(x w^T + b) are found from y: the value before the activation is neither kept nor computed. */
Test(shape_ops, relu_backward_needs_no_value_before_it)
{
    grd_tensor x = grd_input(graph, "x", GRD_F32, grd_shape(4, 3)), w = grd_input(graph, "w", GRD_F32, grd_shape(5, 3));
    grd_tensor b = grd_input(graph, "b", GRD_F32, grd_shape(5)), wrt[3] = {x, w, b}, gradient[3];
    grd_tensor y = grd_affine(x, w, .bias = b, .activation = GRD_ACTIVATION_RELU), loss = grd_sum(y);
    cr_assert(grd_gradients(&loss, 1, wrt, 3, gradient) == GRD_OK, "%s", grd_graph_error(graph)->message);
    for (size_t i = 0; i < graph->count; i++)
        for (int32_t k = 0; k < graph->nodes[i]->input_count; k++) {
            grd_tensor used = graph->nodes[i]->in[k];
            cr_assert(used.node != y.node || used.output == 0, "%s uses it", graph->nodes[i]->op->name);
        }
}

/* ---- ids that do not exist: reading gives NaN, adding leaves out; on every device ---- */

static void ids_outside(const char *device)
{
    grd_engine *e = grd_engine_open(device, .threads = 2);
    grd_graph *g = grd_graph_new(grd_model_new(e, 1));
    const int32_t ids[4] = {1, -1, 3, 0}, row_ids[3] = {0, 3, -5};
    float rows[8], sums[6], ones[8] = {1, 1, 1, 1, 1, 1, 1, 1};
    grd_tensor table = grd_constant(g, GRD_F32, grd_shape(3, 2), (float[]){10, 11, 20, 21, 30, 31});
    grd_tensor id = grd_constant(g, GRD_I32, grd_shape(4), ids),
               gradient = grd_constant(g, GRD_F32, grd_shape(4, 2), ones);
    grd_tensor out[4] = {grd_embedding(table, id), grd_take(table, id, 0), grd_embedding_backward(gradient, id, 3),
                         grd_gather(grd_slice(table, 1, 0, 1), grd_constant(g, GRD_I32, grd_shape(3, 1), row_ids), 0)};
    grd_program *p = grd_program_new(out, 4);
    cr_assert(p && grd_program_run(p) == GRD_OK, "%s: %s", device, grd_engine_error(e)->message);
    for (int i = 0; i < 2; i++) {
        cr_assert(grd_program_read(p, out[i], rows) == GRD_OK);
        cr_assert(rows[0] == 20 && rows[1] == 21 && rows[6] == 10 && rows[7] == 11, "%s: rows that exist", device);
        cr_assert(isnan(rows[2]) && isnan(rows[3]) && isnan(rows[4]) && isnan(rows[5]), "%s: rows that do not", device);
    }
    cr_assert(grd_program_read(p, out[2], sums) == GRD_OK);
    cr_assert(sums[0] == 1 && sums[1] == 1 && sums[2] == 1 && sums[3] == 1 && sums[4] == 0 && sums[5] == 0, "%s",
              device);
    float three[3];
    cr_assert(grd_program_read(p, out[3], three) == GRD_OK);
    cr_assert(three[0] == 10 && isnan(three[1]) && isnan(three[2]), "%s: gather", device);
    grd_engine_close(e);
}

Test(shape_ops, ids_outside_on_ref)
{
    ids_outside("ref");
}

Test(shape_ops, ids_outside_on_cpu)
{
    ids_outside("cpu");
}

/* topk: NaN stands first, equal values by lower index. */
Test(shape_ops, topk_order)
{
    grd_tensor x = grd_constant(graph, GRD_F32, grd_shape(6), (float[]){1, 3, NAN, 3, -INFINITY, 2}), ids;
    grd_topk(x, 6, 0, &ids);
    has_values(ids, (double[]){2, 1, 3, 5, 0, 4});
}

/* ---- sample strings ---- */

Test(samples, inputs)
{
    grdi_sample_input in;
    grd_error error = {0};
    double values[64];
    cr_assert(grdi_sample_read_input("f32[4,7] 0.1..3", &in, &error) == GRD_OK, "%s", error.message);
    cr_assert(in.type.dtype == GRD_F32 && grd_dims_equal(in.type.dims, grd_shape(4, 7)) && in.low == 0.1 &&
              in.high == 3);
    grdi_sample_fill(&in, 5, values);
    for (int i = 0; i < 28; i++) cr_assert(values[i] >= 0.1f && values[i] <= 3 && values[i] == (float)values[i]);
    cr_assert(grdi_sample_read_input("i32[64] 0..2", &in, &error) == GRD_OK && in.low == 0 && in.high == 2);
    grdi_sample_fill(&in, 5, values);
    int seen[3] = {0};
    for (int i = 0; i < 64; i++) seen[(int)values[i]]++;
    cr_assert(seen[0] && seen[1] && seen[2], "both ends and what lies between");
    cr_assert(grdi_sample_read_input("i32[4] =0,4,9", &in, &error) == GRD_OK);
    grdi_sample_fill(&in, 5, values);
    cr_assert(values[0] == 0 && values[1] == 4 && values[2] == 9 && values[3] == 9);
    cr_assert(grdi_sample_read_input("bool[]", &in, &error) == GRD_OK && in.type.dims.rank == 0);
}

Test(samples, bad_inputs)
{
    static const char *const bad[] = {"f33[4]",        "f32",         "f32[4",    "f32[4,]x", "f32[a]",
                                      "f32[-1]",       "f32[4] 3..1", "f32[4] 3", "",         "f32[4] 1..2x",
                                      "@nothing:0(1)", "@tanh:0",     "@tanh:0(", "@tanh(0)", "f32[1,1,1,1,1,1,1,1,1]"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        grdi_sample_input in;
        grd_error error = {0};
        cr_assert(grdi_sample_read_input(bad[i], &in, &error) == GRD_E_FORMAT && error.message[0], "'%s' was accepted",
                  bad[i]);
    }
}

Test(samples, attributes)
{
    static const char *const bad[] = {"axes=1", "axis", "axis=", "axis=x", "axis=1 reverse=yes", "exclusive=1"};
    grdi_sample_case c;
    grd_error error = {0};
    cr_assert(grdi_sample_read_attrs(&grdi_op_cumsum, "axis=-2 exclusive=true", &c, &error) == GRD_OK, "%s",
              error.message);
    cr_assert(grdi_attr_int(c.attrs, "axis") == -2 && grdi_attr_int(c.attrs, "exclusive") == 1);
    cr_assert(grdi_attr_int(c.attrs, "reverse") == 0, "the default");
    cr_assert(grdi_sample_read_attrs(&grdi_op_pad, "before=1,2 value=-0.5 after=3,0x10", &c, &error) == GRD_OK);
    const grd_attr *after = grdi_attr_ints(c.attrs, "after");
    cr_assert(after->count == 2 && after->ints[0] == 3 && after->ints[1] == 16 &&
              grdi_attr_float(c.attrs, "value") == -0.5);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        error = (grd_error){0};
        cr_assert(grdi_sample_read_attrs(&grdi_op_cumsum, bad[i], &c, &error) == GRD_E_FORMAT, "'%s' was accepted",
                  bad[i]);
        cr_assert(strstr(error.message, "cumsum"), "%s", error.message);
    }
}

Test(samples, inputs_from_another_op)
{
    static const grdi_sample sample = {.in = {"f32[2,3]", "@sum:0(0) axes=1", "@mul_scalar:0(0) value=3"}},
                             circle = {.in = {"@tanh:0(1)", "@tanh:0(0)"}}, outside = {.in = {"f32[2]", "@tanh:1(0)"}};
    grdi_sample_case c;
    grd_error error = {0};
    double a[6], b[2], d[6], *values[3] = {a, b, d};
    cr_assert(grdi_sample_read(&grdi_op_add, &sample, false, &c, &error) == GRD_OK, "%s", error.message);
    cr_assert(grd_dims_equal(c.in[1].type.dims, grd_shape(2)));
    cr_assert(grdi_sample_fill_all(&c, 3, values, &error) == GRD_OK, "%s", error.message);
    cr_assert(b[0] == (float)(a[0] + a[1] + a[2]) && d[5] == (float)(3 * a[5]));
    cr_assert(grdi_sample_read(&grdi_op_add, &circle, false, &c, &error) == GRD_E_FORMAT);
    cr_assert(grdi_sample_read(&grdi_op_add, &outside, false, &c, &error) == GRD_E_FORMAT);
}
