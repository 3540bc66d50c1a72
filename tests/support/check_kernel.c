/* check_kernel.c - kernels against references, with guards around all that they may touch. */
#include "check_kernel.h"

#include "base/convert.h"
#include "ops/table.h"

#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

enum { GUARD_BYTES = 256, POISON = 0xFF }; /* 0xFF: NaN in floats, -1 in integers, no valid bool */

/* Where the elements of a value lie. */
typedef enum layout {
    ROW_MAJOR,
    SHIFTED,   /* row-major, but starting one element past the alignment, as slices do */
    ROWS,      /* stride 1 along the last axis, gaps elsewhere, the other axes in reverse order */
    STRIDED,   /* the first axis fastest, every second element unused */
    REPEATED,  /* stride 0 along the first axis that is longer than 1 (broadcast) */
    LAYOUTS
} layout;

static const char *const layout_name[LAYOUTS] = {"row-major", "shifted", "rows", "strided", "broadcast"};

/* One way to call a kernel. */
typedef struct variant {
    layout in[GRDI_INPUTS_MAX], out[GRDI_OUTPUTS_MAX];
    uint32_t outputs;                     /* asked for */
    uint32_t accumulate;                  /* added to */
    int32_t over[GRDI_OUTPUTS_MAX];       /* 1 + the input that an output lies over; 0: none */
} variant;

/* A value on the device and the bytes that it was given. */
typedef struct placed {
    grdi_view view;
    char *device;
    unsigned char *image;
    size_t bytes;
    int64_t first;                        /* bytes from the start of the image to the first element */
} placed;

/* What the reference gives for some inputs. */
typedef struct answer {
    double *in[GRDI_INPUTS_MAX], *want[GRDI_OUTPUTS_MAX];
    uint32_t given;
    bool known;
} answer;

typedef struct kernel_case {
    const kernel_target *target;
    op_case c;
    const grdi_node *node;
    double *in[GRDI_INPUTS_MAX], *want[GRDI_OUTPUTS_MAX];
    grd_dtype narrow;                     /* bf16 or f16, whichever is tried */
    uint32_t in_bf16, out_bf16;           /* a bit for each input and output that lies in it instead of f32 */
    uint32_t in_rounded;                  /* inputs in f32 that the kernel is to round to bf16 itself */
    uint32_t given;                       /* outputs that the reference writes for this sample */
    answer first, last;                   /* most variants have the inputs of one of them again */
    double tolerance;
    double
        size[GRDI_OUTPUTS_MAX]; /* typical of the sample's own outputs: broadcast values may make all of them cancel */
} kernel_case;

static bool wrong(char *message, const char *format, ...) __attribute__((format(printf, 2, 3)));

static bool wrong(char *message, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(message, CHECK_TEXT, format, args);
    va_end(args);
    return false;
}

static grdi_type in_type(const kernel_case *k, int32_t i)
{
    grdi_type type = *grdi_type_of(k->c.in[i]);
    if (k->in_bf16 >> i & 1) type.dtype = k->narrow;
    return type;
}

static grdi_type out_type(const kernel_case *k, int32_t o)
{
    grdi_type type = k->node->out[o];
    if (k->out_bf16 >> o & 1) type.dtype = k->narrow;
    return type;
}

/* What lies in memory: the reference's values, but where the kernel has to round them first. */
static const double *placed_values(const kernel_case *k, int32_t i)
{
    return k->in_rounded >> i & 1 ? k->c.data[i] : k->in[i];
}

/* ---- placing values ---- */

static void strides_of(grd_dims dims, layout how, int64_t *stride)
{
    int64_t step = how == STRIDED ? 2 : 1;
    int32_t last = dims.rank - 1;
    grdi_row_major(dims, stride);
    if (how == STRIDED || how == ROWS) {
        if (how == ROWS && dims.rank) step = dims.dim[last] + 3;
        for (int32_t i = 0; i < (how == ROWS ? last : dims.rank); i++) {
            stride[i] = step;
            step *= dims.dim[i];
        }
    }
    for (int32_t i = 0; how == REPEATED && i < dims.rank; i++) {
        if (dims.dim[i] == 1) continue;
        stride[i] = 0;
        break;
    }
}

/* Goes over a view's elements in row-major order, by runs of neighbours in memory. */
typedef struct walk {
    const grdi_view *view;
    int64_t run, left;                    /* elements of a run; of this and all later ones */
    int64_t offset;                       /* of the run's first element */
    int32_t axes;                         /* whose steps are between runs */
    int64_t index[GRD_RANK_MAX];
} walk;

