/* lines.c - ops that go along one axis in order: cumsum, topk, scatter_add. */
#include "backend/cpu/kernels/rows.h"
#include "backend/cpu/parallel.h"

enum { GRAIN = 8192 };

static int64_t positive_axis(const grdi_call *call)
{
    int64_t axis = grdi_attr_int(call->attrs, "axis");
    return axis < 0 ? axis + call->in[0].dims.rank : axis;
}

/* The axes of input 0 but one, with the operands' strides; all operands have input 0's rank. */
static void start_lines(const grdi_call *call, int64_t axis, grdi_space *outer)
{
    grdi_view views[3] = {call->in[0], call->out[0], call->out[call->output_count - 1]};
    views[0].dims.dim[axis] = 1;
    grdi_space_start(outer, views[0].dims);
    for (int i = 0; i < 3; i++) {
        views[i].dims.dim[axis] = 1;
        grdi_space_add(outer, &views[i]);
    }
}

/* ---- cumsum ---- */

static void cumsum_range(int64_t begin, int64_t end, int32_t thread, void *context)
{
    (void)thread;
    const grdi_call *call = context;
    const grdi_view *in = &call->in[0], *out = &call->out[0];
    int64_t axis = positive_axis(call), count = in->dims.dim[axis];
    bool reverse = grdi_attr_int(call->attrs, "reverse") != 0, exclusive = grdi_attr_int(call->attrs, "exclusive") != 0;
    grdi_space outer;
    grdi_walk walk;
    start_lines(call, axis, &outer);
    grdi_walk_start(&walk, &outer, outer.rank, begin);
    for (int64_t line = begin; line < end; line++, grdi_walk_next(&walk)) {
        double sum = 0;
        for (int64_t i = 0; i < count; i++) {
            int64_t at = reverse ? count - 1 - i : i;
            double x = grdi_run_get(in->data, in->dtype, walk.offset[0] + at * in->stride[axis]);
            grdi_run_put(out->data, out->dtype, walk.offset[1] + at * out->stride[axis],
                         (float)(exclusive ? sum : sum + x));
            sum += x;
        }
    }
}

static grd_status cumsum_run(grdi_call *call)
{
    int64_t count = call->in[0].dims.dim[positive_axis(call)];
    grdi_parallel_for(call->threads, grd_dims_count(call->in[0].dims) / count, GRAIN / count + 1, cumsum_range, call);
    return GRD_OK;
}

/* ---- topk ---- */

/* Whether a stands before b, which has the higher index: NaN, then the larger; equal ones keep their order. */
static bool stands_before(float a, float b) { return a != a || (b == b && a >= b); }

/* The best k so far lie sorted in the outputs; each further value is put in its place among them. */
static void topk_line(const grdi_view *in, int64_t from, int64_t step, int64_t count, int64_t k, float *best,
                      int32_t *ids)
{
    int64_t filled = 0;
    for (int64_t i = 0; i < count; i++) {
        float x = grdi_run_get(in->data, in->dtype, from + i * step);
        if (filled == k && stands_before(best[k - 1], x))
            continue;
        int64_t place = filled < k ? filled++ : k - 1;
        for (; place > 0 && !stands_before(best[place - 1], x); place--) {
            best[place] = best[place - 1];
            ids[place] = ids[place - 1];
        }
        best[place] = x;
        ids[place] = (int32_t)i;
    }
}

static void topk_range(int64_t begin, int64_t end, int32_t thread, void *context)
{
    const grdi_call *call = context;
    const grdi_view *in = &call->in[0], *values = &call->out[0], *places = &call->out[1];
    int64_t axis = positive_axis(call), k = grdi_attr_int(call->attrs, "k");
    float *best = (float *)call->scratch + 2 * thread * grdi_row_room(k);
    int32_t *ids = (int32_t *)(best + grdi_row_room(k));
    grdi_space outer;
    grdi_walk walk;
    start_lines(call, axis, &outer);
    grdi_walk_start(&walk, &outer, outer.rank, begin);
    for (int64_t line = begin; line < end; line++, grdi_walk_next(&walk)) {
        topk_line(in, walk.offset[0], in->stride[axis], in->dims.dim[axis], k, best, ids);
        for (int64_t i = 0; values->data && i < k; i++)
            grdi_run_put(values->data, values->dtype, walk.offset[1] + i * values->stride[axis], best[i]);
        for (int64_t i = 0; places->data && i < k; i++)
            ((int32_t *)places->data)[walk.offset[2] + i * places->stride[axis]] = ids[i];
    }
}

static grd_status topk_prepare(grdi_call *call, grd_error *error)
{
    (void)error;
    int64_t room = grdi_row_room(grdi_attr_int(call->attrs, "k"));
    call->scratch_bytes = (size_t)(2 * room * call->threads) * sizeof(float);
    return GRD_OK;
}

static grd_status topk_run(grdi_call *call)
{
    int64_t count = call->in[0].dims.dim[positive_axis(call)];
    grdi_parallel_for(call->threads, grd_dims_count(call->in[0].dims) / count, GRAIN / count + 1, topk_range, call);
    return GRD_OK;
}

static bool floats_only(const grdi_call *call) { return grdi_is_activation(call->in[0].dtype); }

/* ---- scatter_add: entries of one place are added in the order in which they stand, by one thread ---- */

static grd_status scatter_run(grdi_call *call)
{
    const grdi_view *base = &call->in[0], *ids = &call->in[1], *src = &call->in[2], *out = &call->out[0];
    int64_t axis = positive_axis(call), size = base->dims.dim[axis], count = grd_dims_count(ids->dims);
    if (out->data != base->data)
        memcpy(out->data, base->data, (size_t)grd_dims_count(base->dims) * sizeof(float));
    grdi_space space;
    grdi_space_start(&space, ids->dims);
    space.operands = 1;
    for (int32_t a = 0; a < out->dims.rank; a++)
        space.stride[0][a] = a == axis ? 0 : out->stride[a];
    grdi_walk walk;
    grdi_walk_start(&walk, &space, space.rank, 0);
    for (int64_t i = 0; i < count; i++, grdi_walk_next(&walk)) {
        int64_t id = ((const int32_t *)ids->data)[i];
        if (id >= 0 && id < size)
            ((float *)out->data)[walk.offset[0] + id * out->stride[axis]] += ((const float *)src->data)[i];
    }
    return GRD_OK;
}

static bool scatter_supports(const grdi_call *call)
{
    return call->in[0].dtype == GRD_F32 && call->in[2].dtype == GRD_F32 && call->out[0].dtype == GRD_F32;
}

static const grdi_kernel kernel_cumsum = {
    .op = "cumsum", .strided_in = 1, .rows_in = 1, .strided_out = 1, .supports = floats_only, .run = cumsum_run};
static const grdi_kernel kernel_topk = {
    .op = "topk", .strided_in = 1, .rows_in = 1, .supports = floats_only, .prepare = topk_prepare, .run = topk_run};
static const grdi_kernel kernel_scatter_add = {
    .op = "scatter_add", .in_place = 1, .supports = scatter_supports, .run = scatter_run};

const grdi_kernel *const GRDI_ISA_TABLE(lines)[] = {&kernel_cumsum, &kernel_topk, &kernel_scatter_add, NULL};
