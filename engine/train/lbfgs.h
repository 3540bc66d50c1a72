/* lbfgs.h - minimises a function of many variables by its gradient, in double. */
#ifndef GRDI_LBFGS_H
#define GRDI_LBFGS_H

#include <gradus/base.h>

typedef struct grdi_lbfgs {
    /* The function's value at x, and its gradient [count]; a status other than GRD_OK ends the search. */
    grd_status (*evaluate)(void *context, const double *x, double *value, double *gradient);
    /* After each iteration; false ends the search. May be NULL. */
    bool (*iterated)(void *context, int64_t iteration, double value, double gradient_norm);
    void *context;
    int64_t count;
    int32_t history;    /* pairs of steps and changes that are kept; 0: 10 */
    int64_t iterations; /* at most */
    double tolerance;   /* ends where no derivative is larger */
    int64_t done;       /* iterations, afterwards */
    bool converged;     /* by the tolerance, or by rounding: no step along the direction lowers the value */
    double value;       /* at the x that was found */
} grdi_lbfgs;

/* Limited-memory BFGS (Liu and Nocedal, 1989) with a line search for the strong Wolfe conditions, c1 = 1e-4 and c2 =
 * 0.9 (Nocedal and Wright, "Numerical optimization", algorithms 3.5 and 3.6). x holds the start and becomes the end. */
grd_status grdi_lbfgs_run(grdi_lbfgs *search, double *x);

#endif
