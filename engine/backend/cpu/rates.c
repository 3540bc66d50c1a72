/* rates.c - how fast this processor is, measured by its own kernels in under 0.2 s; the cost model divides by these
 * figures. */
#include "backend/cpu/device.h"
#include "backend/cpu/parallel.h"
#include "base/log.h"

#include <stdlib.h>
#include <string.h>

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

enum { REPEATS_MAX = 50, REPEATS_MIN = 3 };
enum { NEAR_BYTES = 1 << 20 }; /* of a processor's own cache */
#define SECONDS_MAX 0.03       /* where runs are slow, fewer must do */

/* 0x3f3f is 0.75 in f32 and in bf16. */
static void write_part(int64_t begin, int64_t end, int32_t thread, void *context)
{
    (void)thread;
    memset((char *)context + begin, 0x3f, (size_t)(end - begin));
}

/* Median seconds of at most `repeats` runs of a call with `in_count` inputs and one output, of shapes `dims` in that
 * order, over memory of the device; 0 when it cannot be run. `fresh`: all of it has just been written, each tensor by
 * all threads, as that of a step has. */
static double time_call(grdi_device *device, grdi_isa isa, const char *op_name, grd_dtype dtype, int32_t in_count,
                        const grd_dims *dims, int repeats, bool fresh)
{
    const grdi_op *op = grdi_op_find(op_name);
    if (!op) return 0;
    size_t memory_bytes = 0, tensor_bytes[3];
    for (int32_t i = 0; i <= in_count; i++) {
        tensor_bytes[i] = (size_t)grd_dims_count(dims[i]) * grd_dtype_size(dtype);
        memory_bytes += tensor_bytes[i];
    }
    char *memory = grdi_cpu_allocate(device, memory_bytes);
    if (!memory) return 0;
    /* Pages that were never written are all the same page of zeros, which lies in the cache. */
    write_part(0, (int64_t)memory_bytes, 0, memory);
    grdi_call call = {
        .op = op, .attrs = op->attrs, .input_count = in_count, .output_count = 1, .threads = device->threads};
    grdi_view view = {.data = memory, .dtype = dtype};
    for (int32_t i = 0; i <= in_count; i++) {
        view.dims = dims[i];
        grdi_row_major(dims[i], view.stride);
        *(i < in_count ? &call.in[i] : &call.out[0]) = view;
        view.data = (char *)view.data + tensor_bytes[i];
    }
    const grdi_kernel *kernel = grdi_cpu_find(isa, &call);
    double median = 0, taken[REPEATS_MAX];
    if (kernel && kernel != &grdi_reference_kernel && (!kernel->prepare || kernel->prepare(&call, NULL) == GRD_OK)) {
        call.scratch = call.scratch_bytes ? grdi_cpu_allocate(device, call.scratch_bytes) : NULL;
        bool ready = (call.scratch || !call.scratch_bytes) && (!kernel->bind || kernel->bind(&call, NULL) == GRD_OK);
        double begin = grdi_seconds();
        int count = -1; /* the first one brings the pages in and does not count */
        while (ready && count < repeats && (count < REPEATS_MIN || grdi_seconds() - begin < SECONDS_MAX)) {
            char *tensor = memory;
            for (int32_t i = 0; i <= in_count && fresh; tensor += tensor_bytes[i++])
                grdi_parallel_for(device->threads, (int64_t)tensor_bytes[i], 64, write_part, tensor);
            double start = grdi_seconds();
            ready = kernel->run(&call) == GRD_OK;
            if (count >= 0) taken[count] = grdi_seconds() - start;
            count++;
        }
        if (ready) {
            qsort(taken, (size_t)count, sizeof *taken, by_size);
            median = taken[count / 2];
        }
        if (kernel->release) kernel->release(&call);
        grdi_cpu_release(device, call.scratch, call.scratch_bytes);
    }
    grdi_cpu_release(device, memory, memory_bytes);
    return median;
}

/* The same for a call whose inputs and output are all of shape `dims`. */
static double time_even(grdi_device *device, const char *op_name, grd_dtype dtype, int32_t in_count, grd_dims dims,
                        int repeats, bool fresh)
{
    return time_call(device, device->isa, op_name, dtype, in_count, (grd_dims[]){dims, dims, dims}, repeats, fresh);
}

/* The same for a product [m x k] [k x n]. */
static double time_product(grdi_device *device, grdi_isa isa, grd_dtype dtype, int64_t m, int64_t k, int64_t n,
                           int repeats, bool fresh)
{
    const grd_dims dims[] = {grd_shape(m, k), grd_shape(k, n), grd_shape(m, n)};
    return time_call(device, isa, "matmul", dtype, 2, dims, repeats, fresh);
}

/* What has no kernel runs in the reference: a rate that says so. */
static double product_rate(grdi_device *device, grdi_isa isa, grd_dtype dtype, int64_t m, int64_t k, int64_t n)
{
    double taken = time_product(device, isa, dtype, m, k, n, 25, false);
    return taken > 0 ? 2.0 * (double)(m * k * n) / taken : 1e8;
}

