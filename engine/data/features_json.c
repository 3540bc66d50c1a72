/* features_json.c - features in table.json, beside the weights that were trained on them. */
#include "data/features.h"

#include "base/memory.h"

#include <math.h>
#include <string.h>

/* ---- writing ---- */

static json_t *names_json(char *const *names, int64_t count)
{
    json_t *list = json_array();
    for (int64_t i = 0; list && i < count; i++) {
        if (!json_array_append_new(list, json_string(names[i]))) continue;
        json_decref(list);
        list = NULL;
    }
    return list;
}

static json_t *column_json(const grdi_feature_column *c)
{
    if (c->kind != GRD_COLUMN_CATEGORY)
        return json_pack("{s:s, s:s, s:b, s:b, s:f, s:f}", "name", c->name, "kind", grd_column_kind_name(c->kind),
                         "day_first", (int)c->day_first, "missing", (int)c->missing, "mean", c->mean, "deviation",
                         c->deviation);
    json_t *categories = names_json(c->categories, c->category_count);
    if (!categories) return NULL;
    json_t *column = json_pack("{s:s, s:s, s:b, s:o}", "name", c->name, "kind", grd_column_kind_name(c->kind), "other",
                               (int)c->other, "categories", categories);
    if (column && c->reference && json_object_set_new(column, "reference", json_string(c->reference))) {
        json_decref(column);
        return NULL;
    }
    return column;
}

json_t *grdi_features_json(const grdi_features *f)
{
    json_t *columns = json_array(), *classes = names_json(f->classes, f->class_count);
    for (int64_t i = 0; columns && i < f->column_count; i++) {
        if (!json_array_append_new(columns, column_json(&f->columns[i]))) continue;
        json_decref(columns);
        columns = NULL;
    }
    if (!columns || !classes) {
        json_decref(columns);
        json_decref(classes);
        return NULL;
    }
    return json_pack("{s:s, s:o, s:I, s:f, s:f, s:o}", "target", f->target, "classes", classes, "majority",
                     (json_int_t)f->majority, "target_mean", f->target_mean, "target_deviation", f->target_deviation,
                     "columns", columns);
}

/* ---- reading ---- */

static grd_status wrong(const char *place, const char *what, grd_error *error)
{
    return grd_fail(error, GRD_E_FORMAT, "%s: %s is missing or of the wrong kind", place, what);
}

static grd_status out_of_memory(const char *place, grd_error *error)
{
    return grd_fail(error, GRD_E_MEMORY, "%s: out of memory", place);
}

static grd_status read_text(const json_t *value, const char *what, char **text, const char *place, grd_error *error)
{
    if (!json_is_string(value)) return wrong(place, what, error);
    *text = grdi_strdup(json_string_value(value));
    return *text ? GRD_OK : out_of_memory(place, error);
}

static grd_status read_names(const json_t *list, const char *what, char ***names, int64_t *count, const char *place,
                             grd_error *error)
{
    if (!json_is_array(list)) return wrong(place, what, error);
    size_t size = json_array_size(list);
    *names = grdi_alloc_zero(size + 1, sizeof(char *));
    if (!*names) return out_of_memory(place, error);
    for (size_t i = 0; i < size; i++) {
        grd_status status = read_text(json_array_get(list, i), what, &(*names)[i], place, error);
        if (status) return status;
        *count = (int64_t)i + 1;
    }
    return GRD_OK;
}

static grd_status read_number(const json_t *object, const char *key, double *value, const char *place, grd_error *error)
{
    const json_t *number = json_object_get(object, key);
    *value = json_number_value(number);
    return json_is_number(number) && isfinite(*value) ? GRD_OK : wrong(place, key, error);
}

static grd_status read_column(grdi_feature_column *c, const json_t *json, const char *place, grd_error *error)
{
    grd_status status = read_text(json_object_get(json, "name"), "a column's name", &c->name, place, error);
    const char *kind = json_string_value(json_object_get(json, "kind"));
    if (status) return status;
    for (c->kind = GRD_COLUMN_NUMBER; kind && c->kind < GRD_COLUMN_TEXT; c->kind++)
        if (strcmp(kind, grd_column_kind_name(c->kind)) == 0) break;
    if (!kind || c->kind >= GRD_COLUMN_TEXT) return wrong(place, "a column's kind", error);
    c->day_first = json_is_true(json_object_get(json, "day_first"));
    c->missing = json_is_true(json_object_get(json, "missing"));
    c->other = json_is_true(json_object_get(json, "other"));
    if (c->kind != GRD_COLUMN_CATEGORY) {
        c->count = 1 + c->missing;
        status = read_number(json, "mean", &c->mean, place, error);
        if (!status) status = read_number(json, "deviation", &c->deviation, place, error);
        return status || c->deviation > 0 ? status : wrong(place, "deviation", error);
    }
    const json_t *reference = json_object_get(json, "reference");
    if (reference) status = read_text(reference, "reference", &c->reference, place, error);
    if (!status)
        status = read_names(json_object_get(json, "categories"), "categories", &c->categories, &c->category_count,
                            place, error);
    c->count = c->category_count + c->other;
    return status;
}

grd_status grdi_features_read(grdi_features *f, const json_t *json, const char *place, grd_error *error)
{
    const json_t *columns = json_object_get(json, "columns");
    grd_status status = read_text(json_object_get(json, "target"), "target", &f->target, place, error);
    if (!status)
        status = read_names(json_object_get(json, "classes"), "classes", &f->classes, &f->class_count, place, error);
    f->majority = json_integer_value(json_object_get(json, "majority"));
    if (!status && (f->majority < 0 || f->majority > f->class_count)) status = wrong(place, "majority", error);
    if (!status) status = read_number(json, "target_mean", &f->target_mean, place, error);
    if (!status) status = read_number(json, "target_deviation", &f->target_deviation, place, error);
    if (!status && (!json_is_array(columns) || json_array_size(columns) == 0)) status = wrong(place, "columns", error);
    if (!status) f->columns = grdi_alloc_zero(json_array_size(columns), sizeof(*f->columns));
    if (!status && !f->columns) status = out_of_memory(place, error);
    for (size_t i = 0; !status && i < json_array_size(columns); i++) {
        grdi_feature_column *c = &f->columns[f->column_count++];
        status = read_column(c, json_array_get(columns, i), place, error);
        c->first = f->width;
        f->width += c->count;
    }
    return status;
}
