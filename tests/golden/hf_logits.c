/* hf_logits.c - writes the logits of a Hugging Face folder, for golden/parity.py to compare with transformers:
 *
 *   hf_logits FOLDER IDS LOGITS BATCH LENGTH [DEVICE]
 *
 * IDS holds BATCH * LENGTH raw int32, LOGITS gets BATCH * LENGTH * vocabulary raw float. */
#include <gradus/gradus.h>
#include <gradus/hf.h>
#include <gradus/io.h>

#include <stdio.h>
#include <stdlib.h>

static int failed(const char *message)
{
    fprintf(stderr, "error: %s\n", message);
    return 2;
}

/* Runs the program once; the files' contents lie in ids and logits. */
static int run(const char *folder, const char *device, grd_dims dims, const int32_t *ids, float **logits, size_t *size)
{
    grd_gpt gpt;
    grd_safetensors *weights;
    grd_error error = {GRD_OK, ""};
    if (grd_hf_read_config(folder, &gpt, &error)) return failed(error.message);
    if (grd_safetensors_open(folder, &weights, &error)) return failed(error.message);
    grd_engine *engine = grd_engine_open(device, .threads = 1);
    grd_model *model = grd_model_new(engine, 1);
    grd_graph *graph = grd_graph_new(model);
    grd_tensor input = grd_input(graph, "ids", GRD_I32, dims), none = {0};
    grd_tensor output = grd_gpt_logits(grd_gpt_hidden(input, &gpt, none), &gpt);
    grd_program *program = grd_program_new(&output, 1);
    if (!program) return failed(grd_engine_error(engine)->message);
    if (grd_hf_import(model, &gpt, weights, &error)) return failed(error.message);
    *size = (size_t)(grd_dims_count(dims) * gpt.vocab) * sizeof(float);
    *logits = malloc(*size);
    if (!*logits || grd_program_feed(program, input, ids) || grd_program_run(program) ||
        grd_program_read(program, output, *logits))
        return failed(grd_program_error(program)->message);
    grd_engine_close(engine);
    grd_safetensors_close(weights);
    return 0;
}

int main(int argc, char **argv)
{
    if (argc < 6) return failed("hf_logits FOLDER IDS LOGITS BATCH LENGTH [DEVICE]");
    grd_dims dims = grd_shape(atoi(argv[4]), atoi(argv[5]));
    size_t count = (size_t)grd_dims_count(dims), size = 0;
    int32_t *ids = malloc(count * sizeof(*ids));
    float *logits = NULL;
    FILE *in = fopen(argv[2], "rb");
    if (!ids || !in || fread(ids, sizeof(*ids), count, in) != count) return failed("the ids cannot be read");
    fclose(in);
    int code = run(argv[1], argc > 6 ? argv[6] : "cpu", dims, ids, &logits, &size);
    if (code) return code;
    FILE *out = fopen(argv[3], "wb");
    if (!out || fwrite(logits, 1, size, out) != size || fclose(out)) return failed("the logits cannot be written");
    free(ids);
    free(logits);
    return 0;
}
