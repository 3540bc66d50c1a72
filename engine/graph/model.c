/* model.c - models and the variables in them. */
#include "graph/graph.h"

#include "base/random.h"

#include <string.h>

bool grdi_children_add(grdi_child **list, void *object, void (*release)(void *object))
{
    grdi_child *child = grdi_alloc(sizeof(*child));
    if (!child) return false;
    *child = (grdi_child){*list, object, release};
    *list = child;
    return true;
}

void grdi_children_remove(grdi_child **list, const void *object)
{
    for (; *list; list = &(*list)->next) {
        if ((*list)->object != object) continue;
        grdi_child *found = *list;
        *list = found->next;
        grdi_free(found);
        return;
    }
}

void grdi_children_release(grdi_child **list)
{
    while (*list) {
        grdi_child *child = *list;
        *list = child->next;
        child->release(child->object);
        grdi_free(child);
    }
}

static void table_insert(grdi_variable **table, size_t size, grdi_variable *variable)
{
    size_t at = (size_t)grdi_hash_text(variable->path) & (size - 1);
    while (table[at]) at = (at + 1) & (size - 1);
    table[at] = variable;
}

/* Keeps the table at most half full. */
static bool table_reserve(grd_model *model)
{
    if (2 * (model->variable_count + 1) <= model->table_size) return true;
    size_t size = model->table_size ? 2 * model->table_size : 64;
    grdi_variable **table = grdi_alloc_zero(size, sizeof(*table));
    if (!table) return false;
    for (grdi_variable *v = model->variables; v; v = v->next)
        if (!v->view) table_insert(table, size, v);
    grdi_free(model->table);
    model->table = table;
    model->table_size = size;
    return true;
}

grdi_variable *grdi_model_find(const grd_model *model, const char *path)
{
    if (!model->table_size) return NULL;
    size_t at = (size_t)grdi_hash_text(path) & (model->table_size - 1);
    for (; model->table[at]; at = (at + 1) & (model->table_size - 1))
        if (strcmp(model->table[at]->path, path) == 0) return model->table[at];
    return NULL;
}

grd_status grd_model_set_weight_dtype(grd_model *model, grd_dtype dtype)
{
    if (!model || (dtype != GRD_F32 && dtype != GRD_BF16)) return GRD_E_ARGUMENT;
    model->weight_dtype = dtype;
    return GRD_OK;
}

grdi_variable *grdi_model_add(grd_model *model, const char *path, grdi_variable_kind kind, grdi_type type)
{
    if (!table_reserve(model)) return NULL;
    grdi_variable *variable = grdi_alloc_zero(1, sizeof(*variable));
    char *copy = grdi_strdup(path);
    if (!variable || !copy) {
        grdi_free(variable);
        grdi_free(copy);
        return NULL;
    }
    variable->path = copy;
    variable->kind = kind;
    variable->type = type;
    *model->variables_end = variable;
    model->variables_end = &variable->next;
    model->variable_count++;
    table_insert(model->table, model->table_size, variable);
    return variable;
}
