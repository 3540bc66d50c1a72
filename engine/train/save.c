/* save.c - checkpoints of a run: weights, what the optimizer keeps, and where the run stands. */
#include "train/task.h"

#include "base/json.h"
#include "base/memory.h"
#include "formats/checkpoint.h"
#include "formats/checkpoint_files.h"
#include "generate/classifier.h"

#include <string.h>

enum { KEPT_CHECKPOINTS = 2 };

/* What is kept beside the weights: all that optimizers and states hold, under our paths. */
static bool kept_beside(const grd_variable *v)
{
    return v->kind == GRD_VARIABLE_MOMENT || v->kind == GRD_VARIABLE_STATE;
}

/* Where model.safetensors has their moving average: the weights that training goes on with, too. */
static bool kept_beside_average(const grd_variable *v)
{
    return kept_beside(v) || v->kind == GRD_VARIABLE_PARAMETER;
}

/* What the data are known again by; NULL when out of memory. */
static json_t *data_json(const grdi_session *s)
{
    json_t *list = json_array();
    for (size_t i = 0; list && i < s->source_count; i++) {
        const grdi_source *from = &s->sources[i];
        char checksum[GRDI_CHECKSUM_TEXT_MAX];
        grdi_checksum_text(from->checksum, checksum);
        json_t *entry = json_pack("{s:s, s:I, s:s}", "path", from->path, "size_bytes", (json_int_t)from->size_bytes,
                                  "xxh3", checksum);
        if (json_array_append_new(list, entry)) {
            json_decref(list);
            list = NULL;
        }
    }
    return list;
}

static json_t *state_json(const grdi_session *s)
{
    json_t *data = data_json(s);
    if (!data) return NULL;
    return json_pack("{s:I, s:I, s:I, s:f, s:s, s:o}", "step", (json_int_t)s->done, "next_batch",
                     (json_int_t)grdi_session_next_batch(s), "seed", (json_int_t)s->settings->train.seed,
                     "elapsed_seconds", grdi_session_elapsed(s), "device_kind", grd_engine_device_kind(s->engine),
                     "data", data);
}

static grd_status add_json(grdi_session *s, grdi_checkpoint_writer *w, const char *name, json_t *value)
{
    if (!value) return grd_fail(s->error, GRD_E_MEMORY, "%s: out of memory", name);
    grd_status status = grdi_checkpoint_add_json(w, name, value);
    json_decref(value);
    return status;
}

static grd_status add_tokenizer(grdi_session *s, grdi_checkpoint_writer *w)
{
    static const char *const names[] = {"tokenizer.json", "tokenizer_config.json"};
    grd_status status = GRD_OK;
    for (int i = 0; i < 2 && s->tokenizer && !status; i++) {
        char *path = grdi_path_join(s->settings->out, names[i]);
        status = path ? grdi_checkpoint_copy_file(w, names[i], path)
                      : grd_fail(s->error, GRD_E_MEMORY, "%s: out of memory", names[i]);
        grdi_free(path);
    }
    return status;
}

static grd_status add_weights(grdi_session *s, void *writer)
{
    return s->task->add_weights(s, writer);
}

grd_status grdi_session_save(grdi_session *s)
{
    if (!s->settings->out) return GRD_OK;
    char *root = grdi_path_join(s->settings->out, "checkpoints"), *path = NULL;
    if (!root) return grd_fail(s->error, GRD_E_MEMORY, "out of memory for a checkpoint");
    grdi_checkpoint_writer w;
    grd_status status = grdi_checkpoint_begin(&w, root, (uint64_t)s->done);
    w.follows = (uint64_t)s->saved;
    if (!status) status = grdi_session_with_average(s, add_weights, &w);
    if (!status)
        status = grdi_checkpoint_add_variables(&w, "optimizer.safetensors", s->model, s->variable_count,
                                               s->settings->train.ema > 0 ? kept_beside_average : kept_beside);
    if (!status) status = add_json(s, &w, "state.json", state_json(s));
    if (!status) status = add_tokenizer(s, &w);
    if (!status) status = grdi_session_add_algorithms(s, &w);
    if (status) {
        if (w.error.status) grd_fail(s->error, w.error.status, "%s", w.error.message);
        grdi_checkpoint_abandon(&w);
    } else {
        status = grdi_checkpoint_commit(&w, KEPT_CHECKPOINTS, &path, s->error);
    }
    if (!status) s->saved = s->done;
    if (!status) grdi_session_emit(s, &(grd_event){.kind = GRD_EVENT_SAVED, .step = s->done, .text = path});
    grdi_free(path);
    grdi_free(root);
    return status;
}