static walk walk_over(const grdi_view *view)
{
    const grd_dims *dims = &view->dims;
    walk w = {.view = view, .run = 1, .left = grd_dims_count(*dims), .axes = dims->rank};
    for (; w.axes > 0 && (dims->dim[w.axes - 1] == 1 || view->stride[w.axes - 1] == w.run); w.axes--)
        w.run *= dims->dim[w.axes - 1];
    return w;
}

static void next_run(walk *w)
{
    w->left -= w->run;
    for (int32_t i = w->axes - 1; i >= 0; i--) {
        w->offset += w->view->stride[i];
        if (++w->index[i] < w->view->dims.dim[i]) return;
        w->offset -= w->index[i] * w->view->stride[i];
        w->index[i] = 0;
    }
}

/* `values` NULL leaves the elements poisoned. */
static placed place(const kernel_target *t, grdi_type type, layout how, const double *values)
{
    placed p = {.view = {.dtype = type.dtype, .dims = type.dims}};
    size_t element = grd_dtype_size(type.dtype);
    int64_t span = 1;
    strides_of(type.dims, how, p.view.stride);
    for (int32_t i = 0; i < type.dims.rank; i++) span += (type.dims.dim[i] - 1) * p.view.stride[i];
    p.first = GUARD_BYTES + (how == ROW_MAJOR ? 0 : (int64_t)element);
    p.bytes = (size_t)p.first + (size_t)span * element + GUARD_BYTES;
    p.image = test_alloc(p.bytes, 1);
    memset(p.image, POISON, p.bytes);
    for (walk w = walk_over(&p.view); values && w.left > 0; values += w.run, next_run(&w))
        grdi_sample_store(type.dtype, values, w.run, p.image + p.first + w.offset * (int64_t)element);
    p.device = t->backend->allocate(t->device, p.bytes);
    if (!p.device) abort();
    p.view.data = p.device + p.first;
    return p;
}

static void unplace(const kernel_target *t, placed *p)
{
    if (p->device) t->backend->release(t->device, p->device, p->bytes);
    free(p->image);
}

static bool are_bools(const unsigned char *values, int64_t count, int64_t first, char *message)
{
    for (int64_t i = 0; i < count; i++)
        if (values[i] > 1) return wrong(message, "element %lld is no bool but %d", (long long)(first + i), values[i]);
    return true;
}

/* Reads the elements, if anybody wants their values, and checks that no other byte has changed. */
static bool read_back(const kernel_target *t, const placed *p, double *values, char *message)
{
    const grd_dtype dtype = p->view.dtype;
    const int64_t element = (int64_t)grd_dtype_size(dtype), count = grd_dims_count(p->view.dims);
    unsigned char *now = test_alloc(p->bytes, 1);
    bool ok = true;
    t->backend->download(t->device, now, p->device, p->bytes);
    for (walk w = walk_over(&p->view); w.left > 0; next_run(&w)) {
        int64_t at = p->first + w.offset * element, first = count - w.left;
        if (dtype == GRD_BOOL) ok = ok && are_bools(now + at, w.run, first, message);
        if (values) grdi_sample_load(dtype, now + at, w.run, values + first);
        memcpy(now + at, p->image + at, (size_t)(w.run * element));
    }
    bool same = memcmp(now, p->image, p->bytes) == 0;
    for (size_t i = 0; ok && !same && i < p->bytes; i++)
        if (now[i] != p->image[i])
            ok = wrong(message, "a byte %lld bytes from the first element was written",
                       (long long)i - (long long)p->first);
    free(now);
    return ok;
}

/* ---- one variant ---- */

typedef struct launch {
    kernel_case *k;
    const variant *how;
    const grdi_kernel *kernel;
    grdi_call call;
    placed in[GRDI_INPUTS_MAX], out[GRDI_OUTPUTS_MAX], scratch;
    double *base[GRDI_OUTPUTS_MAX];       /* what accumulated outputs held before */
    double *got[GRDI_OUTPUTS_MAX];
} launch;

static void upload_all(launch *l)
{
    const kernel_target *t = l->k->target;
    for (int32_t i = 0; i < l->call.input_count; i++)
        t->backend->upload(t->device, l->in[i].device, l->in[i].image, l->in[i].bytes);
    for (int32_t o = 0; o < l->call.output_count; o++)
        if (l->out[o].device) t->backend->upload(t->device, l->out[o].device, l->out[o].image, l->out[o].bytes);
    if (l->scratch.device) t->backend->upload(t->device, l->scratch.device, l->scratch.image, l->scratch.bytes);
}

