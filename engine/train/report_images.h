/* report_images.h - a classifier's own part of report.html. */
#ifndef GRDI_REPORT_IMAGES_H
#define GRDI_REPORT_IMAGES_H

#include "base/file.h"

#include <gradus/classification.h>
#include <gradus/images.h>

/* The same without images, of what `samples` ("rows") are. */
void grdi_report_classes(grdi_writer *w, const grd_classification *c, const char *samples);
/* Precision and recall by class, what is taken for what, and the images that are most wrong (`images` NULL: not these).
 * Nothing where nothing was counted. */
void grdi_report_images(grdi_writer *w, const grd_classification *c, const grd_images *images);

#endif
