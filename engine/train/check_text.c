/* check_text.c - texts and token shards: whether validation was trained on, text that was decoded twice. Near
 * duplicates are found by pieces of the text whose hashes are remembered (Broder, "On the resemblance and containment
 * of documents", 1997); which pieces that are depends on their hashes alone, so that both parts choose the same. */
#include "train/check_set.h"

#include <math.h>
#include <string.h>

enum { TEXT_PIECE = 48, IDS_PIECE = 16, PIECE_MAX = 64, REMEMBERED = 1 << 20 };
#define OVERLAP_MOST 0.2  /* of the pieces of the validation part */
#define REPEATED_MOST 0.5 /* of those of the training part */
#define GARBLED_MOST 5e-4 /* of the characters */

/* A rolling hash over the last `length` units. */
typedef struct roller {
    uint64_t hash, leaving; /* leaving: BASE to the power of length */
    uint32_t last[PIECE_MAX];
    int length, at;
    int64_t seen;
    uint64_t rest; /* a piece is taken where its hash has none of these bits */
} roller;

#define BASE 0x9E3779B97F4A7C15u

static uint64_t mixed(uint64_t x)
{
    x = (x ^ x >> 32) * 0xD6E8FEB86659FD93u;
    x = (x ^ x >> 29) * 0xA5CB9243F3A2B5C9u;
    return x ^ x >> 32;
}

static roller roller_new(int length, uint64_t rest)
{
    roller r = {.length = length, .leaving = 1, .rest = rest};
    for (int i = 0; i < length; i++) r.leaving *= BASE;
    return r;
}

/* True where a piece ends that is to be taken; *hash is then its hash. */
static bool roll(roller *r, uint32_t unit, uint64_t *hash)
{
    uint32_t out = r->seen >= r->length ? r->last[r->at] + 1 : 0;
    r->hash = r->hash * BASE + unit + 1 - r->leaving * out;
    r->last[r->at] = unit;
    r->at = (r->at + 1) % r->length;
    if (++r->seen < r->length) return false;
    *hash = mixed(r->hash);
    return !(*hash & r->rest);
}

/* A power of two less one, so that about REMEMBERED pieces of so many are taken. */
static uint64_t rest_for(int64_t units)
{
    uint64_t rest = 0;
    while (units / (int64_t)(rest + 1) > REMEMBERED) rest = 2 * rest + 1;
    return rest;
}

typedef struct pieces {
    grdi_hashes training;
    int64_t taken[2], known[2]; /* by part: pieces, and those that training had before */
    bool failed;
} pieces;

static void take(pieces *p, int part, uint64_t hash)
{
    p->taken[part]++;
    int64_t before = part ? grdi_hashes_find(&p->training, hash) : grdi_hashes_note(&p->training, hash, 0);
    p->failed |= before == -2;
    p->known[part] += before >= 0;
}

static grd_status tell(grdi_checker *c, pieces *p, bool has_validation, const char *what)
{
    grdi_hashes_free(&p->training);
    if (p->failed) return grd_fail(c->error, GRD_E_MEMORY, "out of memory for pieces of the text");
    double repeated = p->taken[0] ? (double)p->known[0] / (double)p->taken[0] : 0;
    grdi_check_result(c, "repetition", repeated <= REPEATED_MOST,
                      "look at what is repeated: the model learns it by heart, and the loss says less than it seems to",
                      "%.2f%% of the training part's %s are repetitions", 100 * repeated, what);
    if (has_validation && p->taken[1]) grdi_check_overlap(c, p->known[1], p->taken[1], what, OVERLAP_MOST);
    return GRD_OK;
}

/* ---- texts ---- */

/* A text in lower case, with one space for each run of white space: what a copy keeps when it is set anew. */
static void take_text(pieces *p, int part, grd_text text, uint64_t rest)
{
    roller r = roller_new(TEXT_PIECE, rest);
    const uint8_t *bytes = text.data;
    bool space = false;
    uint64_t hash;
    for (size_t i = 0; i < text.size_bytes; i++) {
        uint8_t b = bytes[i];
        bool white = b == ' ' || (b >= '\t' && b <= '\r');
        if (white && space) continue;
        space = white;
        b = white ? ' ' : b >= 'A' && b <= 'Z' ? (uint8_t)(b + 32) : b;
        if (roll(&r, b, &hash)) take(p, part, hash);
    }
}

