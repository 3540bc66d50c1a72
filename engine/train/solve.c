/* solve.c - exact solutions of linear and logistic regression. */
#include "train/solve.h"

#include "base/memory.h"
#include "train/lbfgs.h"

#include <math.h>
#include <string.h>

/* ---- least squares ---- */

/* Below this part of what it was, the square of a feature that is left after the features before it is rounding. */
#define COLLINEAR 1e-11
enum { REFINEMENTS = 3 };

/* One set of normal equations: columns 0 .. width of [1, x], the intercept first. */
typedef struct normal {
    const grdi_rows *rows;
    int64_t size;     /* width + 1 */
    double *products; /* [size][size], lower half: X'X, then its factor */
    double *diagonal; /* [size] of X'X */
    double *right;    /* [size] */
    double *x;        /* [size]: 1 and a row */
    bool *dropped;    /* [size] */
} normal;

static void next_row(const normal *n, int64_t row, double *y)
{
    n->x[0] = 1;
    n->rows->row(n->rows->context, row, n->x + 1, y);
}

static void add_up(normal *n)
{
    for (int64_t row = 0; row < n->rows->count; row++) {
        double y;
        next_row(n, row, &y);
        for (int64_t i = 0; i < n->size; i++) {
            double a = n->x[i], *to = n->products + i * n->size;
            if (a == 0) continue;
            for (int64_t j = 0; j <= i; j++) to[j] += a * n->x[j];
        }
    }
}

/* L L' in place of the products. */
static void factor(normal *n, double ridge)
{
    int64_t size = n->size;
    for (int64_t i = 0; i < size; i++) n->diagonal[i] = n->products[i * size + i];
    for (int64_t i = 1; i < size; i++) n->products[i * size + i] += ridge;
    for (int64_t i = 0; i < size; i++) {
        double *row = n->products + i * size;
        for (int64_t j = 0; j < i; j++) {
            const double *other = n->products + j * size;
            double sum = row[j];
            for (int64_t k = 0; k < j; k++) sum -= row[k] * other[k];
            row[j] = n->dropped[j] ? 0 : sum / other[j];
        }
        double rest = row[i];
        for (int64_t k = 0; k < i; k++) rest -= row[k] * row[k];
        n->dropped[i] = !(rest > COLLINEAR * n->diagonal[i]);
        row[i] = n->dropped[i] ? 1 : sqrt(rest);
    }
}

/* right becomes the solution; 0 for what is dropped. */
static void substitute(normal *n)
{
    int64_t size = n->size;
    for (int64_t i = 0; i < size; i++) {
        const double *row = n->products + i * size;
        double sum = n->right[i];
        for (int64_t k = 0; k < i; k++) sum -= row[k] * n->right[k];
        n->right[i] = n->dropped[i] ? 0 : sum / row[i];
    }
    for (int64_t i = size - 1; i >= 0; i--) {
        double sum = n->right[i];
        for (int64_t k = i + 1; k < size; k++) sum -= n->products[k * size + i] * n->right[k];
        n->right[i] = n->dropped[i] ? 0 : sum / n->products[i * size + i];
    }
}

/* One round: what the residual of the rows says is missing. The first one, from zeros, solves the equations; each
 * further one takes away most of the error that rounding left, which the products have squared. */
static void refine(normal *n, double ridge, double *solution)
{
    memset(n->right, 0, (size_t)n->size * sizeof(double));
    for (int64_t row = 0; row < n->rows->count; row++) {
        double y;
        next_row(n, row, &y);
        for (int64_t i = 0; i < n->size; i++) y -= n->x[i] * solution[i];
        for (int64_t i = 0; i < n->size; i++) n->right[i] += n->x[i] * y;
    }
    for (int64_t i = 1; i < n->size; i++) n->right[i] -= ridge * solution[i];
    substitute(n);
    for (int64_t i = 0; i < n->size; i++) solution[i] += n->right[i];
}

static grd_status solve_by_features(const grdi_rows *rows, double l2, double *weights, bool *dropped)
{
    size_t size = (size_t)rows->width + 1;
    double ridge = l2 * (double)rows->count;
    double *products = grdi_alloc_zero(size, size * sizeof(double)), *more = grdi_alloc_zero(size, 4 * sizeof(double));
    bool *out = grdi_alloc_zero(size, sizeof(bool));
    if (products && more && out) {
        normal n = {rows, (int64_t)size, products, more, more + size, more + 2 * size, out};
        double *solution = more + 3 * size;
        add_up(&n);
        factor(&n, ridge);
        for (int round = 0; round <= REFINEMENTS; round++) refine(&n, ridge, solution);
        for (size_t i = 1; i < size; i++) weights[i - 1] = solution[i], dropped[i - 1] = out[i];
        weights[size - 1] = solution[0];
    }
    grd_status status = products && more && out ? GRD_OK : GRD_E_MEMORY;
    grdi_free(products);
    grdi_free(more);
    grdi_free(out);
    return status;
}

