/* test_vector_math.c - the elementary functions of the CPU kernels against the C library in double, over the whole
 * range of floats, for every instruction set of this machine. */
#define GRDI_ISA base
#define GRDI_ISA_base 1
#include "backend/cpu/kernels/math.h"

#include "backend/backend.h"

#include <criterion/criterion.h>

/* Every 4099th bit pattern (a prime, so that low bits vary): a million floats, from both zeros through NaN. */
enum { STRIDE = 4099, PIECE = 4096 };

typedef struct function {
    const char *op;
    double (*exact)(double x);
    double ulp; /* allowed error in units in the last place of the result; 0: `absolute` counts */
    double absolute;
    double low, high; /* where that holds */
} function;

static double sigmoid(double x) { return 1 / (1 + exp(-x)); }
static double gate(double x) { return 1 / (1 + exp2(-x)); }
static double rsqrt(double x) { return 1 / sqrt(x); }
static double reciprocal(double x) { return 1 / x; }
static double normal_cdf(double x) { return 0.5 * erfc(-x * 0.70710678118654752); }

/* The bounds are those that stand beside the functions in math.h; sin and cos are 1e-7 off at most wherever x is. */
static const function functions[] = {
    {"exp", exp, 1, 0, -INFINITY, INFINITY},    {"expm1", expm1, 2, 0, -INFINITY, INFINITY},
    {"log", log, 1, 0, -INFINITY, INFINITY},    {"log1p", log1p, 2, 0, -INFINITY, INFINITY},
    {"tanh", tanh, 2, 0, -INFINITY, INFINITY},  {"sigmoid", sigmoid, 3, 0, -INFINITY, INFINITY},
    {"erf", erf, 3, 0, -INFINITY, INFINITY},    {"sin", sin, 0, 1e-7, -INFINITY, INFINITY},
    {"cos", cos, 0, 1e-7, -INFINITY, INFINITY}, {"sqrt", sqrt, 0.5, 0, -INFINITY, INFINITY},
    {"rsqrt", rsqrt, 1.5, 0, 1e-38, INFINITY},  {"reciprocal", reciprocal, 0.5, 0, 1e-38, 1e38},
};

/* The distance of neighbouring floats at y. */
static double unit_at(double y)
{
    float size = fabsf((float)y);
    return size < 1.17549435e-38f ? 1.40129846e-45 : (double)(nextafterf(size, INFINITY) - size);
}

/* Error of `got` as a share of what is allowed; infinite where one is NaN or infinite and the other is not. */
static double share(const function *f, double exact, float got)
{
    float rounded = (float)exact;
    if (isnan(rounded) || isnan(got))
        return isnan(rounded) && isnan(got) ? 0 : INFINITY;
    if (isinf(rounded) || isinf(got)) /* just above the largest float either is near enough */
        return rounded == got || fabs(exact) > 3.4028234e38 ? 0 : INFINITY;
    double error = fabs((double)got - exact);
    return f->ulp > 0 ? error / (f->ulp * unit_at(exact)) : error / f->absolute;
}

typedef struct worst {
    double share;
    float at, got;
} worst;

static void compare(const function *f, const float *x, const float *y, int count, worst *w)
{
    for (int i = 0; i < count; i++) {
        if (!isnan(x[i]) && (x[i] < f->low || x[i] > f->high))
            continue;
        double s = share(f, f->exact(x[i]), y[i]);
        if (!(s <= w->share))
            *w = (worst){s, x[i], y[i]};
    }
}

/* Fills x with the next bit patterns; returns false after the last. */
static bool next_floats(float *x, int count, uint64_t *bits)
{
    for (int i = 0; i < count; i++, *bits += STRIDE) {
        uint32_t pattern = (uint32_t)*bits;
        memcpy(&x[i], &pattern, sizeof pattern);
    }
    return *bits <= UINT32_MAX;
}

