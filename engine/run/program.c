/* program.c - compiles, binds and runs programs. */
#include "run/run.h"

#include "base/log.h"
#include "ops/table.h"
#include "run/storage.h"

#include <string.h>

/* ---- binding: plan offsets become pointers ---- */

static void *buffer_data(const grd_program *program, const grdi_buffer *buffer)
{
    switch (buffer->place) {
    case GRDI_IN_KEPT: return (char *)program->kept + buffer->offset_bytes;
    case GRDI_IN_VARIABLE: return grdi_variable_data(buffer->variable);
    default: return (char *)program->graph->model->arena.data + buffer->offset_bytes;
    }
}

static void *value_data(const grd_program *program, const grdi_value *value, grd_dtype dtype)
{
    if (value->buffer < 0) return NULL;
    char *data = buffer_data(program, &program->plan->buffers[value->buffer]);
    return data + value->strides.offset * (int64_t)grd_dtype_size(dtype);
}

/* Forgets what a device noted down: pointers have changed, or the program ends. */
static void forget_captured(grd_program *program)
{
    const grd_engine *engine = program->graph->model->engine;
    for (int v = 0; v < GRDI_RUN_VARIANTS; v++) {
        if (program->captured[v]) engine->backend->capture_free(engine->device, program->captured[v]);
        program->captured[v] = NULL;
        program->variant_runs[v] = 0;
    }
}

static grd_status bind(grd_program *program)
{
    grdi_plan *plan = program->plan;
    forget_captured(program);
    for (size_t n = 0; n < plan->launch_count; n++) {
        grdi_launch *launch = &plan->launches[n];
        grdi_call *call = &launch->call;
        for (int32_t i = 0; i < call->input_count; i++)
            call->in[i].data = value_data(program, &launch->in[i], call->in[i].dtype);
        for (int32_t o = 0; o < call->output_count; o++)
            call->out[o].data = value_data(program, &launch->out[o], call->out[o].dtype);
        call->base = launch->based ? value_data(program, &launch->base, call->out[0].dtype) : NULL;
        call->scratch = launch->scratch < 0 ? NULL : buffer_data(program, &plan->buffers[launch->scratch]);
        if (launch->kernel->bind && launch->kernel->bind(call, &program->error)) return program->error.status;
    }
    program->bound_arena = program->graph->model->arena.data;
    return GRD_OK;
}

/* For the report: pointers decide it, so it is known once they are. */
static void count_device_calls(grd_program *program)
{
    const grd_engine *engine = program->graph->model->engine;
    for (size_t n = 0; n < program->plan->launch_count && engine->backend->count_calls; n++) {
        grdi_launch *launch = &program->plan->launches[n];
        launch->device_calls = (int32_t)engine->backend->count_calls(engine->device, launch->kernel, &launch->call);
    }
}

/* Where the view's last element ends, if it lies in the arena; else 0. */
static size_t arena_end(const grd_program *program, const void *data, size_t extent)
{
    const char *arena = program->graph->model->arena.data;
    size_t size = program->graph->model->arena.size_bytes;
    if (!data || !arena || (const char *)data < arena || (const char *)data >= arena + size) return 0;
    return (size_t)((const char *)data - arena) + (extent + 63) / 64 * 64;
}

static size_t view_extent(const grdi_view *view)
{
    int64_t last = 0;
    for (int32_t d = 0; d < view->dims.rank; d++) last += (view->dims.dim[d] - 1) * view->stride[d];
    return (size_t)(last + 1) * grd_dtype_size(view->dtype);
}

/* Follows the pointers that launches were really given, not the plan's offsets. */
static void note_high_water(grd_program *program, const grdi_call *call)
{
    size_t end = arena_end(program, call->scratch, call->scratch_bytes);
    for (int32_t k = 0; k < call->input_count + call->output_count; k++) {
        const grdi_view *view = k < call->input_count ? &call->in[k] : &call->out[k - call->input_count];
        size_t at = view->data ? arena_end(program, view->data, view_extent(view)) : 0;
        if (at > end) end = at;
    }
    if (end > program->high_water) program->high_water = end;
}

/* Makes the model's arena at least as large as this program needs. */
static grd_status reserve_arena(grd_program *program, grd_error *error)
{
    grd_model *model = program->graph->model;
    size_t need = program->plan->arena_bytes;
    if (need <= model->arena.size_bytes) return GRD_OK;
    const grdi_backend *backend = model->engine->backend;
    void *data = backend->allocate(model->engine->device, need);
    if (!data)
        return grd_fail(error, GRD_E_MEMORY,
                        "%zu bytes for activations are not to be had (a smaller batch or context, or recompute)", need);
    if (model->arena.data) backend->release(model->engine->device, model->arena.data, model->arena.size_bytes);
    model->arena.data = data;
    model->arena.size_bytes = need;
    return GRD_OK;
}

