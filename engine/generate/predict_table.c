/* predict_table.c - what a model of tables says of the rows of another one. */
#include "base/memory.h"
#include "generate/predict.h"
#include "generate/tabular.h"

#include <math.h>

static void emit(const grdi_predict *p, const grdi_tabular *t, int64_t row, int64_t index)
{
    char item[32];
    grd_prediction prediction = {.of = "row", .item = item};
    snprintf(item, sizeof(item), "%lld", (long long)row);
    prediction.value = grdi_tabular_said(t, index, &prediction.probability, NULL);
    if (t->features->class_count) prediction.label = t->features->classes[(int64_t)prediction.value];
    p->on_prediction(p->context, &prediction);
}

static grd_status predict(const grdi_predict *p, grdi_tabular *t, int64_t rows)
{
    int64_t *batch = grdi_alloc((size_t)t->batch * sizeof(int64_t));
    grd_status status = batch ? GRD_OK : grd_fail(p->error, GRD_E_MEMORY, "out of memory for rows of a table");
    for (int64_t first = 0; first < rows && !status; first += t->batch) {
        int64_t here = rows - first < t->batch ? rows - first : t->batch;
        for (int64_t i = 0; i < here; i++) batch[i] = first + i;
        status = grdi_tabular_run(t, batch, here, p->error);
        for (int64_t i = 0; i < here && !status; i++) emit(p, t, first + i, i);
    }
    grdi_free(batch);
    return status;
}

grd_status grdi_predict_table(grdi_predict *p)
{
    grdi_features features = {.width = 0};
    grdi_tabular t = {.batch = 0};
    grd_table *table = NULL;
    grd_status status = grdi_tabular_read_features(p->from.weights, &features, p->error);
    if (!status) status = grdi_features_open_table(&features, p->input, false, &table, p->error);
    if (!status) status = grdi_tabular_open(&t, p->from.model, p->from.settings, &features, table, p->error);
    if (!status) status = grdi_load_weights(&p->from);
    if (!status) status = predict(p, &t, grd_table_about(table).rows);
    for (int64_t i = 0; i < features.column_count && !status; i++) {
        if (!t.binding.unseen[i] || !p->options->on_event) continue;
        char text[512];
        snprintf(text, sizeof(text),
                 "column '%.100s': %lld rows have a category that the model was not trained on (it counts "
                 "as none of those it knows)",
                 features.columns[i].name, (long long)t.binding.unseen[i]);
        p->options->on_event(p->options->context, &(grd_event){.kind = GRD_EVENT_NOTE, .text = text});
    }
    grdi_tabular_close(&t);
    grdi_features_free(&features);
    grd_table_free(table);
    return status;
}
