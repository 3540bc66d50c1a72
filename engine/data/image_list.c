/* image_list.c - finds image files: a folder with one sub-folder for each class, as torchvision's ImageFolder has. */
#include "data/image_list.h"

#include "base/file.h"
#include "base/memory.h"
#include "base/random.h"
#include "data/image_file.h"

#include <math.h>
#include <string.h>
#include <strings.h>

/* Deeper folders are taken for a circle of links. */
enum { DEPTH_MAX = 32, LOOKED_AT = 1000, LOOKED_DEEP = 4 };

static grd_status out_of_memory(const char *path, grd_error *error)
{
    return grd_fail(error, GRD_E_MEMORY, "%s: out of memory", path);
}

void grdi_image_list_free(grdi_image_list *list)
{
    for (size_t i = 0; i < list->count; i++) {
        grdi_free(list->files[i].path);
        grdi_free(list->files[i].pixels);
    }
    for (size_t i = 0; i < list->class_count; i++) grdi_free(list->names[i]);
    grdi_free(list->files);
    grdi_free(list->names);
    *list = (grdi_image_list){.files = NULL};
}

/* ---- files ---- */

/* Takes `path` over. */
static grd_status add_file(grdi_image_list *list, char *path, int32_t label, grd_error *error)
{
    if (!GRDI_GROW(list->files, list->capacity, list->count)) {
        grd_status status = out_of_memory(path, error);
        grdi_free(path);
        return status;
    }
    list->files[list->count++] = (grdi_image_file){.path = path, .label = label};
    return GRD_OK;
}

static grd_status add_folder(grdi_image_list *list, const char *folder, int32_t label, int depth, grd_error *error)
{
    char **names;
    size_t count;
    if (depth > DEPTH_MAX)
        return grd_fail(error, GRD_E_FORMAT, "%s: folders lie more than %d deep (is there a circle of links?)", folder,
                        DEPTH_MAX);
    grd_status status = grdi_directory_list(folder, &names, &count, error);
    if (status) return status;
    for (size_t i = 0; i < count && !status; i++) {
        if (names[i][0] == '.') continue;
        char *path = grdi_path_join(folder, names[i]);
        if (!path) status = out_of_memory(folder, error);
        else if (grdi_path_is_directory(path)) status = add_folder(list, path, label, depth + 1, error);
        else if (grdi_image_named(names[i])) {
            status = add_file(list, path, label, error);
            path = NULL;
        } else list->others++;
        grdi_free(path);
    }
    grdi_names_free(names, count);
    return status;
}

grd_status grdi_image_list_files(grdi_image_list *list, const char *path, grd_error *error)
{
    *list = (grdi_image_list){.files = NULL};
    if (!grdi_path_is_directory(path)) {
        char *copy = grdi_strdup(path);
        return copy ? add_file(list, copy, -1, error) : out_of_memory(path, error);
    }
    grd_status status = add_folder(list, path, -1, 0, error);
    if (!status && list->count == 0)
        status = grd_fail(error, GRD_E_FORMAT, "%s: holds no images (.jpg, .jpeg or .png)", path);
    return status;
}

/* ---- recognition ---- */

/* Of any format: those that are not read are to be refused as images. */
static bool is_picture(const char *name)
{
    static const char *const others[] = {".gif", ".webp", ".bmp", ".tif", ".tiff", ".avif", ".heic"};
    const char *dot = strrchr(name, '.');
    bool is = grdi_image_named(name);
    for (size_t i = 0; dot && i < sizeof(others) / sizeof(others[0]) && !is; i++) is = !strcasecmp(dot, others[i]);
    return is;
}

