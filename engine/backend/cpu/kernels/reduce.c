/* reduce.c - sums, means, extremes, products, variances and log-sum-exps over any axes. Axes are sorted into kept and
 * reduced ones and merged. If the innermost axis is reduced, outputs are done one by one; if it is kept, rows of
 * outputs are done together. Where there are too few outputs for all threads, the reduced range is cut into parts,
 * whose results are added in order. */
#include "backend/cpu/kernels/reduce_pieces.h"
#include "backend/cpu/kernels/run.h"
#include "backend/space.h"
#include "backend/cpu/parallel.h"
#include "base/memory.h"

enum {
    IN,
    OUT,              /* operands of the spaces */
    PIECE_MAX = 1024, /* elements read at a time */
    BLOCK = 32768, /* elements of a part; fixed, so that sums over everything are the same for any number of threads */
    BLOCKS_MAX = 256,
    PARALLEL = 16384, /* elements that pay for another thread */
    COLUMNS_MIN = 64  /* columns that a thread takes at least */
};

typedef struct reducer {
    piece_fn piece;
    column_fn column;
    combine_fn combine;
    double start;       /* the result over nothing */
    int32_t column_run; /* how many rows go into `part` before it goes into a double */
} reducer;

static const reducer reduce_sum = {piece_sum, column_sum, combine_sum, 0, 64};
static const reducer reduce_squares = {piece_squares, column_squares, combine_sum, 0, 64};
static const reducer reduce_exp = {piece_exp, column_exp, combine_sum, 0, 64};
static const reducer reduce_max = {piece_max, column_max, combine_max, -INFINITY, 1 << 30};
static const reducer reduce_min = {piece_min, column_min, combine_min, INFINITY, 1 << 30};
/* Products of floats leave their range soon, so each goes into the double. */
static const reducer reduce_product = {piece_product, column_product, combine_product, 1, 1};

typedef struct reduce_state {
    grdi_space kept, reduced;
    int64_t outputs, values; /* how many; values per output */
    bool columns;            /* the last kept axis runs through memory */
    int64_t column_block;    /* columns done together */
    int64_t units, parts, part_values;
    const reducer *first, *second; /* second: with the first's result as parameter */
    double *partial;               /* [parts][outputs] */
    double *before;                /* [outputs]: what the first pass found, where there is a second */
    float *parameter;              /* [outputs]: the same for the second pass to use */
    const reducer *pass;
    enum { PLAIN, MEAN, VARIANCE, LOG } finish;
    double correction;
} reduce_state;

/* ---- planning ---- */

static bool named(const grdi_call *call, const char *name) { return strcmp(call->op->name, name) == 0; }

/* Bit `axis` for each reduced axis of the input. */
static uint32_t reduced_axes(const grdi_call *call)
{
    int32_t rank = call->in[0].dims.rank;
    uint32_t all = (1u << rank) - 1, mask = 0;
    if (named(call, "sum_squares"))
        return all;
    if (named(call, "sum_to")) {
        int32_t missing = rank - call->out[0].dims.rank;
        for (int32_t axis = 0; axis < rank; axis++)
            if (axis < missing || (call->out[0].dims.dim[axis - missing] == 1 && call->in[0].dims.dim[axis] != 1))
                mask |= 1u << axis;
        return mask;
    }
    const grd_attr *axes = grdi_attr_ints(call->attrs, "axes");
    for (int32_t i = 0; i < axes->count; i++)
        mask |= 1u << (axes->ints[i] < 0 ? axes->ints[i] + rank : axes->ints[i]);
    return axes->count ? mask : all;
}

/* Sorts the axes into kept and reduced ones, with the strides of input and output. */
static void sort_axes(const grdi_call *call, reduce_state *state)
{
    const grdi_view *in = &call->in[0], *out = &call->out[0];
    uint32_t mask = reduced_axes(call);
    bool aligned = in->dims.rank == out->dims.rank || named(call, "sum_to"); /* at the last axis */
    int32_t next = 0, missing = in->dims.rank - out->dims.rank;
    state->kept.operands = state->reduced.operands = 2;
    for (int32_t axis = 0; axis < in->dims.rank; axis++) {
        bool reduced = mask >> axis & 1;
        grdi_space *to = reduced ? &state->reduced : &state->kept;
        int32_t at = to->rank++;
        to->dim[at] = in->dims.dim[axis];
        to->stride[IN][at] = in->stride[axis];
        to->stride[OUT][at] = reduced ? 0 : out->stride[aligned ? axis - missing : next];
        next += !reduced;
    }
    grdi_space_merge(&state->kept);
    grdi_space_merge(&state->reduced);
}

