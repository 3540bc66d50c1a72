/* load.h - a trained model from where it lies: a run directory, one of its checkpoints, or a Hugging Face folder. */
#ifndef GRDI_GENERATE_LOAD_H
#define GRDI_GENERATE_LOAD_H

#include <gradus/model.h>
#include <gradus/run.h>

/* Zeroed before use but for `error`. */
typedef struct grdi_loaded {
    grd_settings *settings;   /* resolved; of a Hugging Face folder only the model is known */
    grd_tokenizer *tokenizer; /* NULL where there is none */
    grd_engine *engine;
    grd_model *model;
    char *weights; /* the folder that holds model.safetensors */
    bool hf_folder;
    int64_t step; /* that the checkpoint was written at; 0 of a Hugging Face folder */
    grd_error *error;
} grdi_loaded;

/* Finds out what lies at `path`: settings, tokenizer, engine and an empty model. */
grd_status grdi_load_open(grdi_loaded *l, const char *path, const grd_run_options *options);
/* Fills the model's parameters; graphs that use them must exist by now. A checkpoint is verified first. */
grd_status grdi_load_weights(grdi_loaded *l);
void grdi_load_close(grdi_loaded *l);

#endif
