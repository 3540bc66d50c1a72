/* lbfgs.h - minimises a function of many variables by its gradient, in double. */
#ifndef GRDI_LBFGS_H
#define GRDI_LBFGS_H

#include <gradus/base.h>

typedef struct grdi_lbfgs {
    /* The function's value at x, and its gradient [count]; x may be moved to the nearest point that can be held. A
     * status other than GRD_OK ends the search. */
    grd_status (*evaluate)(void *context, double *x, double *value, double *gradient);
    /* After each iteration; false ends the search. May be NULL. */
    bool (*iterated)(void *context, int64_t iteration, double value, double gradient_norm);
    /* Where pairs of steps and changes [count] are kept, by place 0..history-1. NULL: in the search's own memory, from
     * which they are gone when it ends. */
    void (*keep)(void *context, int32_t at, const double *step, const double *change);
    void (*recall)(void *context, int32_t at, double *step, double *change);
    void *context;
    int64_t count;
    int32_t history;         /* pairs that are kept; 0: 10 */
    int64_t iterations;      /* at most */
    int64_t evaluations;     /* none is begun after so many; 0: any number */
    double tolerance;        /* ends where no derivative is larger */
    double change;           /* ends where neither x (largest element) nor the value changes by more; 0: goes on */
    double rate;             /* the first length tried is this times the usual one; 0: 1 */
    double noise;            /* values that differ by less, relative, are equal to a line search */
    double *memory;          /* [grdi_lbfgs_memory()]; NULL: allocated for the search */
    double *curvatures;      /* with keep: [history], what goes with the pairs */
    int32_t kept, newest;    /* with keep: how many pairs there are, and the place of the last */
    int64_t done, evaluated; /* iterations and evaluations, afterwards */
    bool still; /* it ended by `change` */
    bool converged;          /* by the tolerance, or by rounding: no step along the direction lowers the value */
    double value;            /* at the x that was found */
} grdi_lbfgs;

/* Limited-memory BFGS (Liu and Nocedal, 1989) with a line search for the strong Wolfe conditions, c1 = 1e-4 and c2 =
 * 0.9 (Nocedal and Wright, "Numerical optimization", algorithms 3.5 and 3.6). Where the decrease is lost in `noise`,
 * the slope decides (Hager and Zhang, 2005, "approximate Wolfe conditions"). x holds the start and becomes the end. */
grd_status grdi_lbfgs_run(grdi_lbfgs *search, double *x);
/* How many numbers a search needs beside x. */
size_t grdi_lbfgs_memory(const grdi_lbfgs *search);

#endif
