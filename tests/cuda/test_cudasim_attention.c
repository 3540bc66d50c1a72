/* test_cudasim_attention.c - attention on tensor cores and by cuDNN, in the simulator, against the references: lengths
 * around the tiles', several tiles each way, every form of the op, q, k and v side by side in one block, both orders of
 * warps. */
#include "sim_library.h"

#include "backend/backend.h"
#include "base/convert.h"
#include "check.h"
#include "ops/table.h"

#include <math.h>
#include <string.h>

/* mask: 0 none, 1 [T,S] with -infinities, 2 [B,1,1,S]. Offsets end with -1. */
typedef struct form {
    int64_t b, t, s, h, hkv, d;
    bool causal;
    int64_t window;
    double scale;
    int mask;
    int32_t offsets[8];
    bool packed;       /* q, k and v are slices of [B,T,H + 2 Hkv,D], and so are their gradients */
    int64_t dv, shift; /* of the values' heads, if not d; bytes that q, k and v lie behind a multiple of 16 */
    int64_t gap;       /* packed: elements between rows */
    bool wide_g;       /* in f32 */
} form;

static const form forms[] = {
    {1, 1, 1, 1, 1, 64, .causal = true},
    {2, 64, 64, 2, 2, 64, .causal = true},
    {1, 300, 300, 1, 1, 64, .causal = true},
    {1, 129, 257, 2, 1, 64, .causal = true},
    {1, 200, 70, 1, 1, 64, .causal = true}, /* queries 0..129 see nothing */
    {1, 130, 190, 1, 1, 64, .causal = false},
    {2, 140, 140, 4, 2, 64, .causal = true, .packed = true},
    {1, 150, 150, 6, 2, 32, .packed = true, .scale = 0.3},
    {1, 280, 280, 1, 1, 64, .causal = true, .window = 33},
    {1, 150, 170, 1, 1, 64, .window = 50},
    {1, 200, 200, 2, 1, 64, .causal = true, .offsets = {0, 3, 3, 70, 130, 190, -1}}, /* and tokens past the last */
    {1, 200, 200, 1, 1, 128, .offsets = {10, 90, 200, -1}},                          /* and tokens before the first */
    {1, 220, 220, 1, 1, 64, .causal = true, .window = 40, .offsets = {0, 100, 220, -1}, .packed = true},
    {1, 70, 90, 2, 1, 64, .mask = 1},
    {2, 100, 100, 1, 1, 128, .causal = true, .mask = 2},
    {1, 80, 140, 2, 1, 40, .window = 30, .mask = 1},
    {1, 140, 140, 1, 1, 128, .causal = true},
    {1, 70, 200, 4, 1, 128, .causal = true},
    {1, 160, 160, 2, 2, 96, .causal = true, .packed = true},
    {1, 140, 140, 1, 1, 80, .causal = true},
    {1, 140, 150, 1, 1, 112, .causal = false},
    {1, 100, 100, 2, 2, 40, .causal = true, .packed = true},
    {1, 90, 90, 1, 1, 24, .causal = true},
    {1, 70, 70, 3, 1, 8, .causal = true},
    /* What the tensor cores' kernels cannot do. */
    {1, 70, 70, 2, 1, 64, .causal = true, .dv = 32},
    {1, 70, 70, 2, 1, 32, .causal = true, .dv = 64},
    {1, 70, 70, 1, 1, 64, .causal = true, .scale = -4},
    {1, 70, 70, 1, 1, 64, .causal = true, .shift = 2},
    {1, 70, 70, 1, 1, 64, .causal = true, .packed = true, .gap = 4},
    {1, 40, 40, 1, 1, 20, .causal = true},
    {1, 40, 40, 1, 1, 136, .causal = true},
    /* What their backward kernels cannot do. */
    {1, 70, 70, 1, 1, 64, .causal = true, .wide_g = true},
};
enum { FORMS = sizeof forms / sizeof *forms, WIDE = FORMS - 1, PLAIN = WIDE - 7 };

enum { Q, K, V, G, OUT, DQ, DK, DV, ROLES, GUARD = 256 /* bytes */ };

/* A value of the op on the host, in double, and where it lies on the device. */
typedef struct value {
    grdi_type type;
    double *data;
    grdi_view view;
} value;

