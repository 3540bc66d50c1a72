/* test_checked.c - what the checks of the op table really compared. A check passes where it does not apply, so an op
 * could slip through one unseen: here every op must either have been compared or be excused, by a reason that is looked
 * up and not assumed. Prints how many ops each check has covered. */
#include "check_kernel.h"

#include <criterion/criterion.h>
#include <stddef.h>
#include <string.h>

/* One kind of comparison: which check makes it, where it is counted, and why an op may go without. */
typedef struct kind {
    const char *name;
    bool (*check)(const grdi_op *op, int32_t index, char *message);
    size_t counter;
    const char *(*excuse)(const grdi_op *op);
    bool list; /* print who is excused */
} kind;

static kernel_target cpu;

static bool check_first(const grdi_op *op, int32_t index, char *message)
{
    return check_gradient(op, index, 1, message);
}

static bool check_second(const grdi_op *op, int32_t index, char *message)
{
    return check_gradient(op, index, 2, message);
}

static bool check_cpu(const grdi_op *op, int32_t index, char *message)
{
    return check_kernel(&cpu, op, index, message);
}

/* ---- excuses: NULL, or why the op goes without ---- */

static const char *none(const grdi_op *op)
{
    return op->flags & GRDI_OP_SOURCE ? "a source: it has no samples, nothing runs" : NULL;
}

static const char *without_view(const grdi_op *op)
{
    return op->flags & GRDI_OP_VIEW ? none(op) : "no view";
}

static const char *without_compose(const grdi_op *op)
{
    return op->compose ? none(op) : "no longer form";
}

/* Whether some good sample has a float input that is not made by another op, and a float output. */
static void find_floats(const grdi_op *op, bool *in, bool *out)
{
    *in = *out = false;
    for (int32_t s = 0, n = grdi_sample_count(op); s < n; s++) {
        op_case c;
        char message[CHECK_TEXT];
        if (op->samples[s].bad || op->samples[s].large) continue;
        cr_assert(op_case_open(&c, op, s, true, message), "%s", message);
        for (int32_t i = 0; i < c.in_count; i++)
            *in |= !c.parsed.in[i].from && grd_dtype_is_float(grd_tensor_dtype(c.in[i]));
        for (int32_t o = 0; o < c.out_count; o++) *out |= grd_dtype_is_float(grd_tensor_dtype(c.out[o]));
        op_case_close(&c);
    }
}

static const char *without_first(const grdi_op *op)
{
    bool in, out;
    if (op->flags & GRDI_OP_SOURCE) return none(op);
    if (op->flags & GRDI_OP_EFFECT) return "an effect: gradients go to the value where it was made";
    find_floats(op, &in, &out);
    return !in ? "no float input" : !out ? "no float output" : NULL;
}

static const char *without_second(const grdi_op *op)
{
    return op->flags & GRDI_OP_NO_GRADIENT ? "zero by definition" : without_first(op);
}

static const char *without_partial(const grdi_op *op)
{
    return op->outputs > 1 ? none(op) : "one output";
}

#define COUNTER(name) offsetof(check_counts, name)

static const kind kinds[] = {
    {"shape rule accepts", check_sample, COUNTER(accepted), none, true},
    {"shape rule refuses", check_sample, COUNTER(refused), none, false},
    {"reference, twice the same bits", check_reference, COUNTER(reference), none, false},
    {"view", check_view, COUNTER(view), without_view, false},
    {"compose", check_compose, COUNTER(compose), without_compose, false},
    {"first derivative", check_first, COUNTER(first), without_first, true},
    {"second derivative", check_second, COUNTER(second), without_second, true},
    {"kernel, twice the same bits", check_cpu, COUNTER(kernel), none, false},
    {"kernel, some outputs left out", check_cpu, COUNTER(partial), without_partial, false},
};
enum { KINDS = sizeof(kinds) / sizeof(kinds[0]) };

/* ---- what no excuse covers, each with its reason ---- */

static const struct exception {
    const char *op, *kind, *why;
} exceptions[] = {
    {"stochastic_round", "first derivative", "a stair: finite differences see its steps"},
    {NULL, NULL, NULL},
};

static const struct exception *exception_for(const grdi_op *op, const kind *k)
{
    for (const struct exception *e = exceptions; e->op; e++)
        if (strcmp(e->op, op->name) == 0 && strcmp(e->kind, k->name) == 0) return e;
    return NULL;
}

/* Whether some sample of the op leads to a comparison of that kind. */
static bool covers(const kind *k, const grdi_op *op)
{
    const long *counter = (const long *)((const char *)&checks_made + k->counter);
    for (int32_t i = 0, n = grdi_sample_count(op); i < n; i++) {
        char message[CHECK_TEXT];
        long before = *counter;
        cr_expect(k->check(op, i, message), "%s", message);
        if (*counter > before) return true;
    }
    return false;
}

