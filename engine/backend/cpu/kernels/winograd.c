/* winograd.c - 3x3 convolutions by the minimal filtering F(2x2,3x3): Lavin and Gray, "Fast Algorithms for Convolutional
 * Neural Networks", 2015. A tile of 2x2 results is made of 4x4 inputs d and the filter g as
 *
 *     A^T [(G g G^T) * (B^T d B)] A
 *
 * where * multiplies element by element and sums over channels, so that each of the 16 elements is a product of
 * matrices [tiles x channels] [channels x channels]: 16 multiplications instead of 36. All coefficients are 0, 1, -1
 * and 1/2, so rounding stays close to that of plain sums. The gradient by the input is the same with the filters
 * turned; the gradient by the filters is the adjoint, G^T [(B^T d B)^T * (A gy A^T)] G summed over tiles. Values in
 * bf16 are read as they lie and multiplied in f32: transformed ones need more digits than bf16 has. */
#include "backend/cpu/kernels/winograd.h"

#include "backend/cpu/kernels/gemm_pack.h"
#include "backend/cpu/parallel.h"

enum {
    EDGE = 4, /* of a tile of inputs */
    ELEMENTS = EDGE * EDGE,
    TAPS = 9,
    BLOCK = 16,           /* channels by channels of filters that are turned at once; channels come in whole blocks */
    CHUNK = 48,           /* tiles that are transformed and multiplied at a time */
    GRADIENT_CHUNK = 120, /* tiles that are summed at a time */
    CHANNELS_LEAST = 32,  /* fewer are not worth the transforms */
    TILES_LEAST = 32,     /* fewer are not worth those of the filters */
    PAD = 16              /* floats of a cache line; keeps rows from lying a power of two apart */
};

typedef struct winograd {
    const void *x, *w, *y, *bias;                    /* what is read */
    void *to;                                        /* what is written */
    bool x_half, w_half, y_half, to_half, bias_half; /* in bf16 */
    int64_t n, from, into; /* samples; channels that are summed over, channels that come out */
    int64_t in_h, in_w, out_h, out_w, pad_h, pad_w;
    int64_t tiles_h, tiles_w, tiles, chunk;
    int64_t a_row, a_plane, b_row, b_plane, u_plane; /* floats between rows and between elements of tiles */
    bool turned;                                     /* filters are for the gradient by the input */
    bool add;
    int64_t parts;           /* of the channels that are summed over, for the gradient by the filters */
    float *none, *u, *tiled; /* a row of zeros; filters, or their gradient; tiles of each thread */
} winograd;

/* Whole cache lines, an odd number of them: what lies so far apart falls into different sets of a cache. */
static int64_t odd_lines(int64_t floats)
{
    int64_t lines = (floats + PAD - 1) / PAD;
    return (lines | 1) * PAD;
}

/* Sizes of everything for `threads`; no pointers. */
static winograd plan_of(const grdi_convolution *c, int32_t threads)
{
    const grdi_window *h = &c->window[GRDI_WINDOW_AXES - 2], *w = &c->window[GRDI_WINDOW_AXES - 1];
    winograd p = {.n = c->n,
                  .from = c->c,
                  .into = c->o,
                  .in_h = h->in,
                  .in_w = w->in,
                  .out_h = h->out,
                  .out_w = w->out,
                  .pad_h = h->padding,
                  .pad_w = w->padding,
                  .parts = threads <= EDGE ? 1 : (threads + EDGE - 1) / EDGE};
    if (c->kind == GRDI_CONVOLUTION_INPUT_GRADIENT) {
        p.turned = true;
        p.from = c->o, p.into = c->c;
        p.in_h = h->out, p.in_w = w->out, p.out_h = h->in, p.out_w = w->in;
        p.pad_h = 2 - h->padding, p.pad_w = 2 - w->padding;
    }
    p.tiles_h = (p.out_h + 1) / 2, p.tiles_w = (p.out_w + 1) / 2;
    p.tiles = p.n * p.tiles_h * p.tiles_w;
    p.x_half = (p.turned ? c->y_type : c->x_type) == GRD_BF16, p.w_half = c->w_type == GRD_BF16;
    p.to_half = (p.turned ? c->x_type : c->y_type) == GRD_BF16, p.y_half = c->y_type == GRD_BF16;
    p.bias_half = c->bias_type == GRD_BF16;
    bool gradient = c->kind == GRDI_CONVOLUTION_WEIGHT_GRADIENT;
    p.chunk = gradient ? GRADIENT_CHUNK : CHUNK;
    p.a_row = p.from + PAD, p.b_row = gradient ? p.into + PAD : GEMM_COLUMNS;
    p.a_plane = odd_lines(p.chunk * p.a_row), p.b_plane = odd_lines(p.chunk * p.b_row);
    p.u_plane = odd_lines(p.from * gemm_up(p.into, GEMM_COLUMNS));
    return p;
}