typedef struct attention_case {
    const form *f;
    grd_dtype dtype;
    int64_t by_library; /* runs that were cuDNN's */
    bool any_order;     /* gradients may be added up in one that differs from run to run */
    const grdi_backend *backend;
    grdi_device *device;
    grd_attr attrs[6];
    value of[ROLES], lse, mask, segments;
    char *blocks[8];
    size_t sizes[8];
    int block_count;
    uint64_t random;
} attention_case;

static double next_random(attention_case *c)
{
    c->random = c->random * 6364136223846793005u + 1442695040888963407u;
    return (double)(c->random >> 40) * 0x1p-23 - 1; /* -1..1 */
}

static void make_value(attention_case *c, value *v, grd_dtype dtype, grd_dims dims)
{
    int64_t count = grd_dims_count(dims);
    v->type = (grdi_type){dtype, dims};
    v->data = test_alloc((size_t)count, sizeof(double));
    for (int64_t i = 0; i < count; i++) v->data[i] = grdi_bf16_to_f32(grdi_f32_to_bf16((float)(2 * next_random(c))));
    v->view = (grdi_view){.dtype = dtype, .dims = dims};
    grdi_row_major(dims, v->view.stride);
}

/* A block on the device, all bytes 0xA5. */
static char *make_block(attention_case *c, size_t size_bytes)
{
    unsigned char *image = test_alloc(size_bytes, 1);
    char *block = c->backend->allocate(c->device, size_bytes);
    memset(image, 0xA5, size_bytes);
    c->backend->upload(c->device, block, image, size_bytes);
    free(image);
    c->sizes[c->block_count] = size_bytes;
    return c->blocks[c->block_count++] = block;
}

/* Side by side along the heads if the form says so, else one after the other, with guards between. */
static void place_together(attention_case *c, value *const *values, int count, bool packed)
{
    size_t offset[3], size = GUARD + (size_t)c->f->shift;
    int64_t heads = 0;
    for (int i = 0; i < count; i++) {
        grd_dims d = values[i]->type.dims;
        offset[i] = packed ? GUARD + (size_t)(heads * d.dim[3]) * 2 : size;
        heads += d.dim[2];
        size += (size_t)grd_dims_count(d) * grd_dtype_size(values[i]->type.dtype) + (packed ? 0 : GUARD);
    }
    if (packed) size += (size_t)(c->f->gap * c->f->b * c->f->t) * 2;
    char *block = make_block(c, size + GUARD);
    for (int i = 0; i < count; i++) {
        grdi_view *view = &values[i]->view;
        view->data = block + offset[i];
        if (!packed) continue;
        view->stride[1] = heads * view->dims.dim[3] + c->f->gap;
        view->stride[0] = view->stride[1] * view->dims.dim[1];
    }
}

static int64_t place_of(const grdi_view *view, int64_t index)
{
    int64_t at = 0;
    for (int32_t i = view->dims.rank - 1; i >= 0; i--) {
        at += index % view->dims.dim[i] * view->stride[i];
        index /= view->dims.dim[i];
    }
    return at * (int64_t)grd_dtype_size(view->dtype);
}

/* The block of a view's data, downloaded; free it. */
static char *download(attention_case *c, const value *v, char **start)
{
    for (int i = 0; i < c->block_count; i++) {
        if ((char *)v->view.data < c->blocks[i] || (char *)v->view.data >= c->blocks[i] + c->sizes[i]) continue;
        char *image = test_alloc(c->sizes[i], 1);
        c->backend->download(c->device, image, c->blocks[i], c->sizes[i]);
        *start = image + ((char *)v->view.data - c->blocks[i]);
        return image;
    }
    abort();
}

static void upload_value(attention_case *c, const value *v)
{
    char *start, *image = download(c, v, &start);
    for (int64_t i = 0, n = grd_dims_count(v->type.dims); i < n; i++)
        grdi_sample_store(v->type.dtype, &v->data[i], 1, start + place_of(&v->view, i));
    for (int i = 0; i < c->block_count; i++)
        if ((char *)v->view.data >= c->blocks[i] && (char *)v->view.data < c->blocks[i] + c->sizes[i])
            c->backend->upload(c->device, c->blocks[i], image, c->sizes[i]);
    free(image);
}

static void read_value(attention_case *c, const value *v, double *got)
{
    char *start, *image = download(c, v, &start);
    for (int64_t i = 0, n = grd_dims_count(v->type.dims); i < n; i++)
        grdi_sample_load(v->type.dtype, start + place_of(&v->view, i), 1, &got[i]);
    free(image);
}

