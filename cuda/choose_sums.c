/* choose_sums.c - by what the sums of matmul_column_sums are made: the epilogue of cuBLASLt that goes along with the
 * product, or a kernel after it. On an H100 the epilogue can cost the product more than another pass over the operand.
 * Both are timed, on memory of their own, and the choice is kept as those among algorithms are. */
#include "cuda.h"
#include "ops/activation.h"
#include "ops/copy.h"

#include <stdio.h>
#include <string.h>

enum { SUMS = 1 };

static const char by_kernel[] = "kernel", by_epilogue[] = "epilogue";

typedef struct trial {
    const grdi_call *call;
    const grdi_product *product;
    grdi_view sums, made; /* made: by the epilogue, and then added to the sums where those are added to */
    void *y, *parts;
} trial;

static bool run(void *context)
{
    const trial *t = context;
    const grdi_product *p = t->product;
    if (grdi_product_run(t->call->device, p, p->a.data, p->b.data, t->y, false)) return false;
    if (p->epilogue == GRDI_EPILOGUE_NONE)
        return !grdi_cuda_column_sums(t->call, &t->sums, &t->call->in[0], t->parts, false);
    return !t->call->may_accumulate[SUMS] || !grdi_cuda_copy(t->call, &t->sums, &t->made, false);
}

/* Milliseconds of a product that is planned and of what goes with it; negative where it does not run. */
static float time_way(const grdi_call *call, const grdi_product *p)
{
    trial t = {.call = call, .product = p, .sums = call->out[SUMS], .made = call->out[SUMS]};
    size_t y = grdi_cuda_room((size_t)((p->y.transposed ? p->n : p->m) * p->y.ld) * grd_dtype_size(p->y.dtype));
    size_t sums = grdi_cuda_room((size_t)p->m * grd_dtype_size(t.sums.dtype));
    size_t parts = grdi_cuda_column_sums_bytes(call, p->k, p->m);
    __typeof__(cublasLtMatmulDescSetAttribute) *set = call->device->lt.call.call_cublasLtMatmulDescSetAttribute;
    bool together = p->epilogue == GRDI_EPILOGUE_BGRAD;
    char *memory = NULL;
    float taken = -1;
    if (cudaMalloc((void **)&memory, y + 2 * sums + parts) == cudaSuccess) {
        t.y = memory, t.made.data = memory + y, t.sums.data = memory + y + sums, t.parts = memory + y + 2 * sums;
        if (!together || set(p->description, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &t.made.data, sizeof t.made.data) ==
                             CUBLAS_STATUS_SUCCESS)
            taken = grdi_time_runs(call->device, run, &t);
        if (together) set(p->description, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &p->bias, sizeof p->bias);
        cudaFree(memory);
    }
    cudaGetLastError(); /* without room, the epilogue is taken */
    return taken;
}

static bool is_apart_faster(const grdi_call *call, const grdi_product *together)
{
    grdi_product apart = *together;
    apart.planned = false;
    apart.description = NULL;
    apart.a_layout = apart.b_layout = apart.y_layout = NULL;
    apart.epilogue = GRDI_EPILOGUE_NONE;
    if (grdi_product_plan(call->device, &apart, NULL) != GRD_OK) return false;
    float with = time_way(call, together), without = time_way(call, &apart);
    grdi_product_release(call->device, &apart);
    return without >= 0 && (with < 0 || without < with);
}

bool grdi_sums_apart(const grdi_call *call, const grdi_product *together)
{
    grdi_device *device = call->device;
    const grdi_product *p = together;
    char text[GRDI_CHOICE_TEXT];
    if (device->planned) return false; /* nobody is there to be asked */
    snprintf(text, sizeof text, "sums of columns m=%lld n=%lld k=%lld of %s to %s%s%s, rows %lld %lld%s, aligned %d %d",
             (long long)p->m, (long long)p->n, (long long)p->k, grd_dtype_name(p->a.dtype), grd_dtype_name(p->y.dtype),
             device->modes.tf32 ? " in tf32" : "", call->may_accumulate[SUMS] ? " added" : "", (long long)p->a.ld,
             (long long)p->b.ld, p->b.transposed ? " turned" : "", (uintptr_t)p->a.data % 16 == 0,
             (uintptr_t)p->b.data % 16 == 0);
    const char *chosen = grdi_choices_find(&device->choices, text);
    if (chosen) return strcmp(chosen, by_kernel) == 0;
    bool apart = is_apart_faster(call, p);
    grdi_choices_put(&device->choices, text, apart ? by_kernel : by_epilogue);
    return apart;
}
