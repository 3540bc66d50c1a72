/* winograd.c - 3x3 convolutions by minimal filtering, F(2x2,3x3) and F(4x4,3x3): Lavin and Gray, "Fast Algorithms for
 * Convolutional Neural Networks", 2015. A tile of 2x2 (4x4) results is made of 4x4 (6x6) inputs d and the filter g as
 *
 *     A^T [(G g G^T) * (B^T d B)] A
 *
 * where * multiplies element by element and sums over channels, so that each of the 16 (36) elements is a product of
 * matrices [tiles x channels] [channels x channels]: 16 multiplications instead of 36 (36 instead of 144). For 2x2 all
 * coefficients are 0, 1, -1 and 1/2, so rounding stays close to that of plain sums; for 4x4 they go up to 8 and errors
 * are some ten times larger, still far below what results in bf16 lose: it is for those. The gradient by the input is
 * the same with the filters turned; the gradient by the filters is the adjoint, G^T [(B^T d B)^T * (A gy A^T)] G summed
 * over tiles. Values in bf16 are read as they lie and multiplied in f32: transformed ones need more digits than bf16
 * has. */
#include "backend/cpu/kernels/winograd.h"

#include "backend/cpu/kernels/gemm_pack.h"
#include "backend/cpu/parallel.h"

enum {
    EDGE = 6, /* at most, of a tile of inputs */
    RESULTS = 4,
    TAPS = 9,
    BLOCK = 16, /* channels by channels of filters that are turned at once; channels come in whole blocks */
    CHUNK = 48, /* tiles that are transformed and multiplied at a time */
    CHUNK_FLOATS = 120 << 10, /* of their inputs: half of a second-level cache of 1 MiB */
    GRADIENT_CHUNK = 120,     /* tiles that are summed at a time */
    CHANNELS_LEAST = 32,      /* fewer are not worth the transforms */
    TILES_LEAST = 32,         /* fewer are not worth those of the filters */
    LARGE_LEAST = 64,         /* the same of large ones */
    PAD = 16                  /* floats of a cache line; keeps rows from lying a power of two apart */
};

