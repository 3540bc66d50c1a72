/* fuzz_call.c - any op by its name, on inputs of any dtype and shape, with any attributes: refused with a message, or
 * differentiated and planned for the null device, which can be out of memory only for what no memory would hold. */
#include "build.h"

static void differentiate(const fuzz_application *made)
{
    grd_tensor gradients[GRDI_INPUTS_MAX], loss = grd_call(grd_tensor_graph(made->out[0]), "sum", made->out, 1, NULL, 0,
                                                           NULL);
    if (loss.node) grd_gradients(&loss, 1, made->in, made->input_count, gradients);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static grd_engine *engine;
    fuzz_input in = {data, data + size};
    fuzz_application made;
    if (!engine) engine = grd_engine_open("null:cpu", .threads = 1);
    grd_model *model = grd_model_new(engine, 1);
    int then = fuzz_byte(&in);
    grd_graph *graph = fuzz_build(&in, model, false, &made);
    if (made.out[0].node && then % 2 && grd_dtype_is_float(grd_tensor_dtype(made.out[0]))) differentiate(&made);
    const grd_error *error = grd_graph_error(graph);
    bool plans = made.out[0].node && !error->status && then % 4 < 2;
    if (plans) {
        grd_program *program = grd_program_new(made.out, 1);
        FUZZ_CHECK(program || error->status);
        grd_program_free(program);
    }
    if (error->status && !(plans && error->status == GRD_E_MEMORY)) fuzz_check_error(error->status, error);
    grd_model_free(model);
    return 0;
}
