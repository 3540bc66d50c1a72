/* map.c - element-by-element ops, alone or as chains (fused_map). The index space is cut into tiles that stay in the
 * first-level cache; every instruction of the chain is one vector loop over a tile, so memory is read and written once
 * however long the chain is. */
#include "backend/cpu/kernels/map_tiles.h"
#include "backend/cpu/kernels/run.h"
#include "backend/space.h"
#include "backend/cpu/parallel.h"
#include "base/memory.h"

enum {
    CHAIN_TILE = 256, /* of chains: short, so that reading, computing and writing follow each other closely */
    TILE = 1024,      /* floats; eight tiles fill half of a first-level cache */
    SLOT = TILE + 32, /* the distance of tiles in scratch: not a power of two, so that they do not share cache sets */
    SHORT_ROW = 128,  /* rows below this are joined in tiles of several rows */
    STEPS_MAX = 64,
    ARGS_MAX = 3,
    REGISTERS_MAX = GRDI_INPUTS_MAX + STEPS_MAX,
    PARALLEL_COST = 16384 /* additions that pay for waking another thread */
};

typedef struct map_step {
    tile_fn fn;
    int32_t args[ARGS_MAX], result; /* registers: first the inputs, then one for each step */
    float attrs[GRDI_ATTRS_MAX];
} map_step;

typedef enum map_source {
    MAP_MEMORY,   /* a tile lies in memory as it is needed */
    MAP_REPEATED, /* the same values in each tile: loaded once */
    MAP_LOADED    /* loaded (converted, gathered, repeated) into a slot for each tile */
} map_source;

typedef struct map_state {
    grdi_space space;
    int64_t rows, row, row_tile; /* long rows: each is cut into tiles of row_tile */
    int64_t tiles, tile_rows;    /* short rows: tile_rows of them form a tile; 0 when rows are long */
    int32_t step_count, slot_count, cost;
    map_source source[GRDI_INPUTS_MAX];
    bool whole[GRDI_OPERANDS_MAX]; /* the operand is contiguous over the whole space */
    int32_t slot[REGISTERS_MAX];
    int32_t out_register[GRDI_OUTPUTS_MAX];
    bool out_direct[GRDI_OUTPUTS_MAX]; /* the step may write to the output's memory */
    map_step steps[STEPS_MAX];
} map_state;

/* ---- the chain ---- */

static bool step_from_cast(map_step *step, grd_dtype dtype)
{
    step->fn = dtype == GRD_F32    ? tile_copy
               : dtype == GRD_BF16 ? tile_to_bf16
               : dtype == GRD_BOOL ? tile_to_bool
                                   : NULL;
    return step->fn != NULL;
}

/* Powers that have a vector loop of their own. */
static void choose_power(map_step *step, double exponent)
{
    static const struct {
        double exponent;
        tile_fn fn;
    } known[] = {{-1, tile_reciprocal}, {-0.5, tile_rsqrt}, {1, tile_copy}, {2, tile_square}, {3, tile_cube}};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (known[i].exponent == exponent)
            step->fn = known[i].fn;
}

/* Sets function and attributes of a step; false for an op that has no tile. */
static bool step_from_op(map_step *step, const char *op, const double *values, int32_t value_count, int32_t *cost)
{
    if (strcmp(op, "cast") == 0) {
        *cost += 1;
        return value_count == 1 && step_from_cast(step, (grd_dtype)values[0]);
    }
    const tile_op *found = tile_op_find(op);
    if (!found || value_count > GRDI_ATTRS_MAX)
        return false;
    step->fn = found->fn;
    *cost += found->cost;
    for (int32_t i = 0; i < value_count; i++)
        step->attrs[i] = (float)values[i];
    if (found->fn == tile_pow_scalar)
        choose_power(step, values[0]);
    return true;
}

