/* check_data.c - what checks of data have in common, whatever the data are. */
#include "train/check_set.h"

#include "base/memory.h"
#include "train/task.h"

#include <math.h>

/* ---- hashes ---- */

static size_t place_of(const grdi_hashes *set, uint64_t hash)
{
    size_t at = (size_t)(hash * 0x9E3779B97F4A7C15u >> 20) & (set->size - 1);
    while (set->keys[at] && set->keys[at] != hash) at = (at + 1) & (set->size - 1);
    return at;
}

static bool grow(grdi_hashes *set)
{
    grdi_hashes larger = {.size = set->size ? 2 * set->size : 1024, .count = set->count};
    larger.keys = grdi_alloc_zero(larger.size, sizeof(*larger.keys));
    larger.values = grdi_alloc(larger.size * sizeof(*larger.values));
    if (!larger.keys || !larger.values) {
        grdi_hashes_free(&larger);
        return false;
    }
    for (size_t i = 0; i < set->size; i++) {
        if (!set->keys[i]) continue;
        size_t at = place_of(&larger, set->keys[i]);
        larger.keys[at] = set->keys[i];
        larger.values[at] = set->values[i];
    }
    grdi_hashes_free(set);
    *set = larger;
    return true;
}

int64_t grdi_hashes_note(grdi_hashes *set, uint64_t hash, int64_t value)
{
    hash += !hash;
    if (2 * (set->count + 1) > set->size && !grow(set)) return -2;
    size_t at = place_of(set, hash);
    if (set->keys[at]) return set->values[at];
    set->keys[at] = hash;
    set->values[at] = value;
    set->count++;
    return -1;
}

int64_t grdi_hashes_find(const grdi_hashes *set, uint64_t hash)
{
    hash += !hash;
    size_t at = set->size ? place_of(set, hash) : 0;
    return set->size && set->keys[at] ? set->values[at] : -1;
}

void grdi_hashes_free(grdi_hashes *set)
{
    grdi_free(set->keys);
    grdi_free(set->values);
    *set = (grdi_hashes){.keys = NULL};
}

/* ---- labels ---- */

#define NEARLY_ALL 0.95 /* of the samples in one class */
enum { ENOUGH_TESTS = 30 };

void grdi_check_balance(grdi_checker *c, const int64_t *const counts[2], int64_t classes,
                        const char *(*name)(const void *context, int64_t label, char text[32]), const void *context)
{
    int64_t all = 0, tests = 0, most = 0, least = 0, missing = -1, untested = -1;
    char a[32], b[32];
    for (int64_t k = 0; k < classes; k++) {
        all += counts[0][k];
        if (counts[1]) tests += counts[1][k];
        if (counts[0][k] > counts[0][most]) most = k;
        if (counts[0][k] < counts[0][least]) least = k;
        if (!counts[0][k] && missing < 0) missing = k;
        if (counts[1] && counts[0][k] && !counts[1][k] && untested < 0) untested = k;
    }
    double share = all ? (double)counts[0][most] / (double)all : 0;
    bool enough = tests >= ENOUGH_TESTS * classes;
    if (missing >= 0)
        grdi_check_result(c, "label_balance", false,
                          "look at how labels are numbered (from 0) and at whether a part of the data is missing",
                          "no training sample has label %s, one of %lld", name(context, missing, a),
                          (long long)classes);
    else if (untested >= 0 && enough)
        grdi_check_result(c, "label_balance", false, "look at how the data were split: the test says nothing of it",
                          "no test sample of %lld has label %s", (long long)tests, name(context, untested, a));
    else
        grdi_check_result(
            c, "label_balance", share < NEARLY_ALL || classes < 2,
            "look at whether this is what you want: a model that always says this class is right as often",
            "%.1f%% of %lld samples have label %s, %.1f%% have %s", 100 * share, (long long)all, name(context, most, a),
            all ? 100.0 * (double)counts[0][least] / (double)all : 0, name(context, least, b));
}

#define RUNS_LEAST 0.5 /* of the changes that a shuffled order would have */

void grdi_check_order(grdi_checker *c, const int64_t *counts, int64_t classes, int64_t changes)
{
    double all = 0, same = 0;
    for (int64_t k = 0; k < classes; k++) all += (double)counts[k];
    if (all < 2) return;
    for (int64_t k = 0; k < classes; k++) same += (double)counts[k] / all * (double)counts[k] / all;
    double expected = (all - 1) * (1 - same);
    if (expected < 1) return;
    grdi_check_result(c, "order", (double)changes > RUNS_LEAST * expected,
                      "look at data.order: samples that are read as they lie come class by class (set shuffled)",
                      "%lld of %.0f neighbours have different labels, %.0f would in a random order", (long long)changes,
                      all - 1, expected);
}

void grdi_check_overlap(grdi_checker *c, int64_t common, int64_t validation, const char *what, double most)
{
    double share = validation ? (double)common / (double)validation : 0;
    grdi_check_result(c, "overlap", share <= most,
                      "look at how the data were split: what was trained on is no test of what was learnt",
                      "%lld of %lld %s (%.2f%%) are among those of training, too", (long long)common,
                      (long long)validation, what, 100 * share);
}

#define CONFLICTS_MOST 1e-3 /* of the samples */

void grdi_check_conflicts(grdi_checker *c, int64_t conflicts, int64_t repeated, int64_t count, const char *what)
{
    double most = fmax(1, CONFLICTS_MOST * (double)count);
    grdi_check_result(c, "conflicting_labels", (double)conflicts <= most,
                      "look at these samples: nothing can be right on both of two that differ in their label alone",
                      "%lld of %lld %s are repeated, %lld of these with another label", (long long)repeated,
                      (long long)count, what, (long long)conflicts);
}

grd_status grdi_check_data(grdi_checker *c, grdi_session *s)
{
    const grd_settings *z = s->settings;
    if (s->task->check_data) return s->task->check_data(s, c);
    bool table = z->data.kind == GRD_DATA_TABLE || z->data.kind == GRD_DATA_SERIES;
    bool classifies = s->targets.node && grd_tensor_dtype(s->targets) == GRD_I32;
    return table ? grdi_check_table(c, z, classifies) : GRD_OK;
}
