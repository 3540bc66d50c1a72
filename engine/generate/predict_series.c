/* predict_series.c - what follows a series. */
#include "generate/predict.h"
#include "generate/series_model.h"

#include <math.h>

typedef struct teller {
    const grdi_predict *p;
    const grdi_series_model *m;
} teller;

static void tell(void *context, int64_t last, const float *outputs)
{
    const teller *t = context;
    const grdi_series_model *m = t->m;
    for (int64_t h = 1; h <= m->framing.horizon; h++) {
        char time[64];
        const grd_prediction prediction = {.of = t->p->from.settings->data.time,
                                           .item = grdi_series_time_text(m->series, last + h, time, sizeof(time)),
                                           .value = grdi_framing_value(&m->framing, m->series, last, h, outputs[h - 1]),
                                           .probability = NAN};
        t->p->on_prediction(t->p->context, &prediction);
    }
}

grd_status grdi_predict_series(grdi_predict *p)
{
    grdi_series_model m;
    teller t = {p, &m};
    grd_status status = grdi_series_model_open(&m, &p->from, p->input, p->error);
    if (!status)
        status = grdi_forecaster_run(&m.forecaster, m.inputs, m.series->count - 1, m.series->count, 1, tell, &t, NULL,
                                     p->error);
    grdi_series_model_close(&m);
    return status;
}