typedef struct winograd {
    int edge, results;                               /* of a tile, of inputs and of results */
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

static int64_t pieces(int64_t whole, int64_t piece)
{
    return (whole + piece - 1) / piece;
}

static int64_t elements(const winograd *p)
{
    return p->edge * p->edge;
}

/* Plain multiplications for each of ours; tiles that hang over the edge cost as much as others. */
static double gain_of(const winograd *p)
{
    return (double)(TAPS * p->out_h * p->out_w) / (double)(elements(p) * p->tiles_h * p->tiles_w);
}

static void cut_tiles(winograd *p, int results)
{
    p->results = results, p->edge = results + 2;
    p->tiles_h = pieces(p->out_h, results), p->tiles_w = pieces(p->out_w, results);
    p->tiles = p->n * p->tiles_h * p->tiles_w;
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
                  .pad_w = w->padding};
    if (c->kind == GRDI_CONVOLUTION_INPUT_GRADIENT) {
        p.turned = true;
        p.from = c->o, p.into = c->c;
        p.in_h = h->out, p.in_w = w->out, p.out_h = h->in, p.out_w = w->in;
        p.pad_h = 2 - h->padding, p.pad_w = 2 - w->padding;
    }
    p.x_half = (p.turned ? c->y_type : c->x_type) == GRD_BF16, p.w_half = c->w_type == GRD_BF16;
    p.to_half = (p.turned ? c->x_type : c->y_type) == GRD_BF16, p.y_half = c->y_type == GRD_BF16;
    p.bias_half = c->bias_type == GRD_BF16;
    bool gradient = c->kind == GRDI_CONVOLUTION_WEIGHT_GRADIENT;
    cut_tiles(&p, 2);
    if (p.x_half && (p.to_half || gradient)) {
        winograd large = p;
        cut_tiles(&large, RESULTS);
        if (large.tiles >= LARGE_LEAST && gain_of(&large) > gain_of(&p)) p = large;
    }
    p.parts = threads <= p.edge ? 1 : pieces(threads, p.edge);
    p.a_row = p.from + PAD, p.b_row = gradient ? p.into + PAD : GEMM_COLUMNS;
    int64_t most = gradient ? GRADIENT_CHUNK : CHUNK_FLOATS / (elements(&p) * p.a_row) / GEMM_ROWS * GEMM_ROWS;
    p.chunk = gradient           ? pieces(p.tiles, pieces(p.tiles, most))
              : most < GEMM_ROWS ? GEMM_ROWS
                                 : gemm_least(most, CHUNK);
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

/* Where the channels of element (i, j) of a tile's inputs lie; `none` outside. */
static const void *input_at(const winograd *p, const tile_place *tile, int i, int j)
{
    int64_t row = p->results * tile->row - p->pad_h + i, column = p->results * tile->column - p->pad_w + j;
    bool inside = row >= 0 && row < p->in_h && column >= 0 && column < p->in_w;
    return inside ? gemm_at(p->x, ((tile->sample * p->in_h + row) * p->in_w + column) * p->from, p->x_half) : p->none;
}

/* The same of a tile's results, as elements from the first; -1 outside. */
static int64_t result_at(const winograd *p, const tile_place *tile, int i, int j)
{
    int64_t row = p->results * tile->row + i, column = p->results * tile->column + j;
    bool inside = row < p->out_h && column < p->out_w;
    return inside ? ((tile->sample * p->out_h + row) * p->out_w + column) * p->into : -1;
}

/* ---- lines of the transforms; `edge` is a constant wherever they are expanded ---- */

/* G g: g[3] -> u[edge] */
GEMM_INLINE void filter_line(const int edge, const grdi_vf *g, grdi_vf *u)
{
    if (edge == EDGE) {
        grdi_vf outer = (g[0] + g[2]) * (-1.0f / 6), inner = g[1] * (1.0f / 6);
        grdi_vf far = g[0] * (1.0f / 24) + g[2] * (1.0f / 6), twice = g[1] * (1.0f / 12);
        u[0] = g[0] * 0.25f, u[1] = outer - inner, u[2] = outer + inner;
        u[3] = far + twice, u[4] = far - twice, u[5] = g[2];
        return;
    }
    grdi_vf half = (g[0] + g[2]) * 0.5f, middle = g[1] * 0.5f;
    u[0] = g[0], u[1] = half + middle, u[2] = half - middle, u[3] = g[2];
}

/* G^T u: u[edge] -> g[3] */
GEMM_INLINE void gradient_line(const int edge, const grdi_vf *u, grdi_vf *g)
{
    if (edge == EDGE) {
        grdi_vf near = (u[1] + u[2]) * (-1.0f / 6), far = u[3] + u[4];
        g[0] = u[0] * 0.25f + near + far * (1.0f / 24);
        g[1] = (u[2] - u[1]) * (1.0f / 6) + (u[3] - u[4]) * (1.0f / 12);
        g[2] = near + far * (1.0f / 6) + u[5];
        return;
    }
    grdi_vf sum = (u[1] + u[2]) * 0.5f;
    g[0] = u[0] + sum, g[1] = (u[1] - u[2]) * 0.5f, g[2] = sum + u[3];
}

/* B^T d: d[edge] -> v[edge] */
GEMM_INLINE void input_line(const int edge, const grdi_vf *d, grdi_vf *v)
{
    if (edge == EDGE) {
        grdi_vf even = d[4] - d[2] * 4.0f, odd = d[3] - d[1] * 4.0f;
        grdi_vf near = d[4] - d[2], far = (d[3] - d[1]) * 2.0f;
        v[0] = d[0] * 4.0f - d[2] * 5.0f + d[4], v[5] = d[1] * 4.0f - d[3] * 5.0f + d[5];
        v[1] = even + odd, v[2] = even - odd, v[3] = near + far, v[4] = near - far;
        return;
    }
    v[0] = d[0] - d[2], v[1] = d[1] + d[2], v[2] = d[2] - d[1], v[3] = d[1] - d[3];
}

/* What is not zero in a row of B^T or of A: places and coefficients. */
typedef struct terms {
    int count, at[EDGE];
    float by[EDGE];
} terms;

static terms terms_of(const float *row, int length)
{
    terms t = {0};
    for (int i = 0; i < length; i++)
        if (row[i] != 0) t.at[t.count] = i, t.by[t.count++] = row[i];
    return t;
}

static terms input_row(int edge, int row)
{
    static const float large[EDGE][EDGE] = {{4, 0, -5, 0, 1, 0},  {0, -4, -4, 1, 1, 0}, {0, 4, -4, -1, 1, 0},
                                            {0, -2, -1, 2, 1, 0}, {0, 2, -1, -2, 1, 0}, {0, 4, 0, -5, 0, 1}};
    static const float small[4][4] = {{1, 0, -1, 0}, {0, 1, 1, 0}, {0, -1, 1, 0}, {0, 1, 0, -1}};
    return edge == EDGE ? terms_of(large[row], EDGE) : terms_of(small[row], 4);
}

/* A^T m: m[edge] -> y[edge - 2] */
GEMM_INLINE void result_line(const int edge, const grdi_vf *m, grdi_vf *y)
{
    if (edge == EDGE) {
        grdi_vf even = m[1] + m[2], odd = m[1] - m[2], far_even = m[3] + m[4], far_odd = m[3] - m[4];
        y[0] = m[0] + even + far_even, y[1] = odd + far_odd * 2.0f;
        y[2] = even + far_even * 4.0f, y[3] = odd + far_odd * 8.0f + m[5];
        return;
    }
    y[0] = m[0] + m[1] + m[2], y[1] = m[1] - m[2] - m[3];
}

/* A y: y[edge - 2] -> m[edge] */
GEMM_INLINE void result_gradient_line(const int edge, const grdi_vf *y, grdi_vf *m)
{
    if (edge == EDGE) {
        grdi_vf even = y[0] + y[2], odd = y[1] + y[3];
        grdi_vf far_even = y[0] + y[2] * 4.0f, far_odd = y[1] * 2.0f + y[3] * 8.0f;
        m[0] = y[0], m[1] = even + odd, m[2] = even - odd;
        m[3] = far_even + far_odd, m[4] = far_even - far_odd, m[5] = y[3];
        return;
    }
    m[0] = y[0], m[1] = y[0] + y[1], m[2] = y[0] - y[1], m[3] = -y[1];
}

static terms result_row(int edge, int row)
{
    static const float large[EDGE][RESULTS] = {{1, 0, 0, 0}, {1, 1, 1, 1},   {1, -1, 1, -1},
                                               {1, 2, 4, 8}, {1, -2, 4, -8}, {0, 0, 0, 1}};
    static const float small[4][2] = {{1, 0}, {1, 1}, {1, -1}, {0, -1}};
    return edge == EDGE ? terms_of(large[row], RESULTS) : terms_of(small[row], 2);
}

/* ---- filters: G g G^T ---- */

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

/* A vector of channels of the filters, g[tap] `g_step` floats apart, to u[element] `u_step` floats apart. */
GEMM_INLINE void transform_filter(const int edge, const float *g, int64_t g_step, float *u, int64_t u_step)
{
    grdi_vf columns[3][EDGE];
    for (int j = 0; j < 3; j++) {
        grdi_vf line[3];
        for (int i = 0; i < 3; i++) line[i] = grdi_load(g + (3 * i + j) * g_step);
        filter_line(edge, line, columns[j]);
    }
    for (int i = 0; i < edge; i++) {
        grdi_vf line[EDGE];
        filter_line(edge, (grdi_vf[3]){columns[0][i], columns[1][i], columns[2][i]}, line);
        for (int j = 0; j < edge; j++) grdi_store(u + (i * edge + j) * u_step, line[j]);
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
                int64_t sliver = (n + b) / GEMM_COLUMNS * GEMM_COLUMNS;
                float *to = p->u + sliver * p->from + (k + a) * GEMM_COLUMNS + (n + b) % GEMM_COLUMNS;
                if (p->edge == EDGE) transform_filter(EDGE, &taps[0][a][b], BLOCK * BLOCK, to, p->u_plane);
                else transform_filter(4, &taps[0][a][b], BLOCK * BLOCK, to, p->u_plane);
            }
    }
}

