/* coefficients.c - the weights of linear models by the names of columns and in their units. */
#include "base/file.h"
#include "base/memory.h"
#include "generate/load.h"
#include "generate/tabular.h"

#include <math.h>
#include <string.h>

struct grd_coefficients {
    grdi_features features;
    grd_coefficient *list;
    int64_t count;
};

/* weights [outputs][width] and biases [outputs], in double where the model was solved, else the model's own. */
static grd_status read_weights(const char *folder, int64_t outputs, int64_t width, double *weights, double *biases,
                               grd_error *error)
{
    grd_safetensors *file;
    grd_status status = grd_safetensors_open(folder, &file, error);
    if (status) return status;
    const grd_file_tensor *w = grd_safetensors_find(file, "solution/weight"),
                          *b = grd_safetensors_find(file, "solution/bias");
    if (!w) w = grd_safetensors_find(file, "head/weight"), b = grd_safetensors_find(file, "head/bias");
    bool fits = w && b && (w->dtype == GRD_F64 || w->dtype == GRD_F32) && b->dtype == w->dtype &&
                grd_dims_count(w->dims) == outputs * width && grd_dims_count(b->dims) == outputs;
    if (!fits)
        status = grd_fail(error, GRD_E_FORMAT, "%s: has no weights of a linear model of %lld features", folder,
                          (long long)width);
    for (int64_t i = 0; !status && i < outputs * (width + 1); i++) {
        const grd_file_tensor *t = i < outputs * width ? w : b;
        int64_t at = i < outputs * width ? i : i - outputs * width;
        double d;
        float f;
        if (t->dtype == GRD_F64) memcpy(&d, (const char *)t->data + 8 * at, sizeof(d));
        else memcpy(&f, (const char *)t->data + 4 * at, sizeof(f)), d = (double)f;
        *(t == w ? &weights[at] : &biases[at]) = d;
    }
    grd_safetensors_close(file);
    return status;
}

/* Of one output, in the units of the columns. */
static void add_output(grd_coefficients *c, int64_t output, const double *weights, double bias)
{
    const grdi_features *f = &c->features;
    const char *of = !f->class_count ? NULL : f->classes[f->class_count == 2 ? 1 : output];
    double scale = f->class_count ? 1 : f->target_deviation,
           intercept = bias * scale + (f->class_count ? 0 : f->target_mean);
    int64_t first = c->count++;
    for (int64_t i = 0; i < f->width; i++) {
        const grdi_feature_column *column = grdi_feature_column_of(f, i);
        int64_t at = i - column->first;
        double value = weights[i] * scale;
        grd_coefficient *to = &c->list[c->count++];
        *to = (grd_coefficient){.column = column->name, .of_class = of};
        if (column->kind == GRD_COLUMN_CATEGORY) {
            to->category = at < column->category_count ? column->categories[at] : "(other)";
            to->missing = !*to->category;
            if (to->missing) to->category = NULL;
        } else if (at) {
            to->missing = true;
        } else {
            value /= column->deviation;
            intercept -= value * column->mean;
        }
        to->value = value;
    }
    c->list[first] = (grd_coefficient){.column = NULL, .of_class = of, .value = intercept};
}

static grd_status fill(grd_coefficients *c, const char *folder, grd_error *error)
{
    grd_status status = grdi_tabular_read_features(folder, &c->features, error);
    if (status) return status;
    int64_t width = c->features.width, outputs = grdi_tabular_outputs(&c->features);
    double *values = grdi_alloc_zero((size_t)(outputs * (width + 1)), sizeof(double));
    c->list = grdi_alloc_zero((size_t)(outputs * (width + 1)), sizeof(*c->list));
    if (!values || !c->list) status = grd_fail(error, GRD_E_MEMORY, "%s: out of memory for coefficients", folder);
    else status = read_weights(folder, outputs, width, values, values + outputs * width, error);
    for (int64_t k = 0; k < outputs && !status; k++) add_output(c, k, values + k * width, values[outputs * width + k]);
    grdi_free(values);
    return status;
}

grd_status grd_coefficients_open(const char *run, grd_coefficients **coefficients, grd_error *error)
{
    grd_error own = {GRD_OK, ""};
    grdi_loaded from = {.error = error ? error : &own};
    const grd_run_options options = {.size = sizeof(options), .device = "cpu"};
    grd_coefficients *c = *coefficients = grdi_alloc_zero(1, sizeof(*c));
    grd_status status =
        c ? grdi_load_open(&from, run, &options) : grd_fail(from.error, GRD_E_MEMORY, "%s: out of memory", run);
    int kind = status ? -1 : from.settings->model.kind;
    bool linear = kind == GRD_MODEL_LINEAR || kind == GRD_MODEL_LOGISTIC;
    if (!status && (!linear || from.settings->data.kind != GRD_DATA_TABLE))
        status = grd_fail(from.error, GRD_E_ARGUMENT,
                          "%s: is no linear or logistic model of a table, which have coefficients", run);
    if (!status) status = fill(c, from.weights, from.error);
    grdi_load_close(&from);
    if (!status) return GRD_OK;
    grd_coefficients_free(c);
    *coefficients = NULL;
    return status;
}

int64_t grd_coefficients_count(const grd_coefficients *coefficients)
{
    return coefficients->count;
}

grd_coefficient grd_coefficients_at(const grd_coefficients *coefficients, int64_t index)
{
    return coefficients->list[index];
}

void grd_coefficients_free(grd_coefficients *coefficients)
{
    if (!coefficients) return;
    grdi_features_free(&coefficients->features);
    grdi_free(coefficients->list);
    grdi_free(coefficients);
}