/* Counts files in a folder, and below it where `deep`; of many only the first. */
static void count_files(const char *folder, bool deep, int depth, size_t *images, size_t *others)
{
    char **names;
    size_t count;
    if (depth > LOOKED_DEEP || grdi_directory_list(folder, &names, &count, NULL)) return;
    for (size_t i = 0; i < count && *images + *others < LOOKED_AT; i++) {
        if (names[i][0] == '.') continue;
        char *path = grdi_path_join(folder, names[i]);
        bool is_folder = path && grdi_path_is_directory(path);
        if (is_folder && deep) count_files(path, true, depth + 1, images, others);
        else if (!is_folder) ++*(is_picture(names[i]) ? images : others);
        grdi_free(path);
    }
    grdi_names_free(names, count);
}

/* The folder of that name in `folder`, *path NULL where there is none or where it is hidden. */
static grd_status sub_folder(const char *folder, const char *name, char **path, grd_error *error)
{
    *path = NULL;
    if (name[0] == '.') return GRD_OK;
    char *joined = grdi_path_join(folder, name);
    if (!joined) return out_of_memory(folder, error);
    if (grdi_path_is_directory(joined)) *path = joined;
    else grdi_free(joined);
    return GRD_OK;
}

bool grdi_image_folder_found(const char *path)
{
    size_t images = 0, others = 0, count;
    char **names, *train = NULL;
    if (path && grdi_path_is_directory(path)) sub_folder(path, "train", &train, NULL);
    const char *root = train ? train : path;
    if (!path || !grdi_path_is_directory(root) || grdi_directory_list(root, &names, &count, NULL)) {
        grdi_free(train);
        return false;
    }
    count_files(root, false, 0, &images, &others);
    for (size_t i = 0; i < count; i++) {
        char *sub;
        size_t here = 0, beside = 0;
        sub_folder(root, names[i], &sub, NULL);
        if (sub) count_files(sub, true, 1, &here, &beside);
        images += here, others += beside;
        grdi_free(sub);
    }
    grdi_names_free(names, count);
    grdi_free(train);
    return images > others;
}

/* ---- classes ---- */

/* The folder that holds a part; *split tells whether it is the part's own. */
static grd_status find_part(const char *folder, grd_part part, char **root, bool *split, grd_error *error)
{
    static const char *const names[] = {"val", "valid", "validation", "test"};
    char *train;
    *root = NULL;
    grd_status status = sub_folder(folder, "train", &train, error);
    *split = train != NULL;
    if (train && part == GRD_VALIDATION) {
        grdi_free(train);
        for (int i = 0; i < 4 && !status && !*root; i++) status = sub_folder(folder, names[i], root, error);
        return status  ? status
               : *root ? GRD_OK
                       : grd_fail(error, GRD_E_ARGUMENT,
                                  "%s: has a folder train and none for tests (val, valid, validation, test)", folder);
    }
    if (status) return status;
    *root = train ? train : grdi_strdup(folder);
    return *root ? GRD_OK : out_of_memory(folder, error);
}

static grd_status add_name(grdi_image_list *list, const char *name, size_t *capacity, grd_error *error)
{
    char *copy = grdi_strdup(name);
    if (!copy || !GRDI_GROW(list->names, *capacity, list->class_count)) {
        grdi_free(copy);
        return out_of_memory(name, error);
    }
    list->names[list->class_count++] = copy;
    return GRD_OK;
}

/* Classes from the sub-folders of `root`, or the ones that are known already. */
static grd_status find_classes(grdi_image_list *list, const char *root, const grd_image_folder_options *options,
                               grd_error *error)
{
    char **names;
    size_t count, capacity = 0;
    grd_status status = GRD_OK;
    for (int64_t i = 0; i < options->class_count && !status; i++)
        status = add_name(list, options->class_names[i], &capacity, error);
    if (status || options->class_count) return status;
    status = grdi_directory_list(root, &names, &count, error);
    if (status) return status;
    for (size_t i = 0; i < count && !status; i++) {
        char *path;
        status = sub_folder(root, names[i], &path, error);
        if (path) status = add_name(list, names[i], &capacity, error);
        grdi_free(path);
    }
    grdi_names_free(names, count);
    if (!status && list->class_count < 2)
        status = grd_fail(error, GRD_E_FORMAT, "%s: has %s (images need a sub-folder for each of two classes or more)",
                          root, list->class_count ? "one class only" : "no sub-folders");
    return status;
}