/* ---- inputs: B^T d B ---- */

GEMM_INLINE void transform_inputs_of(const winograd *p, int64_t first, int64_t count, const int edge, const bool half,
                                     float *to)
{
    tile_place place = place_of(p, first);
    for (int64_t t = 0; t < count; t++, next_place(p, &place)) {
        const void *at[EDGE * EDGE];
        for (int e = 0; e < edge * edge; e++) at[e] = input_at(p, &place, e / edge, e % edge);
        for (int64_t c = 0; c < p->from; c += GRDI_LANES) {
            grdi_vf rows[EDGE][EDGE]; /* of B^T d */
            GEMM_UNROLL
            for (int j = 0; j < edge; j++) {
                grdi_vf d[EDGE], v[EDGE];
                GEMM_UNROLL
                for (int i = 0; i < edge; i++) d[i] = gemm_load(at[i * edge + j], c, half);
                input_line(edge, d, v);
                GEMM_UNROLL
                for (int i = 0; i < edge; i++) rows[i][j] = v[i];
            }
            GEMM_UNROLL
            for (int i = 0; i < edge; i++) {
                grdi_vf v[EDGE];
                input_line(edge, rows[i], v);
                GEMM_UNROLL
                for (int j = 0; j < edge; j++) grdi_store(to + (i * edge + j) * p->a_plane + t * p->a_row + c, v[j]);
            }
        }
    }
}

