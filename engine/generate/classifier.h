/* classifier.h - a network that classifies images: its graph, its scores, its weights in files. */
#ifndef GRDI_CLASSIFIER_H
#define GRDI_CLASSIFIER_H

#include "formats/checkpoint.h"

#include <gradus/classification.h>
#include <gradus/model.h>
#include <gradus/run.h>

enum { GRDI_DAMAGED = -2 }; /* in the place of a label: the image cannot be read and is left out */

/* Scores images in batches. Zeroed before use. */
typedef struct grdi_scorer {
    grd_tensor x, logits;
    grd_program *program;
    int64_t batch, pixels, classes; /* pixels: floats of an image */
    float *inputs, *values;
    int32_t *labels;
} grdi_scorer;

/* What the images of a trained classifier are like. Zeroed before use. */
typedef struct grdi_classifier_about {
    int64_t height, width, channels; /* 0: written before this was */
    int64_t classes;
    char **names; /* of classes; NULL: they have only numbers */
} grdi_classifier_about;

/* From the config.json of the checkpoint in `folder`. */
grd_status grdi_classifier_read_about(const char *folder, grdi_classifier_about *about, grd_error *error);
void grdi_classifier_free_about(grdi_classifier_about *about);

/* x [N,height,width,channels] in 0..1 to logits. The states input/mean and input/deviation, one value a channel, are
 * taken from the pixels first. `key` drives the dropout; poison: none. */
grd_tensor grdi_classifier_logits(const grd_settings *settings, grd_tensor x, bool training, grd_tensor key);

enum { GRDI_HIDDEN_MAX = 100 };

/* The mlp of the settings: model.layers hidden layers (at most GRDI_HIDDEN_MAX) of model.width, then `outputs`. */
grd_tensor grdi_mlp_values(const grd_settings *settings, grd_tensor x, int64_t outputs, const grd_drop *drop);

/* Whether the model's sizes fit these images; the error names the key that does not. */
grd_status grdi_classifier_check(const grd_settings *settings, const grd_images_info *info, grd_error *error);

grd_status grdi_scorer_open(grdi_scorer *scorer, grd_model *model, const grd_settings *settings,
                            const grd_images_info *info, grd_error *error);
/* Counts at most `most` of the images, spread evenly (0: all), which *event tells of, too: loss, accuracy, samples.
 * `stop` (may be NULL) ends it early, with event->part 0. */
grd_status grdi_scorer_run(grdi_scorer *scorer, const grd_images *images, int64_t most, const volatile int *stop,
                           grd_classification *counts, grd_event *event, grd_error *error);
/* scorer->values [batch,classes] of the images first .. first + count, and scorer->labels; count is at most a batch. */
grd_status grdi_scorer_logits(grdi_scorer *scorer, const grd_images *images, int64_t first, int64_t count,
                              grd_error *error);
void grdi_scorer_close(grdi_scorer *scorer);

/* All parameters and states under our paths, and a config.json that says what they are. */
grd_status grdi_classifier_add_weights(grd_model *model, const grd_settings *settings,
                                       const grdi_classifier_about *about, grdi_checkpoint_writer *w, grd_error *error);
/* Fills all parameters; and the states, where the file has them. */
grd_status grdi_classifier_read_weights(grd_model *model, const grd_safetensors *file, grd_error *error);

#endif