static void check_op(grdi_device *device, const function *f)
{
    static float x[PIECE], y[PIECE];
    const grdi_op *op = grdi_op_find(f->op);
    cr_assert(op, "there is no op '%s'", f->op);
    grd_dims dims = grd_shape(PIECE);
    grdi_call call = {.op = op, .attrs = op->attrs, .input_count = 1, .output_count = 1, .threads = 1};
    call.in[0] = (grdi_view){.data = x, .dims = dims, .stride = {1}};
    call.out[0] = (grdi_view){.data = y, .dims = dims, .stride = {1}};
    const grdi_kernel *kernel = grdi_backend_cpu.find(device, &call);
    cr_assert(kernel && kernel != &grdi_reference_kernel, "%s has no kernel of its own", f->op);
    cr_assert(!kernel->prepare || kernel->prepare(&call, NULL) == GRD_OK);
    call.scratch = call.scratch_bytes ? grdi_backend_cpu.allocate(device, call.scratch_bytes) : NULL;
    cr_assert(!kernel->bind || kernel->bind(&call, NULL) == GRD_OK);
    worst w = {0, 0, 0};
    uint64_t bits = 0;
    bool more = true;
    while (more) {
        more = next_floats(x, PIECE, &bits);
        cr_assert(kernel->run(&call) == GRD_OK);
        compare(f, x, y, PIECE, &w);
    }
    cr_expect(w.share <= 1, "%s, %s: f(%.9g) = %.9g, should be %.9g: %.2f times the error allowed",
              grdi_backend_cpu.kind(device), f->op, w.at, w.got, f->exact(w.at), w.share);
    if (kernel->release)
        kernel->release(&call);
    grdi_backend_cpu.release(device, call.scratch, call.scratch_bytes);
}

static void check_isa(const char *isa)
{
    grdi_device *device;
    grd_error error = {0};
    grd_status status = grdi_backend_cpu.open(isa, 1, &device, &error);
    if (status == GRD_E_DEVICE) /* not on this processor */
        return;
    cr_assert(status == GRD_OK, "%s", error.message);
    for (size_t i = 0; i < sizeof functions / sizeof *functions; i++)
        check_op(device, &functions[i]);
    grdi_backend_cpu.close(device);
}

Test(vector_math, base) { check_isa("base"); }
Test(vector_math, avx2) { check_isa("avx2"); }
Test(vector_math, avx512) { check_isa("avx512"); }
Test(vector_math, avx512bf16) { check_isa("avx512bf16"); }

/* ---- functions that are parts of kernels, as compiled for this file ---- */

typedef grdi_vf (*vector_fn)(grdi_vf x);

static grdi_vf cdf(grdi_vf x)
{
    grdi_vf density;
    return grdi_normal_cdf(x, &density);
}

static grdi_vf density(grdi_vf x)
{
    grdi_vf value;
    grdi_normal_cdf(x, &value);
    return value;
}

static double exact_density(double x) { return exp(-0.5 * x * x) * 0.39894228040143268; }
static double erfc_scaled(double t) { return exp(t * t) * erfc(t); }

static void check_vector(const function *f, vector_fn fn)
{
    float x[GRDI_LANES], y[GRDI_LANES];
    worst w = {0, 0, 0};
    uint64_t bits = 0;
    bool more = true;
    while (more) {
        more = next_floats(x, GRDI_LANES, &bits);
        grdi_store(y, fn(grdi_load(x)));
        compare(f, x, y, GRDI_LANES, &w);
    }
    cr_expect(w.share <= 1, "%s(%.9g) = %.9g, should be %.9g: %.2f times the error allowed", f->op, w.at, w.got,
              f->exact(w.at), w.share);
}

Test(vector_math, parts)
{
    check_vector(&(function){"exp_negative", exp, 1, 0, -87, 0}, grdi_exp_negative);
    check_vector(&(function){"exp2", exp2, 3, 0, -INFINITY, 128}, grdi_exp2);
    check_vector(&(function){"reciprocal_positive", reciprocal, 1, 0, 1.2e-38, 8.5e37}, grdi_reciprocal_positive);
    check_vector(&(function){"gate", gate, 5, 0, -125, INFINITY}, grdi_gate);
    check_vector(&(function){"erfc_scaled", erfc_scaled, 8, 0, 0, 5}, grdi_erfc_scaled);
    check_vector(&(function){"normal_cdf", normal_cdf, 0, 3e-7, -INFINITY, INFINITY}, cdf);
    check_vector(&(function){"normal_density", exact_density, 0, 1e-7, -1e18, 1e18}, density);
    cr_expect(grdi_exp_negative(grdi_set(-1000.0f))[0] == 0.0f);
    cr_expect(isnan(grdi_exp_negative(grdi_set(NAN))[0]));
    cr_expect(grdi_exp2(grdi_set(-INFINITY))[0] == 0.0f && isnan(grdi_exp2(grdi_set(NAN))[0]));
    cr_expect(grdi_gate(grdi_set(-INFINITY))[0] == 0.0f && isnan(grdi_gate(grdi_set(NAN))[0]));
}