/* Moves the kept axis that runs through memory to the end; false if there is none. */
static bool find_columns(reduce_state *state)
{
    grdi_space *kept = &state->kept;
    for (int32_t axis = 0; axis < kept->rank; axis++) {
        if (kept->stride[IN][axis] != 1 || kept->dim[axis] < 4)
            continue;
        int64_t dim = kept->dim[axis], out = kept->stride[OUT][axis];
        for (int32_t a = axis; a < kept->rank - 1; a++) {
            kept->dim[a] = kept->dim[a + 1];
            for (int32_t o = 0; o < 2; o++)
                kept->stride[o][a] = kept->stride[o][a + 1];
        }
        kept->dim[kept->rank - 1] = dim;
        kept->stride[IN][kept->rank - 1] = 1;
        kept->stride[OUT][kept->rank - 1] = out;
        return true;
    }
    return false;
}

static void choose_reducers(const grdi_call *call, reduce_state *state)
{
    static const struct {
        const char *op;
        const reducer *first, *second;
    } known[] = {{"max", &reduce_max, NULL},
                 {"any", &reduce_max, NULL},
                 {"min", &reduce_min, NULL},
                 {"all", &reduce_min, NULL},
                 {"prod", &reduce_product, NULL},
                 {"sum_squares", &reduce_squares, NULL},
                 {"variance", &reduce_sum, &reduce_squares},
                 {"logsumexp", &reduce_max, &reduce_exp}};
    state->first = &reduce_sum;
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        if (named(call, known[i].op)) {
            state->first = known[i].first;
            state->second = known[i].second;
        }
    }
}

/* How the work is cut: into units of outputs, or else into parts of the reduced range. */
static void cut(const grdi_call *call, reduce_state *state)
{
    int64_t threads = call->threads, total = state->outputs * state->values;
    state->column_block = 1;
    if (state->columns) {
        int64_t columns = state->kept.dim[state->kept.rank - 1], outer = state->outputs / columns;
        int64_t wanted = outer >= threads || total < 2 * PARALLEL ? 1 : (threads + outer - 1) / outer;
        int64_t block = (columns + wanted - 1) / wanted;
        block = block < COLUMNS_MIN ? COLUMNS_MIN : block > PIECE_MAX ? PIECE_MAX : (block + 15) / 16 * 16;
        state->column_block = block;
        state->units = outer * ((columns + block - 1) / block);
    } else {
        state->units = state->outputs;
    }
    state->parts = 1;
    if (state->units == 1 && !state->columns) /* whatever the threads */
        state->parts = (total + BLOCK - 1) / BLOCK;
    else if (state->units < threads && total >= 2 * PARALLEL)
        state->parts = threads;
    state->parts = state->parts > BLOCKS_MAX ? BLOCKS_MAX : state->parts;
    state->parts = state->parts > state->values ? state->values : state->parts;
    state->part_values = (state->values + state->parts - 1) / state->parts;
    if (state->reduced.rank > 0 && !state->columns && state->parts > 1) /* whole registers */
        state->part_values = (state->part_values + 63) / 64 * 64;
    state->parts = (state->values + state->part_values - 1) / state->part_values;
}

