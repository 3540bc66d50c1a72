/* onednn.c - products of matrices by oneDNN, built against 2.6 (Debian 12) or 3.x. */
#include "backend/cpu/onednn.h"

#include "backend/cpu/device.h"
#include "backend/cpu/onednn_library.h"
#include "base/memory.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#if defined(GRADUS_HAVE_ONEDNN)

enum { MAX_ARGUMENTS = 5 };

/* Two primitives: one overwrites C, one adds to it. */
typedef struct variant {
    dnnl_primitive_t primitive;
    dnnl_memory_t memory[MAX_ARGUMENTS]; /* A, B, C, scratchpad, bias */
    dnnl_exec_arg_t arguments[MAX_ARGUMENTS];
    int count;
    size_t scratch_bytes;
} variant;

struct grdi_onednn {
    variant plain, adding;
};

static dnnl_engine_t engine;
static dnnl_stream_t stream;

bool grdi_dnnl_ready(dnnl_engine_t *its_engine, dnnl_stream_t *its_stream)
{
    if (!engine && dnnl_engine_create(&engine, dnnl_cpu, 0) != dnnl_success) engine = NULL;
    if (engine && !stream && dnnl_stream_create(&stream, engine, dnnl_stream_default_flags) != dnnl_success)
        stream = NULL;
    *its_engine = engine, *its_stream = stream;
    return stream != NULL;
}

/* A matrix. */
static bool describe(grdi_dnnl_owned *d, int64_t rows, int64_t columns, int64_t row, int64_t column, grd_dtype type)
{
    if (rows == 1) /* a stride that nothing uses must still look like one of a matrix */
        row = columns * column;
    return grdi_dnnl_describe(d, 2, (int64_t[]){rows, columns}, (int64_t[]){row, column}, type);
}

#if DNNL_VERSION_MAJOR >= 3
static dnnl_status_t append_sum(dnnl_post_ops_t ops)
{
    return dnnl_post_ops_append_sum(ops, 1.0f, 0, dnnl_data_type_undef);
}

static dnnl_status_t create(dnnl_primitive_desc_t *pd, const grdi_dnnl_owned *a, const grdi_dnnl_owned *b,
                            const grdi_dnnl_owned *bias, const grdi_dnnl_owned *c,
                            const_dnnl_primitive_attr_t attributes)
{
    return dnnl_matmul_primitive_desc_create(pd, engine, *a, *b, bias ? *bias : NULL, *c, attributes);
}
#else
static dnnl_status_t append_sum(dnnl_post_ops_t ops)
{
    return dnnl_post_ops_append_sum(ops, 1.0f);
}

static dnnl_status_t create(dnnl_primitive_desc_t *pd, const grdi_dnnl_owned *a, const grdi_dnnl_owned *b,
                            const grdi_dnnl_owned *bias, const grdi_dnnl_owned *c,
                            const_dnnl_primitive_attr_t attributes)
{
    dnnl_matmul_desc_t d;
    dnnl_status_t status = dnnl_matmul_desc_init(&d, a, b, bias, c);
    return status == dnnl_success ? dnnl_primitive_desc_create(pd, &d, attributes, engine, NULL) : status;
}
#endif

dnnl_primitive_attr_t grdi_dnnl_attributes(bool add)
{
    dnnl_primitive_attr_t attributes;
    dnnl_post_ops_t ops;
    if (dnnl_primitive_attr_create(&attributes) != dnnl_success) return NULL;
    bool good = dnnl_primitive_attr_set_scratchpad_mode(attributes, dnnl_scratchpad_mode_user) == dnnl_success;
    if (good && add) {
        good = dnnl_post_ops_create(&ops) == dnnl_success;
        if (good) {
            good = append_sum(ops) == dnnl_success && dnnl_primitive_attr_set_post_ops(attributes, ops) == dnnl_success;
            dnnl_post_ops_destroy(ops);
        }
    }
    if (good) return attributes;
    dnnl_primitive_attr_destroy(attributes);
    return NULL;
}