static void place_all(launch *l)
{
    const kernel_case *k = l->k;
    grdi_call *call = &l->call;
    for (int32_t i = 0; i < call->input_count; i++) {
        l->in[i] = place(k->target, in_type(k, i), l->how->in[i], placed_values(k, i));
        call->in[i] = l->in[i].view;
        call->in[i].rounded = k->in_rounded >> i & 1;
    }
    for (int32_t o = 0; o < call->output_count; o++) {
        grdi_type type = out_type(k, o);
        int64_t count = grd_dims_count(type.dims);
        call->out[o] = (grdi_view){.dtype = type.dtype, .dims = type.dims};
        grdi_row_major(type.dims, call->out[o].stride);
        if (!(l->how->outputs >> o & 1)) continue;
        l->got[o] = test_alloc((size_t)count, sizeof(double));
        if (l->how->over[o]) {
            call->out[o] = l->in[l->how->over[o] - 1].view;
            continue;
        }
        if (l->how->accumulate >> o & 1) {
            grdi_sample_input base = {.type = type, .low = -2, .high = 2};
            l->base[o] = test_alloc((size_t)count, sizeof(double));
            grdi_sample_fill(&base, 99 + (uint64_t)o, l->base[o]);
            call->accumulate[o] = call->may_accumulate[o] = true;
        }
        l->out[o] = place(k->target, type, l->how->out[o], l->base[o]);
        call->out[o] = l->out[o].view;
    }
}

/* One in the last place of bf16 or f16: sums rounded once more than the reference's, or on the other side of a tie.
 * Results that the op does not round itself (tolerance 0: cast) must be exact. */
static double tolerance_of(const kernel_case *k, grd_dtype dtype, bool accumulate)
{
    double last_place = dtype == GRD_BF16 ? 0x1p-7 : dtype == GRD_F16 ? 0x1p-10 : 0;
    if (!grd_dtype_is_float(dtype)) return 0;
    uint32_t in = k->in_bf16 | k->in_rounded;
    if (in) last_place = fmax(last_place, k->c.op->tolerance_bf16 * (k->narrow == GRD_F16 ? 0.125 : 1));
    if (in | k->out_bf16) return fmax(k->tolerance, last_place);
    return accumulate || k->c.op->tolerance > 0 ? fmax(k->tolerance, last_place) : k->tolerance;
}

/* The reference's result, or, of a kernel that rounds sums first, what was got up to half a unit in the last place from
 * there: of the sum, since what it is added to may cancel most of it. */
static double wanted(const launch *l, int32_t o, int64_t i)
{
    double sum = l->k->want[o][i], base = l->call.accumulate[o] ? l->base[o][i] : 0;
    if (!(l->kernel->rounds_sums >> o & 1) || l->call.in[0].dtype == GRD_F32) return sum + base;
    grd_dtype in = l->call.in[0].dtype;
    double off = fabs(sum) * (in == GRD_BF16 ? 0x1p-8 : 0x1p-11), got = l->got[o][i] - base;
    return base + fmin(fmax(got, sum - off), sum + off);
}

static bool compare_output(launch *l, int32_t o, char *message)
{
    const grdi_type type = out_type(l->k, o);
    int64_t count = grd_dims_count(type.dims);
    double *want = test_alloc((size_t)count, sizeof *want);
    unsigned char *rounded = test_alloc((size_t)count, grd_dtype_size(type.dtype));
    char why[CHECK_TEXT];
    for (int64_t i = 0; i < count; i++) want[i] = wanted(l, o, i);
    grdi_sample_store(type.dtype, want, count, rounded);
    grdi_sample_load(type.dtype, rounded, count, want);
    double tolerance = tolerance_of(l->k, type.dtype, l->call.accumulate[o]);
    bool ok = check_close_sized(l->got[o], want, count, tolerance, l->k->size[o], why);
    if (!ok) wrong(message, "output %d: %s", o, why);
    free(want);
    free(rounded);
    return ok;
}

/* Runs once from the same start; compares with the references. */
static bool run_once(launch *l, int run, char *message)
{
    const kernel_target *t = l->k->target;
    char why[CHECK_TEXT];
    upload_all(l);
    if (t->before) t->before(run);
    if (l->kernel->run(&l->call)) return wrong(message, "run failed");
    bool over_input[GRDI_INPUTS_MAX] = {false};
    for (int32_t o = 0; o < l->call.output_count; o++) {
        int32_t over = l->how->over[o];
        if (!(l->how->outputs >> o & 1)) continue;
        if (over) over_input[over - 1] = true;
        if (!read_back(t, over ? &l->in[over - 1] : &l->out[o], l->got[o], why))
            return wrong(message, "output %d: %s", o, why);
        if (!compare_output(l, o, message)) return false;
    }
    for (int32_t i = 0; i < l->call.input_count; i++) {
        int64_t count = grd_dims_count(l->in[i].view.dims);
        double *now = test_alloc((size_t)count, sizeof *now);
        bool ok = over_input[i] || (read_back(t, &l->in[i], now, why) &&
                                    memcmp(now, placed_values(l->k, i), sizeof *now * (size_t)count) == 0);
        free(now);
        if (!ok) return wrong(message, "input %d was changed", i);
    }
    if (!l->scratch.device) return true;
    return read_back(t, &l->scratch, NULL, why) ||
           wrong(message, "scratch of %zu bytes: %s", l->call.scratch_bytes, why);
}