static grd_status prepare(grdi_call *call, grd_error *error)
{
    reduce_state *state = grdi_alloc_zero(1, sizeof *state);
    if (!state)
        return grd_fail(error, GRD_E_MEMORY, "%s: out of memory", call->op->name);
    call->state = state;
    sort_axes(call, state);
    choose_reducers(call, state);
    state->outputs = grdi_space_count(&state->kept, state->kept.rank);
    state->values = grdi_space_count(&state->reduced, state->reduced.rank);
    bool inner = state->reduced.rank > 0 && state->reduced.stride[IN][state->reduced.rank - 1] == 1;
    state->columns = !inner && find_columns(state);
    state->finish = named(call, "mean")        ? MEAN
                    : named(call, "variance")  ? VARIANCE
                    : named(call, "logsumexp") ? LOG
                                               : PLAIN;
    state->correction = named(call, "variance") ? grdi_attr_float(call->attrs, "correction") : 0;
    cut(call, state);
    size_t partial_bytes = (size_t)(state->outputs * state->parts) * sizeof(double);
    size_t parameter_bytes = state->second ? 2 * (size_t)state->outputs * sizeof(double) : 0;
    call->scratch_bytes = partial_bytes + parameter_bytes;
    return GRD_OK;
}

static void release(grdi_call *call)
{
    grdi_free(call->state);
    call->state = NULL;
}

/* ---- one pass ---- */

static const void *element(const grdi_call *call, int64_t offset)
{
    return grdi_run_at(call->in[0].data, call->in[0].dtype, offset);
}

/* `count` elements as floats: where they lie, if they lie there as floats, else in `buffer`. */
static const float *read_run(const grdi_call *call, int64_t offset, int64_t stride, int64_t count, float *buffer)
{
    if (call->in[0].dtype == GRD_F32 && stride == 1)
        return element(call, offset);
    grdi_run_load(buffer, element(call, offset), call->in[0].dtype, stride, count);
    return buffer;
}

/* Reduces values [begin, end) of the output whose first value is at `offset`. */
static double reduce_one(const grdi_call *call, const reduce_state *state, int64_t offset, int64_t begin, int64_t end,
                         float p)
{
    const grdi_space *reduced = &state->reduced;
    float buffer[PIECE_MAX];
    double result = state->pass->start;
    if (reduced->rank == 1 && reduced->stride[IN][0] == 1 && end - begin <= PIECE_MAX) /* short rows: no walk */
        return state->pass->combine(
            result, state->pass->piece(read_run(call, offset + begin, 1, end - begin, buffer), p, end - begin));
    if (reduced->rank == 0)
        return state->pass->combine(result, state->pass->piece(read_run(call, offset, 0, 1, buffer), p, 1));
    int32_t last = reduced->rank - 1;
    int64_t row = reduced->dim[last], stride = reduced->stride[IN][last];
    grdi_walk walk;
    grdi_walk_start(&walk, reduced, last, begin / row);
    for (int64_t at = begin, column = begin % row; at < end;) {
        int64_t count = row - column;
        count = count > end - at ? end - at : count;
        count = count > PIECE_MAX ? PIECE_MAX : count;
        const float *x = read_run(call, offset + walk.offset[IN] + column * stride, stride, count, buffer);
        result = state->pass->combine(result, state->pass->piece(x, p, count));
        at += count;
        column += count;
        if (column == row) {
            column = 0;
            grdi_walk_next(&walk);
        }
    }
    return result;
}

enum { ADD_ROWS = 8 };

/* part += rows, one after the other. They lie apart, which the processor's own prefetching does not follow, so all of
 * them are read at once. */
static inline __attribute__((always_inline)) void add_rows_of(float *part, const void *const *row, int64_t count,
                                                              const bool half)
{
    int64_t j = 0;
    for (; j + GRDI_LANES <= count; j += GRDI_LANES) {
        grdi_vf sum = grdi_load(part + j);
        for (int r = 0; r < ADD_ROWS; r++)
            sum += half ? grdi_load_bf16((const uint16_t *)row[r] + j) : grdi_load((const float *)row[r] + j);
        grdi_store(part + j, sum);
    }
    for (; j < count; j++)
        for (int r = 0; r < ADD_ROWS; r++)
            part[j] += half ? grdi_bf16_to_f32(((const uint16_t *)row[r])[j]) : ((const float *)row[r])[j];
}

