/* check_pairs.c - whether targets go with the inputs that they stand with, or might as well be another sample's. Three
 * are asked, the cheapest first: single inputs, nearest neighbours, and the model after some steps. Each compares what
 * it sees with what chance gives where there is nothing to see. */
#include "train/check_set.h"

#include "backend/backend.h"
#include "base/memory.h"
#include "run/run.h"
#include "train/train.h"

#include <math.h>
#include <string.h>
#include <xxhash.h>

enum { SAMPLES_LEAST = 1000, SAMPLES_MOST = 8192, LARGE_SAMPLES_MOST = 2048, BATCHES_MOST = 256 };
enum { FEATURES_MOST = 256, COLUMNS_MOST = 64, NUMBERS_MOST = 16, OF_CLASS_LEAST = 10 };
#define CHANCE 0.05 /* of seeing something where there is nothing */
#define OUTLIER 4.0 /* deviations that a value counts for at most */

typedef struct pairs {
    grdi_checker *c;
    grdi_subject *s;
    int64_t batch, most, samples, repeated; /* samples: different ones; repeated: again since */
    int64_t width, columns;                 /* of features and of targets */
    float *features, *targets;              /* [most][width], [most][columns], of mean 0 and deviation 1 */
    int32_t *labels;                        /* [most]; NULL: targets are numbers */
    char *fed;                              /* targets of a batch */
    grdi_hashes known;
    double correlation, chance; /* the largest of a feature and a target, and what chance makes of none */
    double likeness, model;     /* of neighbours' targets; what its own input is worth to the model: in deviations */
    double own, other;          /* losses */
    int steps;
} pairs;

/* ---- gathering ---- */

/* Runs of values are averaged where there are many; ids are counted, some of them together. */
static void read_features(const pairs *p, const char *input, int64_t size, float *to)
{
    int64_t run = (size + p->width - 1) / p->width;
    memset(to, 0, (size_t)p->width * sizeof(float));
    for (int64_t i = 0; i < size; i++) {
        if (grd_tensor_dtype(p->s->input) == GRD_I32) {
            to[((const uint32_t *)input)[i] * 2654435769u % (uint32_t)p->width]++;
            continue;
        }
        float value = ((const float *)input)[i];
        if (isfinite(value)) to[i / run] += value;
    }
}

static void read_numbers(const pairs *p, const float *target, int64_t size, float *to)
{
    for (int64_t k = 0; k < p->columns; k++) {
        float value = target[k * size / p->columns];
        to[k] = isfinite(value) ? value : 0;
    }
}

static grd_status note_batch(pairs *p, const char *inputs)
{
    const grd_engine *engine = p->s->model->engine;
    size_t input_bytes = grdi_type_bytes(*grdi_type_of(p->s->input)), size = 0;
    const void *target = grdi_program_input(p->s->step->micro, p->s->target.node->name, &size);
    if (!target) return GRD_OK;
    engine->backend->download(engine->device, p->fed, target, size);
    int64_t each = (int64_t)input_bytes / p->batch, elements = (int64_t)(size / sizeof(float)) / p->batch;
    for (int64_t b = 0; b < p->batch && p->samples < p->most; b++) {
        const char *input = inputs + b * each;
        int64_t before = grdi_hashes_note(&p->known, XXH3_64bits(input, (size_t)each), 0);
        if (before == -2) return grd_fail(p->c->error, GRD_E_MEMORY, "out of memory for samples");
        p->repeated += before >= 0;
        if (before >= 0) continue;
        int64_t i = p->samples++;
        read_features(p, input, each / 4, p->features + i * p->width);
        if (p->labels) p->labels[i] = ((const int32_t *)(void *)p->fed)[b];
        else read_numbers(p, (const float *)(void *)p->fed + b * elements, elements, p->targets + i * p->columns);
    }
    return GRD_OK;
}

