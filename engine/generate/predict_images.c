/* predict_images.c - the classes of new images. */
#include "generate/image_sets.h"
#include "generate/predict.h"

#include <math.h>
#include <string.h>

/* What the model was trained on must be of the input's size. */
static grd_status check_size(const grdi_predict *p, const grdi_classifier_about *model, grd_images_info input)
{
    bool same = input.height == model->height && input.width == model->width && input.channels == model->channels;
    if (same || model->height == 0) return GRD_OK;
    return grd_fail(p->error, GRD_E_FORMAT,
                    "%s: holds images of %lldx%lldx%lld, the model was trained on %lldx%lldx%lld", p->input,
                    (long long)input.height, (long long)input.width, (long long)input.channels,
                    (long long)model->height, (long long)model->width, (long long)model->channels);
}

/* The likeliest class of one image, the first one at ties. */
static void emit(const grdi_predict *p, const grdi_classifier_about *about, const grd_images *images, int64_t index,
                 const float *logits, int64_t classes)
{
    char number[32];
    const char *path = grd_images_path(images, index);
    int64_t best = 0;
    double sum = 0;
    for (int64_t c = 1; c < classes; c++)
        if (logits[c] > logits[best]) best = c;
    for (int64_t c = 0; c < classes; c++) sum += exp((double)logits[c] - (double)logits[best]);
    snprintf(number, sizeof(number), "%lld", (long long)index);
    grd_prediction prediction = {
        .of = path ? "file" : "index", .item = path ? path : number, .value = (double)best, .probability = 1 / sum};
    if (about->names) prediction.label = about->names[best];
    p->on_prediction(p->context, &prediction);
}

static grd_status predict(const grdi_predict *p, const grdi_classifier_about *about, grdi_scorer *scorer,
                          const grd_images *images)
{
    int64_t count = grd_images_about(images).count;
    grd_status status = GRD_OK;
    for (int64_t first = 0; first < count && !status; first += scorer->batch) {
        int64_t here = count - first < scorer->batch ? count - first : scorer->batch;
        status = grdi_scorer_logits(scorer, images, first, here, p->error);
        for (int64_t i = 0; i < here && !status; i++)
            if (scorer->labels[i] != GRDI_DAMAGED)
                emit(p, about, images, first + i, scorer->values + i * scorer->classes, scorer->classes);
    }
    return status;
}

grd_status grdi_predict_images(grdi_predict *p)
{
    grdi_classifier_about about = {.height = 0};
    grdi_scorer scorer = {.batch = 0};
    grd_images *images = NULL;
    grd_status status = grdi_classifier_read_about(p->from.weights, &about, p->error);
    if (!status) status = grdi_image_set_open_inputs(p->from.settings, p->input, &about, p->threads, &images, p->error);
    grd_images_info info = {.count = 0};
    if (!status) info = grd_images_about(images);
    if (!status) status = check_size(p, &about, info);
    if (!status) status = grdi_scorer_open(&scorer, p->from.model, p->from.settings, &info, p->error);
    if (!status) status = grdi_load_weights(&p->from);
    if (!status) status = predict(p, &about, &scorer, images);
    grdi_scorer_close(&scorer);
    grd_images_free(images);
    grdi_classifier_free_about(&about);
    return status;
}
