/* choose_product.c - which of cuBLASLt's algorithms a product is made by: what was chosen before, else the fastest of
 * those that its heuristics name. An algorithm is kept as its bytes, which the library's documentation allows for the
 * same version (cublasLtMatmulAlgo_t). */
#include "cuda.h"

#include <stdio.h>
#include <string.h>

static int write_matrix(char *text, int room, const char *name, const grdi_matrix *m)
{
    return snprintf(text, room > 0 ? (size_t)room : 0, " %s=%s%s ld %lld batch %lld", name, grd_dtype_name(m->dtype),
                    m->transposed ? " turned" : "", (long long)m->ld, (long long)m->batch_stride);
}

void grdi_product_call(const grdi_device *device, const grdi_product *p, const uint32_t *least,
                       char call[GRDI_CHOICE_TEXT])
{
    int at = snprintf(
        call, GRDI_CHOICE_TEXT, "product m=%lld n=%lld k=%lld of %lld%s, epilogue %d%s%s aux %lld, aligned %u %u %u %u",
        (long long)p->m, (long long)p->n, (long long)p->k, (long long)p->batch, device->modes.tf32 ? " in tf32" : "",
        (int)p->epilogue, p->base ? " based" : "", p->alpha ? " scaled" : "", (long long)p->aux_ld, (unsigned)least[0],
        (unsigned)least[1], (unsigned)least[2], (unsigned)least[3]);
    at += write_matrix(call + at, GRDI_CHOICE_TEXT - at, "a", &p->a);
    at += write_matrix(call + at, GRDI_CHOICE_TEXT - at, "b", &p->b);
    write_matrix(call + at, GRDI_CHOICE_TEXT - at, "y", &p->y);
}

bool grdi_product_recall(grdi_device *device, grdi_product *p, const char *call)
{
    const char *text = grdi_choices_find(&device->choices, call);
    unsigned char *bytes = (unsigned char *)&p->algorithm;
    if (!text || strlen(text) != 2 * sizeof p->algorithm) return false;
    for (size_t i = 0; i < sizeof p->algorithm; i++) {
        unsigned one;
        if (sscanf(text + 2 * i, "%2x", &one) != 1) return false;
        bytes[i] = (unsigned char)one;
    }
    return true;
}

static void keep(grdi_device *device, const grdi_product *p, const char *call)
{
    char text[2 * sizeof p->algorithm + 1];
    const unsigned char *bytes = (const unsigned char *)&p->algorithm;
    for (size_t i = 0; i < sizeof p->algorithm; i++) snprintf(text + 2 * i, 3, "%02x", bytes[i]);
    grdi_choices_put(&device->choices, call, text);
}

typedef struct product_run {
    grdi_device *device;
    const grdi_product *product;
    void *y;
} product_run;

static bool run(void *context)
{
    const product_run *r = context;
    return grdi_product_run(r->device, r->product, r->product->a.data, r->product->b.data, r->y, false) == GRD_OK;
}

/* Bytes that the epilogue writes beside y, for the attribute of the description that says where. */
static size_t beside(const grdi_product *p, cublasLtMatmulDescAttributes_t *where)
{
    size_t size = grd_dtype_size(p->y.dtype) * (size_t)p->m;
    *where = p->epilogue == GRDI_EPILOGUE_BGRAD ? CUBLASLT_MATMUL_DESC_BIAS_POINTER
                                                : CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER;
    if (p->epilogue == GRDI_EPILOGUE_BGRAD) return size;
    return p->epilogue == GRDI_EPILOGUE_GELU_AUX ? size * (size_t)(p->aux_ld * p->batch) : 0;
}

static int32_t fastest(grdi_device *device, grdi_product *p, const cublasLtMatmulHeuristicResult_t *found,
                       int32_t count, void *y)
{
    float least = -1;
    int32_t best = 0;
    for (int32_t i = 0; i < count; i++) {
        product_run r = {device, p, y};
        p->algorithm = found[i].algo;
        float taken = grdi_time_runs(device, run, &r);
        if (taken < 0 || (least >= 0 && taken >= least)) continue;
        best = i;
        least = taken;
    }
    return best;
}

/* All that is written goes to memory of its own: what lies where the product will write may be wanted. */
void grdi_product_pick(grdi_device *device, grdi_product *p, const cublasLtMatmulHeuristicResult_t *found,
                       int32_t count, const char *call)
{
    cublasLtMatmulDescAttributes_t where;
    int64_t rows = p->y.transposed ? p->n : p->m;
    size_t y_bytes = (size_t)((p->batch - 1) * p->y.batch_stride + rows * p->y.ld) * grd_dtype_size(p->y.dtype);
    size_t beside_bytes = beside(p, &where);
    char *memory = NULL;
    int32_t best = 0;
    y_bytes = grdi_cuda_room(y_bytes);
    if (count > 1 && cudaMalloc((void **)&memory, y_bytes + beside_bytes) == cudaSuccess) {
        const void *own = p->epilogue == GRDI_EPILOGUE_BGRAD ? p->bias : p->aux, *trial = memory + y_bytes;
        __typeof__(cublasLtMatmulDescSetAttribute) *set = device->lt.call.call_cublasLtMatmulDescSetAttribute;
        bool ready = !beside_bytes || set(p->description, where, &trial, sizeof trial) == CUBLAS_STATUS_SUCCESS;
        if (ready) best = fastest(device, p, found, count, memory);
        if (beside_bytes) set(p->description, where, &own, sizeof own);
        cudaFree(memory);
    }
    cudaGetLastError(); /* without room, the first is taken */
    p->algorithm = found[best].algo;
    if (count > 1) keep(device, p, call);
}
