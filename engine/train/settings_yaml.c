/* settings_yaml.c - settings from YAML and back. Every error says where: file, line, column, key. */
#include "train/settings.h"

#include "base/file.h"
#include "base/memory.h"
#include "data/utf8.h"

#include <ctype.h>
#include <errno.h>
#include <libfyaml.h>
#include <stdlib.h>
#include <string.h>

enum { FILE_MAX = 1 << 20, PATH_TEXT_MAX = 64 };

/* One text being read: where it stands in messages. */
typedef struct reader {
    grd_settings *settings;
    const char *place; /* file name, or "--set a.b=c" */
    bool positions;    /* whether line and column mean something to the user */
    grd_error *error;
    struct fy_node **near; /* the key last read, for values that have no place of their own */
} reader;

static grd_status complain(const reader *r, struct fy_node *node, const char *key, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/* The token where a node begins: its own, or that of the first scalar inside. */
static struct fy_token *first_token(struct fy_node *node)
{
    void *iterator = NULL;
    if (!node) return NULL;
    if (fy_node_is_scalar(node)) return fy_node_get_scalar_token(node);
    if (fy_node_is_sequence(node)) return first_token(fy_node_sequence_iterate(node, &iterator));
    struct fy_node_pair *pair = fy_node_mapping_iterate(node, &iterator);
    return pair ? first_token(fy_node_pair_key(pair)) : NULL;
}

static grd_status complain(const reader *r, struct fy_node *node, const char *key, const char *format, ...)
{
    char what[GRD_MESSAGE_MAX / 2], where[64] = "";
    va_list args;
    va_start(args, format);
    vsnprintf(what, sizeof(what), format, args);
    va_end(args);
    struct fy_token *token = first_token(node);
    if (!token || !fy_token_start_mark(token)) token = first_token(*r->near);
    const struct fy_mark *mark = token ? fy_token_start_mark(token) : NULL;
    if (mark && r->positions) snprintf(where, sizeof(where), ":%d:%d", mark->line + 1, mark->column + 1);
    return grd_fail(r->error, GRD_E_FORMAT, "%s%s: %s%s%s", r->place, where, key, key[0] ? ": " : "", what);
}

/* ---- values ---- */

static bool whole_number(const char *text, int64_t *value)
{
    char *end;
    errno = 0;
    long long v = strtoll(text, &end, 10);
    if (end == text || *end || errno) {
        errno = 0;
        double d = strtod(text, &end); /* 1e6 is a whole number too */
        if (end == text || *end || errno || !(d <= 9e15 && d >= -9e15) || d != (double)(int64_t)d) return false;
        v = (long long)d;
    }
    *value = v;
    return true;
}

static bool number(const char *text, double *value)
{
    char *end;
    errno = 0;
    *value = strtod(text, &end);
    return end != text && !*end && !errno && *value == *value && *value - *value == 0;
}

/* A number, but one that neither a double nor an int64_t is exact for. */
static bool is_too_large(const char *text)
{
    char *end;
    errno = 0;
    double v = strtod(text, &end);
    return end != text && !*end && (errno == ERANGE || (v - v == 0 && (v > 9e15 || v < -9e15)));
}

static int truth(const char *text)
{
    if (strcmp(text, "true") == 0) return 1;
    return strcmp(text, "false") == 0 ? 0 : -1;
}

static grd_status read_choice(const reader *r, const grdi_key *key, struct fy_node *node, const char *text)
{
    char names[256] = "";
    for (int i = 0; key->choices[i]; i++) {
        if (strcmp(text, key->choices[i]) == 0) {
            *(int *)grdi_key_field(key, r->settings) = i;
            return GRD_OK;
        }
        size_t used = strlen(names);
        snprintf(names + used, sizeof(names) - used, "%s%s", i ? ", " : "", key->choices[i]);
    }
    return complain(r, node, key->path, "'%s' is not one of: %s", text, names);
}

static grd_status replace_text(const reader *r, struct fy_node *node, const char *key, char **field, const char *text)
{
    if (!*text) return complain(r, node, key, "is empty (give a name, or leave the key out)");
    char *copy = grdi_strdup(text);
    if (!copy) return grd_fail(r->error, GRD_E_MEMORY, "%s: out of memory", r->place);
    grdi_free(*field);
    *field = copy;
    return GRD_OK;
}

static grd_status read_number(const reader *r, const grdi_key *key, struct fy_node *node, const char *text, void *field)
{
    double value;
    int64_t whole = 0;
    bool is_whole = key->kind == GRDI_KEY_INT || key->kind == GRDI_KEY_INT32;
    bool read = is_whole ? whole_number(text, &whole) : number(text, &value);
    if (!read && is_too_large(text))
        return complain(r, node, key->path, "'%s' is outside %.10g to %.10g", text, key->least, key->most);
    if (!read && is_whole)
        return complain(r, node, key->path, "'%s' is not a whole number (give digits, as in 100)", text);
    if (!read) return complain(r, node, key->path, "'%s' is not a number (give one as in 0.5 or 3e-4)", text);
    if (is_whole) value = (double)whole;
    if (value < key->least || value > key->most)
        return complain(r, node, key->path, "%s is outside %.10g to %.10g", text, key->least, key->most);
    if (key->kind == GRDI_KEY_INT) *(int64_t *)field = whole;
    else if (key->kind == GRDI_KEY_INT32) *(int32_t *)field = (int32_t)whole;
    else *(double *)field = value;
    return GRD_OK;
}

static grd_status read_list(const reader *r, const grdi_key *key, struct fy_node *node)
{
    void *iterator = NULL;
    struct fy_node *item;
    int count = 0;
    if (key->kind == GRDI_KEY_FLOAT2) {
        double *field = grdi_key_field(key, r->settings);
        if (!fy_node_is_sequence(node) || fy_node_sequence_item_count(node) != 2)
            return complain(r, node, key->path, "must be a list of two numbers, as in [0.9, 0.95]");
        while ((item = fy_node_sequence_iterate(node, &iterator))) {
            const char *text = fy_node_get_scalar0(item);
            if (!text) return complain(r, item, key->path, "must be a list of two numbers");
            if (read_number(r, key, item, text, field + count++)) return GRD_E_FORMAT;
        }
        return GRD_OK;
    }
    char **files = grdi_key_field(key, r->settings);
    int *file_count = (int *)((char *)r->settings + key->count_offset);
    for (int i = 0; i < *file_count; i++) {
        grdi_free(files[i]);
        files[i] = NULL;
    }
    *file_count = 0;
    if (!fy_node_is_sequence(node)) {
        const char *text = fy_node_get_scalar0(node);
        if (!text) return complain(r, node, key->path, "must be a list of files");
        *file_count = 1;
        return replace_text(r, node, key->path, &files[0], text) ? (*file_count = 0, r->error->status) : GRD_OK;
    }
    while ((item = fy_node_sequence_iterate(node, &iterator))) {
        const char *text = fy_node_get_scalar0(item);
        if (!text || *file_count == GRD_FILES_MAX)
            return complain(r, item, key->path, "must be a list of at most %d names", GRD_FILES_MAX);
        grd_status status = replace_text(r, item, key->path, &files[*file_count], text);
        if (status) return status;
        ++*file_count;
    }
    return GRD_OK;
}

/* ---- groups ---- */

static grd_status read_group_field(const reader *r, grd_group_settings *group, const char *name, struct fy_node *value)
{
    static const grdi_key positive = {.path = "train.groups", .kind = GRDI_KEY_FLOAT, .least = 0, .most = 1e6};
    const char *text = fy_node_get_scalar0(value);
    if (!text) return complain(r, value, "train.groups", "%s must be a single value", name);
    if (strcmp(name, "match") == 0 || strcmp(name, "optimizer") == 0) {
        char *to = name[0] == 'm' ? group->match : group->optimizer;
        size_t room = name[0] == 'm' ? sizeof(group->match) : sizeof(group->optimizer);
        if (strlen(text) >= room) return complain(r, value, "train.groups", "%s is too long", name);
        strcpy(to, text);
        return GRD_OK;
    }
    if (strcmp(name, "lr_scale") == 0) return read_number(r, &positive, value, text, &group->lr_scale);
    if (strcmp(name, "lr") == 0) return read_number(r, &positive, value, text, &group->lr);
    if (strcmp(name, "weight_decay") == 0) return read_number(r, &positive, value, text, &group->weight_decay);
    if (strcmp(name, "frozen") == 0 && truth(text) >= 0) {
        group->frozen = truth(text);
        return GRD_OK;
    }
    return complain(r, value, "train.groups",
                    "'%s' is not one of: match, optimizer, lr, lr_scale, weight_decay, frozen (true or false)", name);
}

static grd_status read_groups(const reader *r, struct fy_node *node)
{
    if (!fy_node_is_sequence(node))
        return complain(r, node, "train.groups", "must be a list, as in [{match: \"embed/**\", lr_scale: 0.5}]");
    void *groups = NULL;
    struct fy_node *item;
    r->settings->train.group_count = 0;
    while ((item = fy_node_sequence_iterate(node, &groups))) {
        if (!fy_node_is_mapping(item)) return complain(r, item, "train.groups", "must be a list of mappings");
        if (r->settings->train.group_count == GRD_GROUPS_MAX)
            return complain(r, item, "train.groups", "more than %d groups", GRD_GROUPS_MAX);
        grd_group_settings *group = &r->settings->train.groups[r->settings->train.group_count++];
        *group = (grd_group_settings){.weight_decay = -1};
        void *fields = NULL;
        struct fy_node_pair *pair;
        while ((pair = fy_node_mapping_iterate(item, &fields))) {
            const char *name = fy_node_get_scalar0(fy_node_pair_key(pair));
            grd_status status = read_group_field(r, group, name ? name : "", fy_node_pair_value(pair));
            if (status) return status;
        }
        if (!group->match[0]) return complain(r, item, "train.groups", "a group needs a match");
    }
    return GRD_OK;
}

/* ---- keys ---- */

static grd_status read_key(const reader *r, const grdi_key *key, struct fy_node *node)
{
    grdi_key_mark_set(r->settings, key); /* a value that cannot be read ends the reading */
    if (key->kind == GRDI_KEY_GROUPS) return read_groups(r, node);
    if (key->kind == GRDI_KEY_FILES || key->kind == GRDI_KEY_FLOAT2) return read_list(r, key, node);
    const char *text = node ? fy_node_get_scalar0(node) : NULL;
    if (!text) return complain(r, node, key->path, "must be a single value (no list, no mapping)");
    switch (key->kind) {
    case GRDI_KEY_CHOICE: return read_choice(r, key, node, text);
    case GRDI_KEY_TEXT: return replace_text(r, node, key->path, grdi_key_field(key, r->settings), text);
    case GRDI_KEY_FLAG:
        if (truth(text) < 0) return complain(r, node, key->path, "'%s' is not true or false", text);
        *(bool *)grdi_key_field(key, r->settings) = truth(text);
        return GRD_OK;
    default: return read_number(r, key, node, text, grdi_key_field(key, r->settings));
    }
}

static grd_status read_mapping(const reader *r, struct fy_node *mapping, const char *prefix)
{
    void *iterator = NULL;
    struct fy_node_pair *pair;
    while ((pair = fy_node_mapping_iterate(mapping, &iterator))) {
        struct fy_node *name = fy_node_pair_key(pair), *value = fy_node_pair_value(pair);
        const char *text = fy_node_get_scalar0(name);
        char path[PATH_TEXT_MAX];
        if (!text || !*text ||
            snprintf(path, sizeof(path), "%s%s%s", prefix, prefix[0] ? "." : "", text) >= (int)sizeof(path))
            return complain(r, text && !*text && value ? value : name, prefix, "a key must be a short text");
        const grdi_key *key = grdi_key_find(path);
        grd_status status;
        *r->near = name;
        if (key) status = read_key(r, key, value);
        else if (!grdi_key_first(path))
            return complain(r, name, path, "there is no such key (did you mean %s?)", grdi_key_nearest(path));
        else if (!value || !fy_node_is_mapping(value))
            return complain(r, value ? value : name, path, "must hold keys of its own, as in \"%s: {%s: ...}\"", path,
                            grdi_key_first(path) + strlen(path) + 1);
        else status = read_mapping(r, value, path);
        if (status) return status;
    }
    return GRD_OK;
}

/* Values that are told once and meant elsewhere too, as config.yaml says all where it belongs; and texts with a NUL,
 * which would end there. */
static grd_status refuse_what_misleads(const reader *r, struct fy_node *node)
{
    void *iterator = NULL;
    struct fy_node *item;
    struct fy_node_pair *pair;
    grd_status status = GRD_OK;
    if (!node) return GRD_OK;
    if (fy_node_is_alias(node)) return complain(r, node, "", "an alias (write the value out)");
    size_t length = 0;
    const char *text = fy_node_is_scalar(node) ? fy_node_get_scalar(node, &length) : NULL;
    if (text && memchr(text, 0, length)) return complain(r, node, "", "a text with a zero byte in it (take it out)");
    if (fy_node_is_sequence(node))
        while (!status && (item = fy_node_sequence_iterate(node, &iterator))) status = refuse_what_misleads(r, item);
    if (fy_node_is_mapping(node))
        while (!status && (pair = fy_node_mapping_iterate(node, &iterator))) {
            status = refuse_what_misleads(r, fy_node_pair_key(pair));
            if (!status) status = refuse_what_misleads(r, fy_node_pair_value(pair));
        }
    return status;
}

/* Characters that YAML lets stand as they are. */
static bool is_printable(uint32_t c)
{
    if (c < 0xA0) return c == '\t' || c == '\n' || c == '\r' || (c >= 0x20 && c < 0x7F) || c == 0x85;
    return (c & 0xFFFE) != 0xFFFE;
}

static bool ends_line(uint32_t c)
{
    return c == '\n' || c == '\r' || c == 0x85 || c == 0x2028 || c == 0x2029;
}

/* libfyaml never returns from some bytes that are no characters, and crashes on some keys of the form "? key": both are
 * refused before it sees them. */
static grd_status check_characters(const reader *r, const char *text, size_t size)
{
    int line = 1, column = 1;
    uint32_t c = 0;
    bool begins = true; /* a key or a value may begin here */
    for (size_t at = 0; at < size; column++) {
        int bytes = grdi_utf8_decode((const uint8_t *)text + at, size - at, &c);
        char where[32] = "";
        if (r->positions) snprintf(where, sizeof(where), ":%d:%d", line, column);
        if (!bytes)
            return grd_fail(r->error, GRD_E_FORMAT, "%s%s: not YAML: byte 0x%02x is not UTF-8 (save it as UTF-8 text)",
                            r->place, where, (unsigned)(unsigned char)text[at]);
        if (!is_printable(c))
            return grd_fail(r->error, GRD_E_FORMAT, "%s%s: not YAML: control character 0x%02x (is this a text file?)",
                            r->place, where, (unsigned)c);
        if (c == '?' && begins && (at + 1 == size || strchr(" \t\r\n", text[at + 1])))
            return grd_fail(r->error, GRD_E_FORMAT,
                            "%s%s: a \"?\" where a key or a value begins (write keys as in \"key: value\")", r->place,
                            where);
        begins = ends_line(c) || (c < 0x80 && c && strchr("-:,[{", (int)c)) || (begins && (c == ' ' || c == '\t'));
        if (c == '\n') {
            line++;
            column = 0;
        }
        at += (size_t)bytes;
    }
    return GRD_OK;
}

static void print_nothing(struct fy_diag *diag, void *user, const char *text, size_t size)
{
    (void)diag;
    (void)user;
    (void)text;
    (void)size;
}

/* The plain word that stands at a line and a column, both from 1 on; `size` is its length. */
static const char *word_at(const char *text, int line, int column, size_t *size)
{
    for (; line > 1 && (text = strchr(text, '\n')); line--) text++;
    size_t behind = text ? strcspn(text, "\n") : 0;
    if (!text || column < 1 || (size_t)column > behind) return *size = 0, "";
    text += column - 1;
    text += *text == '"' || *text == '\'';
    *size = strcspn(text, ":,{}[]\"'\n ");
    return text;
}

/* What libfyaml said first; it says nothing of a text that holds no document. */
static grd_status not_yaml(const reader *r, struct fy_diag *diag, const char *text)
{
    void *iterator = NULL;
    struct fy_diag_error *e = fy_diag_errors_iterate(diag, &iterator);
    char where[32] = "";
    if (!e) return GRD_OK;
    if (r->positions) snprintf(where, sizeof(where), ":%d:%d", e->line, e->column);
    if (strcmp(e->msg, "duplicate key") == 0) {
        size_t size;
        const char *key = word_at(text, e->line, e->column, &size);
        return grd_fail(r->error, GRD_E_FORMAT, "%s%s: %.*s: duplicate key (keep one of the two)", r->place, where,
                        (int)(size < PATH_TEXT_MAX ? size : PATH_TEXT_MAX), key);
    }
    return grd_fail(r->error, GRD_E_FORMAT, "%s%s: not YAML: %s", r->place, where, e->msg);
}

/* One document is a config; what a second one says would be lost. */
static grd_status refuse_second(const reader *r, struct fy_parser *parser, struct fy_diag *diag, const char *text)
{
    struct fy_document *second = fy_parse_load_document(parser);
    if (!second) return not_yaml(r, diag, text);
    struct fy_node *root = fy_document_root(second);
    grd_status status = complain(r, root, "", "a second document (join the two, and remove the line \"---\")");
    fy_parse_document_destroy(parser, second);
    return status;
}

static grd_status read_root(const reader *r, struct fy_node *root, const grdi_key *key)
{
    grd_status status = refuse_what_misleads(r, root);
    if (status) return status;
    if (key) return read_key(r, key, root);
    if (fy_node_is_mapping(root)) return read_mapping(r, root, "");
    if (fy_node_is_null(root)) return GRD_OK;
    return complain(r, root, "", "must be a mapping of keys, as in \"train: {steps: 100}\"");
}

static grd_status read_documents(const reader *r, const grdi_key *key, struct fy_parser *parser, struct fy_diag *diag,
                                 const char *text)
{
    struct fy_document *document = fy_parse_load_document(parser);
    struct fy_node *root = document ? fy_document_root(document) : NULL;
    grd_status status = document ? refuse_second(r, parser, diag, text) : not_yaml(r, diag, text);
    if (root && !status) status = read_root(r, root, key);
    else if (key && !status) status = complain(r, NULL, key->path, "must be a single value");
    if (document) fy_parse_document_destroy(parser, document);
    return status;
}

/* Parses `text`: the value of `key`, or without one a mapping of keys. libfyaml's own messages are collected, never
 * printed. */
static grd_status read_text(const reader *r, const grdi_key *key, const char *text, size_t size)
{
    if (check_characters(r, text, size)) return GRD_E_FORMAT;
    struct fy_diag_cfg diag_cfg;
    fy_diag_cfg_default(&diag_cfg);
    diag_cfg.fp = NULL;
    diag_cfg.output_fn = print_nothing;
    struct fy_diag *diag = fy_diag_create(&diag_cfg);
    if (!diag) return grd_fail(r->error, GRD_E_MEMORY, "%s: out of memory", r->place);
    fy_diag_set_collect_errors(diag, true);
    struct fy_parse_cfg cfg = {.flags = FYPCF_QUIET, .diag = diag};
    struct fy_parser *parser = fy_parser_create(&cfg);
    grd_status status = GRD_OK;
    if (!parser || fy_parser_set_string(parser, text, size))
        status = grd_fail(r->error, GRD_E_MEMORY, "%s: out of memory", r->place);
    else status = read_documents(r, key, parser, diag, text);
    fy_parser_destroy(parser);
    fy_diag_destroy(diag);
    return status;
}

grd_status grd_settings_load(grd_settings *settings, const char *path, grd_error *error)
{
    char *text;
    size_t size;
    grd_status status = grdi_file_read(path, FILE_MAX, &text, &size, error);
    if (status) return status;
    struct fy_node *near = NULL;
    const reader r = {settings, path, true, error, &near};
    status = read_text(&r, NULL, text, size);
    grdi_free(text);
    return status;
}

grd_status grd_settings_set(grd_settings *settings, const char *assignment, grd_error *error)
{
    char path[PATH_TEXT_MAX], place[160];
    size_t length = strcspn(assignment, "=");
    snprintf(place, sizeof(place), "--set %s", assignment);
    if (!assignment[length] || !length || length >= sizeof(path))
        return grd_fail(error, GRD_E_ARGUMENT, "%s: must be KEY=VALUE, as in train.lr=6e-4", place);
    memcpy(path, assignment, length);
    path[length] = '\0';
    const grdi_key *key = grdi_key_find(path);
    if (!key && grdi_key_first(path))
        return grd_fail(error, GRD_E_ARGUMENT,
                        "%s: there is no key '%s', it is a section (set a key of it, as in %s=...)", place, path,
                        grdi_key_first(path));
    if (!key)
        return grd_fail(error, GRD_E_ARGUMENT, "%s: there is no key '%s' (did you mean %s?)", place, path,
                        grdi_key_nearest(path));
    struct fy_node *near = NULL;
    const reader r = {settings, place, false, error, &near};
    const char *value = assignment + length + 1;
    if (key->kind != GRDI_KEY_TEXT) return read_text(&r, key, value, strlen(value));
    if (grdi_utf8_valid((const uint8_t *)value, strlen(value)) != strlen(value))
        return grd_fail(error, GRD_E_ARGUMENT, "%s: not UTF-8 text, as names in config.yaml must be (rename it)",
                        place);
    grdi_key_mark_set(settings, key);
    return replace_text(&r, NULL, "", grdi_key_field(key, settings), value);
}

/* ---- writing ---- */

/* A text as a YAML double-quoted scalar. A "? " behind no letter and no digit is written by its number:
 * check_characters() does not look at quotes. */
static void write_text(grdi_writer *w, const char *text)
{
    grdi_writer_print(w, "\"");
    uint32_t c = 0;
    bool word = false;
    for (int bytes; *text; text += bytes, word = c < 0x80 && isalnum((int)c)) {
        bytes = grdi_utf8_decode((const uint8_t *)text, strlen(text), &c);
        if (!bytes) bytes = 1;
        else if (c == '?' && text[1] == ' ' && !word) grdi_writer_print(w, "\\x3f");
        else if (c == '"' || c == '\\') grdi_writer_print(w, "\\%c", (int)c);
        else if (c < 0xA0 && (c < 0x20 || c >= 0x7F)) grdi_writer_print(w, "\\x%02x", (unsigned)c);
        else if (!is_printable(c) || c == 0x2028 || c == 0x2029 || c == 0xFEFF)
            grdi_writer_print(w, "\\U%08x", (unsigned)c);
        else grdi_writer_put(w, text, (size_t)bytes);
    }
    grdi_writer_print(w, "\"");
}

/* The shortest decimal that reads back as the same number. */
static void write_number(grdi_writer *w, double value)
{
    char text[32];
    for (int digits = 6; digits <= 17; digits++) {
        snprintf(text, sizeof(text), "%.*g", digits, value);
        if (strtod(text, NULL) == value) break;
    }
    grdi_writer_print(w, "%s", text);
}

static void write_named(grdi_writer *w, const char *name, bool given, double value)
{
    if (!given) return;
    grdi_writer_print(w, "%s", name);
    write_number(w, value);
}

static void write_groups(grdi_writer *w, const grd_settings *s)
{
    grdi_writer_print(w, "[");
    for (int i = 0; i < s->train.group_count; i++) {
        const grd_group_settings *g = &s->train.groups[i];
        grdi_writer_print(w, "%s{match: ", i ? ", " : "");
        write_text(w, g->match);
        if (g->optimizer[0]) grdi_writer_print(w, ", optimizer: %s", g->optimizer);
        write_named(w, ", lr: ", g->lr > 0, g->lr);
        write_named(w, ", lr_scale: ", g->lr_scale > 0, g->lr_scale);
        write_named(w, ", weight_decay: ", g->weight_decay >= 0, g->weight_decay);
        if (g->frozen) grdi_writer_print(w, ", frozen: true");
        grdi_writer_print(w, "}");
    }
    grdi_writer_print(w, "]");
}

static void write_value(grdi_writer *w, const grdi_key *key, const grd_settings *s)
{
    const void *field = grdi_key_field(key, s);
    switch (key->kind) {
    case GRDI_KEY_INT: grdi_writer_print(w, "%lld", (long long)*(const int64_t *)field); break;
    case GRDI_KEY_INT32: grdi_writer_print(w, "%d", *(const int32_t *)field); break;
    case GRDI_KEY_FLOAT: write_number(w, *(const double *)field); break;
    case GRDI_KEY_FLOAT2:
        grdi_writer_print(w, "[");
        write_number(w, ((const double *)field)[0]);
        grdi_writer_print(w, ", ");
        write_number(w, ((const double *)field)[1]);
        grdi_writer_print(w, "]");
        break;
    case GRDI_KEY_FLAG: grdi_writer_print(w, *(const bool *)field ? "true" : "false"); break;
    case GRDI_KEY_CHOICE: grdi_writer_print(w, "%s", key->choices[*(const int *)field]); break;
    case GRDI_KEY_TEXT: write_text(w, *(char *const *)field); break;
    case GRDI_KEY_GROUPS: write_groups(w, s); break;
    case GRDI_KEY_FILES: {
        int count = *(const int *)((const char *)s + key->count_offset);
        grdi_writer_print(w, "[");
        for (int i = 0; i < count; i++) {
            if (i) grdi_writer_print(w, ", ");
            write_text(w, ((char *const *)field)[i]);
        }
        grdi_writer_print(w, "]");
    }
    }
}

/* Keys that say nothing are left out: texts and lists that are not set, choices that the kind decides, sizes that are
 * unknown. */
static bool is_set(const grdi_key *key, const grd_settings *s)
{
    const void *field = grdi_key_field(key, s);
    switch (key->kind) {
    case GRDI_KEY_TEXT: return *(char *const *)field != NULL;
    case GRDI_KEY_CHOICE: return *(const int *)field >= 0;
    case GRDI_KEY_FILES:
    case GRDI_KEY_GROUPS: return *(const int *)((const char *)s + key->count_offset) > 0;
    case GRDI_KEY_INT: return key->least <= (double)*(const int64_t *)field;
    default: return true;
    }
}

grd_status grd_settings_save(const grd_settings *s, const char *path, grd_error *error)
{
    grdi_writer w;
    if (grdi_writer_open(&w, path)) return grdi_writer_commit(&w, error);
    char section[PATH_TEXT_MAX] = "";
    for (size_t i = 0; i < grdi_key_count; i++) {
        const grdi_key *key = &grdi_keys[i];
        const char *dot = strchr(key->path, '.');
        if (!is_set(key, s)) continue;
        if (dot && (strncmp(section, key->path, (size_t)(dot - key->path)) != 0 || section[dot - key->path])) {
            snprintf(section, sizeof(section), "%.*s", (int)(dot - key->path), key->path);
            grdi_writer_print(&w, "%s:\n", section);
        }
        grdi_writer_print(&w, "%s%s: ", dot ? "  " : "", dot ? dot + 1 : key->path);
        write_value(&w, key, s);
        grdi_writer_print(&w, "\n");
    }
    return grdi_writer_commit(&w, error);
}