static grd_status allocate(grd_program *program, grd_error *error)
{
    grd_engine *engine = program->graph->model->engine;
    grdi_plan *plan = program->plan;
    grd_status status = reserve_arena(program, error);
    if (status) return status;
    program->fed = grdi_alloc_zero(plan->graph->count + 1, sizeof(*program->fed));
    if (!program->fed) return grd_fail(error, GRD_E_MEMORY, "out of memory for a program");
    for (size_t n = 0; n < plan->graph->count; n++) program->unfed += plan->graph->nodes[n]->op == &grdi_op_input;
    if (plan->kept_bytes) {
        program->kept = engine->backend->allocate(engine->device, plan->kept_bytes);
        if (!program->kept)
            return grd_fail(error, GRD_E_MEMORY, "%zu bytes for inputs and outputs are not to be had (a smaller batch)",
                            plan->kept_bytes);
    }
    for (size_t b = 0; b < plan->buffer_count && engine->backend->runs; b++)
        if (plan->buffers[b].literal)
            engine->backend->upload(engine->device, buffer_data(program, &plan->buffers[b]), plan->buffers[b].literal,
                                    plan->buffers[b].size_bytes);
    return GRD_OK;
}

/* ---- compiling ---- */

/* Whether the device has kernels of its own for the ops of passes/epilogue.c; without them products and kernels of
 * their own are better. */
static bool has_epilogues(const grd_engine *engine)
{
    static const grd_attr none[] = {{.name = NULL}};
    const grdi_view matrix = {.dtype = GRD_F32, .dims = grd_shape(8, 8), .stride = {8, 1}};
    const grdi_call call = {.device = engine->device,
                            .op = &grdi_op_matmul_column_sums,
                            .attrs = none,
                            .input_count = 2,
                            .output_count = 2,
                            .in = {matrix, matrix},
                            .out = {matrix, {.dtype = GRD_F32, .dims = grd_shape(8), .stride = {1}}},
                            .threads = engine->threads};
    const grdi_kernel *kernel = engine->backend->find(engine->device, &call);
    return kernel && kernel != &grdi_reference_kernel;
}

static grdi_plan *make_plan(grd_program *program, const grd_program_options *options, grd_error *error)
{
    grd_tensor *roots = grdi_alloc_zero((size_t)program->output_count + 1, sizeof(*roots));
    if (!roots) {
        grd_fail(error, GRD_E_MEMORY, "out of memory for a program");
        return NULL;
    }
    memcpy(roots, program->outputs, sizeof(*roots) * (size_t)program->output_count);
    grdi_compile c = {program->graph->model,
                      roots,
                      program->output_count,
                      options,
                      error,
                      has_epilogues(program->graph->model->engine)};
    grd_graph *graph = grdi_passes_run(&c, program->graph);
    grdi_plan *plan = graph ? grdi_plan_new(program->graph->model->engine, graph, roots, program->output_count,
                                            options->f16 ? GRD_F16 : GRD_BF16, error)
                            : NULL;
    grdi_free(roots);
    return plan;
}

grd_program *grdi_program_compile(grd_graph *graph, const grd_tensor *outputs, int32_t count,
                                  const grd_program_options *options, grd_error *error)
{
    if (graph->error.status) {
        grd_fail(error, graph->error.status, "%s", graph->error.message);
        return NULL;
    }
    if (!graph->model->engine->backend) {
        grd_fail(error, GRD_E_DEVICE, "%s", graph->model->engine->error.message);
        return NULL;
    }
    if (options->bf16 && options->f16) {
        grd_fail(error, GRD_E_ARGUMENT, "program: in bf16 and f16 at once (set one of them)");
        return NULL;
    }
    if (grdi_model_place(graph->model, error)) return NULL;
    grd_program *program = grdi_alloc_zero(1, sizeof(*program));
    grd_tensor *copy = grdi_alloc_zero((size_t)count + 1, sizeof(*copy));
    bool ok = program && copy && grdi_children_add(&graph->children, program, grdi_program_destroy);
    if (!ok) {
        grdi_free(program);
        grdi_free(copy);
        grd_fail(error, GRD_E_MEMORY, "out of memory for a program");
        return NULL;
    }
    memcpy(copy, outputs, sizeof(*copy) * (size_t)count);
    program->graph = graph;
    program->outputs = copy;
    program->output_count = count;
    program->weights_version = -1;
    program->plan = make_plan(program, options, error);
    ok = program->plan && allocate(program, error) == GRD_OK;
    if (ok && bind(program)) ok = !grd_fail(error, program->error.status, "%s", program->error.message);
    if (ok) count_device_calls(program);
    if (ok) return program;
    grd_program_free(program);
    return NULL;
}