/* ---- reading ---- */

#define EARLIER " (--previous takes the one before)"
#define CHANGED " (the config has changed since it was written: change it back, or start anew)"

grd_status grdi_task_read_by_name(grdi_session *s, const grd_safetensors *file, grd_error *error)
{
    return grdi_classifier_read_weights(s->model, file, error);
}

static grd_status load_weights(grdi_session *s, const grdi_checkpoint *c, grd_error *error)
{
    const grd_safetensors *tensors = grdi_checkpoint_tensors(c, "model.safetensors");
    if (!tensors) return grd_fail(error, GRD_E_FORMAT, "model.safetensors: missing from the checkpoint" EARLIER);
    grd_error own = {GRD_OK, ""};
    if (s->task->read_weights(s, tensors, &own) == GRD_OK) return GRD_OK;
    return grd_fail(error, own.status, "model.safetensors: %s" CHANGED, own.message);
}

static grd_status load_optimizer(grdi_session *s, const grdi_checkpoint *c, grd_error *error)
{
    static const char file[] = "optimizer.safetensors";
    const grd_safetensors *tensors = grdi_checkpoint_tensors(c, file);
    if (!tensors) return grd_fail(error, GRD_E_FORMAT, "%s: missing from the checkpoint" EARLIER, file);
    grd_variable v;
    bool (*kept)(const grd_variable *v) = s->settings->train.ema > 0 ? kept_beside_average : kept_beside;
    for (int64_t i = 0; i < s->variable_count && grd_model_variable_at(s->model, i, &v); i++) {
        if (!kept(&v)) continue;
        const grd_file_tensor *t = grd_safetensors_find(tensors, v.path);
        if (!t) return grd_fail(error, GRD_E_FORMAT, "%s: has no tensor '%s'" CHANGED, file, v.path);
        if (t->dtype != v.dtype || !grd_dims_equal(t->dims, v.dims)) {
            char a[GRD_DIMS_TEXT_MAX], b[GRD_DIMS_TEXT_MAX];
            return grd_fail(error, GRD_E_FORMAT, "%s: '%s' is %s%s, the model's is %s%s" CHANGED, file, v.path,
                            grd_dtype_name(t->dtype), grd_dims_text(t->dims, a), grd_dtype_name(v.dtype),
                            grd_dims_text(v.dims, b));
        }
        grd_status status = grd_model_write(s->model, v.path, t->data, error);
        if (status) return status;
    }
    for (size_t i = 0; i < grd_safetensors_count(tensors); i++) {
        const char *name = grd_safetensors_at(tensors, i)->name;
        if (!grd_model_variable_find(s->model, name, &v) || !kept(&v))
            return grd_fail(error, GRD_E_FORMAT, "%s: '%.100s' is nothing that this optimizer keeps" CHANGED, file,
                            name);
    }
    return GRD_OK;
}

#define OTHER_DATA                                                                                                     \
    " (give the run its data back, or start a new one from its weights: --set init.from=CHECKPOINT)"

/* The data must be those that the run was trained on: position and split mean nothing in others. Where they lie does
 * not matter. A checkpoint of an earlier version does not tell. */
static grd_status check_data(const grdi_session *s, const json_t *state, grd_error *error)
{
    const json_t *list = json_object_get(state, "data");
    if (!list) return GRD_OK;
    if (json_array_size(list) != s->source_count)
        return grd_fail(error, GRD_E_ARGUMENT, "state.json: the run was trained on %zu files of data, %zu are given%s",
                        json_array_size(list), s->source_count, OTHER_DATA);
    for (size_t i = 0; i < s->source_count; i++) {
        const grdi_source *now = &s->sources[i];
        const json_t *entry = json_array_get(list, i);
        const char *path = json_string_value(json_object_get(entry, "path")),
                   *checksum = json_string_value(json_object_get(entry, "xxh3"));
        json_int_t size_bytes = json_integer_value(json_object_get(entry, "size_bytes"));
        char own[GRDI_CHECKSUM_TEXT_MAX];
        grdi_checksum_text(now->checksum, own);
        if (size_bytes == now->size_bytes && checksum && strcmp(checksum, own) == 0) continue;
        return grd_fail(error, GRD_E_ARGUMENT,
                        "state.json: %s is not what the run was trained on: %lld bytes with checksum %s, not %lld with "
                        "%s%s%s" OTHER_DATA,
                        now->path, (long long)now->size_bytes, own, (long long)size_bytes, checksum ? checksum : "none",
                        path && strcmp(path, now->path) ? " as " : "",
                        path && strcmp(path, now->path) ? path : "");
    }
    return GRD_OK;
}