/* Reads fused_map's code (see its definition); `state` may be NULL to check only. */
static bool read_code(const grdi_call *call, map_state *state)
{
    const grd_attr *code = grdi_attr_ints(call->attrs, "code"), *outputs = grdi_attr_ints(call->attrs, "outputs");
    int32_t count = 0, cost = 0, at = 0;
    while (at < code->count) {
        map_step step = {.result = call->input_count + count};
        const grdi_op *op = grdi_op_at((int32_t)code->ints[at++]);
        int32_t args = at < code->count ? (int32_t)code->ints[at++] : -1;
        if (!op || count == STEPS_MAX || args < 0 || args > ARGS_MAX || at + args >= code->count)
            return false;
        for (int32_t i = 0; i < args; i++) {
            if (code->ints[at] < 0 || code->ints[at] >= step.result)
                return false;
            step.args[i] = (int32_t)code->ints[at++];
        }
        for (int32_t i = args; i > 0 && i < ARGS_MAX; i++)
            step.args[i] = step.args[0];
        int32_t values = (int32_t)code->ints[at++];
        double value[GRDI_ATTRS_MAX];
        if (values < 0 || values > GRDI_ATTRS_MAX || at + values > code->count)
            return false;
        memcpy(value, code->ints + at, (size_t)values * sizeof *value);
        at += values;
        if (!step_from_op(&step, op->name, value, values, &cost))
            return false;
        if (state)
            state->steps[count] = step;
        count++;
    }
    for (int32_t o = 0; o < outputs->count; o++)
        if (outputs->ints[o] < 0 || outputs->ints[o] >= call->input_count + count)
            return false;
    if (state) {
        state->step_count = count;
        state->cost = cost + call->input_count + outputs->count;
        for (int32_t o = 0; o < outputs->count; o++)
            state->out_register[o] = (int32_t)outputs->ints[o];
    }
    return count > 0;
}

static bool single_step(const grdi_call *call, map_state *state)
{
    map_step *step = &state->steps[0];
    double values[GRDI_ATTRS_MAX];
    int32_t count = 0;
    for (; count < GRDI_ATTRS_MAX && call->op->attrs[count].name; count++) {
        const char *name = call->op->attrs[count].name;
        values[count] = call->op->attrs[count].kind == GRD_ATTR_FLOAT ? grdi_attr_float(call->attrs, name)
                                                                      : (double)grdi_attr_int(call->attrs, name);
    }
    step->result = call->input_count;
    for (int32_t i = 0; i < ARGS_MAX; i++)
        step->args[i] = i < call->input_count ? i : 0;
    state->step_count = 1;
    state->out_register[0] = call->input_count;
    state->cost = call->input_count + 1;
    return step_from_op(step, call->op->name, values, count, &state->cost);
}

static bool is_chain(const grdi_call *call) { return strcmp(call->op->name, "fused_map") == 0; }

static bool supports(const grdi_call *call)
{
    for (int32_t i = 0; i < call->input_count; i++)
        if (!grdi_run_dtype(call->in[i].dtype))
            return false;
    for (int32_t o = 0; o < call->output_count; o++)
        if (!grdi_run_dtype(call->out[o].dtype) || (call->may_accumulate[o] && call->out[o].dtype == GRD_BOOL))
            return false;
    return !is_chain(call) || read_code(call, NULL);
}

/* ---- planning: tiles, slots ---- */

/* Rows are runs along the last merged axis. */
static void cut_tiles(map_state *state)
{
    grdi_space *space = &state->space;
    if (space->rank == 0) { /* one element */
        space->rank = 1;
        space->dim[0] = 1;
        for (int32_t o = 0; o < space->operands; o++)
            space->stride[o][0] = 1;
    }
    state->row = space->dim[space->rank - 1];
    state->rows = grdi_space_count(space, space->rank - 1);
    if (state->row >= SHORT_ROW || space->rank == 1) {
        int64_t most = state->step_count > 1 ? CHAIN_TILE : TILE, lanes = GRDI_LANES;
        int64_t parts = (state->row + most - 1) / most;
        state->row_tile = ((state->row + parts - 1) / parts + lanes - 1) / lanes * lanes;
        parts = (state->row + state->row_tile - 1) / state->row_tile;
        state->tiles = state->rows * parts;
        state->tile_rows = 0;
    } else {
        state->tile_rows = TILE / state->row;
        state->tiles = (state->rows + state->tile_rows - 1) / state->tile_rows;
    }
}