static void transform_inputs(const winograd *p, int64_t first, int64_t count, float *to)
{
    if (p->edge == EDGE && p->x_half) transform_inputs_of(p, first, count, EDGE, true, to);
    else if (p->edge == EDGE) transform_inputs_of(p, first, count, EDGE, false, to);
    else if (p->x_half) transform_inputs_of(p, first, count, 4, true, to);
    else transform_inputs_of(p, first, count, 4, false, to);
}

/* ---- results: A^T m A ---- */

/* Columns [column, column + columns) of the results of `count` tiles from `first` on. */
GEMM_INLINE void transform_results_of(const winograd *p, int64_t first, int64_t count, int64_t column, int64_t columns,
                                      const int edge, const float *from)
{
    const int results = edge - 2;
    tile_place place = place_of(p, first);
    for (int64_t t = 0; t < count; t++, next_place(p, &place)) {
        int64_t at[RESULTS * RESULTS];
        for (int e = 0; e < results * results; e++) at[e] = result_at(p, &place, e / results, e % results);
        for (int64_t c = 0; c < columns; c += GRDI_LANES) {
            grdi_vf rows[RESULTS][EDGE]; /* of A^T m */
            grdi_vf bias = p->bias ? gemm_load(p->bias, column + c, p->bias_half) : (grdi_vf){0};
            GEMM_UNROLL
            for (int j = 0; j < edge; j++) {
                grdi_vf m[EDGE], y[RESULTS];
                GEMM_UNROLL
                for (int i = 0; i < edge; i++) m[i] = grdi_load(from + (i * edge + j) * p->b_plane + t * p->b_row + c);
                result_line(edge, m, y);
                GEMM_UNROLL
                for (int i = 0; i < results; i++) rows[i][j] = y[i];
            }
            GEMM_UNROLL
            for (int i = 0; i < results; i++) {
                grdi_vf y[RESULTS];
                result_line(edge, rows[i], y);
                GEMM_UNROLL
                for (int j = 0; j < results; j++) {
                    int64_t to = at[results * i + j] + column + c;
                    if (at[results * i + j] < 0) continue;
                    if (p->to_half) grdi_store_bf16((uint16_t *)p->to + to, y[j] + bias);
                    else grdi_store((float *)p->to + to, y[j] + bias);
                }
            }
        }
    }
}

static void transform_results(const winograd *p, int64_t first, int64_t count, int64_t column, int64_t columns,
                              const float *from)
{
    if (p->edge == EDGE) transform_results_of(p, first, count, column, columns, EDGE, from);
    else transform_results_of(p, first, count, column, columns, 4, from);
}

/* ---- y or the gradient by x: threads take tiles ---- */

/* A sliver of columns of the tiles' products: each element [tiles x from] [from x columns]. */
static void multiply_sliver(const winograd *p, int64_t count, int64_t column, int64_t columns, const float *a,
                            float *to)
{
    for (int64_t e = 0; e < elements(p); e++)
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
    float *a = p->tiled + thread * elements(p) * (p->a_plane + p->b_plane), *b = a + elements(p) * p->a_plane;
    for (int64_t first = begin; first < end; first += p->chunk) {
        int64_t count = gemm_least(p->chunk, end - first);
        transform_inputs(p, first, count, a);
        for (int64_t column = 0; column < p->into; column += GEMM_COLUMNS) {
            int64_t columns = gemm_least(GEMM_COLUMNS, p->into - column);
            multiply_sliver(p, count, column, columns, a, b);
            transform_results(p, first, count, column, columns, b);
        }
    }
}