/* Characters that replace what could not be decoded, and pairs that UTF-8 gives when it was taken for Latin-1 and
 * written as UTF-8 again (C3 83 C2 80..BF, C3 82 C2 80..BF, C3 A2 E2 82 AC). */
static int64_t garbled(grd_text text)
{
    const uint8_t *b = text.data;
    int64_t count = 0;
    for (size_t i = 0; i + 5 <= text.size_bytes; i++) {
        if (b[i] < 0xC3) continue;
        bool replaced = b[i] == 0xEF && b[i + 1] == 0xBF && b[i + 2] == 0xBD;
        bool twice = b[i] == 0xC3 && (b[i + 1] == 0x83 || b[i + 1] == 0x82) && b[i + 2] == 0xC2;
        bool quotes = b[i] == 0xC3 && b[i + 1] == 0xA2 && b[i + 2] == 0xE2 && b[i + 3] == 0x82 && b[i + 4] == 0xAC;
        count += replaced || twice || quotes;
    }
    return count;
}

grd_status grdi_check_text(grdi_checker *c, const grd_corpus *corpus)
{
    pieces p = {.failed = false};
    int64_t bad = 0, bytes = 0;
    const grd_corpus_info info = grd_corpus_about(corpus);
    uint64_t rest = rest_for(info.size_bytes[0]);
    for (int part = 0; part < 2; part++) {
        size_t count;
        const grd_text *texts = grd_corpus_texts(corpus, (grd_part)part, &count);
        for (size_t i = 0; i < count; i++) {
            if (grdi_check_stopped(c)) break;
            take_text(&p, part, texts[i], rest);
            bad += garbled(texts[i]);
            bytes += (int64_t)texts[i].size_bytes;
        }
    }
    grdi_check_result(c, "encoding", (double)bad <= GARBLED_MOST * (double)bytes,
                      "look at how the text was read and written: it was decoded with the wrong encoding",
                      "%lld places in %lld bytes look like text that was decoded wrongly", (long long)bad,
                      (long long)bytes);
    const grd_ids *ids = grd_corpus_ids(corpus, GRD_VALIDATION);
    if (ids->count > 0 && ids->unknown > 0)
        grdi_check_result(c, "unknown_characters", (double)ids->unknown <= 0.01 * (double)ids->count,
                          "look at the tokenizer: what it does not know, the model can neither read nor write",
                          "%lld of %lld characters to validate are unknown to the tokenizer", (long long)ids->unknown,
                          (long long)ids->count);
    return tell(c, &p, info.size_bytes[1] > 0, "pieces of 48 bytes");
}

/* ---- token shards ---- */

static void take_ids(pieces *p, int part, const grd_ids *ids, uint64_t rest)
{
    enum { CHUNK = 4096 };
    int32_t chunk[CHUNK];
    roller r = roller_new(IDS_PIECE, rest);
    uint64_t hash;
    for (int64_t first = 0; first < ids->count; first += CHUNK) {
        int64_t count = ids->count - first < CHUNK ? ids->count - first : CHUNK;
        grd_ids_read(ids, first, count, chunk);
        for (int64_t i = 0; i < count; i++)
            if (roll(&r, (uint32_t)chunk[i], &hash)) take(p, part, hash);
    }
}

grd_status grdi_check_ids(grdi_checker *c, const grd_ids *train, size_t train_count, const grd_ids *validation,
                          size_t validation_count)
{
    pieces p = {.failed = false};
    int64_t all = 0;
    for (size_t i = 0; i < train_count; i++) all += train[i].count;
    uint64_t rest = rest_for(all);
    for (size_t i = 0; i < train_count; i++) take_ids(&p, 0, &train[i], rest);
    for (size_t i = 0; i < validation_count; i++) take_ids(&p, 1, &validation[i], rest);
    return tell(c, &p, validation_count > 0, "pieces of 16 tokens");
}
