/* test_cudasim_kernels.c - the CUDA kernels, run by the simulator, against the references: every sample of the op
 * table, with warps first to last and last to first, in f32, bf16 and f16. Every op has a kernel. */
#include "sim_library.h"

#include "check_kernel.h"

#include <gradus/gradus.h>

#include <glob.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef bool check_function(const kernel_target *, const grdi_op *, int32_t, char *);

/* The second run of each variant has the other order of warps, and the same bits. */
static void in_order_of_run(int run)
{
    SIM(grdi_sim_set_order)(run);
}

/* The samples of an op; how many of them have a kernel. */
static int check_op(const grdi_op *op, check_function *check)
{
    const char *argument;
    char message[CHECK_TEXT];
    grd_error error = {0};
    kernel_target target = {.backend = grdi_backend_find(cuda_device(), &argument), .threads = 1};
    int missing = 0, found = 0;
    if (op->flags & (GRDI_OP_VIEW | GRDI_OP_SOURCE)) return 0; /* what is left of views is a copy */
    cr_assert(target.backend->open(argument, 1, &target.device, &error) == GRD_OK, "%s", error.message);
    if (on_simulator()) target.before = in_order_of_run;
    for (int32_t i = 0, n = grdi_sample_count(op); i < n; i++) {
        const grdi_sample *sample = &op->samples[i];
        if (sample->bad || sample->large != (check == check_kernel_large)) continue;
        if (!sample->large && !kernel_for(&target, op, i)) {
            missing++;
            continue;
        }
        found++;
        bool ok = check(&target, op, i, message);
        const char *wrong = on_simulator() ? SIM(grdi_sim_take_error)() : "";
        cr_expect(ok, "%s (%s)", message, wrong);
        cr_expect(!wrong[0], "%s sample %d: %s", op->name, i, wrong);
    }
    cr_expect(!missing, "%s: %d samples have no kernel", op->name, missing);
    target.backend->close(target.device);
    return found;
}

static const char *running = "";

/* All run in one process, since forking costs more than most of the checks: the one that ends it is named. */
static void name_the_op(int number)
{
    signal(number, SIG_DFL);
    if (write(STDERR_FILENO, running, strlen(running)) > 0 && write(STDERR_FILENO, ": crashes\n", 10) > 0)
        raise(number);
}

/* Ops whose large samples would show nothing more: the blocks of a map are all alike, and products and convolutions are
 * their stand-ins' plain loops, which take minutes. */
static bool leaves_large_ones_out(const grdi_op *op)
{
    return op->flags & GRDI_OP_MAP || (op->flags & GRDI_OP_MATMUL && !strstr(op->name, "attention"));
}

/* Convolutions run through cuDNN's stand-in; without it, by products and kernels of our own. */
static int check_in_all_precisions(const grdi_op *op, bool by_cudnn)
{
    const grdi_sim_counts *counts = on_simulator() ? SIM(grdi_sim_count)() : NULL;
    int64_t before = counts ? counts->convolutions : 0;
    running = op->name;
    int samples = check_op(op, check_kernel);
    check_op(op, check_kernel_bf16);
    check_op(op, check_kernel_f16);
    if (!leaves_large_ones_out(op)) check_op(op, check_kernel_large);
    if (counts && strncmp(op->name, "convolution", 11) == 0)
        cr_expect((counts->convolutions > before) == by_cudnn, "%s: %lld calls of cuDNN", op->name,
                  (long long)(counts->convolutions - before));
    return samples;
}

/* GRADUS_TEST_OP names one op, so that on a GPU, where one wrong kernel fails all that its process does afterwards,
 * each op can have a process of its own, and `large` what no op has samples of. */
static void check_all(const char *only)
{
    int samples = 0;
    signal(SIGSEGV, name_the_op);
    signal(SIGABRT, name_the_op);
    for (int32_t i = 0; i < grdi_op_total(); i++)
        if (!only || strcmp(only, grdi_op_at(i)->name) == 0) samples += check_in_all_precisions(grdi_op_at(i), true);
    cr_assert(only || samples > 500, "only %d samples", samples);
}

/* The fastest of four algorithms of products adds its parts in the output's type, which is for f32 alone. */
static void check_products_of_narrow_sums(void)
{
    SIM(grdi_sim_set_algorithms)(4, 3);
    for (int32_t i = 0; i < grdi_op_total(); i++) {
        if (strcmp(grdi_op_at(i)->name, "matmul") != 0) continue;
        check_op(grdi_op_at(i), check_kernel_bf16);
        check_op(grdi_op_at(i), check_kernel_f16);
    }
    SIM(grdi_sim_set_algorithms)(1, 0);
}

static void check_convolutions_without_cudnn(void)
{
    int ops = 0;
    setenv("GRADUS_WITHOUT_CUDNN", "1", 1);
    for (int32_t i = 0; i < grdi_op_total(); i++)
        if (strncmp(grdi_op_at(i)->name, "convolution", 11) == 0)
            ops += check_in_all_precisions(grdi_op_at(i), false) > 0;
    cr_assert(ops == 3, "%d", ops);
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
static void large_ones(int order)
{
    enum { ROWS = 300, COLUMNS = 40, LONG = 9000 };
    static float x[ROWS * COLUMNS], turned[COLUMNS * ROWS], down[COLUMNS], along[2];
    if (on_simulator()) SIM(grdi_sim_set_order)(order);
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

Test(cudasim_kernels, all_that_there_are)
{
    glob_t sources;
    int missing = 0, defined = 0;
    const char *only = getenv("GRADUS_TEST_OP");
    check_all(only);
    if (on_simulator() && (!only || strcmp(only, "matmul_column_sums") == 0)) {
        setenv("GRADUS_SIM_SLOW_SUMS", "1", 1); /* so that a kernel is chosen where an epilogue was */
        check_all("matmul_column_sums");
        unsetenv("GRADUS_SIM_SLOW_SUMS");
    }
    if (only && strcmp(only, "large") != 0) return;
    large_ones(0);
    if (only || !on_simulator()) return;
    large_ones(1);
    check_convolutions_without_cudnn();
    check_products_of_narrow_sums();
    cr_assert(glob(GRADUS_SOURCE_DIR "/cuda/ops/*.cu", 0, NULL, &sources) == 0);
    for (size_t i = 0; i < sources.gl_pathc; i++) missing += not_launched(sources.gl_pathv[i], &defined);
    globfree(&sources);
    cr_assert(defined > 45, "only %d kernels found in the sources", defined);
    cr_expect(missing == 0, "%d of %d kernels are not reached", missing, defined);
}
