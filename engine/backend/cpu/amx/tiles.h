/* tiles.h - what products in AMX's tiles are made of: 32 x 32 sums at a time, four tiles of 16 x 16. */
#ifndef GRDI_AMX_TILES_H
#define GRDI_AMX_TILES_H

#include "backend/cpu/kernels/gemm_tile.h"
#include "backend/cpu/look.h"

enum { AMX_SIDE = 16, AMX_PANEL = 2 * AMX_SIDE, AMX_STEP = 32 /* of k */, AMX_BLOCK_BYTES = 1024 };

/* As LDTILECFG reads it: palette 1, eight tiles of 16 rows of 64 bytes. */
typedef struct amx_shapes {
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
} amx_shapes;

/* A thread calls it before it multiplies, and amx_end() behind it. */
static inline void amx_begin(void)
{
    static const amx_shapes shapes = {
        .palette = 1, .row_bytes = {64, 64, 64, 64, 64, 64, 64, 64}, .rows = {16, 16, 16, 16, 16, 16, 16, 16}};
    _tile_loadconfig(&shapes);
}

static inline void amx_end(void)
{
    _tile_release();
}

/* ---- fetching ---- */

/* What is fetched into the caches while tiles multiply: `rows` rows of `lines` cache lines, row_step bytes apart. */
typedef struct amx_ahead {
    const char *row;
    int64_t rows, row_step, lines, line;
} amx_ahead;

enum { AMX_FETCH = 3 /* lines a step, of each stream */ };

GEMM_INLINE void amx_fetch(amx_ahead *next)
{
    if (next->rows <= 0) return;
    __builtin_prefetch(next->row + next->line * 64, 0, 2);
    if (++next->line < next->lines) return;
    next->line = 0, next->row += next->row_step, next->rows--;
}

/* ---- multiplying ---- */

/* How tiles lie in an operand: rows `row` bytes apart, the second 16 lanes `second` bytes and the next k `step` bytes
 * behind. A row of a tile of A is 32 k of a lane, one of B 16 lanes of a pair of k. */
typedef struct amx_layout {
    int64_t row, second, step;
} amx_layout;

/* As gemm_pack.h packs both. */
static const amx_layout amx_packed = {64, AMX_BLOCK_BYTES, 2 * AMX_BLOCK_BYTES};

/* Of A, which lies row by row, `row` bytes apart. */
static inline amx_layout amx_rows(int64_t row)
{
    return (amx_layout){row, AMX_SIDE * row, 2 * AMX_STEP};
}

typedef struct amx_operand {
    const void *at;
    amx_layout lies;
} amx_operand;

/* What a product reads of an operand, of 32 lanes or (not `both`) of 16. */
GEMM_INLINE void amx_look(amx_operand o, int64_t steps, const bool both)
{
    const amx_layout l = o.lies;
    if (l.step == 2 * AMX_STEP) grdi_look(o.at, both ? AMX_PANEL : AMX_SIDE, l.row, steps * l.step);
    else if (l.row == 64) grdi_look(o.at, steps, l.step, both ? 2 * AMX_BLOCK_BYTES : AMX_BLOCK_BYTES);
    else grdi_look(o.at, AMX_SIDE * steps, l.row, both ? 128 : 64);
}

/* Tiles 0 to 3 are the sums of 32 rows and columns, or of 16 without `rows` or `columns`. */
GEMM_INLINE void amx_zero_sums(const bool rows, const bool columns)
{
    _tile_zero(0);
    if (columns) _tile_zero(1);
    if (rows) _tile_zero(2);
    if (rows && columns) _tile_zero(3);
}

/* Rows of c are c_row bytes apart. */
GEMM_INLINE void amx_store_sums(float *c, int64_t c_row, const bool rows, const bool columns)
{
    float *lower = (float *)((char *)c + AMX_SIDE * c_row);
    _tile_stored(0, c, c_row);
    if (columns) _tile_stored(1, c + AMX_SIDE, c_row);
    if (rows) _tile_stored(2, lower, c_row);
    if (rows && columns) _tile_stored(3, lower + AMX_SIDE, c_row);
}

/* c (+)= A B over `steps` of 32 k, of 32 rows and columns, or of 16 without `rows` or `columns`; rows of c are c_row
 * bytes apart. B's loads leave the first-level cache to A, which serves all columns. Fetches from `streams` of `next`
 * meanwhile. */
GEMM_INLINE void amx_multiply_part(amx_operand x, amx_operand y, int64_t steps, float *c, int64_t c_row, bool add,
                                   amx_ahead *next, const int streams, const bool rows, const bool columns)
{
    const char *a = x.at, *b = y.at;
    float *lower = (float *)((char *)c + AMX_SIDE * c_row);
    amx_look(x, steps, rows), amx_look(y, steps, columns);
    grdi_look(c, rows ? AMX_PANEL : AMX_SIDE, c_row, columns ? 128 : 64);
    /* What was written before must be in memory: gcc's loads of tiles do not ask for it. */
    __asm__ volatile("" ::: "memory");
    if (add) {
        _tile_loadd(0, c, c_row);
        if (columns) _tile_loadd(1, c + AMX_SIDE, c_row);
        if (rows) _tile_loadd(2, lower, c_row);
        if (rows && columns) _tile_loadd(3, lower + AMX_SIDE, c_row);
    } else {
        amx_zero_sums(rows, columns);
    }
    for (int64_t s = 0; s < steps; s++, a += x.lies.step, b += y.lies.step) {
        _tile_stream_loadd(6, b, y.lies.row);
        _tile_loadd(4, a, x.lies.row);
        _tile_dpbf16ps(0, 4, 6);
        if (columns) {
            _tile_stream_loadd(7, b + y.lies.second, y.lies.row);
            _tile_dpbf16ps(1, 4, 7);
        }
        if (rows) {
            _tile_loadd(5, a + x.lies.second, x.lies.row);
            _tile_dpbf16ps(2, 5, 6);
        }
        if (rows && columns) _tile_dpbf16ps(3, 5, 7);
        GEMM_UNROLL
        for (int f = 0; f < AMX_FETCH * streams; f++) amx_fetch(&next[f % streams]);
    }
    amx_store_sums(c, c_row, rows, columns);
}

/* The same of `rows` <= 32 rows and `columns` <= 32 columns; c has room for 16 or 32 of each. */
GEMM_INLINE void amx_multiply(amx_operand a, amx_operand b, int64_t steps, float *c, int64_t c_row, bool add,
                              amx_ahead *next, const int streams, int64_t rows, int64_t columns)
{
    const bool tall = rows > AMX_SIDE, wide = columns > AMX_SIDE;
    if (tall && wide) amx_multiply_part(a, b, steps, c, c_row, add, next, streams, true, true);
    else if (tall) amx_multiply_part(a, b, steps, c, c_row, add, next, streams, true, false);
    else if (wide) amx_multiply_part(a, b, steps, c, c_row, add, next, streams, false, true);
    else amx_multiply_part(a, b, steps, c, c_row, add, next, streams, false, false);
}

#endif