static void free_variant(variant *v)
{
    for (int i = 0; i < v->count; i++) dnnl_memory_destroy(v->memory[i]);
    if (v->primitive) dnnl_primitive_destroy(v->primitive);
}

bool grdi_dnnl_is_reference(const_dnnl_primitive_desc_t pd)
{
    const char *name = "";
    dnnl_primitive_desc_query(pd, dnnl_query_impl_info_str, 0, &name);
    return strstr(name, "ref") != NULL;
}

static bool add_memory(variant *v, int argument, const grdi_dnnl_owned *d)
{
    dnnl_memory_t memory;
    if (dnnl_memory_create(&memory, grdi_dnnl_see(d), engine, DNNL_MEMORY_NONE) != dnnl_success) return false;
    v->memory[v->count] = memory;
    v->arguments[v->count++] = (dnnl_exec_arg_t){argument, memory};
    return true;
}

static bool add_scratchpad(variant *v, const_dnnl_primitive_desc_t pd)
{
    grdi_dnnl_seen d = grdi_dnnl_query(pd, dnnl_query_scratchpad_md);
    dnnl_memory_t memory;
    v->scratch_bytes = d ? dnnl_memory_desc_get_size(d) : 0;
    if (!d || dnnl_memory_create(&memory, d, engine, DNNL_MEMORY_NONE) != dnnl_success) return !d;
    v->memory[v->count] = memory;
    v->arguments[v->count++] = (dnnl_exec_arg_t){DNNL_ARG_SCRATCHPAD, memory};
    return true;
}

/* Memory objects in the order of run(): A, B, C, bias if any, scratchpad if any. */
static bool make_variant(variant *v, const grdi_gemm *g, bool add, bool bias)
{
    grdi_dnnl_owned a = {0}, b = {0}, c = {0}, d = {0};
    dnnl_primitive_attr_t attributes = grdi_dnnl_attributes(add);
    dnnl_primitive_desc_t pd = NULL;
    int64_t c_row = g->c_row ? g->c_row : g->y_row;
    bool good = attributes && describe(&a, g->m, g->k, g->a_row, g->a_col, g->a_type) &&
                describe(&b, g->k, g->n, g->b_row, g->b_col, g->b_type) &&
                describe(&c, g->m, g->n, c_row, 1, g->c_type) &&
                (!bias || describe(&d, 1, g->n, g->n, 1, g->bias_type)) &&
                create(&pd, &a, &b, bias ? &d : NULL, &c, attributes) == dnnl_success;
    if (good)
        good = !grdi_dnnl_is_reference(pd) && dnnl_primitive_create(&v->primitive, pd) == dnnl_success &&
               add_memory(v, DNNL_ARG_SRC, &a) && add_memory(v, DNNL_ARG_WEIGHTS, &b) &&
               add_memory(v, DNNL_ARG_DST, &c) && (!bias || add_memory(v, DNNL_ARG_BIAS, &d)) && add_scratchpad(v, pd);
    if (pd) dnnl_primitive_desc_destroy(pd);
    if (attributes) dnnl_primitive_attr_destroy(attributes);
    grdi_dnnl_forget(&a), grdi_dnnl_forget(&b), grdi_dnnl_forget(&c), grdi_dnnl_forget(&d);
    return good;
}

/* What the environment asks for. */
static bool asks_for(const char *who)
{
    const char *choice = getenv("GRADUS_MATMUL");
    return choice && strcmp(choice, who) == 0;
}

bool grdi_onednn_takes_bf16(void)
{
    bool fast = (dnnl_get_effective_cpu_isa() & dnnl_cpu_isa_avx512_core_bf16) == dnnl_cpu_isa_avx512_core_bf16;
    return asks_for("onednn") || (fast && !asks_for("own"));
}