static void classify_inputs(const grdi_call *call, map_state *state)
{
    const grdi_space *space = &state->space;
    for (int32_t o = 0; o < space->operands; o++)
        state->whole[o] = grdi_space_contiguous(space, o);
    for (int32_t i = 0; i < call->input_count; i++) {
        const int64_t *stride = space->stride[i];
        bool outer_repeated = true;
        for (int32_t axis = 0; axis < space->rank - 1; axis++)
            outer_repeated &= stride[axis] == 0;
        int64_t inner = stride[space->rank - 1];
        bool in_place = call->in[i].dtype == GRD_F32 && (state->tile_rows ? state->whole[i] : inner == 1);
        bool repeated = outer_repeated && (state->tile_rows > 0 || inner == 0);
        state->source[i] = in_place ? MAP_MEMORY : repeated ? MAP_REPEATED : MAP_LOADED;
    }
}

/* Gives each register a slot; steps' registers share slots once they are no longer read. */
static void assign_slots(const grdi_call *call, map_state *state)
{
    int32_t last_use[REGISTERS_MAX], inputs = call->input_count, registers = inputs + state->step_count;
    int32_t free_slots[REGISTERS_MAX], free_count = 0;
    for (int32_t r = 0; r < registers; r++)
        last_use[r] = -1;
    for (int32_t s = 0; s < state->step_count; s++)
        for (int32_t a = 0; a < ARGS_MAX; a++)
            last_use[state->steps[s].args[a]] = s;
    for (int32_t o = 0; o < call->output_count; o++)
        last_use[state->out_register[o]] = state->step_count;
    state->slot_count = 0;
    for (int32_t i = 0; i < inputs; i++)
        state->slot[i] = state->source[i] == MAP_MEMORY ? -1 : state->slot_count++;
    for (int32_t s = 0; s < state->step_count; s++) {
        int32_t result = inputs + s;
        state->slot[result] = free_count > 0 ? free_slots[--free_count] : state->slot_count++;
        for (int32_t r = inputs; r <= result; r++) /* read here for the last time, or never */
            if (last_use[r] == s || (r == result && last_use[r] < 0))
                free_slots[free_count++] = state->slot[r];
    }
}

static grd_status prepare(grdi_call *call, grd_error *error)
{
    map_state *state = grdi_alloc_zero(1, sizeof *state);
    if (!state)
        return grd_fail(error, GRD_E_MEMORY, "%s: out of memory", call->op->name);
    call->state = state;
    if (!(is_chain(call) ? read_code(call, state) : single_step(call, state)))
        return grd_fail(error, GRD_E_UNSUPPORTED, "%s: an op without a CPU kernel", call->op->name);
    grdi_space_start(&state->space, call->out[0].dims);
    for (int32_t i = 0; i < call->input_count; i++)
        grdi_space_add(&state->space, &call->in[i]);
    for (int32_t o = 0; o < call->output_count; o++)
        grdi_space_add(&state->space, &call->out[o]);
    grdi_space_merge(&state->space);
    cut_tiles(state);
    classify_inputs(call, state);
    assign_slots(call, state);
    call->scratch_bytes = (size_t)call->threads * (size_t)state->slot_count * SLOT * sizeof(float);
    return GRD_OK;
}

/* An output's step may write straight to memory unless a later step still reads an input that lies there. */
static grd_status bind(grdi_call *call, grd_error *error)
{
    (void)error;
    map_state *state = call->state;
    int32_t inputs = call->input_count;
    for (int32_t o = 0; o < call->output_count; o++) {
        int32_t operand = inputs + o, step = state->out_register[o] - inputs;
        int64_t inner = state->space.stride[operand][state->space.rank - 1];
        bool direct = call->out[o].data && call->out[o].dtype == GRD_F32 && step >= 0 &&
                      (state->tile_rows ? state->whole[operand] : inner == 1);
        for (int32_t earlier = 0; earlier < o; earlier++)
            direct &= state->out_register[earlier] != state->out_register[o];
        for (int32_t s = step + 1; direct && s < state->step_count; s++)
            for (int32_t a = 0; a < ARGS_MAX; a++)
                if (state->steps[s].args[a] < inputs && call->in[state->steps[s].args[a]].data == call->out[o].data)
                    direct = false;
        state->out_direct[o] = direct;
    }
    return GRD_OK;
}

