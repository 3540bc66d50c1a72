/* ctc.c - connectionist temporal classification: the sums over paths up to each step and from there on, a vector of
 * states at a time. A row's largest entry is kept apart from it, so that logarithms stay near 0, where floats are
 * dense; threads take samples. */
#include "backend/cpu/kernels/math.h"
#include "backend/cpu/kernels/run.h"
#include "backend/cpu/parallel.h"

enum { PAD = 16 /* entries of "never" at both sides of a row: two are looked at, and whole vectors are read */ };

/* What a thread works with: rows of `room` floats with their pads. */
typedef struct work {
    int64_t states, room;
    float *each;           /* log probabilities of the states' labels at one step */
    float *skip, *skip_on; /* 0 where a blank may be left out before the state (behind it), else never */
    float *now, *next;
    float *paths; /* one row for each step */
    int32_t *labels;
} work;

static int64_t room_of(const grdi_call *call)
{
    return (2 * call->in[1].dims.dim[1] + 1 + 2 * PAD + 15) / 16 * 16;
}

static int64_t floats_of(const grdi_call *call)
{
    return room_of(call) * (6 + call->in[0].dims.dim[1]);
}

static work work_of(const grdi_call *call, int32_t thread)
{
    work w = {.room = room_of(call)};
    float *rows = (float *)call->scratch + thread * floats_of(call);
    float **all[] = {&w.each, &w.skip, &w.skip_on, &w.now, &w.next};
    for (int i = 0; i < 5; i++, rows += w.room) *all[i] = rows + PAD;
    w.labels = (int32_t *)rows;
    w.paths = rows + w.room + PAD;
    return w;
}

static void set_never(float *row, int64_t room)
{
    for (int64_t i = -PAD; i < room - PAD; i++) row[i] = -INFINITY;
}

/* Labels of the states and which may be skipped; false where a label does not exist. */
static bool set_states(work *w, const int32_t *targets, int64_t count, int64_t classes, int32_t blank)
{
    w->states = 2 * count + 1;
    float *rows[] = {w->each, w->skip, w->skip_on, w->now, w->next};
    for (int i = 0; i < 5; i++) set_never(rows[i], w->room);
    for (int64_t s = 0; s < w->states; s++) {
        w->labels[s] = s % 2 ? targets[s / 2] : blank;
        if (w->labels[s] < 0 || w->labels[s] >= classes) return false;
        if (s > 1 && w->labels[s] != blank && w->labels[s] != w->labels[s - 2]) w->skip[s] = w->skip_on[s - 2] = 0;
    }
    return true;
}

static void take_step(work *w, const float *log_probs)
{
    for (int64_t s = 0; s < w->states; s++) w->each[s] = log_probs[w->labels[s]];
}

/* log(exp a + exp b + exp c); -infinity is log 0 */
static grdi_vf log_add(grdi_vf a, grdi_vf b, grdi_vf c)
{
    grdi_vf most = grdi_max(grdi_max(a, b), grdi_max(c, grdi_set(-1e30f)));
    return most + grdi_log(grdi_exp_negative(a - most) + grdi_exp_negative(b - most) + grdi_exp_negative(c - most));
}

/* Takes the largest entry from all of them and returns it; what lies behind the last state becomes "never". */
static float keep_apart(float *row, int64_t states)
{
    grdi_vf never = grdi_set(-INFINITY), most = never;
    for (int64_t s = states; s % GRDI_LANES; s++) row[s] = -INFINITY;
    for (int64_t s = 0; s < states; s += GRDI_LANES) most = grdi_max(most, grdi_load(row + s));
    float largest = grdi_max_lanes(most);
    if (largest == -INFINITY) return largest;
    for (int64_t s = 0; s < states; s += GRDI_LANES) grdi_store(row + s, grdi_load(row + s) - largest);
    return largest;
}

/* The rows of `paths` for all steps; log of the sum over all paths, or -infinity. */
static double forward(work *w, const float *log_probs, int64_t classes, int64_t steps)
{
    double total = 0;
    for (int64_t t = 0; t < steps; t++) {
        float *row = w->paths + t * w->room;
        const float *before = row - w->room;
        set_never(row, w->room);
        take_step(w, log_probs + t * classes);
        for (int64_t s = 0; t == 0 && s < 2 && s < w->states; s++) row[s] = w->each[s];
        for (int64_t s = 0; t > 0 && s < w->states; s += GRDI_LANES)
            grdi_store(row + s, log_add(grdi_load(before + s), grdi_load(before + s - 1),
                                        grdi_load(before + s - 2) + grdi_load(w->skip + s)) +
                                    grdi_load(w->each + s));
        float largest = keep_apart(row, w->states);
        if (largest == -INFINITY) return largest;
        total += largest;
    }
    const float *end = w->paths + (steps - 1) * w->room + w->states;
    float sum = expf(end[-1]) + expf(end[-2]); /* with one state the latter is the pad */
    return total + log((double)sum);
}