grd_program *grd_program_new_with(const grd_tensor *outputs, int32_t count, const grd_program_options *options)
{
    options = options ? options : &(const grd_program_options){.size = sizeof(grd_program_options)};
    grd_graph *graph = NULL;
    for (int32_t i = 0; outputs && i < count; i++) {
        if (!outputs[i].node) return NULL; /* the graph that made the poison holds the error */
        if (!graph) graph = outputs[i].node->graph;
    }
    if (!graph || !grdi_graph_owns(graph, "program: output", outputs, count)) return NULL;
    grd_error error = {GRD_OK, ""};
    grd_program *program = grdi_program_compile(graph, outputs, count, options, &error);
    if (!program) grdi_graph_fail(graph, error.status, "%s", error.message);
    return program;
}

void grdi_program_destroy(void *object)
{
    grd_program *program = object;
    grd_engine *engine = program->graph->model->engine;
    forget_captured(program);
    if (program->kept) engine->backend->release(engine->device, program->kept, program->plan->kept_bytes);
    grdi_plan_free(program->plan);
    grdi_free(program->outputs);
    grdi_free(program->fed);
    grdi_free(program->launch_seconds);
    grdi_free(program);
}

void grd_program_free(grd_program *program)
{
    if (!program) return;
    grdi_children_remove(&program->graph->children, program);
    grdi_program_destroy(program);
}

/* ---- running ---- */

const grd_error *grd_program_error(const grd_program *program)
{
    static const grd_error none = {GRD_E_ARGUMENT, "no program (its graph holds the error)"};
    return program ? &program->error : &none;
}

static const grdi_node *find_input(const grd_program *program, const char *name)
{
    const grd_graph *graph = program->plan->graph;
    for (size_t n = 0; n < graph->count; n++)
        if (graph->nodes[n]->op == &grdi_op_input && strcmp(graph->nodes[n]->name, name) == 0) return graph->nodes[n];
    return NULL;
}

void *grdi_program_input(grd_program *program, const char *name, size_t *size_bytes)
{
    const grdi_node *node = find_input(program, name);
    if (!node) return NULL;
    const grdi_value *value = &program->plan->values[(size_t)node->id * GRDI_OUTPUTS_MAX];
    program->unfed -= !program->fed[node->id];
    program->fed[node->id] = true;
    if (size_bytes) *size_bytes = grdi_type_bytes(node->out[0]);
    return value_data(program, value, node->out[0].dtype);
}

grd_status grd_program_feed(grd_program *program, grd_tensor input, const void *data)
{
    if (!program) return GRD_E_ARGUMENT;
    if (!input.node || !data)
        return grd_fail(&program->error, GRD_E_ARGUMENT, "feed: no %s",
                        data ? "input (it could not be built)" : "data");
    if (input.node->op != &grdi_op_input || input.node->graph != program->graph)
        return grd_fail(&program->error, GRD_E_ARGUMENT, "feed: '%s' is not an input of this program's graph",
                        input.node->name ? input.node->name : input.node->op->name);
    size_t size;
    void *to = grdi_program_input(program, input.node->name, &size);
    if (!to) return GRD_OK; /* the outputs do not depend on it */
    grd_engine *engine = program->graph->model->engine;
    if (!engine->backend->runs)
        return grd_fail(&program->error, GRD_E_UNSUPPORTED, "device %s only plans (open cpu to run)", engine->name);
    engine->backend->upload(engine->device, to, data, size);
    return GRD_OK;
}

static grd_status not_fed(grd_program *program)
{
    const grd_graph *graph = program->plan->graph;
    const char *name = "";
    for (size_t n = graph->count; n-- > 0;)
        if (graph->nodes[n]->op == &grdi_op_input && !program->fed[n]) name = graph->nodes[n]->name;
    return grd_fail(&program->error, GRD_E_STATE, "run: input '%s' was never fed (feed it before the run)", name);
}

static grd_status ready(grd_program *program)
{
    grd_engine *engine = program->graph->model->engine;
    if (!engine->backend->runs)
        return grd_fail(&program->error, GRD_E_UNSUPPORTED, "device %s only plans (open cpu to run)", engine->name);
    if (program->unfed) return not_fed(program);
    return program->bound_arena == program->graph->model->arena.data ? GRD_OK : bind(program);
}

static void set_accumulate(grd_program *program, grdi_launch *launch)
{
    for (int32_t o = 0; o < launch->call.output_count; o++)
        launch->call.accumulate[o] =
            launch->accumulate[o] == 1 || (launch->accumulate[o] == 2 && program->accumulating);
}