/* A resumed run goes on with the tokenizer in its folder, which must still be the one that the checkpoint has. */
static grd_status check_tokenizer(const grdi_session *s, const grdi_checkpoint *c, grd_error *error)
{
    size_t size;
    const char *kept = grdi_checkpoint_file(c, "tokenizer.json", &size);
    if (!kept || !s->tokenizer) return GRD_OK;
    char *path = grdi_path_join(s->settings->out, "tokenizer.json");
    if (!path) return grd_fail(error, GRD_E_MEMORY, "%s: out of memory", s->settings->out);
    grdi_mapping own = {NULL, 0};
    bool same = true;
    grd_status status = grdi_path_exists(path) ? grdi_file_map(path, &own, error) : GRD_OK;
    if (!status && own.data) {
        same = own.size_bytes == size && memcmp(own.data, kept, size) == 0;
        grdi_file_unmap(&own);
    }
    if (!status && !same)
        status = grd_fail(error, GRD_E_ARGUMENT,
                          "tokenizer.json: %s is another one now (copy the checkpoint's over it)", path);
    grdi_free(path);
    return status;
}

static grd_status load_state(grdi_session *s, const grdi_checkpoint *c, grd_error *error)
{
    size_t size;
    const char *text = grdi_checkpoint_file(c, "state.json", &size);
    grd_error problem = {GRD_OK, ""};
    json_t *state = text ? grd_json_parse(text, size, "state.json", &problem) : NULL;
    if (!text) return grd_fail(error, GRD_E_FORMAT, "state.json: missing from the checkpoint" EARLIER);
    if (!state) return grd_fail(error, problem.status, "%s", problem.message);
    json_int_t step = -1, next = -1, seed = s->settings->train.seed;
    double elapsed = 0;
    const char *kind = "";
    grd_status status = GRD_OK;
    if (json_unpack(state, "{s:I, s:I, s:I, s:F, s:s}", "step", &step, "next_batch", &next, "seed", &seed,
                    "elapsed_seconds", &elapsed, "device_kind", &kind) ||
        step < 0 || next < 0)
        status = grd_fail(error, GRD_E_FORMAT,
                          "state.json: step, next_batch, seed, elapsed_seconds or device_kind is missing or of the "
                          "wrong kind" EARLIER);
    else if (seed != s->settings->train.seed)
        status = grd_fail(error, GRD_E_ARGUMENT,
                          "state.json: the run's train.seed was %lld, is %lld now, which would mix two orders of the "
                          "data (change it back, or start anew)",
                          (long long)seed, (long long)s->settings->train.seed);
    else if (check_data(s, state, error))
        status = error->status;
    else if (strcmp(kind, grd_engine_device_kind(s->engine)) != 0)
        grdi_session_note(s,
                          "the checkpoint was written on '%s', this is '%s': the run goes on, but not to the bit as it "
                          "would have there",
                          kind, grd_engine_device_kind(s->engine));
    s->done = s->first_step = s->saved = (int64_t)step;
    s->first_batch = (int64_t)next;
    s->elapsed_before = elapsed;
    grd_step_set_count(s->step, s->done);
    json_decref(state);
    return status;
}

grd_status grdi_session_resume(grdi_session *s, bool *found)
{
    char *root = grdi_path_join(s->settings->out, "checkpoints"), *path = NULL;
    uint64_t step;
    grdi_checkpoint *c = NULL;
    grd_status status = root ? grdi_checkpoint_find(root, s->options->previous ? 1 : 0, &step, &path, s->error)
                             : grd_fail(s->error, GRD_E_MEMORY, "%s: out of memory", s->settings->out);
    *found = !status && path;
    if (!status && !path && s->options->previous) {
        uint64_t newest;
        status = grdi_checkpoint_find(root, 0, &newest, &path, s->error);
        if (!status && path)
            status = grd_fail(s->error, GRD_E_ARGUMENT, "%s: is the only checkpoint (leave --previous out)", path);
    }
    if (*found) {
        status = grdi_checkpoint_open(path, &c, s->error);
        grd_error problem = {GRD_OK, ""};
        if (!status) status = load_weights(s, c, &problem);
        if (!status) status = load_optimizer(s, c, &problem);
        if (!status) status = check_tokenizer(s, c, &problem);
        if (!status) status = load_state(s, c, &problem);
        if (problem.status) grd_fail(s->error, problem.status, "%s: %s", path, problem.message);
        grdi_checkpoint_close(c);
        if (!status) grdi_session_note(s, "resuming from %s", path);
    }
    grdi_free(path);
    grdi_free(root);
    return status;
}