static void count_run(const launch *l)
{
    bool strided = false, over = false;
    for (int32_t i = 0; i < l->call.input_count; i++) strided |= l->how->in[i] != ROW_MAJOR;
    for (int32_t o = 0; o < l->call.output_count; o++) {
        strided |= l->how->out[o] != ROW_MAJOR;
        over |= l->how->over[o] != 0;
    }
    checks_made.kernel++;
    checks_made.strided += strided;
    checks_made.in_place += over;
    checks_made.added += l->how->accumulate != 0;
    checks_made.partial += l->how->outputs != l->k->given;
}

static bool run_twice(launch *l, char *message)
{
    count_run(l);
    double *first[GRDI_OUTPUTS_MAX] = {NULL};
    bool ok = run_once(l, 0, message);
    for (int32_t o = 0; ok && o < l->call.output_count; o++) {
        if (!l->got[o]) continue;
        size_t size = sizeof(double) * (size_t)grd_dims_count(l->k->node->out[o].dims);
        first[o] = test_alloc(size, 1);
        memcpy(first[o], l->got[o], size);
    }
    ok = ok && run_once(l, 1, message);
    for (int32_t o = 0; ok && o < l->call.output_count; o++) {
        if (!first[o]) continue;
        ok = memcmp(first[o], l->got[o], sizeof(double) * (size_t)grd_dims_count(l->k->node->out[o].dims)) == 0;
        if (!ok) wrong(message, "output %d: a second run gives other bits", o);
    }
    for (int32_t o = 0; o < GRDI_OUTPUTS_MAX; o++) free(first[o]);
    if (!ok || !l->how->accumulate) return ok;
    memset(l->call.accumulate, 0, sizeof l->call.accumulate); /* the same call in a run that overwrites */
    char why[CHECK_TEXT];
    return run_once(l, 1, why) || wrong(message, "overwriting: %s", why);
}

/* prepare, scratch, bind, runs, release: what a plan does. */
static bool drive(launch *l, char *message)
{
    grd_error error = {0};
    const grdi_kernel *kernel = l->kernel;
    if (kernel->prepare && kernel->prepare(&l->call, &error)) return wrong(message, "prepare: %s", error.message);
    if (l->call.scratch_bytes) {
        l->scratch =
            place(l->k->target, (grdi_type){GRD_U8, grd_shape((int64_t)l->call.scratch_bytes)}, ROW_MAJOR, NULL);
        l->call.scratch = l->scratch.view.data;
    }
    bool ok = true;
    if (kernel->bind && kernel->bind(&l->call, &error)) ok = wrong(message, "bind: %s", error.message);
    ok = ok && run_twice(l, message);
    if (kernel->release) kernel->release(&l->call);
    return ok;
}

static void call_of(const kernel_case *k, grdi_call *call)
{
    *call = (grdi_call){.device = k->target->device,
                        .op = k->c.op,
                        .attrs = k->node->attrs,
                        .input_count = k->c.in_count,
                        .output_count = k->c.out_count,
                        .path_hash = k->node->path_hash,
                        .threads = k->target->threads};
}

static const grdi_kernel *find_kernel(const kernel_target *t, const grdi_call *call)
{
    return t->kernel ? t->kernel : t->backend->find(t->device, call);
}

static bool run_variant(kernel_case *k, const variant *how, char *message)
{
    launch l = {.k = k, .how = how};
    char why[CHECK_TEXT] = "";
    call_of(k, &l.call);
    place_all(&l);
    l.kernel = find_kernel(k->target, &l.call);
    bool ok = l.kernel ? drive(&l, why) : wrong(why, "the backend has no kernel");
    for (int32_t i = 0; i < l.call.input_count; i++) unplace(k->target, &l.in[i]);
    for (int32_t o = 0; o < l.call.output_count; o++) {
        unplace(k->target, &l.out[o]);
        free(l.base[o]);
        free(l.got[o]);
    }
    unplace(k->target, &l.scratch);
    return ok || wrong(message, "%s", why);
}

/* ---- all variants ---- */