static grd_status launch_failed(grd_program *program, const grdi_launch *launch, grd_status status)
{
    const grd_engine *engine = program->graph->model->engine;
    const char *why = engine->backend->why ? engine->backend->why(engine->device) : "";
    return grd_fail(&program->error, status, "%s%s%s failed on %s (%s)", launch->node->scope,
                    launch->node->scope[0] ? "/" : "", launch->call.op->name, engine->name,
                    why[0] ? why : grd_status_name(status));
}

/* One launch after the other. */
static grd_status launch_all(grd_program *program, bool weights_known)
{
    const grd_engine *engine = program->graph->model->engine;
    double before = program->launch_seconds ? grdi_seconds() : 0;
    for (size_t n = 0; n < program->plan->launch_count; n++) {
        grdi_launch *launch = &program->plan->launches[n];
        if (launch->of_weights && weights_known) continue;
        set_accumulate(program, launch);
        grd_status status = launch->kernel->run(&launch->call);
        if (status) return launch_failed(program, launch, status);
        note_high_water(program, &launch->call);
        if (!program->launch_seconds) continue;
        if (engine->backend->wait) engine->backend->wait(engine->device);
        double after = grdi_seconds();
        program->launch_seconds[n] += after - before;
        before = after;
    }
    return GRD_OK;
}

/* What a run asks of the device is noted down in its second run, when everything that happens only once has happened.
 * Where the device will not, runs go on launch by launch. */
static grd_status run_variant(grd_program *program, bool weights_known)
{
    const grd_engine *engine = program->graph->model->engine;
    const grdi_backend *backend = engine->backend;
    int v = 2 * weights_known + program->accumulating;
    bool second = program->variant_runs[v] == 1;
    program->variant_runs[v] += program->variant_runs[v] < 2;
    if (program->launch_seconds || !backend->capture_begin) return launch_all(program, weights_known);
    if (second && backend->capture_begin(engine->device)) {
        grd_status status = launch_all(program, weights_known);
        program->captured[v] = backend->capture_end(engine->device);
        if (status) return status;
    }
    if (!program->captured[v]) return launch_all(program, weights_known);
    grd_status status = backend->replay(engine->device, program->captured[v]);
    const char *why = backend->why ? backend->why(engine->device) : "";
    return status ? grd_fail(&program->error, status, "a program failed on %s (%s)", engine->name, why) : GRD_OK;
}

grd_status grd_program_run(grd_program *program)
{
    if (!program) return GRD_E_ARGUMENT;
    grd_status status = ready(program);
    if (status) return status;
    grd_model *model = program->graph->model;
    model->weights_version += program->plan->writes_weights; /* even if it should fail half-way */
    status = run_variant(program, program->weights_version == model->weights_version);
    if (status) return status;
    program->weights_version = model->weights_version;
    program->has_run = true;
    model->engine->flops += program->plan->flops;
    if (program->launch_seconds) program->profiled_runs++;
    return GRD_OK;
}

const void *grdi_program_output(const grd_program *program, grd_tensor tensor, size_t *size_bytes)
{
    for (int32_t i = 0; i < program->output_count; i++) {
        if (!grdi_same_tensor(program->outputs[i], tensor)) continue;
        grd_tensor root = program->plan->roots[i];
        *size_bytes = grdi_type_bytes(*grdi_type_of(root));
        return value_data(program, grdi_value_of(program->plan, root), grdi_type_of(root)->dtype);
    }
    return NULL;
}

grd_status grd_program_read(grd_program *program, grd_tensor tensor, void *data)
{
    if (!program) return GRD_E_ARGUMENT;
    if (!tensor.node || !data)
        return grd_fail(&program->error, GRD_E_ARGUMENT, "read: no %s",
                        data ? "tensor (it could not be built)" : "place to put it");
    const grd_engine *engine = program->graph->model->engine;
    size_t size_bytes = 0;
    if (!engine->backend->runs)
        return grd_fail(&program->error, GRD_E_UNSUPPORTED, "device %s only plans (open cpu to run)", engine->name);
    const void *from = grdi_program_output(program, tensor, &size_bytes);
    if (!from)
        return grd_fail(&program->error, GRD_E_ARGUMENT,
                        "read: the tensor is not an output of this program (give it to grd_program_new)");
    if (!program->has_run) return grd_fail(&program->error, GRD_E_STATE, "read: the program has not been run yet");
    engine->backend->download(engine->device, data, from, size_bytes);
    return GRD_OK;
}

grd_status grdi_program_profile(grd_program *program, bool on)
{
    grdi_free(program->launch_seconds);
    program->launch_seconds = NULL;
    program->profiled_runs = 0;
    if (!on) return GRD_OK;
    program->launch_seconds = grdi_alloc_zero(program->plan->launch_count + 1, sizeof(double));
    return program->launch_seconds ? GRD_OK : grd_fail(&program->error, GRD_E_MEMORY, "out of memory for a profile");
}
