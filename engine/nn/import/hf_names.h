/* hf_names.h - which tensor of theirs is which part of which parameter of ours. */
#ifndef GRD_HF_NAMES_H
#define GRD_HF_NAMES_H

#include <gradus/hf.h>

typedef struct hf_entry {
    char theirs[96], ours[64];
    int64_t first_row, rows; /* the rows of ours that theirs holds; rows 0: all */
    bool transposed;         /* theirs is [inputs, outputs] */
} hf_entry;

/* The table for a model; free with free(). NULL when out of memory. */
hf_entry *hf_table(const grd_gpt *gpt, size_t *count);

#endif
