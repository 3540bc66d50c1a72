/* predict.c - opens a run and hands the input to those who know its kind of data. */
#include "generate/predict.h"

#include "base/file.h"

static grd_status predict(grdi_predict *p, const grd_run_options *options)
{
    grd_status status = grdi_load_open(&p->from, p->run, options);
    if (status) return status;
    if (!grdi_path_exists(p->input))
        return grd_fail(p->error, GRD_E_IO, "%s: no such file or folder (give what is to be predicted)", p->input);
    switch (p->from.settings->data.kind) {
    case GRD_DATA_IDX:
    case GRD_DATA_IMAGES: return grdi_predict_images(p);
    case GRD_DATA_TABLE: return grdi_predict_table(p);
    case GRD_DATA_SERIES: return grdi_predict_series(p);
    default:
        return grd_fail(p->error, GRD_E_ARGUMENT,
                        "%s: is a language model, which continues texts (gradus sample does; gradus eval scores them)",
                        p->run);
    }
}

grd_status grd_predict_run(const char *run, const char *input, const grd_run_options *options,
                           void (*on_prediction)(void *context, const grd_prediction *prediction), void *context,
                           grd_error *error)
{
    grd_error own = {GRD_OK, ""};
    grdi_predict p = {.options = options,
                      .run = run,
                      .input = input,
                      .threads = options->threads,
                      .on_prediction = on_prediction,
                      .context = context};
    p.error = p.from.error = error ? error : &own;
    grd_status status = predict(&p, options);
    grdi_load_close(&p.from);
    return status;
}
