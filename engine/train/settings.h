/* settings.h - the table of configuration keys. */
#ifndef GRDI_SETTINGS_H
#define GRDI_SETTINGS_H

#include <gradus/run.h>

typedef enum grdi_key_kind {
    GRDI_KEY_INT, /* int64_t */
    GRDI_KEY_INT32,
    GRDI_KEY_FLOAT,  /* double */
    GRDI_KEY_FLOAT2, /* double[2], a YAML list */
    GRDI_KEY_FLAG,   /* bool */
    GRDI_KEY_CHOICE, /* int: index into `choices`; a flag where choices are false, true */
    GRDI_KEY_TEXT,   /* char *, owned */
    GRDI_KEY_FILES,  /* char *[GRD_FILES_MAX] with a count; a YAML list or one text */
    GRDI_KEY_GROUPS  /* train.groups */
} grdi_key_kind;

typedef struct grdi_key {
    const char *path; /* "train.lr" */
    grdi_key_kind kind;
    size_t offset;              /* in grd_settings */
    size_t count_offset;        /* FILES */
    const char *const *choices; /* CHOICE: names, NULL at the end */
    double least, most;         /* allowed range of numbers */
} grdi_key;

extern const grdi_key grdi_keys[];
extern const char *const grdi_precisions[]; /* precision.c: words by grd_precision, then NULL */
extern const size_t grdi_key_count;

/* The key of that path, or NULL. */
const grdi_key *grdi_key_find(const char *path);
/* The known key whose path is most like it (edit distance), never NULL. */
const char *grdi_key_nearest(const char *path);
/* The path of the first key under "path."; NULL: it is no section. */
const char *grdi_key_first(const char *path);

/* Whether grd_settings_load or grd_settings_set have set that key, which must be one of grdi_keys. */
bool grdi_key_was_set(const grd_settings *settings, const grdi_key *key);
void grdi_key_mark_set(grd_settings *settings, const grdi_key *key);

/* choose_series.c: whether the keys make a run on a series, and defaults for those that are not set; then what depends
 * on the series, of which steps [0, end) are learnt from. */
grd_status grdi_settings_resolve_series(grd_settings *settings, grd_error *error);
struct grdi_framing;
void grdi_settings_fit_series(grd_settings *settings, const struct grdi_framing *framing, int64_t end);

/* settings_idle.c: an error for a key that was set and asks for something that such a run does not have. */
grd_status grdi_settings_refuse_idle(const grd_settings *settings, grd_error *error);

/* init_from.c: with init.from, takes the model's keys and the tokenizer from that folder. */
grd_status grdi_settings_take_model(grd_settings *settings, grd_error *error);

static inline void *grdi_key_field(const grdi_key *key, const grd_settings *settings)
{
    return (char *)settings + key->offset;
}

#endif
