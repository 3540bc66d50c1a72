/* test_backends.c - finding and opening devices, their memory, the cut of parallel ranges, and sums that do not depend
 * on the number of threads. */
#include "backend/backend.h"
#include "backend/cpu/parallel.h"
#include "backend/profiles.h"
#include "base/memory.h"

#include <criterion/criterion.h>
#include <string.h>

/* ---- names ---- */

Test(backends, are_found_by_name)
{
    const char *argument = NULL;
    cr_assert(grdi_backend_find("cpu", &argument) == &grdi_backend_cpu);
    cr_assert_str_empty(argument);
    cr_assert(grdi_backend_find("cpu:avx2", &argument) == &grdi_backend_cpu);
    cr_assert_str_eq(argument, "avx2");
    cr_assert(grdi_backend_find("null:cpu", &argument) == &grdi_backend_null);
    cr_assert(grdi_backend_find("ref", &argument) == &grdi_backend_ref);
    cr_assert_null(grdi_backend_find("cp", &argument));
    cr_assert_null(grdi_backend_find("cpux", &argument));
    cr_assert_null(grdi_backend_find("", &argument));
}

static void check_refusal(const grdi_backend *backend, const char *argument, grd_status status, const char *words)
{
    grdi_device *device;
    grd_error error = {0};
    cr_expect(backend->open(argument, 1, &device, &error) == status, "%s:%s", backend->name, argument);
    cr_expect(strstr(error.message, words), "'%s' does not say '%s'", error.message, words);
}

Test(backends, refuse_what_they_do_not_know)
{
    check_refusal(&grdi_backend_cpu, "sse9", GRD_E_ARGUMENT, "device 'cpu:sse9': no such instruction set");
    check_refusal(&grdi_backend_ref, "x", GRD_E_ARGUMENT, "ref takes no argument");
    check_refusal(&grdi_backend_null, "abacus", GRD_E_DEVICE, "device 'null:abacus': no such profile");
    check_refusal(&grdi_backend_null, "", GRD_E_DEVICE, "no such profile");
    check_refusal(&grdi_backend_null, "h10", GRD_E_DEVICE, "null:h100, null:h200");
}

/* Every profile can be planned for; what programs reach lies below what its maker says, and bf16 above f32. */
Test(backends, null_knows_gpus)
{
    const grdi_profile *profile;
    int32_t count = 0;
    for (; (profile = grdi_profile_at(count)); count++) {
        grdi_device *device = NULL;
        grdi_rates rates;
        cr_assert(grdi_backend_null.open(profile->name, 8, &device, NULL) == GRD_OK, "%s", profile->name);
        cr_assert(grdi_backend_null.rates(device, &rates) == GRD_OK);
        cr_expect(rates.matmul_bf16_flops_per_s < profile->bf16_flops_per_s &&
                      rates.matmul_bf16_flops_per_s > rates.matmul_flops_per_s &&
                      rates.copy_bytes_per_s < profile->memory_bytes_per_s,
                  "%s", profile->name);
        cr_expect(grdi_backend_null.fast_bf16(device), "%s", profile->name);
        grdi_backend_null.close(device);
    }
    cr_assert(count >= 8, "%d profiles", count);
    cr_assert(grdi_profile_of_device("cuda NVIDIA H100 80GB HBM3 sm_90") == grdi_profile_named("h100"));
    cr_assert(grdi_profile_of_device("cuda NVIDIA L40S") == NULL);
}

static grdi_device *open_device(const grdi_backend *backend, const char *argument, int32_t threads)
{
    grdi_device *device = NULL;
    grd_error error = {0};
    cr_assert(backend->open(argument, threads, &device, &error) == GRD_OK, "%s", error.message);
    return device;
}

Test(backends, kind_says_threads)
{
    grdi_device *device = open_device(&grdi_backend_cpu, "base", 3);
    cr_expect(strncmp(grdi_backend_cpu.kind(device), "cpu base threads=3", 18) == 0, "%s",
              grdi_backend_cpu.kind(device));
    grdi_backend_cpu.close(device);
}

/* ---- memory ---- */

static void check_block(const grdi_backend *backend, grdi_device *device, size_t size_bytes)
{
    unsigned char *block = backend->allocate(device, size_bytes);
    cr_assert(block, "%zu bytes", size_bytes);
    cr_expect((uintptr_t)block % 64 == 0, "%zu bytes at %p", size_bytes, (void *)block);
    size_t set = 0;
    for (size_t i = 0; i < size_bytes; i++)
        set += block[i] != 0;
    cr_expect(set == 0, "%zu of %zu bytes are not zero", set, size_bytes);
    memset(block, 0xA5, size_bytes);
    backend->release(device, block, size_bytes);
}

