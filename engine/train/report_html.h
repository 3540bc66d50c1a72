/* report_html.h - the pieces of report.html. */
#ifndef GRDI_REPORT_HTML_H
#define GRDI_REPORT_HTML_H

#include "base/file.h"
#include "generate/tabular.h"
#include "train/history.h"

/* "0.0013", "12.5", "41.2k", "3.1G"; with a unit "41.2 kB". */
const char *grdi_html_amount(double value, const char *unit, char text[32]);
/* "4,404,412" */
const char *grdi_html_count(int64_t value, char text[32]);
/* Four digits, "3.14e-5" where it is small; a dash for NaN. */
const char *grdi_html_number(double value, char text[32]);
/* Text as it is in HTML; control characters are shown as U+FFFD. */
void grdi_html_escaped(grdi_writer *w, const char *text);

/* report_charts.c: <figure>s of losses, rates and norms by step; and of what layers say of themselves. */
void grdi_html_charts(grdi_writer *w, const grdi_history *h, const grd_run_words *words);
/* The forecasts of a series' held-out part. */
void grdi_html_forecast(grdi_writer *w, const grdi_history_forecast *f, const char *target);
/* Of rows held out, `all` in all: errors by prediction. */
void grdi_html_residuals(grdi_writer *w, const grdi_row_said *rows, int32_t count, int64_t all);
void grdi_html_layer_charts(grdi_writer *w, const grdi_history *h);

#endif
