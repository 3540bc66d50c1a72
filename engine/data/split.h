/* split.h - cutting text into the pieces that byte-pair merges stay within (pre-tokenising) by regular expressions. */
#ifndef GRDI_SPLIT_H
#define GRDI_SPLIT_H

#include <gradus/base.h>

/* A splitter applies its patterns one after the other: every match of the first is a piece and so is every stretch
 * between matches; the next pattern cuts those pieces further. It never changes once made; threads may share it.
 * Without patterns a text is one piece. */
typedef struct grdi_splitter grdi_splitter;

enum { GRDI_SPLIT_LEVELS = 8 };

typedef struct grdi_split_rule {
    const char *pattern;
    bool literal; /* `pattern` is plain text, not a regular expression */
} grdi_split_rule;

extern const char grdi_pattern_gpt2[], grdi_pattern_llama3[], grdi_pattern_qwen2[],
    grdi_pattern_o200k[], grdi_pattern_digit[], grdi_pattern_digits[];

/* Compiles the patterns; GRD_E_FORMAT when one is no regular expression. Free with grdi_splitter_free(). */
grd_status grdi_splitter_new(const grdi_split_rule *rules, int32_t count, grdi_splitter **splitter, grd_error *error);
void grdi_splitter_free(grdi_splitter *splitter);
/* For tests: leaves every byte to the regular expressions, without the short cuts for ASCII text. */
void grdi_splitter_plain(grdi_splitter *splitter);

/* What one thread needs beside the splitter. */
typedef struct grdi_split_work grdi_split_work;
grd_status grdi_split_work_new(const grdi_splitter *splitter, grdi_split_work **work, grd_error *error);
void grdi_split_work_free(grdi_split_work *work);

typedef grd_status (*grdi_piece_function)(void *context, const uint8_t *piece, size_t size_bytes, grd_error *error);

/* Calls `function` for each piece of the text in order; stops at the first status that is not GRD_OK. A run of bytes
 * that are not UTF-8 is a piece of its own, and the text on each side is cut as if it began or ended there. */
grd_status grdi_split_text(const grdi_splitter *splitter, grdi_split_work *work, const uint8_t *text, size_t size_bytes,
                           grdi_piece_function function, void *context, grd_error *error);

/* The first place at or after `target` where the text can be cut in two so that the pieces of the parts are the pieces
 * of the whole; size_bytes when there is none. Known patterns only: with others the text is never cut. */
size_t grdi_split_cut(const grdi_splitter *splitter, const uint8_t *text, size_t size_bytes, size_t target);

#endif
