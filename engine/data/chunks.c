/* chunks.c - cutting texts into parts. */
#include "data/chunks.h"

#include "base/memory.h"

#include <omp.h>

/* The first place to cut at or after `target`. */
static size_t find_cut(grdi_cut cut, const grdi_splitter *splitter, const uint8_t *text, size_t size_bytes,
                       size_t target)
{
    size_t at = target, whole = size_bytes;
    switch (cut) {
    case GRDI_CUT_PIECES:
        return grdi_split_cut(splitter, text, size_bytes, target);
    case GRDI_CUT_WORDS:
        size_bytes = size_bytes - target > GRDI_CHUNK_BYTES ? target + GRDI_CHUNK_BYTES : size_bytes;
        at = grdi_split_cut(splitter, text, size_bytes, target);
        if (at < size_bytes)
            return at;
        return find_cut(GRDI_CUT_CHARS, splitter, text, whole, target);
    case GRDI_CUT_SPACES:
        while (at < size_bytes && text[at] != ' ' && text[at] != '\n')
            at++;
        return at;
    case GRDI_CUT_CHARS: /* no character has a byte like these but as its first */
        while (at < size_bytes && (text[at] & 0xC0) == 0x80)
            at++;
        return at;
    case GRDI_CUT_NEVER:
        break;
    }
    return size_bytes;
}

grd_status grdi_chunks_make(grdi_cut cut, const grdi_splitter *splitter, const grd_text *texts, size_t count,
                            grdi_chunks *chunks, grd_error *error)
{
    *chunks = (grdi_chunks){0};
    for (size_t t = 0; t < count; t++) {
        const uint8_t *text = texts[t].data;
        for (size_t at = 0, size = texts[t].size_bytes; at < size;) {
            size_t end = size;
            if (size - at > GRDI_CHUNK_BYTES)
                end = at + find_cut(cut, splitter, text + at, size - at, GRDI_CHUNK_BYTES);
            if (!GRDI_GROW(chunks->parts, chunks->capacity, chunks->count) ||
                !GRDI_GROW(chunks->text_of, chunks->text_capacity, chunks->count)) {
                grdi_chunks_free(chunks);
                return grd_fail(error, GRD_E_MEMORY, "tokenizer: out of memory");
            }
            chunks->parts[chunks->count] = (grd_text){text + at, end - at};
            chunks->text_of[chunks->count++] = t;
            at = end;
        }
    }
    return GRD_OK;
}

void grdi_chunks_free(grdi_chunks *chunks)
{
    grdi_free(chunks->parts);
    grdi_free(chunks->text_of);
    *chunks = (grdi_chunks){0};
}

int grdi_chunks_threads(const grdi_chunks *chunks, int32_t threads)
{
    size_t wanted = threads > 0 ? (size_t)threads : (size_t)omp_get_max_threads();
    if (wanted > chunks->count)
        wanted = chunks->count;
    return wanted > 0 ? (int)wanted : 1;
}