static void check_memory(const grdi_backend *backend)
{
    static const size_t sizes[] = {1, 63, 64, 4097, (2 << 20) - 1, 2 << 20, (5 << 20) + 3};
    grdi_device *device = open_device(backend, "", 1);
    for (int round = 0; round < 2; round++) /* released blocks come back zeroed */
        for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
            check_block(backend, device, sizes[i]);
    cr_expect_null(backend->allocate(device, SIZE_MAX));
    cr_expect_null(backend->allocate(device, SIZE_MAX / 2 + 1));
    backend->release(device, NULL, 100);
    backend->close(device);
}

Test(memory, cpu) { check_memory(&grdi_backend_cpu); }
Test(memory, ref) { check_memory(&grdi_backend_ref); }

Test(memory, blocks_of_any_order)
{
    grdi_device *device = open_device(&grdi_backend_cpu, "", 1);
    enum { COUNT = 9, SIZE = 3 << 20 };
    char *block[COUNT];
    for (int i = 0; i < COUNT; i++) {
        block[i] = grdi_backend_cpu.allocate(device, SIZE);
        cr_assert(block[i]);
        memset(block[i], i, SIZE);
    }
    for (int i = 0; i < COUNT; i += 2)
        grdi_backend_cpu.release(device, block[i], SIZE);
    for (int i = 1; i < COUNT; i += 2) {
        cr_expect(block[i][0] == i && block[i][SIZE - 1] == i, "block %d was damaged", i);
        grdi_backend_cpu.release(device, block[i], SIZE);
    }
    grdi_backend_cpu.close(device);
}

static void *no_pages(size_t size_bytes)
{
    (void)size_bytes;
    return NULL;
}

static void *no_memory(size_t size_bytes)
{
    (void)size_bytes;
    return NULL;
}

Test(memory, is_refused_when_there_is_none)
{
    grdi_device *device = open_device(&grdi_backend_cpu, "", 1);
    grdi_memory_table old = grdi_memory;
    grdi_memory.map = no_pages;
    void *large = grdi_backend_cpu.allocate(device, 4 << 20);
    grdi_memory = old;
    grdi_memory.allocate = no_memory;
    void *small = grdi_backend_cpu.allocate(device, 100);
    grdi_device *second;
    grd_error error = {0};
    grd_status status = grdi_backend_cpu.open("", 1, &second, &error);
    grdi_memory = old;
    cr_expect_null(large);
    cr_expect_null(small);
    cr_expect(status == GRD_E_MEMORY);
    grdi_backend_cpu.close(device);
}

Test(memory, of_null_is_addresses_only)
{
    grdi_device *device = open_device(&grdi_backend_null, "cpu", 4);
    char *a = grdi_backend_null.allocate(device, 1), *b = grdi_backend_null.allocate(device, (size_t)1 << 50);
    char *c = grdi_backend_null.allocate(device, 10), host[4] = "abc";
    cr_expect((uintptr_t)b % 64 == 0 && (uintptr_t)c % 64 == 0 && b > a && (size_t)(c - b) >= (size_t)1 << 50);
    grdi_backend_null.upload(device, a, host, 1);
    grdi_backend_null.download(device, host, a, 2);
    cr_expect(host[0] == 0 && host[1] == 0 && host[2] == 'c');
    cr_expect_not(grdi_backend_null.runs);
    grdi_backend_null.close(device);
}

/* ---- strides ---- */

Test(strides, row_major)
{
    int64_t stride[GRD_RANK_MAX];
    grd_dims dims = grd_shape(2, 1, 5);
    grdi_row_major(dims, stride);
    cr_expect(stride[0] == 5 && stride[1] == 5 && stride[2] == 1);
    cr_expect(grdi_is_row_major(dims, stride));
    stride[1] = 77; /* an axis of size 1 has no stride that counts */
    cr_expect(grdi_is_row_major(dims, stride));
    stride[0] = 6;
    cr_expect_not(grdi_is_row_major(dims, stride));
    cr_expect(grdi_is_row_major(grd_scalar(), stride));
}

/* ---- parallel ranges ---- */

typedef struct marks {
    int count[1000], thread[1000];
    int64_t grain;
    int32_t threads, bad;
} marks;

static void mark(int64_t begin, int64_t end, int32_t thread, void *context)
{
    marks *m = context;
    if (begin % m->grain != 0 || thread < 0 || thread >= m->threads || begin >= end)
        m->bad = 1;
    for (int64_t i = begin; i < end; i++) {
        m->count[i]++;
        m->thread[i] = thread;
    }
}