/* The values that a broadcast layout can show: along its repeated axis all like the first. */
static void repeat_values(grd_dims dims, double *values)
{
    int64_t stride[GRD_RANK_MAX];
    grdi_view view = {.dims = dims};
    strides_of(dims, REPEATED, stride);
    grdi_row_major(dims, view.stride);
    for (int32_t i = 0; i < dims.rank; i++)
        if (stride[i] == 0) view.stride[i] = 0;
    double *to = values;
    for (walk w = walk_over(&view); w.left > 0; to += w.run, next_run(&w))
        memmove(to, values + w.offset, sizeof *to * (size_t)w.run);
}

static size_t in_bytes(const kernel_case *k, int32_t i)
{
    return sizeof(double) * (size_t)grd_dims_count(grd_tensor_dims(k->c.in[i]));
}

static size_t out_bytes(const kernel_case *k, int32_t o)
{
    return sizeof(double) * (size_t)grd_dims_count(k->node->out[o].dims);
}

static bool remembers(kernel_case *k, const answer *a)
{
    bool same = a->known;
    for (int32_t i = 0; same && i < k->c.in_count; i++) same = memcmp(a->in[i], k->in[i], in_bytes(k, i)) == 0;
    if (!same) return false;
    for (int32_t o = 0; o < k->c.out_count; o++) memcpy(k->want[o], a->want[o], out_bytes(k, o));
    k->given = a->given;
    return true;
}

static void forget(answer *a)
{
    for (int32_t i = 0; i < GRDI_INPUTS_MAX; i++) free(a->in[i]);
    for (int32_t o = 0; o < GRDI_OUTPUTS_MAX; o++) free(a->want[o]);
    *a = (answer){.known = false};
}

static void remember(const kernel_case *k, answer *a)
{
    forget(a);
    for (int32_t i = 0; i < k->c.in_count; i++)
        a->in[i] = memcpy(test_alloc(in_bytes(k, i), 1), k->in[i], in_bytes(k, i));
    for (int32_t o = 0; o < k->c.out_count; o++)
        a->want[o] = memcpy(test_alloc(out_bytes(k, o), 1), k->want[o], out_bytes(k, o));
    a->given = k->given, a->known = true;
}

static void compute_references(kernel_case *k)
{
    grdi_type in_type[GRDI_INPUTS_MAX];
    if (remembers(k, &k->first) || remembers(k, &k->last)) return;
    for (int32_t i = 0; i < k->c.in_count; i++) in_type[i] = *grdi_type_of(k->c.in[i]);
    k->given = 0;
    grdi_sample_reference(&(grdi_reference){.op = k->c.op,
                                            .attrs = k->node->attrs,
                                            .input_count = k->c.in_count,
                                            .output_count = k->c.out_count,
                                            .in_type = in_type,
                                            .out_type = k->node->out,
                                            .in = (const double *const *)k->in,
                                            .out = k->want,
                                            .path_hash = k->node->path_hash});
    for (int32_t o = 0; o < k->c.out_count; o++)
        if (!grdi_sample_unwritten(k->want[o][0])) k->given |= 1u << o;
    if (!k->c.sample->large) remember(k, k->first.known ? &k->last : &k->first);
}

/* The sample's values, rounded where they lie in bf16. */
static void load_inputs(kernel_case *k)
{
    for (int32_t i = 0; i < k->c.in_count; i++) {
        int64_t count = grd_dims_count(grd_tensor_dims(k->c.in[i]));
        memcpy(k->in[i], k->c.data[i], in_bytes(k, i));
        for (int64_t e = 0; (k->in_bf16 | k->in_rounded) >> i & 1 && e < count; e++)
            k->in[i][e] = k->narrow == GRD_F16 ? grdi_f16_to_f32(grdi_f32_to_f16((float)k->in[i][e]))
                                               : grdi_bf16_to_f32(grdi_f32_to_bf16((float)k->in[i][e]));
    }
}

static bool accepts(const grdi_kernel *kernel, int32_t input, grd_dims dims, layout how)
{
    if (how == ROW_MAJOR || how == SHIFTED || kernel->strided_in >> input & 1) return true;
    if (!(kernel->rows_in >> input & 1) || how == STRIDED) return false;
    int64_t stride[GRD_RANK_MAX];
    strides_of(dims, how, stride);
    return dims.rank == 0 || dims.dim[dims.rank - 1] == 1 || stride[dims.rank - 1] == 1;
}