/* Bytes a second of the operands and the result of a product of f32 [m x k] [k x n], beyond the time of its arithmetic;
 * between a fortieth and four times of what copies reach. */
static double product_bytes_rate(grdi_device *device, const grdi_rates *r, int64_t m, int64_t k, int64_t n, bool fresh)
{
    double flops = 2.0 * (double)(m * k * n), bytes = 4.0 * (double)(m * k + k * n + m * n);
    double taken = time_product(device, device->isa, GRD_F32, m, k, n, fresh ? 19 : 9, fresh);
    double beyond = taken - flops / r->matmul_flops_per_s;
    double most = bytes / r->copy_bytes_per_s * 40, least = bytes / r->copy_bytes_per_s / 4;
    return bytes / (beyond > most ? most : beyond > least ? beyond : least);
}

/* Of a large flat product, which has many bytes for its arithmetic, at most what copies reach; and of two that caches
 * hold, most of whose bytes are read by all threads or written. */
static void measure_product_bytes(grdi_device *device, grdi_rates *r)
{
    double large = product_bytes_rate(device, r, 2048, 128, 512, false);
    double read = product_bytes_rate(device, r, 64, 512, 512, true);
    double written = product_bytes_rate(device, r, 256, 64, 1024, true);
    r->product_bytes_per_s = large < r->copy_bytes_per_s ? large : r->copy_bytes_per_s;
    r->fresh_bytes_per_s = 2 / (1 / read + 1 / written);
}

static grdi_rates measure(grdi_device *device)
{
    const bool tiles = device->isa == GRDI_ISA_AMX;
    const int64_t large = 8 << 20, small = 64 << 10, near = device->threads * NEAR_BYTES / 16;
    double copy_s = time_even(device, "copy", GRD_F32, 1, grd_shape(large), 5, false);
    double near_s = time_even(device, "copy", GRD_F32, 1, grd_shape(near), 20, true);
    double map_s = time_even(device, "tanh", GRD_F32, 1, grd_shape(small), 20, false);
    double launch_s = time_even(device, "copy", GRD_F32, 1, grd_shape(16), 50, false);
    /* Products of f32 in tiles have no equal parts: threads take pieces as they get on, of small products too few. */
    grdi_rates r = {.matmul_flops_per_s = tiles ? product_rate(device, device->isa, GRD_F32, 2048, 768, 1024)
                                                : product_rate(device, device->isa, GRD_F32, 512, 512, 512),
                    .matmul_bf16_flops_per_s = product_rate(device, device->isa, GRD_BF16, 512, 512, 512),
                    .loops_flops_per_s = tiles ? product_rate(device, GRDI_ISA_AVX512BF16, GRD_F32, 1024, 768, 768) : 0,
                    .copy_bytes_per_s = copy_s > 0 ? 8.0 * (double)large / copy_s : 1e8};
    measure_product_bytes(device, &r);
    r.near_bytes_per_s = near_s > 0 ? 8.0 * (double)near / near_s : r.copy_bytes_per_s;
    r.near_bytes = (double)device->threads * NEAR_BYTES;
    /* What has no kernel runs in the reference: a rate that says so. A tanh counts as its 20 operations. */
    r.map_flops_per_s = map_s > 0 ? 20.0 * (double)small / map_s : 1e7;
    r.launch_s = launch_s > 0 ? launch_s : 1e-6;
    return r;
}

/* The rate of the mean time, of `count` measurements before and one more. */
static void mix(double *rate, double more, int32_t count)
{
    if (*rate > 0 && more > 0) *rate = (count + 1) / (count / *rate + 1 / more);
}

void grdi_cpu_measure(grdi_device *device)
{
    const grdi_rates more = measure(device);
    grdi_rates *r = &device->rates;
    const int32_t count = device->measured++;
    if (count == 0) {
        *r = more;
        return;
    }
    mix(&r->matmul_flops_per_s, more.matmul_flops_per_s, count);
    mix(&r->matmul_bf16_flops_per_s, more.matmul_bf16_flops_per_s, count);
    mix(&r->loops_flops_per_s, more.loops_flops_per_s, count);
    mix(&r->copy_bytes_per_s, more.copy_bytes_per_s, count);
    mix(&r->product_bytes_per_s, more.product_bytes_per_s, count);
    mix(&r->fresh_bytes_per_s, more.fresh_bytes_per_s, count);
    mix(&r->near_bytes_per_s, more.near_bytes_per_s, count);
    mix(&r->map_flops_per_s, more.map_flops_per_s, count);
    r->launch_s = (r->launch_s * count + more.launch_s) / (count + 1);
}

grd_status grdi_cpu_rates(grdi_device *device, grdi_rates *rates)
{
    if (!device->measured) grdi_cpu_measure(device);
    *rates = device->rates;
    return GRD_OK;
}