Test(parallel, each_element_once)
{
    static const int64_t counts[] = {0, 1, 2, 7, 64, 65, 999, 1000}, grains[] = {1, 3, 64, 999, 5000};
    for (size_t c = 0; c < sizeof counts / sizeof *counts; c++) {
        for (size_t g = 0; g < sizeof grains / sizeof *grains; g++) {
            for (int32_t threads = 1; threads <= 5; threads++) {
                marks first = {.grain = grains[g], .threads = threads}, second = first;
                grdi_parallel_for(threads, counts[c], grains[g], mark, &first);
                grdi_parallel_for(threads, counts[c], grains[g], mark, &second);
                cr_expect_not(first.bad);
                for (int64_t i = 0; i < 1000; i++)
                    cr_assert(first.count[i] == (i < counts[c]), "%lld of %lld", (long long)i, (long long)counts[c]);
                cr_expect_arr_eq(first.thread, second.thread, sizeof first.thread, "the cut changes");
            }
        }
    }
}

/* ---- sums with the same bits for any number of threads ---- */

/* Runs `op` with those threads over f32 data; the output goes to `result`. */
static void run_with_threads(const char *op_name, const grd_attr *attrs, int32_t threads, grd_dims in, const float *x,
                             const int32_t *ids, grd_dims id_dims, grd_dims out, float *result)
{
    const grdi_op *op = grdi_op_find(op_name);
    grdi_device *device = open_device(&grdi_backend_cpu, "", threads);
    grdi_call call = {.op = op, .attrs = attrs ? attrs : op->attrs, .output_count = 1, .threads = threads};
    call.input_count = ids ? 2 : 1;
    call.in[0] = (grdi_view){.data = (void *)x, .dims = in};
    call.in[1] = (grdi_view){.data = (void *)ids, .dtype = GRD_I32, .dims = id_dims};
    call.out[0] = (grdi_view){.data = result, .dims = out};
    grdi_row_major(in, call.in[0].stride);
    grdi_row_major(id_dims, call.in[1].stride);
    grdi_row_major(out, call.out[0].stride);
    const grdi_kernel *kernel = grdi_backend_cpu.find(device, &call);
    cr_assert(kernel != &grdi_reference_kernel);
    cr_assert(!kernel->prepare || kernel->prepare(&call, NULL) == GRD_OK);
    call.scratch = call.scratch_bytes ? grdi_backend_cpu.allocate(device, call.scratch_bytes) : NULL;
    cr_assert(kernel->run(&call) == GRD_OK);
    if (kernel->release)
        kernel->release(&call);
    grdi_backend_cpu.release(device, call.scratch, call.scratch_bytes);
    grdi_backend_cpu.close(device);
}

enum { VALUES = 300007, TOKENS = 2000, WIDTH = 150, VOCAB = 50 };
static float values[VALUES];
static int32_t tokens[TOKENS];

static void fill_values(void)
{
    for (uint32_t i = 0; i < VALUES; i++)
        values[i] = (float)(i * 2654435761u >> 8) / 8388608.0f - 1.0f;
    for (uint32_t i = 0; i < TOKENS; i++)
        tokens[i] = (int32_t)(i * 7919u % VOCAB);
}

Test(sums, of_everything_do_not_depend_on_threads)
{
    float one, many;
    fill_values();
    for (int32_t threads = 2; threads <= 5; threads++) {
        static const char *const ops[] = {"sum", "mean", "sum_squares", "variance", "logsumexp"};
        for (size_t i = 0; i < sizeof ops / sizeof *ops; i++) {
            run_with_threads(ops[i], NULL, 1, grd_shape(VALUES), values, NULL, grd_scalar(), grd_scalar(), &one);
            run_with_threads(ops[i], NULL, threads, grd_shape(VALUES), values, NULL, grd_scalar(), grd_scalar(), &many);
            cr_expect(memcmp(&one, &many, sizeof one) == 0, "%s: %.9g with 1 thread, %.9g with %d", ops[i], one, many,
                      threads);
        }
    }
}

Test(sums, of_embedding_rows_do_not_depend_on_threads)
{
    static float one[VOCAB * WIDTH], many[VOCAB * WIDTH];
    const grd_attr attrs[] = {GRD_INT("vocab", VOCAB), {.name = NULL}};
    grd_dims in = grd_shape(TOKENS, WIDTH), ids = grd_shape(TOKENS), out = grd_shape(VOCAB, WIDTH);
    fill_values();
    run_with_threads("embedding_backward", attrs, 1, in, values, tokens, ids, out, one);
    for (int32_t threads = 2; threads <= 5; threads++) {
        run_with_threads("embedding_backward", attrs, threads, in, values, tokens, ids, out, many);
        cr_expect(memcmp(one, many, sizeof one) == 0, "%d threads", threads);
    }
}
