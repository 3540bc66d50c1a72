/* fuzz_run.c - small applications of any op that its shape rule accepts, run on the CPU with values from the input: no
 * read or write goes astray, whatever indices and numbers come. */
#include "build.h"

#include <stdlib.h>
#include <string.h>

static int64_t elements(const fuzz_application *made)
{
    int64_t all = 0;
    for (int i = 0; i < made->input_count; i++) all += grd_dims_count(grd_tensor_dims(made->in[i]));
    for (int o = 0; o < GRD_OUTPUTS_MAX && made->out[o].node; o++)
        all += grd_dims_count(grd_tensor_dims(made->out[o]));
    return all;
}

static void feed(grd_program *program, fuzz_input *in, grd_tensor x)
{
    size_t size = (size_t)grd_dims_count(grd_tensor_dims(x)) * grd_dtype_size(grd_tensor_dtype(x));
    uint8_t *bytes = malloc(size + 1);
    FUZZ_CHECK(bytes != NULL);
    int step = fuzz_byte(in), top = fuzz_byte(in);
    grd_dtype dtype = grd_tensor_dtype(x);
    for (size_t i = 0; i < size; i++) bytes[i] = (uint8_t)(i * (size_t)step + (i % 7 == 0 ? (size_t)top : 0));
    if (dtype == GRD_I32 && top < 200)
        for (size_t i = 0; i < size / 4; i++) ((int32_t *)(void *)bytes)[i] = (int32_t)(i * (size_t)step % 8) - top % 3;
    if (dtype == GRD_F32 && top < 200)
        for (size_t i = 0; i < size / 4; i++)
            ((float *)(void *)bytes)[i] = (float)(i * (size_t)step % 17) - (float)(top % 9);
    if (dtype == GRD_BOOL)
        for (size_t i = 0; i < size; i++) bytes[i] &= 1;
    grd_program_feed(program, x, bytes); /* refused where the op did not need that input */
    free(bytes);
}

static void run(fuzz_input *in, const fuzz_application *made)
{
    int count = 0;
    while (count < GRD_OUTPUTS_MAX && made->out[count].node) count++;
    grd_program *program = grd_program_new(made->out, count, .bf16 = fuzz_byte(in) % 4 == 1);
    if (!program) return;
    for (int i = 0; i < made->input_count; i++) feed(program, in, made->in[i]);
    if (grd_program_run(program) == GRD_OK)
        for (int o = 0; o < count; o++) {
            size_t size =
                (size_t)grd_dims_count(grd_tensor_dims(made->out[o])) * grd_dtype_size(grd_tensor_dtype(made->out[o]));
            void *bytes = malloc(size + 1);
            FUZZ_CHECK(bytes && grd_program_read(program, made->out[o], bytes) == GRD_OK);
            free(bytes);
        }
    grd_program_free(program);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static grd_engine *engine;
    fuzz_input in = {data, data + size};
    fuzz_application made;
    if (!engine) engine = grd_engine_open("cpu", .threads = 1);
    grd_model *model = grd_model_new(engine, 1);
    fuzz_build(&in, model, true, &made);
    if (made.out[0].node && elements(&made) <= 1 << 14) run(&in, &made);
    grd_model_free(model);
    return 0;
}