Test(checked, every_op_is_compared_or_excused)
{
    const char *argument;
    grd_error error = {GRD_OK, ""};
    cpu = (kernel_target){.backend = grdi_backend_find("cpu", &argument), .threads = 1};
    cr_assert(!cpu.backend->open(argument, 1, &cpu.device, &error), "%s", error.message);
    for (int32_t k = 0; k < KINDS; k++) {
        int32_t covered = 0, excused = 0;
        for (int32_t i = 0; i < grdi_op_total(); i++) {
            const grdi_op *op = grdi_op_at(i);
            const struct exception *exception = exception_for(op, &kinds[k]);
            const char *why = exception ? exception->why : kinds[k].excuse(op);
            bool is = covers(&kinds[k], op);
            covered += is;
            excused += !is && why;
            cr_expect(is || why, "%s: no sample leads to: %s", op->name, kinds[k].name);
            cr_expect(!is || !exception, "%s: %s: is compared, take it off the list", op->name, kinds[k].name);
            if (!is && why && kinds[k].list) printf("  %s: %s\n", op->name, why);
        }
        printf("%-32s %3d of %d ops, %d excused\n", kinds[k].name, covered, grdi_op_total(), excused);
    }
    fflush(stdout);
    cpu.backend->close(cpu.device);
}

/* An output that no sample's reference writes would pass for one that is not given in any case. */
Test(checked, every_output_is_written)
{
    for (int32_t i = 0; i < grdi_op_total(); i++) {
        const grdi_op *op = grdi_op_at(i);
        char message[CHECK_TEXT];
        checks_made.outputs = 0;
        for (int32_t s = 0, n = grdi_sample_count(op); s < n; s++)
            cr_expect(check_reference(op, s, message), "%s", message);
        uint32_t all = (1u << (op->outputs ? op->outputs : 1)) - 1;
        cr_expect((checks_made.outputs & all) == all || (op->flags & GRDI_OP_SOURCE),
                  "%s: only the outputs %x of %x are ever written", op->name, checks_made.outputs, all);
    }
}

/* What the kernel says it can do with this sample: add to its outputs, which have to be floats; write one over an
 * input, which has to be of its type. */
static void note_promises(const grdi_op *op, int32_t sample, const grdi_kernel *kernel, bool *adds, bool *over)
{
    op_case c;
    char message[CHECK_TEXT];
    cr_assert(op_case_open(&c, op, sample, false, message), "%s", message);
    for (int32_t o = 0; o < c.out_count; o++) {
        const grdi_type *out = grdi_type_of(c.out[o]);
        *adds |= (kernel->accumulates >> o & 1) && grd_dtype_is_float(out->dtype);
        for (int32_t i = 0; i < c.in_count; i++) {
            const grdi_type *in = grdi_type_of(c.in[i]);
            bool same = in->dtype == out->dtype && grd_dims_equal(in->dims, out->dims);
            *over |= (kernel->in_place >> o & 1) && (op->inplace[o] >> i & 1) && same;
        }
    }
    op_case_close(&c);
}

/* What kernels say they can do is tried in at least one sample; which of them say so is printed. */
Test(checked, promises_of_kernels_are_tried)
{
    const char *argument;
    grd_error error = {GRD_OK, ""};
    int32_t promised[3] = {0};
    cpu = (kernel_target){.backend = grdi_backend_find("cpu", &argument), .threads = 1};
    cr_assert(!cpu.backend->open(argument, 1, &cpu.device, &error), "%s", error.message);
    for (int32_t i = 0; i < grdi_op_total(); i++) {
        const grdi_op *op = grdi_op_at(i);
        check_counts before = checks_made;
        bool strided = false, adds = false, over = false;
        for (int32_t s = 0, n = grdi_sample_count(op); s < n; s++) {
            char message[CHECK_TEXT];
            const grdi_kernel *kernel = kernel_for(&cpu, op, s);
            if (!kernel) continue;
            strided |= (kernel->strided_in | kernel->rows_in | kernel->strided_out) != 0;
            note_promises(op, s, kernel, &adds, &over);
            cr_expect(check_kernel(&cpu, op, s, message), "%s", message);
        }
        cr_expect(!strided || checks_made.strided > before.strided, "%s: other layouts are not tried", op->name);
        cr_expect(!adds || checks_made.added > before.added, "%s: adding to an output is not tried", op->name);
        cr_expect(!over || checks_made.in_place > before.in_place, "%s: in place is not tried", op->name);
        promised[0] += strided;
        promised[1] += adds;
        promised[2] += over;
    }
    printf("kernels of %d ops take strides, of %d add to outputs, of %d work in place: all tried\n", promised[0],
           promised[1], promised[2]);
    fflush(stdout);
    cpu.backend->close(cpu.device);
}