/* ---- places of tiles ---- */

typedef struct tile_place {
    int64_t sample, row, column; /* of the tile */
} tile_place;

static tile_place place_of(const winograd *p, int64_t tile)
{
    return (tile_place){tile / (p->tiles_h * p->tiles_w), tile / p->tiles_w % p->tiles_h, tile % p->tiles_w};
}

static void next_place(const winograd *p, tile_place *at)
{
    if (++at->column < p->tiles_w) return;
    at->column = 0;
    if (++at->row < p->tiles_h) return;
    at->row = 0, at->sample++;
}

/* Where the channels of (row, column) of the sample's inputs, or of its results, lie; `none` outside. */
static const void *input_at(const winograd *p, int64_t sample, int64_t row, int64_t column)
{
    bool inside = row >= 0 && row < p->in_h && column >= 0 && column < p->in_w;
    return inside ? gemm_at(p->x, ((sample * p->in_h + row) * p->in_w + column) * p->from, p->x_half) : p->none;
}

static int64_t result_at(const winograd *p, int64_t sample, int64_t row, int64_t column)
{
    bool inside = row < p->out_h && column < p->out_w;
    return inside ? ((sample * p->out_h + row) * p->out_w + column) * p->into : -1;
}

/* ---- filters: G g G^T ---- */

/* One line: g[3] -> u[4] */
GEMM_INLINE void filter_line(const grdi_vf g[3], grdi_vf u[EDGE])
{
    grdi_vf half = (g[0] + g[2]) * 0.5f, middle = g[1] * 0.5f;
    u[0] = g[0], u[1] = half + middle, u[2] = half - middle, u[3] = g[2];
}

/* BLOCK x BLOCK filters as they lie, [outer][inner][tap], one tap after the other: taps[tap][k][n]. */
static void take_filters(const winograd *p, int64_t k, int64_t n, float taps[TAPS][BLOCK][BLOCK])
{
    for (int64_t a = 0; a < BLOCK; a++)
        for (int64_t b = 0; b < BLOCK; b++) {
            int64_t at = (p->turned ? (k + a) * p->into + n + b : (n + a) * p->from + k + b) * TAPS;
            for (int tap = 0; tap < TAPS; tap++) {
                float w = gemm_load1(p->w, at + tap, p->w_half);
                if (p->turned) taps[TAPS - 1 - tap][a][b] = w;
                else taps[tap][b][a] = w;
            }
        }
}

/* Blocks of filters into slivers as tiles of products read B: u[element][sliver][k][GEMM_COLUMNS]. */
static void transform_filters(int64_t begin, int64_t end, int32_t thread, void *context)
{
    const winograd *p = context;
    float taps[TAPS][BLOCK][BLOCK];
    (void)thread;
    for (int64_t block = begin; block < end; block++) {
        int64_t k = block % (p->from / BLOCK) * BLOCK, n = block / (p->from / BLOCK) * BLOCK;
        take_filters(p, k, n, taps);
        for (int64_t a = 0; a < BLOCK; a++)
            for (int64_t b = 0; b < BLOCK; b += GRDI_LANES) {
                grdi_vf g[3][3], lines[3][EDGE], u[EDGE];
                for (int tap = 0; tap < TAPS; tap++) g[tap % 3][tap / 3] = grdi_load(&taps[tap][a][b]);
                for (int i = 0; i < 3; i++) filter_line(g[i], lines[i]);
                int64_t sliver = (n + b) / GEMM_COLUMNS * GEMM_COLUMNS;
                float *to = p->u + sliver * p->from + (k + a) * GEMM_COLUMNS + (n + b) % GEMM_COLUMNS;
                for (int i = 0; i < EDGE; i++) {
                    filter_line((grdi_vf[3]){lines[0][i], lines[1][i], lines[2][i]}, u);
                    for (int j = 0; j < EDGE; j++) grdi_store(to + (i * EDGE + j) * p->u_plane, u[j]);
                }
            }
    }
}

