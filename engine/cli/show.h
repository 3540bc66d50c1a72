/* show.h - the events of a run, for people or for programs. */
#ifndef GRADUS_CLI_SHOW_H
#define GRADUS_CLI_SHOW_H

#include "cli/cli.h"

/* What has been shown so far. Zeroed but for `c` before the run. */
typedef struct show {
    const cli *c;
    bool terminal;                 /* a progress line that is drawn over and over */
    bool line_open;                /* such a line is on the screen */
    bool deaf;                     /* stdout takes no more: the run is asked to stop */
    bool over;                     /* the last step is done */
    bool planned;                  /* the plan has come: the run has begun */
    double shown_at;               /* seconds of the run when progress was last shown; negative: never */
    double loss;                   /* running mean */
    double validation, bits;       /* of the last evaluation; 0: none */
    double accuracy;               /* of it, where there are classes */
    double rmse;                   /* of it, where there are numbers; 0: none */
    int64_t first_step;            /* steps that a resumed run had done before */
    double first_seconds, counted; /* seconds that it had taken; tokens or samples since */
} show;

void show_begin(show *s, const cli *c);
/* A grd_run_options.on_event; `context` is the show. */
void show_event(void *context, const grd_event *event);
/* Ends a line that is still open. */
void show_end(show *s);
/* "loss 0.3120, accuracy 91.20% of 10,000 images, auc 0.97": the numbers of an evaluation, without a line end. */
void show_figures(const grd_event *event);
/* Of a series' evaluation: a line on how its error compares with those of simple forecasts. */
void show_comparison(const grd_event *event);
/* The plan's table. */
void show_plan(const grd_plan_report *plan);

#endif
