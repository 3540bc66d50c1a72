/* test_cudnn_library.c - the real cuDNN takes what the plugin describes to it, on a machine without a GPU: it is told
 * the properties of an H100, names its engines for one and makes execution plans. Only running them needs the device.
 * driver.c stands for its driver. Where there is no cuDNN of 9.8 or later, the test says so and passes. */
#include "../../cuda/lib/cudnn.h"
#include "../../cuda/lib/library.h"

#include <criterion/criterion.h>
#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

/* Published figures of an H100 SXM, in the library's own terms. */
static const char h100[] =
    "{\"maxGridSize\":[2147483647,65535,65535],\"maxBlockSize\":[1024,1024,64],\"regsPerBlock\":65536,"
    "\"multiProcessorCount\":132,\"smCountOrigin\":0,\"warpSize\":32,\"maxSharedMemoryPerBlock\":49152,"
    "\"maxSharedMemoryPerBlockOptin\":232448,\"reservedSharedMemoryPerBlock\":1024,"
    "\"oversizedSharedMemoryPerBlock\":0,\"maxRegistersPerSM\":65536,\"maxCtasPerSM\":32,\"maxThreadsPerBlock\":1024,"
    "\"maxThreadsPerSM\":2048,\"pciDeviceId\":0,\"isTccDriver\":0,\"supportCoopLaunch\":1,"
    "\"totalGlobalMem\":85899345920,\"smClockRateKHz\":1980000,\"memClockRateKHz\":2619000,\"memoryBusWidth\":5120,"
    "\"l2CacheSize\":52428800,\"cudaDeviceId\":0,\"deviceVer\":900,\"driverVer\":13000,"
    "\"deviceName\":\"NVIDIA H100 80GB HBM3\"}";

/* The library and the device's properties; false where they are not to be had. */
static bool open_library(grdi_dnn *dnn)
{
    void *driver = dlopen(NO_GPU_DRIVER, RTLD_NOW | RTLD_GLOBAL);
    if (!driver || !grdi_library_open(GRDI_LIBRARY_CUDNN) || !grdi_dnn_load(dnn)) {
        printf("not run: test_cudnn_library: no libcudnn.so.9\n");
        return false;
    }
    grdi_dnn_descriptor d = NULL;
    if (dnn->version < 90800 ||
        dnn->call.call_cudnnBackendCreateDescriptor(DNN_BACKEND_DEVICEPROP_DESCRIPTOR, &d) != DNN_STATUS_SUCCESS ||
        dnn->call.call_cudnnBackendSetAttribute(d, DNN_ATTR_DEVICEPROP_JSON_REPRESENTATION, DNN_TYPE_CHAR, sizeof(h100),
                                                h100) != DNN_STATUS_SUCCESS ||
        dnn->call.call_cudnnBackendFinalize(d) != DNN_STATUS_SUCCESS) {
        char text[256] = "";
        dnn->call.call_cudnnGetLastErrorString(text, sizeof(text));
        printf("not run: test_cudnn_library: cuDNN %zu does not plan for a GPU that is not there (%s)\n", dnn->version,
               text);
        return false;
    }
    dnn->properties = d;
    return true;
}

typedef struct shape {
    int32_t axes;
    int64_t n, c, o, groups, in, kernel, stride, padding;
} shape;

/* Of ResNet-50 at 224 and of the op table: depthwise, grouped, odd channels, one and three spatial axes. */
static const shape shapes[] = {{2, 32, 3, 64, 1, 224, 7, 2, 3},  {2, 32, 64, 64, 1, 56, 1, 1, 0},
                               {2, 32, 64, 64, 1, 56, 3, 1, 1},  {2, 32, 256, 512, 1, 56, 1, 2, 0},
                               {2, 32, 512, 512, 1, 7, 3, 1, 1}, {2, 64, 1, 32, 1, 28, 3, 1, 0},
                               {2, 2, 4, 6, 2, 7, 3, 2, 1},      {2, 2, 6, 6, 6, 5, 3, 1, 1},
                               {1, 2, 3, 4, 1, 9, 4, 2, 1},      {3, 1, 2, 3, 1, 5, 2, 1, 1}};

static grdi_convolution convolution_of(const shape *s, grdi_convolution_kind kind, bool bf16)
{
    grd_dtype dtype = bf16 ? GRD_BF16 : GRD_F32;
    grdi_convolution c = {.kind = kind,
                          .axes = s->axes,
                          .samples = s->n,
                          .in_channels = s->c,
                          .out_channels = s->o,
                          .groups = s->groups,
                          .x = dtype,
                          .w = dtype,
                          .y = dtype};
    for (int a = 0; a < GRDI_WINDOW_AXES; a++) {
        grdi_window *w = &c.axis[a];
        *w = (grdi_window){1, 1, 1, 1, 0, 1};
        if (a < GRDI_WINDOW_AXES - s->axes) continue;
        *w = (grdi_window){s->in, 0, s->kernel, s->stride, s->padding, 1};
        w->out = grdi_window_count(w);
    }
    c.bias = kind == GRDI_CONVOLUTION_FORWARD && s->groups == 1;
    c.accumulates = kind == GRDI_CONVOLUTION_WEIGHT_GRADIENT;
    return c;
}