/* ---- inputs: B^T d B ---- */

/* One line: d[4] -> v[4] */
GEMM_INLINE void input_line(const grdi_vf d[EDGE], grdi_vf v[EDGE])
{
    v[0] = d[0] - d[2], v[1] = d[1] + d[2], v[2] = d[2] - d[1], v[3] = d[1] - d[3];
}

GEMM_INLINE void transform_inputs_of(const winograd *p, int64_t first, int64_t count, const bool half, float *to)
{
    tile_place place = place_of(p, first);
    for (int64_t t = 0; t < count; t++, next_place(p, &place)) {
        const void *at[ELEMENTS];
        for (int e = 0; e < ELEMENTS; e++)
            at[e] =
                input_at(p, place.sample, 2 * place.row - p->pad_h + e / EDGE, 2 * place.column - p->pad_w + e % EDGE);
        for (int64_t c = 0; c < p->from; c += GRDI_LANES) {
            grdi_vf lines[EDGE][EDGE], v[EDGE]; /* [column][row], then a row */
            GEMM_UNROLL
            for (int j = 0; j < EDGE; j++) {
                grdi_vf d[EDGE];
                GEMM_UNROLL
                for (int i = 0; i < EDGE; i++) d[i] = gemm_load(at[i * EDGE + j], c, half);
                input_line(d, lines[j]);
            }
            GEMM_UNROLL
            for (int i = 0; i < EDGE; i++) {
                input_line((grdi_vf[EDGE]){lines[0][i], lines[1][i], lines[2][i], lines[3][i]}, v);
                GEMM_UNROLL
                for (int j = 0; j < EDGE; j++) grdi_store(to + (i * EDGE + j) * p->a_plane + t * p->a_row + c, v[j]);
            }
        }
    }
}

static void transform_inputs(const winograd *p, int64_t first, int64_t count, float *to)
{
    if (p->x_half) transform_inputs_of(p, first, count, true, to);
    else transform_inputs_of(p, first, count, false, to);
}

/* ---- results: A^T m A ---- */

GEMM_INLINE void result_line(const grdi_vf m[EDGE], grdi_vf y[2])
{
    y[0] = m[0] + m[1] + m[2], y[1] = m[1] - m[2] - m[3];
}

/* Columns [column, column + columns) of the results of `count` tiles; the channels of each lie at at[tile][element]. */
static void transform_results(const winograd *p, int64_t count, int64_t column, int64_t columns, const int64_t (*at)[4],
                              const float *from)
{
    for (int64_t t = 0; t < count; t++)
        for (int64_t c = 0; c < columns; c += GRDI_LANES) {
            grdi_vf lines[EDGE][2], y[2];
            grdi_vf bias = p->bias ? gemm_load(p->bias, column + c, p->bias_half) : (grdi_vf){0};
            GEMM_UNROLL
            for (int j = 0; j < EDGE; j++) {
                grdi_vf m[EDGE];
                GEMM_UNROLL
                for (int i = 0; i < EDGE; i++) m[i] = grdi_load(from + (i * EDGE + j) * p->b_plane + t * p->b_row + c);
                result_line(m, lines[j]);
            }
            GEMM_UNROLL
            for (int i = 0; i < 2; i++) {
                result_line((grdi_vf[EDGE]){lines[0][i], lines[1][i], lines[2][i], lines[3][i]}, y);
                GEMM_UNROLL
                for (int j = 0; j < 2; j++) {
                    int64_t to = at[t][2 * i + j] + column + c;
                    if (at[t][2 * i + j] < 0) continue;
                    if (p->to_half) grdi_store_bf16((uint16_t *)p->to + to, y[j] + bias);
                    else grdi_store((float *)p->to + to, y[j] + bias);
                }
            }
        }
}