/* All inputs that may be in that layout at once, then each of them alone. */
static bool try_layouts(kernel_case *k, const grdi_kernel *kernel, char *message)
{
    for (layout how = SHIFTED; how < LAYOUTS; how++) {
        for (int32_t alone = -1; alone < (how == SHIFTED ? 0 : k->c.in_count); alone++) {
            variant v = {.outputs = k->given};
            int32_t used = 0;
            char why[CHECK_TEXT];
            for (int32_t i = 0; i < k->c.in_count; i++) {
                grd_dims dims = grd_tensor_dims(k->c.in[i]);
                if ((alone >= 0 && alone != i) || !accepts(kernel, i, dims, how)) continue;
                v.in[i] = how;
                used++;
                if (how == REPEATED) repeat_values(dims, k->in[i]);
            }
            if (!used) continue;
            if (how == REPEATED) compute_references(k);
            bool ok = run_variant(k, &v, why);
            load_inputs(k); /* the sample's own values again */
            if (how == REPEATED) compute_references(k);
            if (!ok) return wrong(message, "%s inputs (%d): %s", layout_name[how], alone, why);
        }
    }
    return true;
}

static bool try_outputs(kernel_case *k, const grdi_kernel *kernel, char *message)
{
    char why[CHECK_TEXT];
    for (int32_t o = 0; o < k->c.out_count; o++) {
        variant alone = {.outputs = 1u << o}, rows = {.outputs = k->given}, added = {.outputs = k->given};
        if (!(k->given >> o & 1)) continue;
        if (k->given & (k->given - 1) && !run_variant(k, &alone, why))
            return wrong(message, "output %d alone: %s", o, why);
        rows.out[o] = ROWS;
        if (kernel->strided_out >> o & 1 && !run_variant(k, &rows, why))
            return wrong(message, "strided output %d: %s", o, why);
        added.accumulate = 1u << o;
        if (kernel->accumulates >> o & 1 && grd_dtype_is_float(k->node->out[o].dtype) && !run_variant(k, &added, why))
            return wrong(message, "adding to output %d: %s", o, why);
    }
    return true;
}

static bool same_type(grdi_type a, grdi_type b)
{
    return a.dtype == b.dtype && grd_dims_equal(a.dims, b.dims);
}

/* Each output over each input that the op and the kernel allow, then all outputs over the first such input that is
 * free. */
static bool try_in_place(kernel_case *k, const grdi_kernel *kernel, char *message)
{
    variant all = {.outputs = k->given};
    uint32_t taken = 0;
    char why[CHECK_TEXT];
    for (int32_t o = 0; o < k->c.out_count; o++) {
        if (!(k->given >> o & 1) || !(kernel->in_place >> o & 1)) continue;
        for (int32_t i = 0; i < k->c.in_count; i++) {
            variant v = {.outputs = k->given};
            if (!(k->c.op->inplace[o] >> i & 1) || !same_type(out_type(k, o), in_type(k, i))) continue;
            v.over[o] = i + 1;
            if (!run_variant(k, &v, why)) return wrong(message, "output %d over input %d: %s", o, i, why);
            if (all.over[o] || taken >> i & 1) continue;
            all.over[o] = i + 1;
            taken |= 1u << i;
        }
    }
    return !(taken & (taken - 1)) || run_variant(k, &all, why) || wrong(message, "all outputs over inputs: %s", why);
}

static bool open_case(kernel_case *k, const kernel_target *t, const grdi_op *op, int32_t index, char *message)
{
    memset(k, 0, sizeof *k);
    k->target = t;
    k->narrow = GRD_BF16;
    if (!op_case_open(&k->c, op, index, false, message)) return false;
    if (k->c.sample->large && !op_case_fill(&k->c, message))
        return false;
    k->node = k->c.out[0].node;
    k->tolerance = op->tolerance > 0 ? op->tolerance : 1e-6; /* a few roundings of 6e-8 */
    for (int32_t i = 0; i < k->c.in_count; i++)
        k->in[i] = test_alloc((size_t)grd_dims_count(grd_tensor_dims(k->c.in[i])), sizeof(double));
    load_inputs(k);
    for (int32_t o = 0; o < k->c.out_count; o++)
        k->want[o] = test_alloc((size_t)grd_dims_count(k->node->out[o].dims), sizeof(double));
    compute_references(k);
    for (int32_t o = 0; o < k->c.out_count; o++)
        k->size[o] = typical_size(k->want[o], grd_dims_count(k->node->out[o].dims));
    return true;
}

static void close_case(kernel_case *k)
{
    for (int32_t i = 0; i < GRDI_INPUTS_MAX; i++) free(k->in[i]);
    for (int32_t o = 0; o < GRDI_OUTPUTS_MAX; o++) free(k->want[o]);
    forget(&k->first), forget(&k->last);
    op_case_close(&k->c);
}

static bool skipped(const grdi_op *op, int32_t index)
{
    return op->samples[index].bad || op->samples[index].large || (op->flags & GRDI_OP_SOURCE);
}