/* Adds the next ADD_ROWS values of `count` neighbouring outputs to `part`; false: not these types. */
static bool add_rows(const grdi_call *call, grdi_walk *walk, int64_t offset, float *part, int64_t count)
{
    const grd_dtype type = call->in[0].dtype;
    if (type != GRD_F32 && type != GRD_BF16)
        return false;
    const void *row[ADD_ROWS];
    for (int r = 0; r < ADD_ROWS; r++, grdi_walk_next(walk))
        row[r] = element(call, offset + walk->offset[IN]);
    if (type == GRD_BF16)
        add_rows_of(part, row, count, true);
    else
        add_rows_of(part, row, count, false);
    return true;
}

/* Brings what `count` columns had so far together with a part that begins anew. */
static void combine_columns(const reducer *pass, double *result, float *part, int64_t count)
{
    if (pass->combine == combine_sum) {
        for (int64_t j = 0; j < count; j++)
            result[j] += part[j], part[j] = 0;
        return;
    }
    for (int64_t j = 0; j < count; j++) {
        result[j] = pass->combine(result[j], part[j]);
        part[j] = (float)pass->start;
    }
}

/* Reduces values [begin, end) of `count` neighbouring outputs. */
static void reduce_columns(const grdi_call *call, const reduce_state *state, int64_t offset, int64_t begin, int64_t end,
                           const float *p, double *result, int64_t count)
{
    float part[PIECE_MAX], buffer[PIECE_MAX];
    const reducer *pass = state->pass;
    for (int64_t j = 0; j < count; j++) {
        result[j] = pass->start;
        part[j] = (float)pass->start;
    }
    grdi_walk walk;
    grdi_walk_start(&walk, &state->reduced, state->reduced.rank, begin);
    const bool sums = pass->column == column_sum;
    int64_t filled = 0;
    for (int64_t at = begin; at < end;) {
        if (sums && end - at >= ADD_ROWS && add_rows(call, &walk, offset, part, count)) {
            at += ADD_ROWS, filled += ADD_ROWS;
        } else {
            pass->column(part, read_run(call, offset + walk.offset[IN], 1, count, buffer), p, count);
            grdi_walk_next(&walk);
            at++, filled++;
        }
        if (filled < pass->column_run && at < end)
            continue;
        filled = 0;
        combine_columns(pass, result, part, count);
    }
}

/* Units [begin, end) of parts times units. */
static void pass_range(int64_t begin, int64_t end, int32_t thread, void *context)
{
    (void)thread;
    const grdi_call *call = context;
    const reduce_state *state = call->state;
    const grdi_space *kept = &state->kept;
    const float *parameter = state->pass == state->second ? state->parameter : NULL;
    int32_t outer_rank = state->columns ? kept->rank - 1 : kept->rank;
    int64_t columns = state->columns ? kept->dim[kept->rank - 1] : 1;
    int64_t blocks = (columns + state->column_block - 1) / state->column_block;
    int64_t part = begin / state->units, outer = begin % state->units / blocks, block = begin % state->units % blocks;
    grdi_walk walk;
    grdi_walk_start(&walk, kept, outer_rank, outer);
    for (int64_t unit = begin; unit < end; unit++) {
        int64_t column = block * state->column_block, output = outer * columns + column;
        int64_t first = part * state->part_values, last = first + state->part_values;
        last = last > state->values ? state->values : last;
        double *result = state->partial + part * state->outputs + output;
        const float *p = parameter ? parameter + output : NULL;
        if (state->columns) {
            int64_t count = columns - column < state->column_block ? columns - column : state->column_block;
            reduce_columns(call, state, walk.offset[IN] + column, first, last, p, result, count);
        } else {
            *result = reduce_one(call, state, walk.offset[IN], first, last, p ? *p : 0.0f);
        }
        if (++block < blocks)
            continue;
        block = 0;
        grdi_walk_next(&walk); /* comes back to the start with the last output */
        if (++outer * blocks == state->units) {
            outer = 0;
            part++;
        }
    }
}

static void run_pass(const grdi_call *call, reduce_state *state, const reducer *pass)
{
    state->pass = pass;
    int64_t units = state->units * state->parts, work = state->outputs * state->values / (units ? units : 1);
    grdi_parallel_for(call->threads, units, PARALLEL / (work + 8) + 1, pass_range, (void *)call);
    for (int64_t part = 1; part < state->parts; part++)
        for (int64_t o = 0; o < state->outputs; o++)
            state->partial[o] = pass->combine(state->partial[o], state->partial[part * state->outputs + o]);
}

