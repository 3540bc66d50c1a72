/* corpus.c - text files as training and validation parts. */
#include "data/corpus.h"

#include "base/memory.h"
#include "data/tokenizer.h"
#include "data/utf8.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <xxhash.h>

/* Deeper folders are taken for a circle of links. */
enum { FOLDER_DEPTH_MAX = 32 };

static grd_status out_of_memory(const char *path, grd_error *error)
{
    return grd_fail(error, GRD_E_MEMORY, "%s: out of memory", path);
}

/* ---- files ---- */

static grd_status check_is_text(const char *path, const uint8_t *text, size_t size_bytes, grd_error *error)
{
    if (size_bytes >= 2 && (memcmp(text, "\xFF\xFE", 2) == 0 || memcmp(text, "\xFE\xFF", 2) == 0))
        return grd_fail(error, GRD_E_FORMAT, "%s: is UTF-16 text (convert it to UTF-8, for example with iconv)", path);
    const uint8_t *zero = memchr(text, 0, size_bytes);
    if (zero)
        return grd_fail(error, GRD_E_FORMAT,
                        "%s: is no text: byte %zu is zero (give a UTF-8 text file; of images the folder they lie in)",
                        path, (size_t)(zero - text));
    return GRD_OK;
}

/* Counts files with bytes that are not UTF-8, and remembers where the first is. */
static void note_invalid(grd_corpus *corpus, const char *path, const uint8_t *bytes, size_t size_bytes)
{
    size_t valid = grdi_utf8_valid(bytes, size_bytes);
    if (valid == size_bytes || corpus->info.invalid_files++ > 0)
        return;
    snprintf(corpus->invalid, sizeof(corpus->invalid), "%s: byte %zu (0x%02x) is not UTF-8", path, valid, bytes[valid]);
}

/* The text in the bytes of a file, which may be empty. */
static grd_status find_text(grd_corpus *corpus, const char *path, const uint8_t *bytes, size_t size_bytes,
                            grd_text *text, grd_error *error)
{
    bool marked = size_bytes >= 3 && memcmp(bytes, "\xEF\xBB\xBF", 3) == 0;
    *text = marked ? (grd_text){bytes + 3, size_bytes - 3} : (grd_text){bytes, size_bytes};
    grd_status status = check_is_text(path, text->data, text->size_bytes, error);
    if (status == GRD_OK && text->size_bytes > 0 &&
        (!GRDI_GROW(corpus->files, corpus->file_capacity, corpus->count) ||
         !GRDI_GROW(corpus->texts, corpus->text_capacity, corpus->count)))
        status = out_of_memory(path, error);
    if (status == GRD_OK)
        note_invalid(corpus, path, bytes, size_bytes);
    if (status == GRD_OK)
        corpus->info.checksum = XXH3_64bits_withSeed(text->data, text->size_bytes, corpus->info.checksum);
    corpus->info.empty_files += status == GRD_OK && text->size_bytes == 0;
    corpus->info.marks += status == GRD_OK && text->size_bytes > 0 && marked;
    return status;
}

static grd_status add_file(grd_corpus *corpus, const char *path, grd_error *error)
{
    grdi_mapping file;
    grd_text text;
    grd_status status = grdi_file_map(path, &file, error);
    if (status != GRD_OK)
        return status;
    status = find_text(corpus, path, file.data, file.size_bytes, &text, error);
    if (status != GRD_OK || text.size_bytes == 0) {
        grdi_file_unmap(&file);
        return status;
    }
    grdi_file.release((void *)file.data, file.size_bytes);
    corpus->files[corpus->count] = file;
    corpus->texts[corpus->count++] = text;
    return GRD_OK;
}

/* ---- small files ---- */

/* Reads a small file and puts its text behind those gathered before. */
static grd_status gather(grd_corpus *corpus, const char *path, grd_error *error)
{
    char *bytes;
    size_t size_bytes;
    grd_text text;
    grd_status status = grdi_file_read(path, GRDI_CORPUS_SMALL_BYTES, &bytes, &size_bytes, error);
    if (status != GRD_OK)
        return status;
    status = find_text(corpus, path, (const uint8_t *)bytes, size_bytes, &text, error);
    if (status == GRD_OK && text.size_bytes > 0 && corpus->gathering < 0)
        status = grdi_file_open_unnamed(corpus->scratch, &corpus->gathering, error);
    if (status == GRD_OK && text.size_bytes > 0)
        status = grdi_file_put(corpus->gathering, "file of gathered texts", text.data, text.size_bytes, error);
    if (status == GRD_OK && text.size_bytes > 0) {
        corpus->files[corpus->count] = (grdi_mapping){NULL, corpus->gathered_bytes};
        corpus->texts[corpus->count++] = (grd_text){NULL, text.size_bytes};
        corpus->gathered_bytes += text.size_bytes;
    }
    grdi_free(bytes);
    return status;
}