/* The kernel found for row-major values with all outputs used; the case is not changed. */
static const grdi_kernel *plain_kernel(kernel_case *k)
{
    variant plain = {.outputs = k->given};
    launch l = {.k = k, .how = &plain};
    call_of(k, &l.call);
    place_all(&l);
    const grdi_kernel *kernel = find_kernel(k->target, &l.call);
    for (int32_t i = 0; i < l.call.input_count; i++) unplace(k->target, &l.in[i]);
    for (int32_t o = 0; o < l.call.output_count; o++) {
        unplace(k->target, &l.out[o]);
        free(l.got[o]);
    }
    return kernel;
}

const grdi_kernel *kernel_for(const kernel_target *target, const grdi_op *op, int32_t index)
{
    kernel_case k;
    char message[CHECK_TEXT];
    if (skipped(op, index)) return NULL;
    const grdi_kernel *kernel = open_case(&k, target, op, index, message) ? plain_kernel(&k) : NULL;
    close_case(&k);
    return kernel;
}

static bool too_large(const grdi_op *op, int32_t index)
{
    op_case c;
    char message[CHECK_TEXT];
    int64_t count = 0;
    bool ok = op_case_open(&c, op, index, false, message);
    for (int32_t i = 0; ok && i < c.in_count; i++) count += grd_dims_count(grd_tensor_dims(c.in[i]));
    for (int32_t o = 0; ok && o < c.out_count; o++) count += grd_dims_count(grd_tensor_dims(c.out[o]));
    op_case_close(&c);
    return count > 1 << 24;
}

static bool close_as(kernel_case *k, bool ok, const grdi_op *op, int32_t index, const char *why, char *message)
{
    if (!ok) wrong(message, "%s sample %d, %s: %s", op->name, index, k->target->backend->kind(k->target->device), why);
    close_case(k);
    return ok;
}

/* ---- bf16 ---- */

/* The bits of f32 values. */
static uint32_t f32_bits(const grd_tensor *values, int32_t count)
{
    uint32_t bits = 0;
    for (int32_t i = 0; i < count; i++) bits |= (uint32_t)(grdi_type_of(values[i])->dtype == GRD_F32) << i;
    return bits;
}

/* What may be tried with these inputs and outputs in bf16. */
typedef enum effort {
    IF_TAKEN, /* row-major, if the backend has a kernel of its own for it */
    ALL_WAYS  /* a kernel of its own must be there; all variants */
} effort;

static bool run_in_bf16(kernel_case *k, uint32_t in, uint32_t out, effort how, char *message)
{
    char why[CHECK_TEXT];
    k->in_bf16 = in, k->out_bf16 = out;
    load_inputs(k);
    compute_references(k);
    const grdi_kernel *kernel = plain_kernel(k);
    bool own = kernel && kernel != &grdi_reference_kernel;
    if (!own) return how == IF_TAKEN || wrong(message, "inputs %#x and outputs %#x narrow: no own kernel", in, out);
    variant plain = {.outputs = k->given};
    bool ok = run_variant(k, &plain, why);
    if (how == ALL_WAYS)
        ok = ok && try_layouts(k, kernel, why) && try_outputs(k, kernel, why) && try_in_place(k, kernel, why);
    return ok || wrong(message, "inputs %#x and outputs %#x in %s: %s", in, out, grd_dtype_name(k->narrow), why);
}

/* The kernel rounds operands in f32 itself, all of them or the second, which weights are. */
static bool rounds_operands(kernel_case *k, uint32_t operands, char *message)
{
    bool ok = true;
    for (int alone = 0; alone < 2 && ok; alone++) {
        char why[CHECK_TEXT];
        k->in_rounded = alone ? operands & 2 : operands;
        k->in_bf16 = operands & ~k->in_rounded, k->out_bf16 = 0;
        load_inputs(k);
        compute_references(k);
        const grdi_kernel *kernel = plain_kernel(k);
        variant plain = {.outputs = k->given};
        if (kernel && (kernel->rounds_in & k->in_rounded) == k->in_rounded)
            ok = (run_variant(k, &plain, why) && try_outputs(k, kernel, why)) ||
                 wrong(message, "inputs %#x rounded by the kernel: %s", k->in_rounded, why);
    }
    k->in_rounded = 0;
    return ok;
}

/* What bf16 precision hands to the op's kernels: operands rounded, results rounded or (gradients of weights) not; and
 * each value by itself, as whoever made or reads it may have it stored: kernels that take it must do so rightly. */