/* A test set may lack classes, but have none that was not trained. */
static grd_status refuse_strangers(const grdi_image_list *list, const char *root, grd_error *error)
{
    char **names;
    size_t count;
    grd_status status = grdi_directory_list(root, &names, &count, error);
    if (status) return status;
    for (size_t i = 0; i < count && !status; i++) {
        char *path;
        size_t c = 0;
        status = sub_folder(root, names[i], &path, error);
        while (path && c < list->class_count && strcmp(list->names[c], names[i])) c++;
        if (path && c == list->class_count)
            status = grd_fail(error, GRD_E_FORMAT, "%s: is a class that the model was not trained on", path);
        grdi_free(path);
    }
    grdi_names_free(names, count);
    return status;
}

/* ---- parts ---- */

/* Keeps of the class's files, which are the last ones of the list, those of the part. */
static void split_class(grdi_image_list *list, size_t first, int32_t label, grd_part part, double validation_part,
                        uint64_t seed)
{
    size_t count = list->count - first, kept = first;
    uint64_t stream = grdi_hash_text("images/split");
    uint64_t key = (uint64_t)grdi_random_u32(seed, (uint64_t)label, stream, 0) << 32 |
                   grdi_random_u32(seed, (uint64_t)label, stream, 1);
    size_t taken = (size_t)round((double)count * validation_part);
    if (taken == 0 && count > 1 && validation_part > 0) taken = 1;
    if (taken == count && count > 0) taken = count - 1;
    for (size_t i = 0; i < count; i++) {
        bool validates = grdi_permute(key, count, i) < taken;
        if (validates == (part == GRD_VALIDATION)) list->files[kept++] = list->files[first + i];
        else grdi_free(list->files[first + i].path);
    }
    list->count = kept;
}

static grd_status add_class(grdi_image_list *list, const char *root, size_t label, bool may_lack, grd_error *error)
{
    char *path = grdi_path_join(root, list->names[label]);
    if (!path) return out_of_memory(root, error);
    size_t before = list->count;
    grd_status status = GRD_OK;
    if (!may_lack || grdi_path_is_directory(path)) status = add_folder(list, path, (int32_t)label, 0, error);
    if (!status && list->count == before && !may_lack)
        status = grd_fail(error, GRD_E_FORMAT, "%s: holds no images (.jpg, .jpeg or .png; remove it if it is no class)",
                          path);
    grdi_free(path);
    return status;
}

grd_status grdi_image_list_open(grdi_image_list *list, const char *folder, grd_part part,
                                const grd_image_folder_options *options, grd_error *error)
{
    *list = (grdi_image_list){.files = NULL};
    char *root = NULL;
    bool split;
    if (!grdi_path_is_directory(folder))
        return grd_fail(error, GRD_E_IO, "%s: is no folder (give one with a sub-folder of images for each class)",
                        folder);
    grd_status status = find_part(folder, part, &root, &split, error);
    if (!status) status = find_classes(list, root, options, error);
    if (!status && options->class_count) status = refuse_strangers(list, root, error);
    bool whole = split || options->all;
    for (size_t c = 0; c < list->class_count && !status; c++) {
        size_t first = list->count;
        status = add_class(list, root, c, part == GRD_VALIDATION && whole, error);
        if (!status && !whole) split_class(list, first, (int32_t)c, part, options->validation_part, options->seed);
    }
    if (!status && list->count == 0)
        status =
            grd_fail(error, GRD_E_ARGUMENT, "%s: has no image for %s", root, part == GRD_TRAIN ? "training" : "tests");
    grdi_free(root);
    return status;
}