/* ---- the gradient by the filters: threads take rows of the elements, and parts of the channels of x ---- */

/* Row `row` of B^T d B for channels [begin, end): rows of d, then along them. */
GEMM_INLINE void transform_input_row(const winograd *p, int64_t first, int64_t count, const terms *row, int64_t begin,
                                     int64_t end, const int edge, const bool half, float *to)
{
    tile_place place = place_of(p, first);
    for (int64_t t = 0; t < count; t++, next_place(p, &place)) {
        const void *at[EDGE][EDGE];
        for (int i = 0; i < row->count; i++)
            for (int j = 0; j < edge; j++) at[i][j] = input_at(p, &place, row->at[i], j);
        for (int64_t c = begin; c < end; c += GRDI_LANES) {
            grdi_vf d[EDGE] = {0}, v[EDGE];
            for (int i = 0; i < row->count; i++) {
                GEMM_UNROLL
                for (int j = 0; j < edge; j++) d[j] += row->by[i] * gemm_load(at[i][j], c, half);
            }
            input_line(edge, d, v);
            GEMM_UNROLL
            for (int j = 0; j < edge; j++) grdi_store(to + j * p->a_plane + t * p->a_row + c - begin, v[j]);
        }
    }
}

/* Row `row` of A gy A^T. */
GEMM_INLINE void transform_gradient_row(const winograd *p, int64_t first, int64_t count, const terms *row,
                                        const int edge, const bool half, float *to)
{
    const int results = edge - 2;
    tile_place place = place_of(p, first);
    for (int64_t t = 0; t < count; t++, next_place(p, &place)) {
        const void *at[RESULTS][RESULTS];
        for (int i = 0; i < row->count; i++)
            for (int j = 0; j < results; j++) {
                int64_t offset = result_at(p, &place, row->at[i], j);
                at[i][j] = offset < 0 ? p->none : gemm_at(p->y, offset, half);
            }
        for (int64_t c = 0; c < p->into; c += GRDI_LANES) {
            grdi_vf y[RESULTS] = {0}, m[EDGE];
            for (int i = 0; i < row->count; i++) {
                GEMM_UNROLL
                for (int j = 0; j < results; j++) y[j] += row->by[i] * gemm_load(at[i][j], c, half);
            }
            result_gradient_line(edge, y, m);
            GEMM_UNROLL
            for (int j = 0; j < edge; j++) grdi_store(to + j * p->b_plane + t * p->b_row + c, m[j]);
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

/* Both operands of row `row` of the elements. */
static void transform_rows(const winograd *p, int64_t first, int64_t count, int row, int64_t begin, int64_t end,
                           float *a, float *b)
{
    const terms d = input_row(p->edge, row), gy = result_row(p->edge, row);
    if (p->edge == EDGE && p->x_half) transform_input_row(p, first, count, &d, begin, end, EDGE, true, a);
    else if (p->edge == EDGE) transform_input_row(p, first, count, &d, begin, end, EDGE, false, a);
    else if (p->x_half) transform_input_row(p, first, count, &d, begin, end, 4, true, a);
    else transform_input_row(p, first, count, &d, begin, end, 4, false, a);
    if (p->edge == EDGE && p->y_half) transform_gradient_row(p, first, count, &gy, EDGE, true, b);
    else if (p->edge == EDGE) transform_gradient_row(p, first, count, &gy, EDGE, false, b);
    else if (p->y_half) transform_gradient_row(p, first, count, &gy, 4, true, b);
    else transform_gradient_row(p, first, count, &gy, 4, false, b);
}

static void sum_rows(int64_t begin, int64_t end, int32_t thread, void *context)
{
    const winograd *p = context;
    float *a = p->tiled + thread * p->edge * (p->a_plane + p->b_plane), *b = a + p->edge * p->a_plane;
    int64_t blocks = p->from / BLOCK;
    for (int64_t item = begin; item < end; item++) {
        int row = (int)(item / p->parts);
        int64_t part = item % p->parts, from = blocks * part / p->parts * BLOCK;
        int64_t to = blocks * (part + 1) / p->parts * BLOCK;
        for (int64_t first = 0; first < p->tiles && from < to; first += p->chunk) {
            int64_t count = gemm_least(p->chunk, p->tiles - first);
            transform_rows(p, first, count, row, from, to, a, b);
            for (int j = 0; j < p->edge; j++)
                sum_element(p, to - from, count, a + j * p->a_plane, b + j * p->b_plane, first > 0,
                            p->u + (row * p->edge + j) * p->u_plane + from * p->into);
        }
    }
}

/* A vector of channels of G^T u G, from u[element] `u_step` floats apart to g[tap] `g_step` apart. */
GEMM_INLINE void transform_gradient(const int edge, const float *u, int64_t u_step, float *g, int64_t g_step)
{
    grdi_vf columns[EDGE][3];
    for (int j = 0; j < edge; j++) {
        grdi_vf line[EDGE];
        for (int i = 0; i < edge; i++) line[i] = grdi_load(u + (i * edge + j) * u_step);
        gradient_line(edge, line, columns[j]);
    }
    for (int i = 0; i < 3; i++) {
        grdi_vf line[EDGE], taps[3];
        for (int j = 0; j < edge; j++) line[j] = columns[j][i];
        gradient_line(edge, line, taps);
        for (int j = 0; j < 3; j++) grdi_store(g + (3 * i + j) * g_step, taps[j]);
    }
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
                if (p->edge == EDGE) transform_gradient(EDGE, u, p->u_plane, &taps[0][a][b], BLOCK * BLOCK);
                else transform_gradient(4, u, p->u_plane, &taps[0][a][b], BLOCK * BLOCK);
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

double GRDI_ISA_NAME(grdi_winograd_gain)(const grdi_convolution *c)
{
    bool blocks = c->c % BLOCK == 0 && c->o % BLOCK == 0 && c->c >= CHANNELS_LEAST && c->o >= CHANNELS_LEAST;
    if (!blocks || c->axes != 2 || c->groups != 1) return 0;
    for (int32_t a = GRDI_WINDOW_AXES - 2; a < GRDI_WINDOW_AXES; a++)
        if (!fits_axis(&c->window[a])) return 0;
    winograd p = plan_of(c, 1);
    return p.tiles >= TILES_LEAST ? gain_of(&p) : 0;
}

/* Floats of scratch: a row of zeros, filters, tiles of each thread. */
static int64_t none_floats(const winograd *p)
{
    return gemm_up(p->from > p->into ? p->from : p->into, PAD);
}

size_t GRDI_ISA_NAME(grdi_winograd_scratch)(const grdi_convolution *c, int32_t threads)
{
    winograd p = plan_of(c, threads);
    int64_t planes = c->kind == GRDI_CONVOLUTION_WEIGHT_GRADIENT ? p.edge : elements(&p);
    int64_t floats = none_floats(&p) + elements(&p) * p.u_plane + threads * planes * (p.a_plane + p.b_plane);
    return (size_t)floats * sizeof(float);
}

void GRDI_ISA_NAME(grdi_winograd)(const grdi_convolution *c, const grdi_convolution_data *data, int32_t threads,
                                  void *scratch)
{
    winograd p = plan_of(c, threads);
    p.none = scratch;
    p.u = p.none + none_floats(&p);
    p.tiled = p.u + elements(&p) * p.u_plane;
    memset(p.none, 0, (size_t)none_floats(&p) * sizeof(float));
    int64_t blocks = p.from / BLOCK * (p.into / BLOCK);
    if (c->kind == GRDI_CONVOLUTION_WEIGHT_GRADIENT) {
        p.x = data->x, p.y = data->y, p.to = data->w, p.add = data->add;
        grdi_parallel_for(threads, p.edge * p.parts, 1, sum_rows, &p);
        grdi_parallel_for(threads, blocks, 4, store_gradients, &p);
        return;
    }
    p.x = p.turned ? data->y : data->x, p.to = p.turned ? data->x : data->y;
    p.w = data->w, p.bias = data->bias;
    grdi_parallel_for(threads, blocks, 4, transform_filters, &p);
    grdi_parallel_for(threads, p.tiles, GEMM_ROWS, convolve_tiles, &p);
}