/* ---- y or the gradient by x: threads take tiles ---- */

/* A sliver of columns of the tiles' products: each element [tiles x from] [from x columns]. */
static void multiply_sliver(const winograd *p, int64_t count, int64_t column, int64_t columns, const float *a,
                            float *to)
{
    for (int e = 0; e < ELEMENTS; e++)
        for (int64_t t = 0; t < count; t += GEMM_ROWS) {
            gemm_end end = {.c = to + e * p->b_plane + t * p->b_row, .c_row = p->b_row};
            GRDI_ISA_NAME(grdi_gemm_tile)
            ((int)gemm_least(GEMM_ROWS, count - t), columns < GEMM_COLUMNS ? 1 : GEMM_VECTORS, GEMM_BY_K, p->from,
             a + e * p->a_plane + t * p->a_row, p->a_row, p->u + e * p->u_plane + column * p->from, GEMM_COLUMNS, &end);
        }
}

static void convolve_tiles(int64_t begin, int64_t end, int32_t thread, void *context)
{
    const winograd *p = context;
    float *a = p->tiled + thread * ELEMENTS * (p->a_plane + p->b_plane), *b = a + ELEMENTS * p->a_plane;
    int64_t at[CHUNK][4];
    for (int64_t first = begin; first < end; first += p->chunk) {
        int64_t count = gemm_least(p->chunk, end - first);
        tile_place place = place_of(p, first);
        for (int64_t t = 0; t < count; t++, next_place(p, &place))
            for (int e = 0; e < 4; e++)
                at[t][e] = result_at(p, place.sample, 2 * place.row + e / 2, 2 * place.column + e % 2);
        transform_inputs(p, first, count, a);
        for (int64_t column = 0; column < p->into; column += GEMM_COLUMNS) {
            int64_t columns = gemm_least(GEMM_COLUMNS, p->into - column);
            multiply_sliver(p, count, column, columns, a, b);
            transform_results(p, count, column, columns, (const int64_t(*)[4])at, b);
        }
    }
}

/* ---- the gradient by the filters: threads take rows of the 4x4 elements, and parts of the channels of x ---- */

/* Row `row` of B^T d B for channels [begin, end): two rows of d, added or subtracted, then along them. */
GEMM_INLINE void transform_input_row(const winograd *p, int64_t first, int64_t count, int row, int64_t begin,
                                     int64_t end, const bool half, float *to)
{
    static const int above[EDGE] = {0, 1, 2, 1}, below[EDGE] = {2, 2, 1, 3};
    static const float sign[EDGE] = {-1, 1, -1, -1};
    tile_place place = place_of(p, first);
    const grdi_vf factor = grdi_set(sign[row]);
    for (int64_t t = 0; t < count; t++, next_place(p, &place)) {
        const void *a[EDGE], *b[EDGE];
        for (int j = 0; j < EDGE; j++) {
            int64_t top = 2 * place.row - p->pad_h, column = 2 * place.column - p->pad_w + j;
            a[j] = input_at(p, place.sample, top + above[row], column);
            b[j] = input_at(p, place.sample, top + below[row], column);
        }
        for (int64_t c = begin; c < end; c += GRDI_LANES) {
            grdi_vf d[EDGE], v[EDGE];
            GEMM_UNROLL
            for (int j = 0; j < EDGE; j++) d[j] = gemm_load(a[j], c, half) + factor * gemm_load(b[j], c, half);
            input_line(d, v);
            GEMM_UNROLL
            for (int j = 0; j < EDGE; j++) grdi_store(to + j * p->a_plane + t * p->a_row + c - begin, v[j]);
        }
    }
}