bool grdi_onednn_has_amx(void)
{
    return (dnnl_get_effective_cpu_isa() & dnnl_cpu_isa_avx512_core_amx) == dnnl_cpu_isa_avx512_core_amx;
}

static bool faster_in_bf16(const grdi_gemm *g, int64_t own_from)
{
    bool large = g->m >= own_from && g->n >= own_from && g->k >= own_from;
    return grdi_onednn_takes_bf16() && !large;
}

static bool wanted(const grdi_gemm *g, int64_t own_from)
{
    bool f32 = g->a_type == GRD_F32 && g->b_type == GRD_F32 && g->c_type == GRD_F32;
    bool bf16 = g->a_type == GRD_BF16 && g->b_type == GRD_BF16;
    bool plain = (g->a_row == 1 || g->a_col == 1) && (g->b_row == 1 || g->b_col == 1) && g->m > 0 && g->n > 0 &&
                 g->k > 0 && !g->a_round && !g->b_round;
    if (asks_for("onednn")) return plain && (f32 || bf16);
    return plain && bf16 && faster_in_bf16(g, own_from);
}

grdi_onednn *grdi_onednn_new(const grdi_gemm *g, int64_t own_from)
{
    if (!wanted(g, own_from) || !grdi_dnnl_ready(&engine, &stream)) return NULL;
    grdi_onednn *product = grdi_alloc_zero(1, sizeof *product);
    if (!product) return NULL;
    if (make_variant(&product->plain, g, false, g->bias != NULL) &&
        (!g->add || make_variant(&product->adding, g, true, false)))
        return product;
    grdi_onednn_free(product);
    return NULL;
}

size_t grdi_onednn_scratch(const grdi_onednn *product)
{
    size_t a = product->plain.scratch_bytes, b = product->adding.scratch_bytes;
    return a > b ? a : b;
}

grd_status grdi_onednn_run(grdi_onednn *product, const grdi_gemm *g, void *scratch)
{
    variant *v = g->add ? &product->adding : &product->plain;
    void *data[MAX_ARGUMENTS] = {(void *)g->a, (void *)g->b, g->c ? g->c : g->y};
    int count = 3;
    if (g->bias && !g->add) data[count++] = (void *)g->bias;
    if (count < v->count) data[count++] = scratch;
    for (int i = 0; i < v->count; i++)
        if (dnnl_memory_set_data_handle(v->memory[i], data[i]) != dnnl_success) return GRD_E_DEVICE;
    if (dnnl_primitive_execute(v->primitive, stream, v->count, v->arguments) != dnnl_success) return GRD_E_DEVICE;
    return dnnl_stream_wait(stream) == dnnl_success ? GRD_OK : GRD_E_DEVICE;
}

void grdi_onednn_free(grdi_onednn *product)
{
    if (!product) return;
    free_variant(&product->plain);
    free_variant(&product->adding);
    grdi_free(product);
}

const char *grdi_cpu_matmul_library(void)
{
    static char name[32];
    const dnnl_version_t *version = dnnl_version();
    snprintf(name, sizeof name, "onednn-%d.%d.%d", version->major, version->minor, version->patch);
    return name;
}

#else

struct grdi_onednn {
    char unused;
};

grdi_onednn *grdi_onednn_new(const grdi_gemm *g, int64_t own_from)
{
    (void)g, (void)own_from;
    return NULL;
}

bool grdi_onednn_takes_bf16(void)
{
    return false;
}

bool grdi_onednn_has_amx(void)
{
    return false;
}

size_t grdi_onednn_scratch(const grdi_onednn *product)
{
    (void)product;
    return 0;
}

grd_status grdi_onednn_run(grdi_onednn *product, const grdi_gemm *g, void *scratch)
{
    (void)product, (void)g, (void)scratch;
    return GRD_E_UNSUPPORTED;
}

void grdi_onednn_free(grdi_onednn *product)
{
    (void)product;
}

const char *grdi_cpu_matmul_library(void)
{
    return "";
}

#endif