static void run_reference(attention_case *c, const char *op, value *const *in, int in_count, value *const *out)
{
    grdi_type in_type[8], out_type[4];
    const double *in_data[8];
    double *out_data[4] = {NULL};
    int out_count = strcmp(op, "attention") == 0 ? 2 : 4;
    for (int i = 0; i < in_count; i++) in_type[i] = in[i]->type, in_data[i] = in[i]->data;
    for (int i = 0; i < out_count && out[i]; i++) out_type[i] = out[i]->type, out_data[i] = out[i]->data;
    grdi_sample_reference(&(grdi_reference){.op = grdi_op_find(op),
                                            .attrs = c->attrs,
                                            .input_count = in_count,
                                            .output_count = out_count,
                                            .in_type = in_type,
                                            .out_type = out_type,
                                            .in = in_data,
                                            .out = out_data});
}

/* In which cuDNN made a gradient, of those so far. */
static int64_t most_parts;

static void run_kernel(attention_case *c, const char *op, value *const *in, int in_count, value *const *out)
{
    grdi_call call = {.device = c->device,
                      .op = grdi_op_find(op),
                      .attrs = c->attrs,
                      .input_count = in_count,
                      .output_count = strcmp(op, "attention") == 0 ? 2 : 4,
                      .threads = 1};
    for (int i = 0; i < in_count; i++) call.in[i] = in[i]->view;
    for (int i = 0; i < call.output_count && out[i]; i++) call.out[i] = out[i]->view;
    call.out[3].dtype = GRD_F32; /* of a mask that nobody asks for */
    const grdi_kernel *kernel = c->backend->find(c->device, &call);
    cr_assert(kernel, "%s: no kernel", op);
    if (kernel->prepare) cr_assert(kernel->prepare(&call, NULL) == GRD_OK);
    if (call.scratch_bytes) call.scratch = c->backend->allocate(c->device, call.scratch_bytes);
    if (kernel->bind) cr_assert(kernel->bind(&call, NULL) == GRD_OK);
    int64_t before = on_simulator() ? SIM(grdi_sim_count)()->attentions : 0;
    cr_assert(kernel->run(&call) == GRD_OK, "%s: %s", op, SIM(grdi_sim_take_error)());
    int64_t parts = on_simulator() ? SIM(grdi_sim_count)()->attentions - before : 0;
    c->by_library += parts > 0;
    if (parts > most_parts) most_parts = parts;
    if (call.scratch_bytes) c->backend->release(c->device, call.scratch, call.scratch_bytes);
    if (kernel->release) kernel->release(&call);
    sim_is_content();
}

static void open_attention(attention_case *c, const form *f, grd_dtype dtype, bool any_order)
{
    const char *argument;
    char device[64];
    grd_error error;
    *c = (attention_case){.f = f, .dtype = dtype, .any_order = any_order, .random = (uint64_t)f->t + 1};
    snprintf(device, sizeof device, "%s%s", cuda_device(), any_order ? ":nondeterministic" : "");
    c->backend = grdi_backend_find(device, &argument);
    cr_assert(c->backend->open(argument, 1, &c->device, &error) == GRD_OK, "%s", error.message);
    bool segments = f->offsets[0] || f->offsets[1];
    const grd_attr attrs[6] = {GRD_FLAG("causal", f->causal), GRD_INT("window", f->window),
                               GRD_FLOAT("scale", f->scale), GRD_FLAG("has_mask", f->mask != 0),
                               GRD_FLAG("has_segments", segments)};
    memcpy(c->attrs, attrs, sizeof attrs);
    for (int i = 0; i < ROLES; i++) {
        bool of_keys = i == K || i == V || i == DK || i == DV, of_values = i == V || i == DV || i == G || i == OUT;
        int64_t width = of_values && f->dv ? f->dv : f->d;
        make_value(c, &c->of[i], i == G && f->wide_g ? GRD_F32 : dtype,
                   of_keys ? grd_shape(f->b, f->s, f->hkv, width) : grd_shape(f->b, f->t, f->h, width));
    }
    make_value(c, &c->lse, GRD_F32, grd_shape(f->b, f->h, f->t));
    place_together(c, (value *[]){&c->of[Q], &c->of[K], &c->of[V]}, 3, f->packed);
    place_together(c, (value *[]){&c->of[DQ], &c->of[DK], &c->of[DV]}, 3, f->packed);
    place_together(c, (value *[]){&c->of[G], &c->of[OUT]}, 2, false);
    c->lse.view.data = make_block(c, (size_t)grd_dims_count(c->lse.type.dims) * 4);
    for (int i = Q; i <= G; i++) upload_value(c, &c->of[i]);
    if (f->mask) {
        make_value(c, &c->mask, GRD_F32, f->mask == 1 ? grd_shape(f->t, f->s) : grd_shape(f->b, 1, 1, f->s));
        for (int64_t i = 0, n = grd_dims_count(c->mask.type.dims); i < n; i += 7) c->mask.data[i] = -INFINITY;
        for (int64_t j = 0; f->mask == 1 && j < f->s; j++) c->mask.data[3 * f->s + j] = -INFINITY; /* sees nothing */
        c->mask.view.data = make_block(c, (size_t)grd_dims_count(c->mask.type.dims) * 4);
        upload_value(c, &c->mask);
    }
    if (segments) {
        int64_t count = 0;
        while (f->offsets[count] >= 0) count++;
        make_value(c, &c->segments, GRD_I32, grd_shape(count));
        for (int64_t i = 0; i < count; i++) c->segments.data[i] = f->offsets[i];
        c->segments.view.data = make_block(c, (size_t)count * 4);
        upload_value(c, &c->segments);
    }
}