/* All files were found: the gathered texts get their places in memory. */
static grd_status map_gathered(grd_corpus *corpus, grd_error *error)
{
    if (corpus->gathering < 0)
        return GRD_OK;
    const uint8_t *data = grdi_file.map(corpus->gathering, corpus->gathered_bytes);
    if (!data)
        return grd_fail_system(error, "file of gathered texts", "map");
    corpus->gathered = (grdi_mapping){data, corpus->gathered_bytes};
    for (size_t i = 0; i < corpus->count; i++)
        if (!corpus->files[i].data)
            corpus->texts[i].data = data + corpus->files[i].size_bytes;
    return GRD_OK;
}

/* A file of a folder: what is no text is left out, and the first such file remembered with the reason. */
static grd_status add_found(grd_corpus *corpus, const char *path, grd_error *error)
{
    grd_error why = {GRD_OK, ""};
    bool small = corpus->count >= GRDI_CORPUS_MAPPED && grdi_file_size(path) <= GRDI_CORPUS_SMALL_BYTES;
    if (grdi_path_is_file(path))
        small ? gather(corpus, path, &why) : add_file(corpus, path, &why);
    else
        grd_fail(&why, GRD_E_FORMAT, "%s: is no ordinary file", path);
    if (why.status != GRD_OK && why.status != GRD_E_FORMAT)
        return grd_fail(error, why.status, "%s", why.message);
    if (why.status == GRD_E_FORMAT && corpus->info.skipped_files++ == 0)
        snprintf(corpus->skipped, sizeof(corpus->skipped), "%s", why.message);
    return GRD_OK;
}

static grd_status add_path(grd_corpus *corpus, const char *path, int depth, grd_error *error);

static grd_status add_folder(grd_corpus *corpus, const char *path, int depth, grd_error *error)
{
    char **names;
    size_t count;
    if (depth > FOLDER_DEPTH_MAX)
        return grd_fail(error, GRD_E_IO, "%s: more than %d folders inside each other", path, FOLDER_DEPTH_MAX);
    grd_status status = grdi_directory_list(path, &names, &count, error);
    if (status != GRD_OK)
        return status;
    for (size_t i = 0; i < count && status == GRD_OK; i++) {
        if (names[i][0] == '.')
            continue;
        char *inside = grdi_path_join(path, names[i]);
        status = inside ? add_path(corpus, inside, depth + 1, error) : out_of_memory(path, error);
        grdi_free(inside);
    }
    grdi_names_free(names, count);
    return status;
}

static grd_status add_path(grd_corpus *corpus, const char *path, int depth, grd_error *error)
{
    if (grdi_path_is_directory(path))
        return add_folder(corpus, path, depth, error);
    return depth > 0 ? add_found(corpus, path, error) : add_file(corpus, path, error);
}

/* ---- splitting ---- */

/* Where the validation part of one text begins: after the first line end at or after `wanted`; where there is none in
 * the first half of what is left, after a space there; else between characters. */
static size_t find_split(const uint8_t *text, size_t size_bytes, size_t wanted)
{
    size_t near = (size_bytes - wanted) / 2;
    const uint8_t *found = memchr(text + wanted, '\n', near);
    if (!found)
        found = memchr(text + wanted, ' ', near);
    if (found)
        return (size_t)(found - text) + 1;
    while (wanted > 0 && (text[wanted] & 0xC0) == 0x80)
        wanted--;
    return wanted;
}

static void split_text(grd_corpus *corpus, double part)
{
    const uint8_t *text = corpus->texts[0].data;
    size_t size = corpus->texts[0].size_bytes, wanted = (size_t)((double)size * (1 - part));
    size_t at = part > 0 && wanted < size ? find_split(text, size, wanted) : size;
    corpus->halves[GRD_TRAIN] = (grd_text){text, at};
    corpus->halves[GRD_VALIDATION] = (grd_text){text + at, size - at};
    for (int i = 0; i < 2; i++)
        corpus->part[i] = (grdi_corpus_part){.texts = &corpus->halves[i], .count = corpus->halves[i].size_bytes > 0};
}