/* Row `row` of A gy A^T. */
GEMM_INLINE void transform_gradient_row(const winograd *p, int64_t first, int64_t count, int row, const bool half,
                                        float *to)
{
    static const float upper[EDGE] = {1, 1, 1, 0}, lower[EDGE] = {0, 1, -1, -1};
    const grdi_vf up = grdi_set(upper[row]), low = grdi_set(lower[row]);
    tile_place place = place_of(p, first);
    for (int64_t t = 0; t < count; t++, next_place(p, &place)) {
        const void *at[4];
        for (int e = 0; e < 4; e++) {
            int64_t offset = result_at(p, place.sample, 2 * place.row + e / 2, 2 * place.column + e % 2);
            at[e] = offset < 0 || (e < 2 ? upper : lower)[row] == 0 ? p->none : gemm_at(p->y, offset, half);
        }
        for (int64_t c = 0; c < p->into; c += GRDI_LANES) {
            grdi_vf left = up * gemm_load(at[0], c, half) + low * gemm_load(at[2], c, half);
            grdi_vf right = up * gemm_load(at[1], c, half) + low * gemm_load(at[3], c, half);
            grdi_vf m[EDGE] = {left, left + right, left - right, -right};
            GEMM_UNROLL
            for (int j = 0; j < EDGE; j++) grdi_store(to + j * p->b_plane + t * p->b_row + c, m[j]);
        }
    }
}

/* u += a^T b: [channels x tiles] [tiles x into] */
static void sum_element(const winograd *p, int64_t channels, int64_t count, const float *a, const float *b, bool add,
                        float *u)
{
    for (int64_t column = 0; column < p->into; column += GEMM_COLUMNS) {
        int vectors = p->into - column < GEMM_COLUMNS ? 1 : GEMM_VECTORS;
        for (int64_t c = 0; c < channels; c += GEMM_ROWS) {
            gemm_end end = {.c = u + c * p->into + column, .c_row = p->into, .add = add};
            GRDI_ISA_NAME(grdi_gemm_tile)
            ((int)gemm_least(GEMM_ROWS, channels - c), vectors, GEMM_BY_ROW, count, a + c, p->a_row, b + column,
             p->b_row, &end);
        }
    }
}

static void sum_rows(int64_t begin, int64_t end, int32_t thread, void *context)
{
    const winograd *p = context;
    float *a = p->tiled + thread * EDGE * (p->a_plane + p->b_plane), *b = a + EDGE * p->a_plane;
    int64_t blocks = p->from / BLOCK;
    for (int64_t item = begin; item < end; item++) {
        int row = (int)(item / p->parts);
        int64_t part = item % p->parts, from = blocks * part / p->parts * BLOCK;
        int64_t to = blocks * (part + 1) / p->parts * BLOCK;
        for (int64_t first = 0; first < p->tiles && from < to; first += p->chunk) {
            int64_t count = gemm_least(p->chunk, p->tiles - first);
            if (p->x_half) transform_input_row(p, first, count, row, from, to, true, a);
            else transform_input_row(p, first, count, row, from, to, false, a);
            if (p->y_half) transform_gradient_row(p, first, count, row, true, b);
            else transform_gradient_row(p, first, count, row, false, b);
            for (int j = 0; j < EDGE; j++)
                sum_element(p, to - from, count, a + j * p->a_plane, b + j * p->b_plane, first > 0,
                            p->u + (row * EDGE + j) * p->u_plane + from * p->into);
        }
    }
}

/* One line: u[4] -> g[3] */
GEMM_INLINE void gradient_line(const grdi_vf u[EDGE], grdi_vf g[3])
{
    grdi_vf sum = (u[1] + u[2]) * 0.5f;
    g[0] = u[0] + sum, g[1] = (u[1] - u[2]) * 0.5f, g[2] = sum + u[3];
}