static void close_attention(attention_case *c)
{
    for (int i = 0; i < ROLES; i++) free(c->of[i].data);
    free(c->lse.data), free(c->mask.data), free(c->segments.data);
    for (int i = 0; i < c->block_count; i++) c->backend->release(c->device, c->blocks[i], c->sizes[i]);
    c->backend->close(c->device);
}

/* The device's value against the reference's, which stays. A query that sees one key has a gradient of 0, and gets the
 * difference of two sums in f32, of up to some hundred, whose order differs. */
static void compare(attention_case *c, const value *v, double tolerance, const char *what)
{
    char why[CHECK_TEXT];
    int64_t count = grd_dims_count(v->type.dims);
    double *got = test_alloc((size_t)count, sizeof(double));
    read_value(c, v, got);
    for (int64_t i = 0; i < count; i++)
        if (fabs(got[i] - v->data[i]) < 1e-5) got[i] = v->data[i];
    cr_expect(check_close(got, v->data, count, tolerance, why), "form %d: %s: %s", (int)(c->f - forms), what, why);
    free(got);
}

/* Bytes of all blocks, to compare runs and to see what else was written. */
static uint64_t bits_of(attention_case *c)
{
    uint64_t hash = 14695981039346656037u;
    for (int i = 0; i < c->block_count; i++) {
        unsigned char *image = test_alloc(c->sizes[i], 1);
        c->backend->download(c->device, image, c->blocks[i], c->sizes[i]);
        for (size_t k = 0; k < c->sizes[i]; k++) hash = (hash ^ image[k]) * 1099511628211u;
        free(image);
    }
    return hash;
}

static void guards_are_whole(attention_case *c)
{
    for (int i = 0; i < 3; i++) { /* of bf16 values */
        unsigned char *image = test_alloc(c->sizes[i], 1);
        c->backend->download(c->device, image, c->blocks[i], c->sizes[i]);
        for (size_t k = 0; k < GUARD; k++)
            cr_assert(image[k] == 0xA5 && image[c->sizes[i] - 1 - k] == 0xA5, "form %d: block %d: a guard is written",
                      (int)(c->f - forms), i);
        free(image);
    }
}

/* On a GPU nobody counts: what was chosen. */
static void say_who(attention_case *c)
{
    char *chosen = c->backend->algorithms(c->device);
    printf("%s\n", chosen ? chosen : "no choice");
    grdi_free(chosen);
}

/* Tolerances in bf16 are the ops' own: what rounding probabilities and e costs. By cuDNN it costs twice that: its graph
 * rounds probabilities when they are divided, so that the largest is 1 no more, and gradients of heads that share a
 * key before they are added. lse is of f32 sums. */