/* ---- least squares of no more rows than features ---- */

/* Rows less their mean, in coordinates of an orthonormal basis of what they span. The weights that fit best and are
 * the smallest lie in there, too, and are as long in these coordinates. */
typedef struct spanned {
    int64_t count, width, rank;
    double *rows;        /* [count][width]; afterwards the basis, [rank][width] */
    double *mean;        /* [width] */
    double *targets;     /* [count] */
    double *coordinates; /* [count][count], of which [count][rank] */
} spanned;

static double dot(const double *a, const double *b, int64_t count)
{
    double sum = 0;
    for (int64_t i = 0; i < count; i++) sum += a[i] * b[i];
    return sum;
}

static void read_rows(spanned *s, const grdi_rows *from)
{
    for (int64_t row = 0; row < s->count; row++) {
        double *x = s->rows + row * s->width;
        from->row(from->context, row, x, &s->targets[row]);
        for (int64_t i = 0; i < s->width; i++) s->mean[i] += x[i] / (double)s->count;
    }
    for (int64_t row = 0; row < s->count; row++)
        for (int64_t i = 0; i < s->width; i++) s->rows[row * s->width + i] -= s->mean[i];
}

/* By Gram and Schmidt, in rounds until one takes little: then rounding has left nothing of the basis in the row. */
static void orthogonalise(spanned *s)
{
    for (int64_t row = 0; row < s->count; row++) {
        double *x = s->rows + row * s->width, *to = s->coordinates + row * s->count;
        double whole = dot(x, x, s->width), rest = whole, before;
        do {
            for (int64_t k = 0; k < s->rank; k++) {
                const double *unit = s->rows + k * s->width;
                double part = dot(x, unit, s->width);
                for (int64_t i = 0; i < s->width; i++) x[i] -= part * unit[i];
                to[k] += part;
            }
            before = rest;
            rest = dot(x, x, s->width);
        } while (rest < before / 4 && rest > COLLINEAR * whole);
        if (!(rest > COLLINEAR * whole)) continue;
        double *unit = s->rows + s->rank * s->width;
        for (int64_t i = 0; i < s->width; i++) unit[i] = x[i] / sqrt(rest);
        to[s->rank++] = sqrt(rest);
    }
}

static void give_coordinates(void *context, int64_t row, double *x, double *target)
{
    const spanned *s = context;
    memcpy(x, s->coordinates + row * s->count, (size_t)s->rank * sizeof(double));
    *target = s->targets[row];
}

static grd_status solve_by_rows(const grdi_rows *rows, double l2, double *weights)
{
    size_t count = (size_t)rows->count, width = (size_t)rows->width;
    double *all = grdi_alloc_zero(count, width * sizeof(double));
    double *more = grdi_alloc_zero(2 * count + 2 + width, sizeof(double));
    double *square = grdi_alloc_zero(count, count * sizeof(double));
    bool *dropped = grdi_alloc_zero(count + 1, sizeof(bool));
    grd_status status = all && more && square && dropped ? GRD_OK : GRD_E_MEMORY;
    if (!status) {
        spanned s = {rows->count, rows->width, 0, all, more, more + width, square};
        double *solution = s.targets + count; /* [rank + 1] */
        read_rows(&s, rows);
        orthogonalise(&s);
        const grdi_rows within = {give_coordinates, &s, s.count, s.rank};
        status = solve_by_features(&within, l2, solution, dropped);
        memset(weights, 0, width * sizeof(double));
        for (int64_t k = 0; k < s.rank; k++)
            for (size_t i = 0; i < width; i++) weights[i] += solution[k] * s.rows[(size_t)k * width + i];
        weights[width] = solution[s.rank] - dot(weights, s.mean, s.width);
    }
    grdi_free(all);
    grdi_free(more);
    grdi_free(square);
    grdi_free(dropped);
    return status;
}

grd_status grdi_solve_linear(const grdi_rows *rows, double l2, double *weights, bool *dropped)
{
    return rows->count > rows->width ? solve_by_features(rows, l2, weights, dropped) : solve_by_rows(rows, l2, weights);
}