static int planned(grdi_dnn *dnn, bool bf16)
{
    int count = 0;
    for (size_t i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++)
        for (int kind = 0; kind < 3; kind++) {
            grdi_convolution c = convolution_of(&shapes[i], (grdi_convolution_kind)kind, bf16);
            grdi_dnn_plan *plan = grdi_dnn_plan_new(dnn, &c);
            cr_expect(plan, "shape %zu, kind %d, %s: %s", i, kind, bf16 ? "bf16" : "f32", dnn->why);
            count += plan != NULL;
            if (plan) cr_expect(grdi_dnn_plan_workspace(plan) <= GRDI_DNN_WORKSPACE_BYTES);
            grdi_dnn_plan_free(plan);
        }
    return count;
}

/* Gradients of weights of operands in bf16, as training has them: in f32, which few engines know, or rounded and with
 * channels innermost. */
static int planned_gradients(grdi_dnn *dnn, bool rounded)
{
    int count = 0;
    for (size_t i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++) {
        grdi_convolution c = convolution_of(&shapes[i], GRDI_CONVOLUTION_WEIGHT_GRADIENT, true);
        if (rounded) c.w_inner = true, c.accumulates = false;
        else c.w = GRD_F32;
        grdi_dnn_plan *plan = grdi_dnn_plan_new(dnn, &c);
        count += plan != NULL;
        cr_expect(plan || !rounded, "shape %zu, rounded: %s", i, dnn->why);
        grdi_dnn_plan_free(plan);
    }
    return count;
}

Test(cudnn_library, plans_convolutions_for_an_h100)
{
    grdi_dnn dnn = {.handle = NULL};
    if (!open_library(&dnn)) return;
    int f32 = planned(&dnn, false), bf16 = planned(&dnn, true);
    dnn.tf32 = true;
    int tf32 = planned(&dnn, false), widening = planned_gradients(&dnn, false), rounded = planned_gradients(&dnn, true);
    printf("cuDNN %zu plans %d convolutions in f32, %d in tf32, %d in bf16; "
           "gradients of weights of bf16: %d in f32, %d rounded\n",
           dnn.version, f32, tf32, bf16, widening, rounded);
    dnn.call.call_cudnnBackendDestroyDescriptor(dnn.properties);
}

/* ---- attention ---- */

typedef struct attention_shape {
    const char *name;
    int64_t batch, queries, keys, heads, kv_heads, width, window;
    bool causal;
} attention_shape;

static const attention_shape attentions[] = {
    {"GPT-2 124M", 64, 1024, 1024, 12, 12, 64, 0, true},
    {"GPT-2 124M, 32 sequences", 32, 1024, 1024, 12, 12, 64, 0, true},
    {"Qwen2.5 0.5B", 16, 1024, 1024, 14, 2, 64, 0, true},
    {"Qwen2.5 1.5B", 8, 4096, 4096, 12, 2, 128, 0, true},
    {"Qwen2.5 7B", 4, 4096, 4096, 28, 4, 128, 0, true},
    {"a window of 1024", 4, 4096, 4096, 32, 8, 128, 1024, true},
    {"no mask, 197 patches", 64, 197, 197, 12, 12, 64, 0, false},
    {"77 keys beside", 16, 1024, 77, 8, 8, 40, 0, false},
    {"a short sequence", 2, 128, 128, 4, 4, 64, 0, true},
    /* Parts of those above (ops/attention_library.cu). */
    {"GPT-2 124M, 8 sequences", 8, 1024, 1024, 12, 12, 64, 0, true},
    {"Qwen2.5 0.5B, 8 sequences", 8, 1024, 1024, 14, 2, 64, 0, true},
    {"Qwen2.5 1.5B, 6 heads", 1, 4096, 4096, 6, 1, 128, 0, true},
    {"Qwen2.5 7B, 7 heads", 1, 4096, 4096, 7, 1, 128, 0, true},
};

