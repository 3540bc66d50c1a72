/* engine.c - opening a device, and the models on it. */
#include "run/run.h"

#include "graph/custom.h"
#include "run/storage.h"

#include <sched.h>
#include <string.h>

static int32_t usable_threads(void)
{
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof(set), &set) != 0) return 1;
    int count = CPU_COUNT(&set);
    return count > 0 ? count : 1;
}

grd_engine *grd_engine_open_with(const char *device, const grd_engine_options *options)
{
    if (!device || strcmp(device, "auto") == 0) device = "cpu";
    grd_engine *engine = grdi_alloc_zero(1, sizeof(*engine));
    char *name = grdi_strdup(device);
    if (!engine || !name) {
        grdi_free(engine);
        grdi_free(name);
        return NULL;
    }
    engine->name = name;
    engine->threads = options && options->threads > 0 ? options->threads : usable_threads();
    const char *argument = "";
    const grdi_backend *backend = grdi_backend_find(device, &argument);
    char with_modes[128];
    grdi_modes modes = {.tf32 = options && options->tf32, .nondeterministic = options && options->nondeterministic};
    if (backend && backend->takes_modes) argument = grdi_modes_append(argument, modes, with_modes, sizeof(with_modes));
    if (!backend)
        grd_fail(&engine->error, GRD_E_ARGUMENT,
                 "device '%s': there is no such device (cpu, cuda, ref or null:PROFILE)", device);
    else if (backend->open(argument, engine->threads, &engine->device, &engine->error) == GRD_OK)
        engine->backend = backend;
    grdi_engine_recall_algorithms(engine);
    return engine;
}

const grd_error *grd_engine_error(const grd_engine *engine)
{
    static const grd_error none = {GRD_E_MEMORY, "out of memory for an engine"};
    return engine ? &engine->error : &none;
}

void grd_engine_report(const grd_engine *engine, FILE *stream)
{
    const grd_error *error = grd_engine_error(engine);
    if (error->status) fprintf(stream, "error: %s\n", error->message);
}

const char *grd_engine_device(const grd_engine *engine)
{
    return engine ? engine->name : "";
}

const char *grd_engine_device_kind(const grd_engine *engine)
{
    return engine && engine->backend ? engine->backend->kind(engine->device) : "";
}

void grd_engine_close(grd_engine *engine)
{
    if (!engine) return;
    grdi_children_release(&engine->models);
    grdi_custom_free(engine);
    if (engine->backend) engine->backend->close(engine->device);
    grdi_free(engine->name);
    grdi_free(engine);
}

static void model_destroy(void *object)
{
    grd_model *model = object;
    grdi_children_release(&model->children);
    if (model->arena.data)
        model->engine->backend->release(model->engine->device, model->arena.data, model->arena.size_bytes);
    grdi_model_release_storages(model);
    while (model->variables) {
        grdi_variable *variable = model->variables;
        model->variables = variable->next;
        grdi_free(variable->path);
        grdi_free(variable);
    }
    grdi_free(model->table);
    grdi_free(model);
}

grd_model *grd_model_new(grd_engine *engine, uint64_t seed)
{
    if (!engine || !engine->backend) return NULL; /* errors of earlier graphs are theirs alone */
    grd_model *model = grdi_alloc_zero(1, sizeof(*model));
    if (model && grdi_children_add(&engine->models, model, model_destroy)) {
        model->engine = engine;
        model->seed = seed;
        model->variables_end = &model->variables;
        return model;
    }
    grdi_free(model);
    grd_fail(&engine->error, GRD_E_MEMORY, "out of memory for a model");
    return NULL;
}

void grd_model_free(grd_model *model)
{
    if (!model) return;
    grdi_children_remove(&model->engine->models, model);
    model_destroy(model);
}
