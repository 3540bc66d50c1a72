/* fuzz_split.c - cutting any bytes into pieces: with the short cuts for ASCII the pieces are those of the regular
 * expressions alone, and together they are the text. The first byte chooses the patterns. */
#include "fuzz.h"

#include "data/split.h"

#include <string.h>

enum { PIECES_MAX = 4096, PATTERNS = 6 };

typedef struct pieces {
    const uint8_t *at; /* where the last one ended */
    size_t ends[PIECES_MAX], count;
    const uint8_t *text;
} pieces;

static grd_status take(void *context, const uint8_t *piece, size_t size, grd_error *error)
{
    (void)error;
    pieces *p = context;
    FUZZ_CHECK(piece == p->at && size > 0 && p->count < PIECES_MAX);
    p->at += size;
    p->ends[p->count++] = (size_t)(p->at - p->text);
    return GRD_OK;
}

static grdi_splitter *splitter_for(int pattern, bool plain)
{
    static grdi_splitter *made[PATTERNS][2];
    const char *const patterns[] = {grdi_pattern_gpt2,  grdi_pattern_llama3, grdi_pattern_qwen2,
                                    grdi_pattern_o200k, grdi_pattern_digit,  grdi_pattern_digits};
    grdi_split_rule rules[2] = {{patterns[pattern], false}, {grdi_pattern_gpt2, false}};
    grdi_splitter **splitter = &made[pattern][plain];
    if (!*splitter) {
        FUZZ_CHECK(grdi_splitter_new(rules, pattern >= 4 ? 2 : 1, splitter, NULL) == GRD_OK);
        if (plain) grdi_splitter_plain(*splitter);
    }
    return *splitter;
}

static void split(int pattern, bool plain, pieces *p, const uint8_t *text, size_t size)
{
    static grdi_split_work *works[PATTERNS][2];
    grdi_splitter *splitter = splitter_for(pattern, plain);
    grd_error error = {0};
    if (!works[pattern][plain])
        FUZZ_CHECK(grdi_split_work_new(splitter, &works[pattern][plain], NULL) == GRD_OK);
    p->at = p->text = text;
    p->count = 0;
    FUZZ_CHECK(grdi_split_text(splitter, works[pattern][plain], text, size, take, p, &error) == GRD_OK);
    FUZZ_CHECK(p->at == text + size);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static pieces fast, plain;
    fuzz_input in = {data, data + size};
    int pattern = fuzz_below(&in, PATTERNS);
    size_t length = (size_t)(in.end - in.at);
    if (length > PIECES_MAX) return 0;
    split(pattern, false, &fast, in.at, length);
    split(pattern, true, &plain, in.at, length);
    FUZZ_CHECK(fast.count == plain.count && memcmp(fast.ends, plain.ends, fast.count * sizeof fast.ends[0]) == 0);
    size_t cut = grdi_split_cut(splitter_for(pattern, false), in.at, length, length / 2), i = 0;
    FUZZ_CHECK(cut <= length && (length == 0 || cut >= length / 2));
    while (i < fast.count && fast.ends[i] < cut) i++;
    FUZZ_CHECK(cut == 0 || cut == length || (i < fast.count && fast.ends[i] == cut));
    return 0;
}
