/* classifier.cu - linear_cross_entropy: x [N,C] w [V,C] -> losses and both gradients, some rows at a time, so that all
 * logits [N,V] never lie in memory. They are of the operands' dtype, and losses of them are made in f32. Chunks are
 * added in order: the same bits in every run. */
#include "ops/cross_entropy.cuh"

#include "device/table.cuh"

namespace
{

enum { CHUNK_BYTES = 640 << 20, CHUNK_ROWS = 64, CHUNK_BYTES_SMALL = 256, CHUNK_ROWS_SMALL = 4 };
enum { TILE_ROWS = 128, TILE_COLUMNS = 256 }; /* of the fastest products of an H100 */
enum { X, W, TARGETS, SCALE };
enum { LOSS, LOSSES, DX, DW };

/* The products of one chunk. */
struct chunk_products {
    grdi_product logits, dx, dw;
};

struct classifier_state {
    chunk_products whole, rest; /* rest: of the last chunk, where it is shorter */
    int64_t rows, classes, channels, chunk;
    size_t losses_at; /* in scratch, behind the logits, over which their slopes are written */
    grd_dtype logits; /* in bf16 where the operands are */
};

/* As many of at most `fit` rows as make tiles of dx for all multiprocessors some times over: each tile is a sum over
 * all classes, so that a last wave that leaves most of them idle would cost as much as a full one. Then less, so that
 * all chunks are about alike. */
int64_t rows_in_waves(const grdi_call *call, int64_t rows, int64_t fit)
{
    int64_t across = (call->in[X].dims.dim[1] + TILE_COLUMNS - 1) / TILE_COLUMNS;
    int64_t at_once = call->device->multiprocessors, waves = fit / TILE_ROWS * across / at_once;
    if (waves * at_once >= across) fit = waves * at_once / across * TILE_ROWS;
    int64_t chunks = (rows + fit - 1) / fit, alike = (rows + chunks - 1) / chunks;
    alike = (alike + TILE_ROWS - 1) / TILE_ROWS * TILE_ROWS;
    return alike < fit ? alike : fit;
}

/* Chunks are large, since each reads and writes all of dw in f32: 640 MiB of logits are two waves of dx's tiles or one
 * for usual vocabularies, and less than the layers before keep of as many rows. */
int64_t chunk_rows(const grdi_call *call)
{
    int64_t rows = call->in[X].dims.dim[0],
            row_bytes = call->in[W].dims.dim[0] * (int64_t)grd_dtype_size(call->in[X].dtype);
    bool small = call->device->small;
    int64_t bytes = small ? CHUNK_BYTES_SMALL : CHUNK_BYTES, least = small ? CHUNK_ROWS_SMALL : CHUNK_ROWS;
    int64_t fit = bytes / row_bytes / least * least;
    fit = fit < least ? least : fit;
    if (fit < rows && fit >= TILE_ROWS) fit = rows_in_waves(call, rows, fit);
    return fit < rows ? fit : rows;
}

grd_status prepare(grdi_call *call, grd_error *error)
{
    classifier_state *s = (classifier_state *)grdi_alloc_zero(1, sizeof *s);
    if (!s) return grd_fail(error, GRD_E_MEMORY, "%s: out of memory", call->op->name);
    s->rows = call->in[X].dims.dim[0], s->channels = call->in[X].dims.dim[1];
    s->classes = call->in[W].dims.dim[0];
    s->logits = call->in[X].dtype;
    s->chunk = chunk_rows(call);
    s->losses_at = grdi_cuda_room((size_t)(s->chunk * s->classes) * grd_dtype_size(s->logits));
    call->scratch_bytes = s->losses_at + (size_t)s->rows * sizeof(float);
    call->state = s;
    return GRD_OK;
}

grd_status plan_chunk(const grdi_call *call, classifier_state *s, chunk_products *c, int64_t rows, grd_error *error)
{
    size_t element = grd_dtype_size(call->in[X].dtype), dx_element = grd_dtype_size(call->out[DX].dtype);
    size_t step = (size_t)(s->chunk * s->channels);
    grdi_matrix x = {call->in[X].data, call->in[X].dtype, false, s->channels, 0, step * element};
    grdi_matrix w = {call->in[W].data, call->in[W].dtype, false, s->channels, 0, 0}, w_turned = w;
    grdi_matrix slopes = {call->scratch, s->logits, false, s->classes, 0, 0};
    grdi_matrix slopes_turned = slopes;
    w_turned.transposed = slopes_turned.transposed = true;
    grd_status status = GRD_OK;
    c->logits = grdi_product{.m = rows,
                             .n = s->classes,
                             .k = s->channels,
                             .batch = 1,
                             .a = x,
                             .b = w_turned,
                             .y = {call->scratch, s->logits, false, s->classes, 0, 0}};
    c->dx = grdi_product{.m = rows,
                         .n = s->channels,
                         .k = s->classes,
                         .batch = 1,
                         .a = slopes,
                         .b = w,
                         .y = {call->out[DX].data, call->out[DX].dtype, false, s->channels, 0, step * dx_element}};
    c->dw = grdi_product{.m = s->classes,
                         .n = s->channels,
                         .k = rows,
                         .batch = 1,
                         .a = slopes_turned,
                         .b = x,
                         .y = {call->out[DW].data, call->out[DW].dtype, false, s->channels, 0, 0}};
    status = grdi_product_plan(call->device, &c->logits, error);
    if (s->logits == GRD_F16) c->dx.alpha = c->dw.alpha = call->in[SCALE].data;
    if (!status && call->out[DX].data) status = grdi_product_plan(call->device, &c->dx, error);
    if (!status && call->out[DW].data) status = grdi_product_plan(call->device, &c->dw, error);
    return status;
}

void release_chunk(grdi_device *device, chunk_products *c)
{
    grdi_product_release(device, &c->logits);
    grdi_product_release(device, &c->dx);
    grdi_product_release(device, &c->dw);
}

grd_status bind(grdi_call *call, grd_error *error)
{
    classifier_state *s = (classifier_state *)call->state;
    release_chunk(call->device, &s->whole);
    release_chunk(call->device, &s->rest);
    grd_status status = plan_chunk(call, s, &s->whole, s->chunk, error);
    if (!status && s->rows % s->chunk) status = plan_chunk(call, s, &s->rest, s->rows % s->chunk, error);
    return status;
}

grd_status run_chunk(const grdi_call *call, const classifier_state *s, const chunk_products &c, int64_t first,
                     int64_t rows, cells losses)
{
    grdi_device *device = call->device;
    void *logits = call->scratch;
    const char *x = (const char *)call->in[X].data + (size_t)(first * s->channels) * grd_dtype_size(call->in[X].dtype);
    bool backward = call->out[DX].data || call->out[DW].data;
    grd_status status = grdi_product_run(device, &c.logits, x, call->in[W].data, logits, false);
    grdi_loss_rows_task t = {.logits = cells{logits, (int32_t)s->logits},
                             .losses = losses,
                             .scale = cells_of(call->in[SCALE]),
                             .targets = (const int32_t *)call->in[TARGETS].data + first,
                             .count = rows,
                             .classes = s->classes,
                             .recipe = grdi_loss_recipe_of(call, true),
                             .slopes = backward};
    /* slopes times the scale, one by the number of rows, would be too small for f16: the products have it */
    if (s->logits == GRD_F16) t.scale = cells{(void *)(device->lt.numbers + 1), GRD_F32};
    t.losses.data = (char *)losses.data + (size_t)first * grd_dtype_size((grd_dtype)losses.dtype);
    if (!status) status = grdi_loss_rows(call, t);
    char *dx = (char *)call->out[DX].data;
    if (!status && dx)
        status = grdi_product_run(device, &c.dx, logits, call->in[W].data,
                                  dx + (size_t)(first * s->channels) * grd_dtype_size(call->out[DX].dtype), false);
    if (!status && call->out[DW].data)
        status = grdi_product_run(device, &c.dw, logits, x, call->out[DW].data, first > 0 || call->accumulate[DW]);
    return status;
}

grd_status run(grdi_call *call)
{
    const classifier_state *s = (const classifier_state *)call->state;
    cells losses =
        call->out[LOSSES].data ? cells_of(call->out[LOSSES]) : cells{(char *)call->scratch + s->losses_at, GRD_F32};
    grd_status status = GRD_OK;
    grdi_cuda_stream(call); /* makes the device current for the products */
    for (int64_t first = 0; first < s->rows && !status; first += s->chunk) {
        bool whole = first + s->chunk <= s->rows;
        status = run_chunk(call, s, whole ? s->whole : s->rest, first, whole ? s->chunk : s->rows - first, losses);
    }
    if (!status && call->out[LOSS].data)
        status = grdi_loss_sum(call, losses, s->rows, cells_of(call->in[SCALE]), cells_of(call->out[LOSS]));
    return status;
}

void release(grdi_call *call)
{
    classifier_state *s = (classifier_state *)call->state;
    if (s) {
        release_chunk(call->device, &s->whole);
        release_chunk(call->device, &s->rest);
    }
    grdi_free(s);
    call->state = nullptr;
}

/* Logits are written by a product, read and written as slopes by the losses' kernel (a row at a time, in shared memory
 * or the cache), and read by two products; those of each chunk read w and dw. */
double bytes(const grdi_call *call)
{
    double rows = (double)call->in[X].dims.dim[0], classes = (double)call->in[W].dims.dim[0];
    double element_bytes = (double)grd_dtype_size(call->in[X].dtype), channels = (double)call->in[X].dims.dim[1];
    int64_t chunk = chunk_rows(call);
    double chunks = (double)((call->in[X].dims.dim[0] + chunk - 1) / chunk);
    double weights = classes * channels * (2 * element_bytes + 2 * sizeof(float));
    return grdi_cuda_bytes(call) + rows * (5 * classes + channels) * element_bytes + (chunks - 1) * weights +
           classes * channels * element_bytes + 2 * rows * sizeof(float);
}

/* The weights' gradient is a sum over chunks, and stays in f32; the slopes are narrow as the operands are. */
bool supports(const grdi_call *call)
{
    grd_dtype x = call->in[X].dtype;
    return is_value(x) && call->in[W].dtype == x && (x != GRD_F16 || call->in[SCALE].dtype == GRD_F32) &&
           call->in[TARGETS].dtype == GRD_I32 && is_value(call->in[SCALE].dtype) && is_value(call->out[LOSS].dtype) &&
           is_value(call->out[LOSSES].dtype) && (call->out[DX].dtype == GRD_F32 || call->out[DX].dtype == x) &&
           call->out[DW].dtype == GRD_F32;
}

const grdi_kernel kernel = {.op = "linear_cross_entropy",
                            .accumulates = 1u << DW,
                            .supports = supports,
                            .prepare = prepare,
                            .bind = bind,
                            .run = run,
                            .release = release,
                            .bytes_of = bytes};

} // namespace

GRDI_CUDA_TABLE(classifier, &kernel)
