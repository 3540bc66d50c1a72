/* test_cudasim_kernels.c - the CUDA kernels, run by the simulator, against the references: every sample of the op
 * table, with warps first to last and last to first, in f32 and in bf16. Every op has a kernel. */
#include "sim_library.h"

#include "check_kernel.h"

#include <gradus/gradus.h>

#include <criterion/parameterized.h>
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct criterion_test_params all_ops(void)
{
    int count = grdi_op_total();
    int *index = cr_malloc(sizeof(int) * (size_t)count);
    for (int i = 0; i < count; i++) index[i] = i;
    return cr_make_param_array(int, index, (size_t)count);
}

static void check_op(int index, int order, bool (*check)(const kernel_target *, const grdi_op *, int32_t, char *))
{
    const grdi_op *op = grdi_op_at(index);
    const char *argument;
    char message[CHECK_TEXT];
    grd_error error = {0};
    kernel_target target = {.backend = grdi_backend_find(cuda_device(), &argument), .threads = 1};
    int missing = 0;
    if (order && !on_simulator()) return;
    if (op->flags & GRDI_OP_VIEW) return; /* what is left of them is a copy */
    cr_assert(target.backend->open(argument, 1, &target.device, &error) == GRD_OK, "%s", error.message);
    if (on_simulator()) SIM(grdi_sim_set_order)(order);
    for (int32_t i = 0, n = grdi_sample_count(op); i < n; i++) {
        const grdi_sample *sample = &op->samples[i];
        if (sample->bad || sample->large || op->flags & GRDI_OP_SOURCE) continue;
        if (!kernel_for(&target, op, i)) {
            missing++;
            continue;
        }
        bool ok = check(&target, op, i, message);
        const char *wrong = on_simulator() ? SIM(grdi_sim_take_error)() : "";
        cr_expect(ok, "%s (%s)", message, wrong);
        cr_expect(!wrong[0], "%s sample %d: %s", op->name, i, wrong);
    }
    cr_expect(!missing, "%s: %d samples have no kernel", op->name, missing);
    target.backend->close(target.device);
}

ParameterizedTestParameters(cudasim_kernels, all)
{
    return all_ops();
}

/* One process an op: forking a process costs more than most of the checks. */
ParameterizedTest(int *index, cudasim_kernels, all)
{
    check_op(*index, 0, check_kernel);
    check_op(*index, 1, check_kernel);
    check_op(*index, 0, check_kernel_bf16);
    check_op(*index, 0, check_kernel_f16);
}

/* The three ops of convolution run through cuDNN's stand-in above; without it, by products and kernels of our own. */
Test(cudasim_kernels, convolutions_with_and_without_cudnn)
{
    if (!on_simulator()) return;
    const grdi_sim_counts *counts = SIM(grdi_sim_count)();
    int ops = 0;
    for (int with = 1; with >= 0; with--) {
        if (!with) setenv("GRADUS_SIM_WITHOUT_CUDNN", "1", 1);
        for (int32_t i = 0; i < grdi_op_total(); i++) {
            int64_t before = counts->convolutions;
            if (strncmp(grdi_op_at(i)->name, "convolution", 11) != 0) continue;
            check_op(i, 0, check_kernel);
            check_op(i, 0, check_kernel_bf16);
            cr_expect((counts->convolutions > before) == with, "%s: %lld calls of cuDNN", grdi_op_at(i)->name,
                      (long long)(counts->convolutions - before));
            ops++;
        }
    }
    cr_assert(ops == 6, "%d", ops);
}

/* ---- whether all that was said above reached all that is to be checked ---- */

static bool launched(const char *kernel)
{
    const char *name;
    size_t length = strlen(kernel);
    for (int i = 0; (name = SIM(grdi_sim_kernel_at)(i)); i++)
        if (strncmp(name, kernel, length) == 0 && (name[length] == '\0' || name[length] == '<')) return true;
    return false;
}