/* ---- logistic regression ---- */

#define TOLERANCE 1e-12 /* of derivatives */
#define NOISE 1e-14     /* of losses, sums over the rows */

typedef struct logistic {
    grdi_logistic *problem;
    double *x;      /* [width + 1]: a row and 1 */
    double *logits; /* [outputs] */
} logistic;

/* The loss of a row; logits become what each is to be lowered by. */
static double row_loss(logistic *l, int64_t label)
{
    int64_t outputs = l->problem->outputs;
    double *z = l->logits;
    if (outputs == 1) {
        double t = label ? -z[0] : z[0], e = exp(-fabs(t)); /* log(1 + exp(t)) */
        double p = t > 0 ? 1 / (1 + e) : e / (1 + e);
        z[0] = label ? -p : p;
        return fmax(t, 0) + log1p(e);
    }
    double most = z[0], sum = 0, own = z[label];
    for (int64_t k = 1; k < outputs; k++) most = fmax(most, z[k]);
    for (int64_t k = 0; k < outputs; k++) sum += z[k] = exp(z[k] - most);
    for (int64_t k = 0; k < outputs; k++) z[k] /= sum;
    z[label] -= 1;
    return most + log(sum) - own;
}

/* Logits of a row; returns its class. */
static int64_t row_logits(logistic *l, const double *w, int64_t row)
{
    const grdi_rows *rows = &l->problem->rows;
    int64_t size = rows->width + 1;
    double label;
    rows->row(rows->context, row, l->x, &label);
    l->x[size - 1] = 1;
    for (int64_t k = 0; k < l->problem->outputs; k++) {
        double sum = 0;
        for (int64_t i = 0; i < size; i++) sum += w[k * size + i] * l->x[i];
        l->logits[k] = sum;
    }
    return (int64_t)label;
}

static grd_status evaluate(void *context, double *w, double *value, double *gradient)
{
    logistic *l = context;
    const grdi_logistic *p = l->problem;
    int64_t size = p->rows.width + 1;
    double sum = 0, part = 1 / (double)p->rows.count;
    memset(gradient, 0, (size_t)(p->outputs * size) * sizeof(double));
    for (int64_t row = 0; row < p->rows.count; row++) {
        int64_t label = row_logits(l, w, row);
        sum += row_loss(l, label);
        for (int64_t k = 0; k < p->outputs; k++)
            for (int64_t i = 0; i < size; i++) gradient[k * size + i] += l->logits[k] * l->x[i];
    }
    *value = sum * part;
    for (int64_t i = 0; i < p->outputs * size; i++) {
        double decay = i % size == size - 1 ? 0 : p->l2;
        gradient[i] = gradient[i] * part + decay * w[i];
        *value += 0.5 * decay * w[i] * w[i];
    }
    return GRD_OK;
}

static bool iterated(void *context, int64_t iteration, double value, double norm)
{
    const logistic *l = context;
    return !l->problem->iterated || l->problem->iterated(l->problem->context, iteration, value, norm);
}

/* What the solution is like on the rows. */
static void look(logistic *l, const double *w)
{
    grdi_logistic *p = l->problem;
    p->loss = p->largest_logit = 0;
    p->right = 0;
    for (int64_t row = 0; row < p->rows.count; row++) {
        int64_t label = row_logits(l, w, row), best = p->outputs == 1 ? l->logits[0] > 0 : 0;
        for (int64_t k = 0; k < p->outputs; k++) {
            p->largest_logit = fmax(p->largest_logit, fabs(l->logits[k]));
            if (p->outputs > 1 && l->logits[k] > l->logits[best]) best = k;
        }
        p->right += best == label;
        p->loss += row_loss(l, label) / (double)p->rows.count;
    }
}

grd_status grdi_solve_logistic(grdi_logistic *p, double *weights)
{
    double *memory = grdi_alloc_zero((size_t)(p->rows.width + 1 + p->outputs), sizeof(double));
    if (!memory) return GRD_E_MEMORY;
    logistic l = {p, memory, memory + p->rows.width + 1};
    grdi_lbfgs search = {.evaluate = evaluate,
                         .iterated = iterated,
                         .context = &l,
                         .count = p->outputs * (p->rows.width + 1),
                         .history = 20,
                         .iterations = p->iterations,
                         .tolerance = TOLERANCE,
                         .noise = NOISE};
    grd_status status = grdi_lbfgs_run(&search, weights);
    if (!status) look(&l, weights);
    p->done = search.done;
    p->converged = search.converged;
    grdi_free(memory);
    return status;
}
