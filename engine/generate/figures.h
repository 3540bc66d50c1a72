/* figures.h - further numbers of an evaluation. */
#ifndef GRDI_FIGURES_H
#define GRDI_FIGURES_H

#include <gradus/run.h>

#include <math.h>

/* Adds a figure (its name is one of grdi_figure_names) where there is a number to say. */
static inline void grdi_event_figure(grd_event *event, const char *name, double value)
{
    if (isfinite(value) && event->figure_count < GRD_FIGURES_MAX)
        event->figures[event->figure_count++] = (grd_figure){name, value};
}

#endif
