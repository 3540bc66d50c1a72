/* series_model.c - opens a trained forecaster and the series that it is asked about. */
#include "generate/series_model.h"

#include "base/memory.h"

#include <string.h>

static grd_status check_step(const grdi_series_model *m, const char *path, const char *trained, grd_error *error)
{
    char step[64];
    if (strcmp(grdi_series_step_text(m->series, step, sizeof(step)), trained) == 0) return GRD_OK;
    return grd_fail(error, GRD_E_ARGUMENT, "%s: goes on in steps of %s, the model was trained on steps of %s", path,
                    step, trained);
}

static grd_status check_length(const grdi_series_model *m, const char *path, grd_error *error)
{
    int64_t least = grdi_framing_first(&m->framing) + 1;
    if (m->series->count >= least) return GRD_OK;
    return grd_fail(error, GRD_E_ARGUMENT, "%s: has %lld steps, and a forecast needs the last %lld", path,
                    (long long)m->series->count, (long long)least);
}

grd_status grdi_series_model_open(grdi_series_model *m, grdi_loaded *from, const char *path, grd_error *error)
{
    char step[64];
    *m = (grdi_series_model){.split = 0};
    grd_status status = grdi_forecaster_read_framing(from->weights, &m->framing, step, error);
    if (!status) status = grdi_forecaster_series(from->settings, path, &m->series, error);
    if (!status && m->series->columns != m->framing.columns)
        status = grd_fail(error, GRD_E_FORMAT, "%s: config.json has %lld columns, config.yaml %lld", from->weights,
                          (long long)m->framing.columns, (long long)m->series->columns);
    if (!status) status = check_step(m, path, step, error);
    if (!status) status = check_length(m, path, error);
    if (!status) status = grdi_forecaster_open(&m->forecaster, from->model, from->settings, &m->framing, error);
    if (!status) status = grdi_load_weights(from);
    if (status) return status;
    m->split = grdi_series_split(m->series, from->settings->data.validation_part);
    m->inputs = grdi_framing_inputs(&m->framing, m->series);
    return m->inputs ? GRD_OK : grd_fail(error, GRD_E_MEMORY, "%s: out of memory for the series", path);
}

void grdi_series_model_close(grdi_series_model *m)
{
    grdi_forecaster_close(&m->forecaster);
    grdi_series_free(m->series);
    grdi_free(m->inputs);
}