/* Mean 0 and deviation 1 by columns, and nothing far away; 0 where a column has one value. */
static void standardise(float *values, int64_t rows, int64_t width)
{
    for (int64_t k = 0; k < width; k++) {
        double sum = 0, squares = 0;
        for (int64_t i = 0; i < rows; i++) sum += values[i * width + k];
        for (int64_t i = 0; i < rows; i++) squares += pow(values[i * width + k] - sum / (double)rows, 2);
        double mean = sum / (double)rows, deviation = sqrt(squares / (double)rows);
        for (int64_t i = 0; i < rows; i++) {
            double x = deviation > 1e-6 * fabs(mean) ? (values[i * width + k] - mean) / deviation : 0;
            values[i * width + k] = (float)fmax(-OUTLIER, fmin(OUTLIER, x));
        }
    }
}

/* A column for each of the first classes that have some samples: 1 where it is the label. */
static void make_columns(pairs *p)
{
    int32_t classes[COLUMNS_MOST];
    p->columns = 0;
    for (int64_t i = 0; i < p->samples && p->columns < COLUMNS_MOST; i++) {
        bool known = p->labels[i] < 0;
        for (int64_t k = 0; k < p->columns && !known; k++) known = classes[k] == p->labels[i];
        int64_t count = 0;
        for (int64_t j = i; j < p->samples && !known && count < OF_CLASS_LEAST; j++)
            count += p->labels[j] == p->labels[i];
        if (count >= OF_CLASS_LEAST) classes[p->columns++] = p->labels[i];
    }
    for (int64_t i = 0; i < p->samples; i++)
        for (int64_t k = 0; k < p->columns; k++) p->targets[i * p->columns + k] = p->labels[i] == classes[k];
}

static grd_status gather(pairs *p)
{
    grd_status status = GRD_OK;
    /* The same samples changed at random are no others. */
    int64_t batches = p->s->samples ? p->s->samples / p->batch : BATCHES_MOST;
    for (int i = 0; i < BATCHES_MOST && i < batches && p->samples < p->most && !status; i++) {
        if (grdi_check_stopped(p->c)) return GRD_E_STOPPED;
        status = p->s->next(p->s, &p->s->inputs);
        if (!status) status = note_batch(p, p->s->inputs);
    }
    if (status) return status;
    if (p->labels) make_columns(p);
    standardise(p->features, p->samples, p->width);
    standardise(p->targets, p->samples, p->columns);
    return GRD_OK;
}

/* ---- single inputs ---- */

/* The largest correlation of a feature and a target. Of m that are none, chance makes one larger than sqrt(2 ln(m / a)
 * / n) with a probability of at most a. */
static grd_status ask_features(pairs *p)
{
    int64_t width = p->width, columns = p->columns;
    double *sums = grdi_alloc_zero((size_t)(width * columns), sizeof(double));
    double *squares = grdi_alloc_zero((size_t)(width + columns), sizeof(double));
    if (!sums || !squares) {
        grdi_free(sums);
        grdi_free(squares);
        return grd_fail(p->c->error, GRD_E_MEMORY, "out of memory for correlations");
    }
    for (int64_t i = 0; i < p->samples; i++) {
        const float *x = p->features + i * width, *y = p->targets + i * columns;
        for (int64_t j = 0; j < width; j++) squares[j] += (double)x[j] * x[j];
        for (int64_t k = 0; k < columns; k++) squares[width + k] += (double)y[k] * y[k];
        for (int64_t j = 0; j < width; j++)
            for (int64_t k = 0; k < columns; k++) sums[j * columns + k] += (double)x[j] * y[k];
    }
    for (int64_t j = 0; j < width; j++)
        for (int64_t k = 0; k < columns; k++)
            if (squares[j] > 0 && squares[width + k] > 0)
                p->correlation =
                    fmax(p->correlation, fabs(sums[j * columns + k]) / sqrt(squares[j] * squares[width + k]));
    p->chance = sqrt(2 * log((double)(width * columns) / CHANCE) / (double)p->samples);
    grdi_free(sums);
    grdi_free(squares);
    return GRD_OK;
}

/* ---- neighbours ---- */

enum { ASKED = 512, NEIGHBOURS = 8 };

/* The mean over its deviation: where there is nothing to see, it is above sqrt(2 ln(1 / 2a)) with a probability of a.
 */