/* Blocks of G^T u G, u[element][from][into], to filters [into][from][tap]. */
static void store_gradients(int64_t begin, int64_t end, int32_t thread, void *context)
{
    const winograd *p = context;
    float taps[TAPS][BLOCK][BLOCK];
    (void)thread;
    for (int64_t block = begin; block < end; block++) {
        int64_t k = block % (p->from / BLOCK) * BLOCK, n = block / (p->from / BLOCK) * BLOCK;
        for (int64_t a = 0; a < BLOCK; a++)
            for (int64_t b = 0; b < BLOCK; b += GRDI_LANES) {
                const float *u = p->u + (k + a) * p->into + n + b;
                grdi_vf lines[EDGE][3], g[3];
                for (int j = 0; j < EDGE; j++) {
                    grdi_vf column[EDGE];
                    for (int i = 0; i < EDGE; i++) column[i] = grdi_load(u + (i * EDGE + j) * p->u_plane);
                    gradient_line(column, lines[j]);
                }
                for (int i = 0; i < 3; i++) {
                    gradient_line((grdi_vf[EDGE]){lines[0][i], lines[1][i], lines[2][i], lines[3][i]}, g);
                    for (int j = 0; j < 3; j++) grdi_store(&taps[3 * i + j][a][b], g[j]);
                }
            }
        for (int64_t b = 0; b < BLOCK; b++) {
            float *w = (float *)p->to + ((n + b) * p->from + k) * TAPS;
            for (int64_t i = 0; i < BLOCK * TAPS; i++) w[i] = taps[i % TAPS][i / TAPS][b] + (p->add ? w[i] : 0.0f);
        }
    }
}

/* ---- the whole ---- */

static bool fits_axis(const grdi_window *w)
{
    return w->kernel == 3 && w->stride == 1 && w->dilation == 1 && w->padding <= 2;
}

bool GRDI_ISA_NAME(grdi_winograd_fits)(const grdi_convolution *c)
{
    bool blocks = c->c % BLOCK == 0 && c->o % BLOCK == 0 && c->c >= CHANNELS_LEAST && c->o >= CHANNELS_LEAST;
    if (!blocks || c->axes != 2 || c->groups != 1) return false;
    for (int32_t a = GRDI_WINDOW_AXES - 2; a < GRDI_WINDOW_AXES; a++)
        if (!fits_axis(&c->window[a])) return false;
    /* tiles that hang over the edge cost as much as others */
    winograd p = plan_of(c, 1);
    return p.tiles >= TILES_LEAST && ELEMENTS * p.tiles_h * p.tiles_w * 3 <= TAPS * p.out_h * p.out_w * 2;
}

/* Floats of scratch: a row of zeros, filters, tiles of each thread. */
static int64_t none_floats(const winograd *p)
{
    return gemm_up(p->from > p->into ? p->from : p->into, PAD);
}

size_t GRDI_ISA_NAME(grdi_winograd_scratch)(const grdi_convolution *c, int32_t threads)
{
    winograd p = plan_of(c, threads);
    int64_t planes = c->kind == GRDI_CONVOLUTION_WEIGHT_GRADIENT ? EDGE : ELEMENTS;
    int64_t floats = none_floats(&p) + ELEMENTS * p.u_plane + threads * planes * (p.a_plane + p.b_plane);
    return (size_t)floats * sizeof(float);
}

void GRDI_ISA_NAME(grdi_winograd)(const grdi_convolution *c, const grdi_convolution_data *data, int32_t threads,
                                  void *scratch)
{
    winograd p = plan_of(c, threads);
    p.none = scratch;
    p.u = p.none + none_floats(&p);
    p.tiled = p.u + ELEMENTS * p.u_plane;
    memset(p.none, 0, (size_t)none_floats(&p) * sizeof(float));
    int64_t blocks = p.from / BLOCK * (p.into / BLOCK);
    if (c->kind == GRDI_CONVOLUTION_WEIGHT_GRADIENT) {
        p.x = data->x, p.y = data->y, p.to = data->w, p.add = data->add;
        grdi_parallel_for(threads, EDGE * p.parts, 1, sum_rows, &p);
        grdi_parallel_for(threads, blocks, 4, store_gradients, &p);
        return;
    }
    p.x = p.turned ? data->y : data->x, p.to = p.turned ? data->x : data->y;
    p.w = data->w, p.bias = data->bias;
    grdi_parallel_for(threads, blocks, 4, transform_filters, &p);
    grdi_parallel_for(threads, p.tiles, GEMM_ROWS, convolve_tiles, &p);
}