static int64_t check_form_on(const form *f, grd_dtype dtype, bool any_order)
{
    attention_case c;
    value *in[5], *in_back[8], *out[2], *out_back[4] = {0};
    int optional = 0;
    open_attention(&c, f, dtype, any_order);
    for (int i = 0; i < 3; i++) in[i] = in_back[1 + i] = &c.of[Q + i], out_back[i] = &c.of[DQ + i];
    in_back[0] = &c.of[G], in_back[4] = out[0] = &c.of[OUT], in_back[5] = out[1] = &c.lse;
    if (c.mask.data) in[3] = in_back[6] = &c.mask, optional++;
    if (c.segments.data) in[3 + optional] = in_back[6 + optional] = &c.segments, optional++;
    run_reference(&c, "attention", in, 3 + optional, out);
    uint64_t bits[2];
    for (int order = 0; order < 2; order++) {
        if (on_simulator()) SIM(grdi_sim_set_order)(order);
        run_kernel(&c, "attention", in, 3 + optional, out);
        if (order) continue;
        compare(&c, &c.of[OUT], (c.by_library ? 2 : 1) * grdi_op_find("attention")->tolerance_bf16, "out");
        compare(&c, &c.lse, 1e-5, "lse");
        for (int64_t i = 0, n = grd_dims_count(c.of[OUT].type.dims); i < n; i++) {
            uint16_t rounded;
            grdi_sample_store(dtype, &c.of[OUT].data[i], 1, &rounded);
            grdi_sample_load(dtype, &rounded, 1, &c.of[OUT].data[i]);
        }
        bits[0] = bits_of(&c);
    }
    cr_expect(bits[0] == bits_of(&c), "form %d: the order of warps shows", (int)(f - forms));
    int64_t by_library = c.by_library;
    run_reference(&c, "attention_backward", in_back, 6 + optional, out_back);
    upload_value(&c, &c.of[OUT]);
    upload_value(&c, &c.lse);
    for (int order = 0; order < 2; order++) {
        if (on_simulator()) SIM(grdi_sim_set_order)(order);
        run_kernel(&c, "attention_backward", in_back, 6 + optional, out_back);
        bits[order] = bits_of(&c);
    }
    bool differs = any_order && !on_simulator();
    cr_expect(bits[0] == bits[1] || differs, "form %d: backward: the order of warps shows", (int)(f - forms));
    double tolerance =
        (by_library < c.by_library || any_order ? 2 : 1) * grdi_op_find("attention_backward")->tolerance_bf16;
    compare(&c, &c.of[DQ], tolerance, "dq");
    compare(&c, &c.of[DK], tolerance, "dk");
    compare(&c, &c.of[DV], tolerance, "dv");
    guards_are_whole(&c);
    if (differs) say_who(&c);
    close_attention(&c);
    return c.by_library;
}

static int64_t check_form(const form *f, grd_dtype dtype)
{
    return check_form_on(f, dtype, false);
}

/* What these kernels are for must not go to the plain ones; and no row waits for another's banks. */
static void only_tensor_cores_ran(void)
{
    static const char *const flash[] = {"flash_kernel<", "flash_gradient_kernel<", "delta_kernel<"};
    const char *name;
    int found = 0;
    for (int i = 0; (name = SIM(grdi_sim_kernel_at)(i)); i++) {
        int known = 0;
        for (int k = 0; k < 3; k++) known += strncmp(name, flash[k], strlen(flash[k])) == 0;
        cr_expect(known, "%s was launched", name);
        found += known;
    }
    cr_expect(found == 3, "%d of the three kernels were launched", found);
    cr_expect(SIM(grdi_sim_count)()->bank_conflicts == 0, "%lld bank conflicts",
              (long long)SIM(grdi_sim_count)()->bank_conflicts);
}

/* Forms in a few processes. */
static void check_forms(int first, int end)
{
    setenv("GRADUS_WITHOUT_CUDNN", "1", 1);
    for (int i = first; i < end; i++) check_form(&forms[i], GRD_BF16);
    if (on_simulator()) only_tensor_cores_ran();
}

/* What cuDNN is to be asked for, of these forms: the rule of lib/cudnn_attention.c in other words. */
static bool library_takes(const form *f, bool backward)
{
    bool bounded = f->causal || f->window, documents = f->offsets[0] || f->offsets[1];
    bool rows = f->d % 8 == 0 && f->gap % 8 == 0 && f->shift % 16 == 0 && !f->dv;
    if (backward && (f->s == 1 || f->wide_g)) return false;
    return rows && !f->mask && !documents && !(bounded && (!f->causal || f->t != f->s));
}

enum { ATTENTION_ENGINE = 5, ATOMICS_ENGINE = 6 };

