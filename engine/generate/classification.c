/* classification.c - counts of what a classifier says. */
#include <gradus/classification.h>

#include "base/memory.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

grd_status grd_classification_begin(grd_classification *c, int64_t classes, const char *const *names, grd_error *error)
{
    grd_classification_free(c);
    c->classes = classes;
    c->counts = grdi_alloc_zero((size_t)(classes * classes), sizeof(int64_t));
    c->names = names ? grdi_alloc_zero((size_t)classes, sizeof(char *)) : NULL;
    bool ok = c->counts && (c->names || !names);
    for (int64_t i = 0; ok && names && i < classes; i++) ok = (c->names[i] = grdi_strdup(names[i])) != NULL;
    if (ok) return GRD_OK;
    grd_classification_free(c);
    return grd_fail(error, GRD_E_MEMORY, "out of memory for counts of %lld classes", (long long)classes);
}

void grd_classification_free(grd_classification *c)
{
    for (int64_t i = 0; c->names && i < c->classes; i++) grdi_free(c->names[i]);
    grdi_free(c->names);
    grdi_free(c->counts);
    *c = (grd_classification){.classes = 0};
}

/* Mistakes stand in their order, so a new one finds its place from the end. */
static void add_mistake(grd_classification *c, grd_mistake m)
{
    int32_t at = c->mistake_count < GRD_MISTAKES_MAX ? c->mistake_count++ : GRD_MISTAKES_MAX;
    if (at == GRD_MISTAKES_MAX && c->mistakes[--at].probability <= m.probability) return;
    for (; at > 0 && c->mistakes[at - 1].probability > m.probability; at--) c->mistakes[at] = c->mistakes[at - 1];
    c->mistakes[at] = m;
}

void grd_classification_add(grd_classification *c, int64_t index, int32_t label, const float *logits)
{
    int64_t best = 0, likelier = 0;
    double sum = 0;
    for (int64_t k = 1; k < c->classes; k++)
        if (logits[k] > logits[best]) best = k;
    for (int64_t k = 0; k < c->classes; k++) {
        sum += exp((double)logits[k] - (double)logits[best]);
        likelier += logits[k] > logits[label] || (logits[k] == logits[label] && k < label);
    }
    double nats = log(sum) + (double)logits[best] - (double)logits[label];
    c->counts[label * c->classes + best]++;
    c->total++;
    c->right += best == label;
    c->right_of_top += likelier < GRD_TOP;
    c->nats += nats;
    if (best != label) add_mistake(c, (grd_mistake){index, label, (int32_t)best, exp(-nats), 1 / sum});
}

grd_class_figures grd_classification_of(const grd_classification *c, int64_t class_number)
{
    grd_class_figures f = {.samples = 0};
    for (int64_t k = 0; k < c->classes; k++) {
        f.samples += c->counts[class_number * c->classes + k];
        f.predicted += c->counts[k * c->classes + class_number];
    }
    double right = (double)c->counts[class_number * (c->classes + 1)];
    f.precision = f.predicted ? right / (double)f.predicted : NAN;
    f.recall = f.samples ? right / (double)f.samples : NAN;
    return f;
}

const char *grd_classification_name(const grd_classification *c, int64_t class_number, char number[24])
{
    if (c->names) return c->names[class_number];
    snprintf(number, 24, "%lld", (long long)class_number);
    return number;
}