static void release(grdi_call *call)
{
    grdi_free(call->state);
    call->state = NULL;
}

/* ---- running ---- */

typedef struct map_tile {
    grdi_walk walk;        /* at the tile's (first) row */
    int64_t column, count; /* its place in the row, its elements */
    float *slots;
    const float *reg[REGISTERS_MAX];
} map_tile;

/* Loads an input's part of the tile into its slot. */
static void load_input(const grdi_call *call, const map_state *state, map_tile *tile, int32_t i)
{
    const grdi_view *view = &call->in[i];
    float *to = tile->slots + (int64_t)state->slot[i] * SLOT;
    int64_t inner = state->space.stride[i][state->space.rank - 1];
    if (state->tile_rows == 0 || state->whole[i]) {
        int64_t offset = tile->walk.offset[i] + tile->column * inner;
        grdi_run_load(to, grdi_run_at(view->data, view->dtype, offset), view->dtype, inner, tile->count);
        return;
    }
    grdi_walk walk = tile->walk;
    for (int64_t done = 0; done < tile->count; done += state->row, grdi_walk_next(&walk))
        grdi_run_load(to + done, grdi_run_at(view->data, view->dtype, walk.offset[i]), view->dtype, inner, state->row);
}

static void store_output(const grdi_call *call, const map_state *state, const map_tile *tile, int32_t o)
{
    const grdi_view *view = &call->out[o];
    int32_t operand = call->input_count + o;
    const float *from = tile->reg[state->out_register[o]];
    int64_t inner = state->space.stride[operand][state->space.rank - 1];
    if (state->tile_rows == 0 || state->whole[operand]) {
        int64_t offset = tile->walk.offset[operand] + tile->column * inner;
        grdi_run_store(grdi_run_at(view->data, view->dtype, offset), view->dtype, inner, from, tile->count,
                       call->accumulate[o]);
        return;
    }
    grdi_walk walk = tile->walk;
    for (int64_t done = 0; done < tile->count; done += state->row, grdi_walk_next(&walk))
        grdi_run_store(grdi_run_at(view->data, view->dtype, walk.offset[operand]), view->dtype, inner, from + done,
                       state->row, call->accumulate[o]);
}

static void run_tile(const grdi_call *call, const map_state *state, map_tile *tile, float *const *direct)
{
    for (int32_t i = 0; i < call->input_count; i++) {
        if (state->source[i] == MAP_MEMORY)
            tile->reg[i] = (const float *)call->in[i].data + tile->walk.offset[i] + tile->column;
        else if (state->source[i] == MAP_LOADED)
            load_input(call, state, tile, i);
    }
    for (int32_t s = 0; s < state->step_count; s++) {
        const map_step *step = &state->steps[s];
        const float *x[ARGS_MAX];
        for (int32_t a = 0; a < ARGS_MAX; a++)
            x[a] = tile->reg[step->args[a]];
        float *to = direct[s] ? direct[s] : tile->slots + (int64_t)state->slot[step->result] * SLOT;
        step->fn(to, x, step->attrs, tile->count);
        tile->reg[step->result] = to;
    }
}

/* Runs the chain on one tile and stores what was not written straight to memory. */
static void do_tile(const grdi_call *call, const map_state *state, map_tile *tile)
{
    float *direct[STEPS_MAX] = {NULL};
    bool written[GRDI_OUTPUTS_MAX] = {false};
    for (int32_t o = 0; o < call->output_count; o++) {
        if (!state->out_direct[o] || call->accumulate[o])
            continue;
        written[o] = true;
        direct[state->out_register[o] - call->input_count] =
            (float *)call->out[o].data + tile->walk.offset[call->input_count + o] + tile->column;
    }
    run_tile(call, state, tile, direct);
    for (int32_t o = 0; o < call->output_count; o++)
        if (call->out[o].data && !written[o])
            store_output(call, state, tile, o);
}

