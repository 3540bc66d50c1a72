/* rates.c - how fast this processor is, measured by its own kernels in under 0.2 s; the cost model divides by these
 * figures. */
#include "backend/cpu/device.h"
#include "base/log.h"

#include <stdlib.h>

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

enum { REPEATS_MAX = 50 };

/* Median seconds of `repeats` runs of a call with `in_count` inputs and one output, all of shape `dims`, over memory of
 * the device; 0 when it cannot be run. */
static double time_call(grdi_device *device, const char *op_name, grd_dtype dtype, int32_t in_count, grd_dims dims,
                        int repeats)
{
    const grdi_op *op = grdi_op_find(op_name);
    if (!op)
        return 0;
    size_t tensor_bytes = (size_t)grd_dims_count(dims) * grd_dtype_size(dtype);
    size_t memory_bytes = tensor_bytes * (size_t)(in_count + 1);
    char *memory = grdi_cpu_allocate(device, memory_bytes);
    if (!memory)
        return 0;
    grdi_call call = {
        .op = op, .attrs = op->attrs, .input_count = in_count, .output_count = 1, .threads = device->threads};
    grdi_view view = {.data = memory, .dtype = dtype, .dims = dims};
    grdi_row_major(dims, view.stride);
    for (int32_t i = 0; i < in_count; i++) {
        call.in[i] = view;
        view.data = (char *)view.data + tensor_bytes;
    }
    call.out[0] = view;
    const grdi_kernel *kernel = grdi_cpu_find(device->isa, &call);
    double median = 0, taken[REPEATS_MAX];
    if (kernel && kernel != &grdi_reference_kernel && (!kernel->prepare || kernel->prepare(&call, NULL) == GRD_OK)) {
        call.scratch = call.scratch_bytes ? grdi_cpu_allocate(device, call.scratch_bytes) : NULL;
        bool ready = (call.scratch || !call.scratch_bytes) && (!kernel->bind || kernel->bind(&call, NULL) == GRD_OK);
        for (int i = 0; ready && i <= repeats; i++) { /* the first one brings the pages in and does not count */
            double start = grdi_seconds();
            ready = kernel->run(&call) == GRD_OK;
            if (i > 0)
                taken[i - 1] = grdi_seconds() - start;
        }
        if (ready) {
            qsort(taken, (size_t)repeats, sizeof *taken, by_size);
            median = taken[repeats / 2];
        }
        if (kernel->release)
            kernel->release(&call);
        grdi_cpu_release(device, call.scratch, call.scratch_bytes);
    }
    grdi_cpu_release(device, memory, memory_bytes);
    return median;
}

grd_status grdi_cpu_rates(grdi_device *device, grdi_rates *rates)
{
    if (!device->measured) {
        const int64_t side = 512, large = 8 << 20, small = 64 << 10;
        double matmul_flops = 2.0 * (double)(side * side * side);
        double matmul_s = time_call(device, "matmul", GRD_F32, 2, grd_shape(side, side), 4);
        double matmul_bf16_s = time_call(device, "matmul", GRD_BF16, 2, grd_shape(side, side), 2);
        double copy_s = time_call(device, "copy", GRD_F32, 1, grd_shape(large), 3);
        double map_s = time_call(device, "tanh", GRD_F32, 1, grd_shape(small), 20);
        double launch_s = time_call(device, "copy", GRD_F32, 1, grd_shape(16), 50);
        /* What has no kernel runs in the reference: a rate that says so. A tanh counts as the 20 operations it is made
         * of. */
        device->rates.matmul_flops_per_s = matmul_s > 0 ? matmul_flops / matmul_s : 1e8;
        device->rates.matmul_bf16_flops_per_s = matmul_bf16_s > 0 ? matmul_flops / matmul_bf16_s : 1e8;
        device->rates.copy_bytes_per_s = copy_s > 0 ? 8.0 * (double)large / copy_s : 1e8;
        device->rates.map_flops_per_s = map_s > 0 ? 20.0 * (double)small / map_s : 1e7;
        device->rates.launch_s = launch_s > 0 ? launch_s : 1e-6;
        device->measured = true;
    }
    *rates = device->rates;
    return GRD_OK;
}