/* ---- between and after the passes ---- */

static double finish(const reduce_state *state, double result, double before)
{
    double n = (double)state->values, shift = before - (double)(float)before;
    switch (state->finish) {
    case PLAIN: break;
    case MEAN: return result / n;
    case VARIANCE:
        return (result - n * shift * shift) / (n - state->correction); /* squares are around a rounded mean */
    case LOG: return isfinite(before) ? before + log(result) : before;
    }
    return result;
}

/* Sums and means that lie one after another as floats. */
static void finish_run(float *to, const double *from, double factor, int64_t count, bool add)
{
    for (int64_t i = 0; i < count; i++)
        to[i] = (float)(from[i] * factor + (add ? (double)to[i] : 0.0));
}

static void finish_range(int64_t begin, int64_t end, int32_t thread, void *context)
{
    (void)thread;
    const grdi_call *call = context;
    const reduce_state *state = call->state;
    const grdi_view *out = &call->out[0];
    if (state->finish <= MEAN && out->dtype == GRD_F32 && grdi_space_contiguous(&state->kept, OUT)) {
        double factor = state->finish == MEAN ? 1 / (double)state->values : 1;
        finish_run((float *)out->data + begin, state->partial + begin, factor, end - begin, call->accumulate[0]);
        return;
    }
    grdi_walk walk;
    grdi_walk_start(&walk, &state->kept, state->kept.rank, begin);
    for (int64_t o = begin; o < end; o++, grdi_walk_next(&walk)) {
        double value = finish(state, state->partial[o], state->second ? state->before[o] : 0);
        if (call->accumulate[0])
            value += grdi_run_get(out->data, out->dtype, walk.offset[OUT]);
        grdi_run_put(out->data, out->dtype, walk.offset[OUT], (float)value);
    }
}

static grd_status run(grdi_call *call)
{
    reduce_state *state = call->state;
    state->partial = call->scratch;
    run_pass(call, state, state->first);
    if (state->second) {
        state->before = state->partial + state->outputs * state->parts;
        state->parameter = (float *)(state->before + state->outputs);
        for (int64_t o = 0; o < state->outputs; o++) {
            bool sum = state->first == &reduce_sum;
            state->before[o] = sum ? state->partial[o] / (double)state->values : state->partial[o];
            state->parameter[o] = (float)state->before[o];
        }
        run_pass(call, state, state->second);
    }
    grdi_parallel_for(call->threads, state->outputs, PARALLEL / 8, finish_range, call);
    return GRD_OK;
}

static bool supports(const grdi_call *call)
{
    grd_dtype in = call->in[0].dtype, out = call->out[0].dtype;
    bool floats = (in == GRD_F32 || in == GRD_BF16) && (out == GRD_F32 || out == GRD_BF16);
    bool bools = in == GRD_BOOL && out == GRD_BOOL && !call->may_accumulate[0];
    return (floats || bools) && call->in[0].dims.rank < 32;
}

/* ---- argmax and argmin ---- */

typedef struct arg_state {
    grdi_space kept;
    int64_t count, stride;
    bool most;
} arg_state;

static grd_status arg_prepare(grdi_call *call, grd_error *error)
{
    arg_state *state = grdi_alloc_zero(1, sizeof *state);
    if (!state)
        return grd_fail(error, GRD_E_MEMORY, "%s: out of memory", call->op->name);
    call->state = state;
    const grdi_view *in = &call->in[0], *out = &call->out[0];
    int64_t axis = grdi_attr_int(call->attrs, "axis");
    axis += axis < 0 ? in->dims.rank : 0;
    bool same_rank = in->dims.rank == out->dims.rank;
    state->kept.operands = 2;
    for (int32_t a = 0, next = 0; a < in->dims.rank; a++) {
        if (a == axis)
            continue;
        int32_t at = state->kept.rank++;
        state->kept.dim[at] = in->dims.dim[a];
        state->kept.stride[IN][at] = in->stride[a];
        state->kept.stride[OUT][at] = out->stride[same_rank ? a : next];
        next++;
    }
    state->count = in->dims.dim[axis];
    state->stride = in->stride[axis];
    state->most = named(call, "argmax");
    return GRD_OK;
}