/* Whole files from the end, until they are at least `part` of the bytes; one is left for training. */
static void split_folder(grd_corpus *corpus, double part)
{
    double total = 0, taken = 0;
    for (size_t i = 0; i < corpus->count; i++)
        total += (double)corpus->texts[i].size_bytes;
    size_t first = corpus->count;
    while (first > 1 && taken < part * total)
        taken += (double)corpus->texts[--first].size_bytes;
    corpus->part[GRD_TRAIN] = (grdi_corpus_part){.texts = corpus->texts, .count = first};
    corpus->part[GRD_VALIDATION] = (grdi_corpus_part){.texts = corpus->texts + first, .count = corpus->count - first};
}

static grd_status open_and_split(grd_corpus *corpus, const char *path, double part, bool pipes, grd_error *error)
{
    if (!(part >= 0 && part < 1))
        return grd_fail(error, GRD_E_ARGUMENT, "validation_part: %g is not between 0 and 1", part);
    if (!grdi_path_exists(path))
        return errno == ENOENT ? grd_fail(error, GRD_E_IO, "%s: no such file or folder (give a UTF-8 text file or a "
                                          "folder of them)", path)
                               : grd_fail_system(error, path, "open");
    if (!pipes && grdi_path_is_stream(path))
        return grd_fail(error, GRD_E_IO, "%s: is a pipe or a device, and a text to train on is read more than once "
                        "(save it as a file first)", path);
    grd_status status = add_path(corpus, path, 0, error);
    if (status == GRD_OK)
        status = map_gathered(corpus, error);
    if (status != GRD_OK)
        return status;
    if (corpus->count == 0 && corpus->info.skipped_files > 0)
        return grd_fail(error, GRD_E_FORMAT, "%s: holds no text (left out: %s)", path, corpus->skipped);
    if (corpus->count == 0)
        return grd_fail(error, GRD_E_FORMAT, "%s: is empty (give a file that holds text)", path);
    if (corpus->count == 1)
        split_text(corpus, part);
    else
        split_folder(corpus, part);
    corpus->info.files = (int64_t)corpus->count;
    for (int p = 0; p < 2; p++)
        for (size_t i = 0; i < corpus->part[p].count; i++)
            corpus->info.size_bytes[p] += (int64_t)corpus->part[p].texts[i].size_bytes;
    return GRD_OK;
}

/* ---- public ---- */

grd_status grd_corpus_open(const char *path, const grd_corpus_options *given, grd_corpus **made, grd_error *error)
{
    grd_corpus_options options = {0};
    if (given)
        memcpy(&options, given, given->size > 0 && given->size < sizeof(options) ? given->size : sizeof(options));
    *made = NULL;
    grd_corpus *corpus = grdi_alloc_zero(1, sizeof(*corpus));
    if (!corpus)
        return out_of_memory(path, error);
    corpus->threads = options.threads;
    corpus->gathering = -1;
    corpus->scratch_from = options.scratch_from;
    if (options.scratch && !(corpus->scratch = grdi_strdup(options.scratch))) {
        grd_corpus_free(corpus);
        return out_of_memory(path, error);
    }
    double part = options.validation_part != 0 ? options.validation_part : 0.1;
    grd_status status = open_and_split(corpus, path, options.no_validation ? 0 : part, options.pipes, error);
    if (status != GRD_OK) {
        grd_corpus_free(corpus);
        return status;
    }
    *made = corpus;
    return GRD_OK;
}

/* What was read stays in the system's cache, but is not ours any more. */
static void release_files(const grd_corpus *corpus)
{
    for (size_t i = 0; i < corpus->count; i++)
        if (corpus->files[i].data)
            grdi_file.release((void *)corpus->files[i].data, corpus->files[i].size_bytes);
    if (corpus->gathered.size_bytes > 0)
        grdi_file.release((void *)corpus->gathered.data, corpus->gathered.size_bytes);
}

static void free_ids(grdi_corpus_part *part)
{
    if (part->file.size_bytes > 0)
        grdi_file_unmap(&part->file);
    else
        grd_ids_free(&part->ids);
    part->ids = (grd_ids){0};
    grdi_free(part->separators);
    part->separators = NULL;
}

void grd_corpus_free(grd_corpus *corpus)
{
    if (!corpus)
        return;
    for (size_t i = 0; i < corpus->count; i++)
        if (corpus->files[i].data)
            grdi_file_unmap(&corpus->files[i]);
    if (corpus->gathered.size_bytes > 0)
        grdi_file_unmap(&corpus->gathered);
    if (corpus->gathering >= 0)
        grdi_file.close(corpus->gathering);
    for (int p = 0; p < 2; p++)
        free_ids(&corpus->part[p]);
    grdi_free(corpus->scratch);
    grdi_free(corpus->files);
    grdi_free(corpus->texts);
    grdi_free(corpus);
}