static bool all_in_bf16(kernel_case *k, char *message)
{
    const grdi_op *op = k->c.op;
    uint32_t in = f32_bits(k->c.in, k->c.in_count), out = f32_bits(k->c.out, k->c.out_count);
    bool alike = (op->flags & GRDI_OP_MOVES) || (op->flags & GRDI_OP_MAP && op->flags & GRDI_OP_FOLLOWS);
    if (in && alike && !run_in_bf16(k, in, out, ALL_WAYS, message)) return false;
    if (op->bf16_in && (!run_in_bf16(k, in & op->bf16_in, out & op->bf16_out, ALL_WAYS, message) ||
                        !run_in_bf16(k, in & op->bf16_in, 0, ALL_WAYS, message) ||
                        !rounds_operands(k, in & op->bf16_in, message)))
        return false;
    uint32_t stored = op->flags & GRDI_OP_FOLLOWS ? out : out & op->bf16_out;
    for (int32_t i = 0; i < k->c.in_count; i++)
        if (in >> i & 1 && (!run_in_bf16(k, 1u << i, 0, IF_TAKEN, message) ||
                            !run_in_bf16(k, 1u << i, stored, IF_TAKEN, message)))
            return false;
    return run_in_bf16(k, 0, out, IF_TAKEN, message);
}

bool check_kernel_bf16(const kernel_target *target, const grdi_op *op, int32_t index, char *message)
{
    kernel_case k;
    char why[CHECK_TEXT] = "";
    if (skipped(op, index) || op->flags & (GRDI_OP_VIEW | GRDI_OP_EFFECT) || op == &grdi_op_cast) return true;
    bool ok = open_case(&k, target, op, index, why);
    if (ok && plain_kernel(&k) != &grdi_reference_kernel) ok = all_in_bf16(&k, why);
    return close_as(&k, ok, op, index, why, message);
}

/* f16 precision hands the same to kernels that take it; devices that have none convert. */
bool check_kernel_f16(const kernel_target *target, const grdi_op *op, int32_t index, char *message)
{
    kernel_case k;
    char why[CHECK_TEXT] = "";
    if (skipped(op, index) || op->flags & (GRDI_OP_VIEW | GRDI_OP_EFFECT) || op == &grdi_op_cast) return true;
    bool ok = open_case(&k, target, op, index, why);
    k.narrow = GRD_F16;
    uint32_t in = ok ? f32_bits(k.c.in, k.c.in_count) : 0, out = ok ? f32_bits(k.c.out, k.c.out_count) : 0;
    bool follows = op->flags & (GRDI_OP_MOVES | GRDI_OP_FOLLOWS);
    uint32_t stored = (follows ? out : out & op->bf16_out) & ~op->f16_not;
    if (ok && op->bf16_in)
        ok = run_in_bf16(&k, in & op->bf16_in, stored, IF_TAKEN, why) &&
             run_in_bf16(&k, in & op->bf16_in, 0, IF_TAKEN, why);
    for (int32_t i = 0; ok && i < k.c.in_count; i++)
        if (in >> i & 1) ok = run_in_bf16(&k, 1u << i, stored, IF_TAKEN, why);
    if (ok && in) ok = run_in_bf16(&k, in, out & ~op->f16_not, IF_TAKEN, why);
    return close_as(&k, ok, op, index, why, message);
}

static bool check_large(const kernel_target *target, const grdi_op *op, int32_t index, bool narrow, char *message)
{
    kernel_case k;
    char why[CHECK_TEXT] = "";
    if (op->samples[index].bad || !op->samples[index].large || too_large(op, index)) return true;
    bool ok = open_case(&k, target, op, index, why);
    if (ok && narrow)
        ok = run_in_bf16(&k, f32_bits(k.c.in, k.c.in_count) & op->bf16_in,
                         f32_bits(k.c.out, k.c.out_count) & op->bf16_out, IF_TAKEN, why);
    else if (ok && plain_kernel(&k) != &grdi_reference_kernel)
        ok = run_variant(&k, &(variant){.outputs = k.given}, why);
    return close_as(&k, ok, op, index, why, message);
}

bool check_kernel_large(const kernel_target *target, const grdi_op *op, int32_t index, char *message)
{
    return check_large(target, op, index, false, message);
}

bool check_kernel_large_bf16(const kernel_target *target, const grdi_op *op, int32_t index, char *message)
{
    return !op->bf16_in || check_large(target, op, index, true, message);
}

bool check_kernel(const kernel_target *target, const grdi_op *op, int32_t index, char *message)
{
    kernel_case k;
    char why[CHECK_TEXT] = "";
    if (skipped(op, index)) return true;
    bool ok = open_case(&k, target, op, index, why);
    if (ok) {
        variant plain = {.outputs = k.given};
        const grdi_kernel *kernel = plain_kernel(&k);
        ok = run_variant(&k, &plain, why) && try_layouts(&k, kernel, why) && try_outputs(&k, kernel, why) &&
             try_in_place(&k, kernel, why);
    }
    return close_as(&k, ok, op, index, why, message);
}