/* q, k and v side by side in [B,T,H + 2 Hkv,D] where there are as many keys as queries, and so are their gradients. */
static grdi_attention attention_of(const attention_shape *s, bool backward, grd_dtype dtype)
{
    grdi_attention a = {.backward = backward,
                        .batch = s->batch,
                        .heads = s->heads,
                        .kv_heads = s->kv_heads,
                        .queries = s->queries,
                        .keys = s->keys,
                        .width = s->width,
                        .value_width = s->width,
                        .scale = 0.125f,
                        .causal = s->causal,
                        .window = s->window};
    for (int i = 0; i < GRDI_ATTENTION_HEADS; i++) {
        bool of_keys =
            i == GRDI_ATTENTION_K || i == GRDI_ATTENTION_V || i == GRDI_ATTENTION_DK || i == GRDI_ATTENTION_DV;
        bool beside = s->queries == s->keys && i != GRDI_ATTENTION_OUT && i != GRDI_ATTENTION_G;
        int64_t heads = beside ? s->heads + 2 * s->kv_heads : of_keys ? s->kv_heads : s->heads;
        const int64_t strides[] = {(of_keys ? s->keys : s->queries) * heads * s->width, heads * s->width, s->width, 1};
        a.of[i].dtype = dtype;
        memcpy(a.of[i].stride, strides, sizeof strides);
    }
    return a;
}

static bool fits_probabilities(const attention_shape *s)
{
    return s->batch * s->heads * s->queries * s->keys * 2 <= GRDI_DNN_WORKSPACE_BYTES;
}

/* Where blocks may add in any order, the sums of dq, and whatever heads that share keys want, are linear in length. */
static void check_plan(const grdi_dnn *dnn, const attention_shape *s, bool backward, const grdi_dnn_plan *plan)
{
    size_t bytes = plan ? grdi_dnn_plan_workspace(plan) : 0;
    size_t sums = plan ? grdi_dnn_plan_bytes(plan, GRDI_ATTENTION_DQ_SUMS) : 0;
    printf("%s, %s%s: %s, a workspace of %zu bytes, sums of %zu\n", s->name, backward ? "backward" : "forward",
           dnn->any_order ? " in any order" : "", plan ? "planned" : dnn->why, bytes, sums);
    if (backward && !dnn->any_order && !fits_probabilities(s)) {
        cr_expect(!plan, "%s: room for all probabilities was given", s->name);
        return;
    }
    cr_expect(plan, "%s, %s: %s", s->name, backward ? "backward" : "forward", dnn->why);
    size_t dq = (size_t)(s->batch * s->heads * s->queries * s->width) * sizeof(float);
    cr_expect(sums == (backward && dnn->any_order ? dq : 0), "%s: sums of %zu bytes", s->name, sums);
    if (!backward) cr_expect(bytes <= 4096, "%s: a workspace of %zu bytes", s->name, bytes);
    else if (dnn->any_order) cr_expect(bytes <= dq + 4096, "%s: a workspace of %zu bytes", s->name, bytes);
}

static void plan_attention(grdi_dnn *dnn)
{
    int planned = 0, count = 0;
    for (size_t i = 0; i < sizeof(attentions) / sizeof(attentions[0]); i++)
        for (int n = 0; n < 4; n += i ? 2 : 1) { /* f16 of the first alone */
            bool backward = n / 2;
            grdi_attention a = attention_of(&attentions[i], backward, n % 2 ? GRD_F16 : GRD_BF16);
            dnn->why[0] = '\0';
            grdi_dnn_plan *plan = grdi_dnn_attention_new(dnn, &a, NULL);
            check_plan(dnn, &attentions[i], backward, plan);
            planned += plan != NULL, count++;
            grdi_dnn_plan_free(plan);
        }
    printf("cuDNN %zu plans %d of %d calls of attention%s\n", dnn->version, planned, count,
           dnn->any_order ? " that may add in any order" : "");
}

/* Forward all of it with next to no workspace; backward what has room for all probabilities, which is how an H100's
 * engines are deterministic: the rest is left to others. All of it where they need not be. */
Test(cudnn_library, plans_attention_for_an_h100)
{
    grdi_dnn dnn = {.handle = NULL};
    if (!open_library(&dnn)) return;
    plan_attention(&dnn);
    dnn.any_order = true;
    plan_attention(&dnn);
    dnn.call.call_cudnnBackendDestroyDescriptor(dnn.properties);
}

/* What it refuses is refused in words and leaves nothing behind. */
Test(cudnn_library, says_what_it_refuses)
{
    grdi_dnn dnn = {.handle = NULL};
    if (!open_library(&dnn)) return;
    grdi_convolution c = convolution_of(&shapes[2], GRDI_CONVOLUTION_FORWARD, true);
    c.axis[GRDI_WINDOW_AXES - 1].out++;
    cr_expect(!grdi_dnn_plan_new(&dnn, &c));
    cr_expect(strstr(dnn.why, "cudnnBackendFinalize"), "%s", dnn.why);
    printf("%s\n", dnn.why);
    dnn.call.call_cudnnBackendDestroyDescriptor(dnn.properties);
}