/* In its simulated time cuDNN's forward pass is faster than one kernel where it is said to be, and its backward pass
 * faster than two kernels. Each runs in both orders. */
static void check_library(grd_dtype dtype, int64_t most)
{
    int taken = 0;
    if (!on_simulator()) return;
    SIM(grdi_sim_set_algorithms)(1, ATTENTION_ENGINE);
    for (int i = 0; i < FORMS; i++) {
        if (forms[i].t * forms[i].s * forms[i].b * forms[i].h > most) continue;
        int64_t want = 2 * library_takes(&forms[i], false) + 2 * library_takes(&forms[i], true);
        int64_t got = check_form(&forms[i], dtype);
        cr_expect(got == want, "form %d: cuDNN ran %lld times, not %lld", i, (long long)got, (long long)want);
        taken += got == 4;
    }
    cr_expect(taken > 5, "cuDNN took %d forms", taken);
}

Test(cudasim_attention, lengths)
{
    check_forms(0, 8);
}
Test(cudasim_attention, windows_documents_and_masks)
{
    check_forms(8, 16);
}
Test(cudasim_attention, head_sizes)
{
    check_forms(16, PLAIN);
}

/* The same kernels, of f16: no mask and masks, heads that share keys, all widths. */
Test(cudasim_attention, in_f16)
{
    static const int some[] = {3, 6, 7, 8, 10, 13, 14, 15, 16, 18, 21};
    setenv("GRADUS_WITHOUT_CUDNN", "1", 1);
    for (size_t i = 0; i < sizeof some / sizeof *some; i++) check_form(&forms[some[i]], GRD_F16);
    if (on_simulator()) only_tensor_cores_ran();
}

/* Calls that those kernels cannot do go to the plain ones, all of them. */
static void only_plain_ran(const char *flash)
{
    const char *name;
    for (int i = 0; on_simulator() && (name = SIM(grdi_sim_kernel_at)(i)); i++)
        cr_expect(strncmp(name, flash, strlen(flash)) != 0, "%s was launched", name);
}

Test(cudasim_attention, others_are_for_plain_kernels)
{
    setenv("GRADUS_WITHOUT_CUDNN", "1", 1);
    for (int i = PLAIN; i < WIDE; i++) check_form(&forms[i], GRD_BF16);
    only_plain_ran("flash_");
    check_form(&forms[WIDE], GRD_BF16);
    only_plain_ran("flash_gradient");
}
Test(cudasim_attention, by_cudnn_in_bf16)
{
    check_library(GRD_BF16, INT64_MAX);
    if (on_simulator()) cr_expect(most_parts >= 4, "in %lld: no sequences and heads of one", (long long)most_parts);
}
Test(cudasim_attention, by_cudnn_in_f16)
{
    check_library(GRD_F16, 30000);
}

/* Where one launch of ours is faster, ours it is; two are not. */
Test(cudasim_attention, by_whom_is_faster)
{
    if (!on_simulator()) return;
    SIM(grdi_sim_set_algorithms)(1, 0);
    int64_t got = check_form(&forms[1], GRD_BF16);
    cr_assert(got == 2, "cuDNN ran %lld times", (long long)got);
}

/* Where gradients may be added up in any order, by the engine that says so of itself and no other; on a GPU in sizes
 * for which ours is not the faster. */
static void check_any_order(grd_dtype dtype)
{
    static const form large[] = {{1, 1024, 1024, 6, 6, 64, .causal = true, .packed = true},
                                 {1, 1024, 1024, 4, 2, 128, .causal = true, .packed = true}};
    if (!on_simulator()) {
        for (int i = 0; i < 2; i++) check_form_on(&large[i], dtype, true);
        return;
    }
    SIM(grdi_sim_set_algorithms)(1, ATOMICS_ENGINE);
    SIM(grdi_sim_allow_any_order)(1);
    for (int i = 0; i < FORMS; i++)
        if (library_takes(&forms[i], true) && forms[i].t * forms[i].s * forms[i].b * forms[i].h < 50000)
            cr_expect(check_form_on(&forms[i], dtype, true) == 2, "form %d: not by cuDNN", i);
}

Test(cudasim_attention, in_any_order_in_bf16)
{
    check_any_order(GRD_BF16);
}
Test(cudasim_attention, in_any_order_in_f16)
{
    check_any_order(GRD_F16);
}