/* Inputs that are the same in every tile. */
static void load_repeated(const grdi_call *call, const map_state *state, map_tile *tile)
{
    int64_t row = state->row, inner_axis = state->space.rank - 1;
    for (int32_t i = 0; i < call->input_count; i++) {
        float *to = tile->slots + (int64_t)state->slot[i] * SLOT;
        if (state->source[i] != MAP_MEMORY)
            tile->reg[i] = to;
        if (state->source[i] != MAP_REPEATED)
            continue;
        int64_t inner = state->space.stride[i][inner_axis], piece = state->tile_rows ? row : state->row_tile;
        for (int64_t done = 0; done < piece * (state->tile_rows ? state->tile_rows : 1); done += piece)
            grdi_run_load(to + done, call->in[i].data, call->in[i].dtype, inner, piece);
    }
}

static void run_range(int64_t begin, int64_t end, int32_t thread, void *context)
{
    const grdi_call *call = context;
    const map_state *state = call->state;
    map_tile tile = {.slots = (float *)call->scratch + (int64_t)thread * state->slot_count * SLOT};
    load_repeated(call, state, &tile);
    if (state->tile_rows) {
        grdi_walk_start(&tile.walk, &state->space, state->space.rank - 1, begin * state->tile_rows);
        for (int64_t t = begin; t < end; t++) {
            int64_t rows = state->rows - t * state->tile_rows;
            rows = rows < state->tile_rows ? rows : state->tile_rows;
            tile.count = rows * state->row;
            do_tile(call, state, &tile);
            for (int64_t r = 0; r < rows; r++)
                grdi_walk_next(&tile.walk);
        }
        return;
    }
    int64_t parts = state->tiles / state->rows, part = begin % parts;
    grdi_walk_start(&tile.walk, &state->space, state->space.rank - 1, begin / parts);
    for (int64_t t = begin; t < end; t++) {
        tile.column = part * state->row_tile;
        tile.count = state->row - tile.column < state->row_tile ? state->row - tile.column : state->row_tile;
        do_tile(call, state, &tile);
        if (++part == parts) {
            part = 0;
            grdi_walk_next(&tile.walk);
        }
    }
}

static grd_status run(grdi_call *call)
{
    const map_state *state = call->state;
    int64_t tile_cost = state->cost * (state->tile_rows ? state->tile_rows * state->row : state->row_tile);
    grdi_parallel_for(call->threads, state->tiles, PARALLEL_COST / tile_cost + 1, run_range, call);
    return GRD_OK;
}

/* The device's rate is that of tanh, which costs ten additions and counts there as 20 FLOPs; here an element and a step
 * count as one, whatever they cost. */
static double rate_part_of(const grdi_call *call)
{
    const map_state *state = call->state;
    if (!state)
        return 0;
    const int32_t additions = state->cost - call->input_count - call->output_count; /* less loads and stores */
    return additions > 0 ? state->step_count / (2.0 * additions) : 0;
}

#define MAP_KERNEL(name)                                                                                               \
    {.op = #name,                                                                                                      \
     .strided_in = UINT32_MAX,                                                                                         \
     .rows_in = UINT32_MAX,                                                                                            \
     .strided_out = UINT32_MAX,                                                                                        \
     .accumulates = UINT32_MAX,                                                                                        \
     .in_place = UINT32_MAX,                                                                                           \
     .supports = supports,                                                                                             \
     .prepare = prepare,                                                                                               \
     .bind = bind,                                                                                                     \
     .run = run,                                                                                                       \
     .release = release,                                                                                               \
     .rate_part_of = rate_part_of}
#define MAP_OP_KERNEL(name, inputs, cost) static const grdi_kernel kernel_##name = MAP_KERNEL(name);
MAP_OPS(MAP_OP_KERNEL)
static const grdi_kernel kernel_fused_map = MAP_KERNEL(fused_map);
static const grdi_kernel kernel_assign = MAP_KERNEL(assign); /* adding; copy.c has the rest */

#define MAP_OP_ENTRY(name, inputs, cost) &kernel_##name,
const grdi_kernel *const GRDI_ISA_TABLE(map)[] = {&kernel_fused_map, &kernel_assign, MAP_OPS(MAP_OP_ENTRY) NULL};
