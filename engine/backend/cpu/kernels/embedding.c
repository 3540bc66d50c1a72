/* embedding.c - rows of a table by number, and their gradient. Backward cuts the table into ranges of columns, one for
 * each thread: every thread goes through all ids in order, so sums come out the same for any number of threads. */
#include "backend/cpu/kernels/rows.h"
#include "backend/cpu/parallel.h"

enum { GRAIN = 16384, COLUMNS_MIN = 16 };

/* ---- forward: table [V,C], ids [...] -> [...,C] ---- */

static void fill_missing(const grdi_view *out, int64_t offset, int64_t count)
{
    for (int64_t c = 0; c < count; c++)
        grdi_run_put(out->data, out->dtype, offset + c, NAN);
}

static void embedding_range(int64_t begin, int64_t end, int32_t thread, void *context)
{
    (void)thread;
    const grdi_call *call = context;
    const grdi_view *table = &call->in[0], *out = &call->out[0];
    const int32_t *ids = call->in[1].data;
    int64_t rows = table->dims.dim[0], width = table->dims.dim[1];
    size_t row_bytes = (size_t)width * grd_dtype_size(table->dtype);
    for (int64_t i = begin; i < end; i++) {
        int64_t id = ids[i];
        if (id < 0 || id >= rows) {
            fill_missing(out, i * width, width);
            continue;
        }
        const void *from = grdi_run_at(table->data, table->dtype, id * table->stride[0]);
        void *to = grdi_run_at(out->data, out->dtype, i * width);
        if (table->dtype == out->dtype)
            memcpy(to, from, row_bytes);
        else
            grdi_run_convert(to, out->dtype, from, table->dtype, width);
    }
}

static grd_status embedding_run(grdi_call *call)
{
    grdi_parallel_for(call->threads, grd_dims_count(call->in[1].dims), GRAIN / call->in[0].dims.dim[1] + 1,
                      embedding_range, call);
    return GRD_OK;
}

static bool embedding_supports(const grdi_call *call)
{
    return grdi_is_activation(call->in[0].dtype) && grdi_is_activation(call->out[0].dtype) &&
           call->in[1].dtype == GRD_I32;
}

/* ---- backward: g [...,C], ids [...] -> [V,C] ---- */

static void add_run(float *to, const grdi_view *g, int64_t offset, int64_t count)
{
    int64_t i = 0;
    if (g->dtype == GRD_F32) {
        const float *from = (const float *)g->data + offset;
        for (; i + GRDI_LANES <= count; i += GRDI_LANES)
            grdi_store(to + i, grdi_load(to + i) + grdi_load(from + i));
    } else {
        const uint16_t *from = (const uint16_t *)g->data + offset;
        for (; i + GRDI_LANES <= count; i += GRDI_LANES)
            grdi_store(to + i, grdi_load(to + i) + grdi_load_bf16(from + i));
    }
    for (; i < count; i++)
        to[i] += grdi_run_get(g->data, g->dtype, offset + i);
}

/* Where the sums are made: the output itself if it holds floats, else scratch [V,C]. */
static float *sums_of(const grdi_call *call)
{
    return call->out[0].dtype == GRD_F32 ? call->out[0].data : call->scratch;
}

/* Columns [begin, end). */
static void backward_range(int64_t begin, int64_t end, int32_t thread, void *context)
{
    (void)thread;
    const grdi_call *call = context;
    const grdi_view *g = &call->in[0], *out = &call->out[0];
    const int32_t *ids = call->in[1].data;
    int64_t rows = out->dims.dim[0], width = out->dims.dim[1], count = grd_dims_count(call->in[1].dims);
    float *sums = sums_of(call);
    for (int64_t v = 0; v < rows && (sums != out->data || !call->accumulate[0]); v++)
        memset(sums + v * width + begin, 0, (size_t)(end - begin) * sizeof(float));
    for (int64_t i = 0; i < count; i++)
        if (ids[i] >= 0 && ids[i] < rows)
            add_run(sums + ids[i] * width + begin, g, i * width + begin, end - begin);
    for (int64_t v = 0; v < rows && sums != out->data; v++)
        grdi_run_store(grdi_run_at(out->data, out->dtype, v * width + begin), out->dtype, 1, sums + v * width + begin,
                       end - begin, call->accumulate[0]);
}

static grd_status backward_prepare(grdi_call *call, grd_error *error)
{
    (void)error;
    bool floats = call->out[0].dtype == GRD_F32;
    call->scratch_bytes = floats ? 0 : (size_t)grd_dims_count(call->out[0].dims) * sizeof(float);
    return GRD_OK;
}

static grd_status backward_run(grdi_call *call)
{
    int64_t width = call->out[0].dims.dim[1], grain = (width + call->threads - 1) / call->threads;
    bool small = grd_dims_count(call->out[0].dims) + grd_dims_count(call->in[0].dims) < 2 * GRAIN;
    grain = (grain + COLUMNS_MIN - 1) / COLUMNS_MIN * COLUMNS_MIN;
    grdi_parallel_for(call->threads, width, small ? width : grain, backward_range, call);
    return GRD_OK;
}

static const grdi_kernel kernel_embedding = {
    .op = "embedding", .rows_in = 1, .supports = embedding_supports, .run = embedding_run};
static const grdi_kernel kernel_embedding_backward = {.op = "embedding_backward",
                                                      .accumulates = 1,
                                                      .supports = embedding_supports,
                                                      .prepare = backward_prepare,
                                                      .run = backward_run};

const grdi_kernel *const GRDI_ISA_TABLE(embedding)[] = {&kernel_embedding, &kernel_embedding_backward, NULL};
