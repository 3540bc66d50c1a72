/* sample.c - continues a prompt with the model of a run directory. */
#include "base/file.h"
#include "generate/load.h"
#include "generate/sampler.h"

static grd_status check_tokenizer(const grdi_loaded *from, const char *run)
{
    if (from->tokenizer) return GRD_OK;
    return grd_fail(from->error, GRD_E_IO, "%s: has no tokenizer.json (copy the one its tokens came from there)", run);
}

grd_status grd_sample_run(const char *run, const grd_sample_options *options, const grd_run_options *run_options,
                          void (*on_text)(void *context, const char *bytes, size_t size_bytes), void *context,
                          grd_error *error)
{
    grd_error own = {GRD_OK, ""};
    grdi_loaded from = {.error = error ? error : &own};
    grdi_sampler s = {.options = *options, .error = from.error};
    grd_status status = grdi_load_open(&from, run, run_options);
    if (!status && !grd_settings_of_language(from.settings))
        status = grd_fail(from.error, GRD_E_ARGUMENT,
                          "%s: is no language model and writes no text (gradus eval tests it)", run);
    if (!status) status = check_tokenizer(&from, run);
    if (!status) {
        const char *path = from.settings->data.path;
        s.tokenizer = from.tokenizer;
        s.foreign = from.hf_folder;
        s.separators = from.hf_folder || !path || grdi_path_is_directory(path);
        status = grdi_sampler_open(&s, from.model, &from.settings->model.gpt);
    }
    if (!status) status = grdi_load_weights(&from);
    if (!status) status = grdi_sampler_run(&s, on_text, context);
    grdi_sampler_close(&s);
    grdi_load_close(&from);
    return status;
}