/* The best value piece by piece, then its first place in the best piece. A NaN is never beaten. */
static int32_t arg_one(const grdi_call *call, const arg_state *state, int64_t offset)
{
    float buffer[PIECE_MAX], sign = state->most ? 1.0f : -1.0f;
    double champion = NAN;
    int64_t best = 0;
    for (int64_t at = 0; at < state->count && (at == 0 || champion == champion); at += PIECE_MAX) {
        int64_t count = state->count - at < PIECE_MAX ? state->count - at : PIECE_MAX;
        const float *x = read_run(call, offset + at * state->stride, state->stride, count, buffer);
        double value = sign * (state->most ? piece_max(x, 0, count) : piece_min(x, 0, count));
        if (at == 0 || value > champion || value != value) {
            champion = value;
            best = at;
        }
    }
    int64_t count = state->count - best < PIECE_MAX ? state->count - best : PIECE_MAX, i = 0;
    const float *x = read_run(call, offset + best * state->stride, state->stride, count, buffer);
    while (i < count - 1 && !(champion != champion ? x[i] != x[i] : sign * x[i] == champion))
        i++;
    return (int32_t)(best + i);
}

static void arg_range(int64_t begin, int64_t end, int32_t thread, void *context)
{
    (void)thread;
    const grdi_call *call = context;
    const arg_state *state = call->state;
    grdi_walk walk;
    grdi_walk_start(&walk, &state->kept, state->kept.rank, begin);
    for (int64_t o = begin; o < end; o++, grdi_walk_next(&walk))
        ((int32_t *)call->out[0].data)[walk.offset[OUT]] = arg_one(call, state, walk.offset[IN]);
}

static grd_status arg_run(grdi_call *call)
{
    const arg_state *state = call->state;
    grdi_parallel_for(call->threads, grdi_space_count(&state->kept, state->kept.rank),
                      PARALLEL / (state->count + 8) + 1, arg_range, call);
    return GRD_OK;
}

static bool arg_supports(const grdi_call *call)
{
    return grdi_run_dtype(call->in[0].dtype) && call->out[0].dtype == GRD_I32;
}

#define REDUCE_KERNEL(name)                                                                                            \
    static const grdi_kernel kernel_##name = {.op = #name,                                                             \
                                              .strided_in = 1,                                                         \
                                              .rows_in = 1,                                                            \
                                              .strided_out = 1,                                                        \
                                              .accumulates = 1,                                                        \
                                              .supports = supports,                                                    \
                                              .prepare = prepare,                                                      \
                                              .run = run,                                                              \
                                              .release = release};
#define ARG_KERNEL(name)                                                                                               \
    static const grdi_kernel kernel_##name = {.op = #name,                                                             \
                                              .strided_in = 1,                                                         \
                                              .rows_in = 1,                                                            \
                                              .strided_out = 1,                                                        \
                                              .supports = arg_supports,                                                \
                                              .prepare = arg_prepare,                                                  \
                                              .run = arg_run,                                                          \
                                              .release = release};
REDUCE_KERNEL(sum)
REDUCE_KERNEL(mean)
REDUCE_KERNEL(max)
REDUCE_KERNEL(min)
REDUCE_KERNEL(prod)
REDUCE_KERNEL(variance)
REDUCE_KERNEL(logsumexp)
REDUCE_KERNEL(any)
REDUCE_KERNEL(all)
REDUCE_KERNEL(sum_to)
REDUCE_KERNEL(sum_squares)
ARG_KERNEL(argmax)
ARG_KERNEL(argmin)

const grdi_kernel *const GRDI_ISA_TABLE(reduce)[] = {
    &kernel_sum, &kernel_mean, &kernel_max,    &kernel_min,         &kernel_prod,   &kernel_variance, &kernel_logsumexp,
    &kernel_any, &kernel_all,  &kernel_sum_to, &kernel_sum_squares, &kernel_argmax, &kernel_argmin,   NULL};
