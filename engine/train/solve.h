/* solve.h - linear and logistic regression in double: over all rows at once, not by steps. */
#ifndef GRDI_SOLVE_H
#define GRDI_SOLVE_H

#include <gradus/base.h>

/* Rows of features x [width] with a target each: a number, or a class from 0. */
typedef struct grdi_rows {
    void (*row)(void *context, int64_t index, double *x, double *target);
    void *context;
    int64_t count, width;
} grdi_rows;

/* weights [width + 1], the last one the intercept, which minimise mean((y - xw - b)^2) / 2 + l2 / 2 |w|^2: the normal
 * equations by Cholesky, then refined by their residual over the rows. Without l2 a feature that is a combination of
 * those before it gets weight 0 and dropped[feature] becomes true; but where there are no more rows than features, the
 * smallest of all weights that fit best are taken, in memory for rows x features. GRD_E_MEMORY without a message. */
grd_status grdi_solve_linear(const grdi_rows *rows, double l2, double *weights, bool *dropped);

typedef struct grdi_logistic {
    grdi_rows rows;
    int64_t outputs; /* 1: of two classes, the logit of class 1; else one logit a class */
    double l2;
    int64_t iterations;
    bool (*iterated)(void *context, int64_t iteration, double loss, double gradient_norm);
    void *context;
    int64_t done; /* afterwards: iterations */
    bool converged;
    double loss, largest_logit; /* at the end: the mean loss without l2; the largest logit of a row, without sign */
    int64_t right;              /* rows whose likeliest class is theirs */
} grdi_logistic;

/* weights [outputs][width + 1] that minimise the mean cross-entropy + l2 / 2 |w|^2, from what they hold, by L-BFGS. */
grd_status grdi_solve_logistic(grdi_logistic *problem, double *weights);

#endif