const grd_text *grd_corpus_texts(const grd_corpus *corpus, grd_part part, size_t *count)
{
    *count = corpus->part[part].count;
    return corpus->part[part].texts;
}

grd_status grd_corpus_fits(const grd_corpus *corpus, grd_tokenizer_kind kind, grd_error *error)
{
    if (kind != GRD_TOKENIZER_CHAR || corpus->info.invalid_files == 0)
        return GRD_OK;
    return grd_fail(error, GRD_E_FORMAT, "%s, and a char tokenizer knows no other (convert the text, for example with "
                    "iconv, or take bpe or byte)", corpus->invalid);
}

grd_status grdi_corpus_encode_part(grd_corpus *corpus, grd_part p, const grd_tokenizer *tokenizer, grd_error *error)
{
    bool large = corpus->info.size_bytes[0] + corpus->info.size_bytes[1] >= corpus->scratch_from;
    grdi_corpus_part *part = &corpus->part[p];
    grdi_encoding what = {.texts = part->texts, .count = part->count, .threads = corpus->threads,
                          .separator = grd_tokenizer_end_of_text(tokenizer),
                          .mapped = true,
                          .scratch = large ? corpus->scratch : NULL};
    grd_ids ids;
    grd_status status = grd_corpus_fits(corpus, tokenizer->kind, error);
    if (status == GRD_OK)
        status = grdi_encode(tokenizer, &what, &ids, error);
    if (status != GRD_OK)
        return status;
    free_ids(part);
    part->ids = ids;
    part->file = what.file;
    part->separators = what.separators;
    part->separator_count = what.separator_count;
    corpus->info.count[p] = ids.count;
    release_files(corpus);
    return GRD_OK;
}

grd_status grd_corpus_encode(grd_corpus *corpus, const grd_tokenizer *tokenizer, grd_error *error)
{
    grd_status status = GRD_OK;
    for (int p = 0; p < 2 && status == GRD_OK; p++)
        status = grdi_corpus_encode_part(corpus, (grd_part)p, tokenizer, error);
    return status;
}

const grd_ids *grd_corpus_ids(const grd_corpus *corpus, grd_part part) { return &corpus->part[part].ids; }

static const char *plural(int64_t count) { return count == 1 ? "" : "s"; }

bool grd_ids_note(const grd_ids *ids, char *line, size_t size_bytes)
{
    uint8_t first[5] = {0};
    if (ids->unknown == 0)
        return false;
    grdi_utf8_encode(ids->first_unknown, first);
    bool shown = ids->first_unknown >= ' ' && (ids->first_unknown < 0x7F || ids->first_unknown >= 0xA0);
    snprintf(line, size_bytes, "%lld character%s that the tokenizer does not know became U+FFFD (the first: %s U+%04X)",
             (long long)ids->unknown, plural(ids->unknown), shown ? (const char *)first : "",
             (unsigned)ids->first_unknown);
    return true;
}

bool grd_corpus_note(const grd_corpus *corpus, int32_t index, char *line, size_t size_bytes)
{
    const grd_corpus_info *info = &corpus->info;
    if (info->marks > 0 && index-- == 0)
        snprintf(line, size_bytes, "left out %lld byte order mark%s", (long long)info->marks, plural(info->marks));
    else if (info->skipped_files == 1 && index-- == 0)
        snprintf(line, size_bytes, "left out 1 file that is no text (%s)", corpus->skipped);
    else if (info->skipped_files > 1 && index-- == 0)
        snprintf(line, size_bytes, "left out %lld files that are no text (the first: %s)",
                 (long long)info->skipped_files, corpus->skipped);
    else if (info->invalid_files == 1 && index-- == 0)
        snprintf(line, size_bytes, "%s: such bytes are taken as they are (if it is text in another encoding, convert "
                 "it with iconv)", corpus->invalid);
    else if (info->invalid_files > 1 && index-- == 0)
        snprintf(line, size_bytes, "%lld files are not UTF-8, their bytes are taken as they are (the first: %s)",
                 (long long)info->invalid_files, corpus->invalid);
    else
        for (int p = 0; p < 2; p++)
            if (grd_ids_note(&corpus->part[p].ids, line, size_bytes) && index-- == 0)
                return true;
    return index < 0;
}

grd_corpus_info grd_corpus_about(const grd_corpus *corpus) { return corpus->info; }