/* The kernels that a source file defines: "__global__ void __launch_bounds__(...) name(". */
static int not_launched(const char *path, int *defined)
{
    static char text[1 << 16];
    FILE *file = fopen(path, "r");
    cr_assert(file, "%s", path);
    text[fread(text, 1, sizeof(text) - 1, file)] = '\0';
    fclose(file);
    int missing = 0;
    for (char *at = text; (at = strstr(at, "__global__ void ")); (*defined)++) {
        char name[64] = "";
        at += strlen("__global__ void ");
        if (strncmp(at, "__launch_bounds__", 17) == 0) at = strchr(at, ')') + 2;
        sscanf(at, "%63[a-z_0-9]", name);
        if (launched(name)) continue;
        printf("%s: no sample of the op table launches %s\n", path, name);
        missing++;
    }
    return missing;
}

/* What no sample of the table is large enough for: a transposed copy, and sums in parts, along and across. */
static void large_ones(void)
{
    enum { ROWS = 300, COLUMNS = 40, LONG = 9000 };
    static float x[ROWS * COLUMNS], turned[COLUMNS * ROWS], down[COLUMNS], along[2];
    grd_engine *engine = grd_engine_open(cuda_device());
    grd_graph *graph = grd_graph_new(grd_model_new(engine, 1));
    grd_tensor in = grd_input(graph, "x", GRD_F32, grd_shape(ROWS, COLUMNS));
    grd_tensor lines =
        grd_reshape(grd_slice(grd_reshape(in, grd_shape(ROWS * COLUMNS)), 0, 0, LONG), grd_shape(2, LONG / 2));
    lines = grd_reshape(grd_concat((grd_tensor[]){lines, lines}, 2, 1), grd_shape(2, LONG));
    grd_tensor out[] = {grd_copy(grd_transpose2(in)), grd_sum_axis(in, 0, false), grd_sum_axis(lines, 1, false)};
    grd_program *program = grd_program_new(out, 3);
    cr_assert(program, "%s", grd_engine_error(engine)->message);
    for (int i = 0; i < ROWS * COLUMNS; i++) x[i] = (float)(i % 7 - 3); /* whole numbers: sums are exact */
    grd_program_feed(program, in, x);
    cr_assert(grd_program_run(program) == GRD_OK && grd_program_read(program, out[0], turned) == GRD_OK);
    cr_assert(grd_program_read(program, out[1], down) == GRD_OK && grd_program_read(program, out[2], along) == GRD_OK);
    for (int c = 0; c < COLUMNS; c++) {
        float sum = 0;
        for (int r = 0; r < ROWS; r++) {
            cr_assert(turned[c * ROWS + r] == x[r * COLUMNS + c], "row %d, column %d", r, c);
            sum += x[r * COLUMNS + c];
        }
        cr_assert(down[c] == sum, "column %d: %g, not %g", c, (double)down[c], (double)sum);
    }
    for (int n = 0; n < 2; n++) {
        float sum = 0;
        for (int i = 0; i < LONG / 2; i++) sum += 2 * x[n * (LONG / 2) + i];
        cr_assert(along[n] == sum, "line %d: %g, not %g", n, (double)along[n], (double)sum);
    }
    sim_is_content();
    grd_engine_close(engine);
}

Test(cudasim_kernels, reach_every_kernel)
{
    glob_t sources;
    int missing = 0, defined = 0;
    large_ones();
    if (!on_simulator()) return;
    for (int32_t i = 0; i < grdi_op_total(); i++) {
        check_op(i, 0, check_kernel);
        check_op(i, 0, check_kernel_bf16);
    }
    setenv("GRADUS_SIM_WITHOUT_CUDNN", "1", 1); /* which leaves convolutions to our own */
    for (int32_t i = 0; i < grdi_op_total(); i++)
        if (strncmp(grdi_op_at(i)->name, "convolution", 11) == 0) check_op(i, 0, check_kernel);
    cr_assert(glob(GRADUS_SOURCE_DIR "/cuda/ops/*.cu", 0, NULL, &sources) == 0);
    for (size_t i = 0; i < sources.gl_pathc; i++) missing += not_launched(sources.gl_pathv[i], &defined);
    globfree(&sources);
    cr_assert(defined > 45, "only %d kernels found in the sources", defined);
    cr_expect(missing == 0, "%d of %d kernels are not reached", missing, defined);
}
