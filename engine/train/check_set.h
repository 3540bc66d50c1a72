/* check_set.h - what checks of data remember: hashes with a number each, and counts of labels. */
#ifndef GRDI_CHECK_SET_H
#define GRDI_CHECK_SET_H

#include "train/check.h"

/* Hashes of 64 bits, taken for the things themselves. Zeroed means empty. */
typedef struct grdi_hashes {
    uint64_t *keys; /* 0: free */
    int64_t *values;
    size_t size, count; /* size: a power of two */
} grdi_hashes;

/* The value of a hash: where it is new, `value` is noted down and -1 is returned. -2: out of memory. */
int64_t grdi_hashes_note(grdi_hashes *set, uint64_t hash, int64_t value);
/* The value noted down for a hash; -1: none. */
int64_t grdi_hashes_find(const grdi_hashes *set, uint64_t hash);
void grdi_hashes_free(grdi_hashes *set);

/* "label_balance": classes without a sample, or one that has nearly all. counts[part][class]; no validation samples:
 * counts[1] NULL. `name` names a class for people. */
void grdi_check_balance(grdi_checker *c, const int64_t *const counts[2], int64_t classes,
                        const char *(*name)(const void *context, int64_t label, char text[32]), const void *context);
/* "order": whether samples that are read in order come class by class. `changes`: neighbours with different labels. */
void grdi_check_order(grdi_checker *c, const int64_t *counts, int64_t classes, int64_t changes);
/* "overlap": `common` of `validation` samples are among those of training. */
void grdi_check_overlap(grdi_checker *c, int64_t common, int64_t validation, const char *what, double most);
/* "conflicting_labels": samples that are there twice, and with another label. */
void grdi_check_conflicts(grdi_checker *c, int64_t conflicts, int64_t repeated, int64_t count, const char *what);

/* check_text.c, check_images.c: what tasks hand to their checks. `ids`: token shards instead of texts. */
grd_status grdi_check_text(grdi_checker *c, const grd_corpus *corpus);
grd_status grdi_check_ids(grdi_checker *c, const grd_ids *train, size_t train_count, const grd_ids *validation,
                          size_t validation_count);
/* The CSV file of data.path, a series where data.time is set; `classifies`: the target is a class, however it looks. */
grd_status grdi_check_table(grdi_checker *c, const grd_settings *settings, bool classifies);
grd_status grdi_check_images(grdi_checker *c, const grd_images *const images[2], const grd_settings *settings);

#endif