static double in_deviations(const double *x, int64_t count)
{
    double sum = 0, squares = 0;
    for (int64_t i = 0; i < count; i++) sum += x[i];
    for (int64_t i = 0; i < count; i++) squares += pow(x[i] - sum / (double)count, 2);
    return squares > 0 ? sum / sqrt(squares * (double)count / (double)(count - 1)) : 0;
}

static bool is_seen(double deviations)
{
    return deviations > sqrt(2 * log(0.5 / CHANCE));
}

/* How alike the targets of a sample and of its nearest neighbours among the first `count` are. */
static double likeness(const pairs *p, int64_t sample, int64_t count)
{
    double least[NEIGHBOURS], alike = 0;
    int64_t nearest[NEIGHBOURS];
    const float *x = p->features + sample * p->width, *y = p->targets + sample * p->columns;
    for (int k = 0; k < NEIGHBOURS; k++) least[k] = INFINITY, nearest[k] = 0;
    for (int64_t i = 0; i < count; i++) {
        const float *other = p->features + i * p->width;
        double square = 0;
        for (int64_t j = 0; j < p->width; j++) square += (double)(x[j] - other[j]) * (x[j] - other[j]);
        int at = NEIGHBOURS;
        for (; at > 0 && square < least[at - 1]; at--)
            if (at < NEIGHBOURS) least[at] = least[at - 1], nearest[at] = nearest[at - 1];
        if (at < NEIGHBOURS) least[at] = square, nearest[at] = i;
    }
    for (int k = 0; k < NEIGHBOURS; k++)
        for (int64_t j = 0; j < p->columns; j++) alike += (double)y[j] * p->targets[nearest[k] * p->columns + j];
    return alike;
}

static void ask_neighbours(pairs *p)
{
    double alike[ASKED];
    for (int64_t i = 0; i < ASKED; i++) alike[i] = likeness(p, p->samples - 1 - i, p->samples - ASKED);
    p->likeness = in_deviations(alike, ASKED);
}

/* ---- the model ---- */

enum { TRAINED_LEAST = 24, TRAINED_MOST = 200, JUDGED = 16 };

/* Within one epoch, so that it is judged by what it has not seen; too few to learn from are none. */
static int steps_within(const pairs *p)
{
    int steps = grdi_check_steps_for(p->s, TRAINED_LEAST, TRAINED_MOST);
    int64_t all = p->repeated ? p->samples : p->s->samples, batches = all / p->batch - JUDGED - 1;
    if (all && steps > batches) steps = batches < TRAINED_LEAST ? 0 : (int)batches;
    return p->s->solved ? 0 : steps;
}

/* What a batch's loss gains by its own inputs instead of those of the batch before, which the model has not learnt
 * from either. */
static grd_status judge(pairs *p, void *before)
{
    double gains[JUDGED];
    size_t size = grdi_type_bytes(*grdi_type_of(p->s->input));
    for (int i = -1; i < JUDGED; i++) {
        double own, other;
        grd_status status = p->s->next(p->s, &p->s->inputs);
        if (!status) status = grdi_check_step(p->c, p->s, 0, &own);
        if (!status && i >= 0) {
            grd_step_feed(p->s->step, p->s->input, before);
            status = grdi_check_step(p->c, p->s, 0, &other);
            gains[i] = other - own;
            p->own += own / JUDGED, p->other += other / JUDGED;
        }
        if (status) return status;
        memcpy(before, p->s->inputs, size);
    }
    p->model = in_deviations(gains, JUDGED);
    return GRD_OK;
}

static grd_status ask_model(pairs *p)
{
    grdi_snapshot start;
    grd_status status = grdi_snapshot_take(&start, p->s, p->c->error);
    if (status) return status;
    void *before = grdi_alloc(grdi_type_bytes(*grdi_type_of(p->s->input)));
    if (!before) status = grd_fail(p->c->error, GRD_E_MEMORY, "out of memory for a batch");
    p->s->rewind(p->s);
    for (int i = 0; i < p->steps && !status; i++) {
        double loss;
        if (grdi_check_stopped(p->c)) status = GRD_E_STOPPED;
        if (!status) status = p->s->next(p->s, &p->s->inputs);
        if (!status) status = grdi_check_step(p->c, p->s, 1, &loss);
    }
    if (!status) status = judge(p, before);
    grdi_snapshot_restore(&start, p->s);
    grdi_snapshot_free(&start);
    grdi_free(before);
    return status;
}