/* The part of all paths that goes through each state at step t, taken from the gradient of the state's label. `now`
 * holds the ways from the states to the end. */
static void add_gradient(work *w, int64_t t, float *gradient)
{
    const float *row = w->paths + t * w->room;
    grdi_vf most = grdi_set(-1e30f), sum = grdi_set(0);
    for (int64_t s = 0; s < w->states; s += GRDI_LANES)
        most = grdi_max(most, grdi_load(row + s) + grdi_load(w->now + s));
    grdi_vf largest = grdi_set(grdi_max_lanes(most));
    for (int64_t s = 0; s < w->states; s += GRDI_LANES) {
        grdi_vf part = grdi_exp_negative(grdi_load(row + s) + grdi_load(w->now + s) - largest);
        grdi_store(w->next + s, part);
        sum += part;
    }
    float scale = 1 / grdi_sum_lanes(sum);
    for (int64_t s = 0; s < w->states; s++) gradient[w->labels[s]] -= w->next[s] * scale;
}

static void backward(work *w, const float *log_probs, int64_t classes, int64_t steps, float *gradient)
{
    for (int64_t t = steps - 1; t >= 0; t--) {
        if (t == steps - 1) {
            w->now[w->states - 1] = 0;
            if (w->states > 1) w->now[w->states - 2] = 0;
        } else {
            take_step(w, log_probs + (t + 1) * classes);
            set_never(w->next, w->room);
            for (int64_t s = 0; s < w->states; s += GRDI_LANES)
                grdi_store(w->next + s, grdi_load(w->now + s) + grdi_load(w->each + s));
            set_never(w->now, w->room);
            for (int64_t s = 0; s < w->states; s += GRDI_LANES)
                grdi_store(w->now + s, log_add(grdi_load(w->next + s), grdi_load(w->next + s + 1),
                                               grdi_load(w->next + s + 2) + grdi_load(w->skip_on + s)));
            keep_apart(w->now, w->states);
        }
        add_gradient(w, t, gradient + t * classes);
    }
}

static void ctc_range(int64_t begin, int64_t end, int32_t thread, void *context)
{
    const grdi_call *call = context;
    grd_dims x = call->in[0].dims;
    int64_t steps = x.dim[1], classes = x.dim[2], most = call->in[1].dims.dim[1];
    int32_t blank = (int32_t)grdi_attr_int(call->attrs, "blank");
    bool zero = grdi_attr_int(call->attrs, "zero_infinity");
    work w = work_of(call, thread);
    for (int64_t b = begin; b < end; b++) {
        const float *log_probs = (const float *)call->in[0].data + b * steps * classes;
        int32_t used = ((const int32_t *)call->in[2].data)[b], labels = ((const int32_t *)call->in[3].data)[b];
        float *gradient = (float *)call->out[1].data;
        double loss = NAN;
        bool known = labels >= 0 && labels <= most && used >= 0 && used <= steps &&
                     set_states(&w, (const int32_t *)call->in[1].data + b * most, labels, classes, blank);
        if (known && used == 0) loss = labels ? INFINITY : 0;
        if (known && used > 0) loss = -forward(&w, log_probs, classes, used);
        if (gradient) {
            memset(gradient + b * steps * classes, 0, (size_t)(steps * classes) * sizeof(float));
            if (used > 0 && isfinite(loss)) backward(&w, log_probs, classes, used, gradient + b * steps * classes);
        }
        if (call->out[0].data) ((float *)call->out[0].data)[b] = zero && loss == INFINITY ? 0 : (float)loss;
    }
}

static grd_status ctc_prepare(grdi_call *call, grd_error *error)
{
    (void)error;
    call->scratch_bytes = (size_t)(floats_of(call) * call->threads) * sizeof(float);
    return GRD_OK;
}

static grd_status ctc_run(grdi_call *call)
{
    grdi_parallel_for(call->threads, call->in[0].dims.dim[0], 1, ctc_range, call);
    return GRD_OK;
}

static const grdi_kernel ctc = {.op = "ctc", .prepare = ctc_prepare, .run = ctc_run};

const grdi_kernel *const GRDI_ISA_TABLE(ctc)[] = {&ctc, NULL};