/* ---- what they say ---- */

static void tell(const pairs *p)
{
    static const char *const look_at = "look at whether targets belong to their inputs, as labels of a file in another "
                                       "order do not; if they do, these "
                                       "inputs say too little of them for so many samples to show it";
    char model[128] = "";
    if (p->correlation > p->chance) {
        grdi_check_result(p->c, "pairs", true, "",
                          "of %lld samples an input and a target correlate by %.3f; %.3f could be chance",
                          (long long)p->samples, p->correlation, p->chance);
        return;
    }
    if (p->steps)
        snprintf(model, sizeof(model),
                 "; after %d steps the loss is %.4f with a batch's own inputs, %.4f with another's", p->steps, p->own,
                 p->other);
    grdi_check_result(
        p->c, "pairs", is_seen(p->likeness) || is_seen(p->model), look_at,
        "of %lld samples no input and target correlate by more than %.3f, which chance gives; neighbours' "
        "targets are alike by %.1f deviations%s",
        (long long)p->samples, p->correlation, p->likeness, model);
}

static grd_status ask(pairs *p)
{
    grd_status status = gather(p);
    if (status || p->samples < SAMPLES_LEAST || !p->columns) return status;
    status = ask_features(p);
    if (!status && p->correlation <= p->chance) ask_neighbours(p);
    bool seen = p->correlation > p->chance || is_seen(p->likeness);
    p->steps = seen ? 0 : steps_within(p);
    if (!status && p->steps) status = ask_model(p);
    if (!status && isfinite(p->own) && isfinite(p->other)) tell(p);
    return status;
}

/* Whether a target is one class or some numbers for each sample. */
static bool have_pairs(const grdi_subject *s)
{
    if (!s->labelled || !s->target.node || !s->input.node) return false;
    grd_dims in = grd_tensor_dims(s->input), out = grd_tensor_dims(s->target);
    grd_dtype input = grd_tensor_dtype(s->input), target = grd_tensor_dtype(s->target);
    if (in.rank < 1 || out.rank < 1 || in.dim[0] != out.dim[0]) return false;
    return (input == GRD_F32 || input == GRD_I32) && (target == GRD_F32 || (target == GRD_I32 && out.rank == 1));
}

grd_status grdi_check_pairs(grdi_checker *c, grdi_subject *s)
{
    if (!have_pairs(s) || (s->samples && s->samples < SAMPLES_LEAST)) return GRD_OK;
    s->rewind(s);
    const grdi_type *in = grdi_type_of(s->input), *out = grdi_type_of(s->target);
    pairs p = {.c = c, .s = s, .batch = in->dims.dim[0]};
    int64_t inputs = grd_dims_count(in->dims) / p.batch, numbers = grd_dims_count(out->dims) / p.batch;
    bool large = inputs > FEATURES_MOST, classes = out->dtype == GRD_I32;
    p.most = large ? LARGE_SAMPLES_MOST : SAMPLES_MOST;
    p.width = large || in->dtype == GRD_I32 ? FEATURES_MOST : inputs;
    p.columns = classes ? COLUMNS_MOST : numbers < NUMBERS_MOST ? numbers : NUMBERS_MOST;
    p.features = grdi_alloc((size_t)(p.most * p.width) * sizeof(float));
    p.targets = grdi_alloc((size_t)(p.most * p.columns) * sizeof(float));
    p.labels = classes ? grdi_alloc((size_t)p.most * sizeof(int32_t)) : NULL;
    p.fed = grdi_alloc(grdi_type_bytes(*out));
    bool made = p.features && p.targets && p.fed && (p.labels || !classes);
    grd_status status = made ? ask(&p) : grd_fail(c->error, GRD_E_MEMORY, "out of memory for samples");
    grdi_hashes_free(&p.known);
    grdi_free(p.features);
    grdi_free(p.targets);
    grdi_free(p.labels);
    grdi_free(p.fed);
    return status;
}
