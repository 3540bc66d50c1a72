/* nfc.c - normal form C: take characters apart, put marks in order, join what belongs together (UAX #15). */
#include "data/nfc.h"

#include "base/memory.h"
#include "data/utf8.h"

#include <string.h>

/* Hangul syllables are arithmetic (The Unicode Standard, 3.12): leading consonant, vowel, maybe trailing consonant. */
enum { S_BASE = 0xAC00, L_BASE = 0x1100, V_BASE = 0x1161, T_BASE = 0x11A7, L_COUNT = 19, V_COUNT = 21, T_COUNT = 28 };
enum { S_COUNT = L_COUNT * V_COUNT * T_COUNT };

/* A byte that is not UTF-8, among code points. */
static const uint32_t raw_byte = 0x80000000u;

enum { CLASS_SHIFT = 21, CODE_POINT = 0x1FFFFF };

typedef struct letters {
    uint32_t *list; /* code point, and above it the combining class */
    size_t count, capacity;
} letters;

/* ---- tables ---- */

static const grdi_nfc_range *find_range(const grdi_nfc_range *ranges, int count, uint32_t c)
{
    int low = 0, high = count;
    while (low < high) {
        int middle = (low + high) / 2;
        if (ranges[middle].last < c)
            low = middle + 1;
        else
            high = middle;
    }
    return low < count && ranges[low].first <= c ? &ranges[low] : NULL;
}

static uint8_t class_of(uint32_t c)
{
    const grdi_nfc_range *mark = c < 0x300 ? NULL : find_range(grdi_nfc_marks, grdi_nfc_mark_count, c);
    return mark ? mark->value : 0;
}

static const grdi_nfc_part *parts_of(uint32_t c)
{
    int low = 0, high = grdi_nfc_part_count;
    while (low < high) {
        int middle = (low + high) / 2;
        if (grdi_nfc_parts[middle].whole < c)
            low = middle + 1;
        else
            high = middle;
    }
    return low < grdi_nfc_part_count && grdi_nfc_parts[low].whole == c ? &grdi_nfc_parts[low] : NULL;
}

/* The character that two make together, or 0. */
static uint32_t joined(uint32_t a, uint32_t b)
{
    if (a - L_BASE < L_COUNT && b - V_BASE < V_COUNT)
        return S_BASE + ((a - L_BASE) * V_COUNT + (b - V_BASE)) * T_COUNT;
    if (a - S_BASE < S_COUNT && (a - S_BASE) % T_COUNT == 0 && b > T_BASE && b < T_BASE + T_COUNT)
        return a + (b - T_BASE);
    int low = 0, high = grdi_nfc_join_count;
    while (low < high) {
        int middle = (low + high) / 2;
        const grdi_nfc_part *part = &grdi_nfc_parts[grdi_nfc_joins[middle]];
        if (part->first < a || (part->first == a && part->second < b))
            low = middle + 1;
        else
            high = middle;
    }
    const grdi_nfc_part *part = low < grdi_nfc_join_count ? &grdi_nfc_parts[grdi_nfc_joins[low]] : NULL;
    return part && part->first == a && part->second == b ? part->whole : 0;
}

/* ---- the three steps ---- */

static uint32_t kept_class(uint32_t letter) { return letter >> CLASS_SHIFT & 0xFF; }

static bool add(letters *l, uint32_t c)
{
    if (!GRDI_GROW(l->list, l->capacity, l->count))
        return false;
    l->list[l->count++] = c | (uint32_t)class_of(c) << CLASS_SHIFT;
    return true;
}

static bool take_apart(letters *l, uint32_t c)
{
    if (c - S_BASE < S_COUNT) {
        uint32_t s = c - S_BASE, t = s % T_COUNT;
        return add(l, L_BASE + s / (V_COUNT * T_COUNT)) && add(l, V_BASE + s % (V_COUNT * T_COUNT) / T_COUNT) &&
               (t == 0 || add(l, T_BASE + t));
    }
    const grdi_nfc_part *part = c < 0xC0 || c >= raw_byte ? NULL : parts_of(c);
    if (!part)
        return add(l, c);
    return take_apart(l, part->first) && (part->second == 0 || take_apart(l, part->second));
}

/* Sorts each run of marks by class; equal classes keep their order. */
static void put_in_order(letters *l)
{
    for (size_t i = 1; i < l->count; i++) {
        uint32_t moving = l->list[i], class = kept_class(moving);
        size_t at = i;
        for (; class > 0 && at > 0 && kept_class(l->list[at - 1]) > class; at--)
            l->list[at] = l->list[at - 1];
        l->list[at] = moving;
    }
}

/* Joins each character to the last one without class, unless one of the same or a higher class stands between. */
static void join(letters *l)
{
    size_t kept = 0, starter = SIZE_MAX;
    uint32_t last_class = 0;
    for (size_t i = 0; i < l->count; i++) {
        uint32_t letter = l->list[i], class = kept_class(letter);
        bool reachable = starter != SIZE_MAX && !(letter & raw_byte) && !(l->list[starter] & raw_byte) &&
                         (kept == starter + 1 || (last_class < class && last_class > 0));
        uint32_t whole = reachable ? joined(l->list[starter], letter & CODE_POINT) : 0;
        if (whole) {
            l->list[starter] = whole;
            continue;
        }
        if (class == 0)
            starter = kept;
        last_class = class;
        l->list[kept++] = letter;
    }
    l->count = kept;
}

bool grdi_nfc_is_plain(const uint8_t *text, size_t size_bytes)
{
    for (size_t at = 0; at < size_bytes;) {
        if (text[at] < 0xCC) { /* below U+0300 all is plain */
            at++;
            continue;
        }
        uint32_t c;
        int length = grdi_utf8_decode(text + at, size_bytes - at, &c);
        bool common = length > 0 && ((c >= 0x4E00 && c <= 0x9FFF) || (c >= 0x3D0 && c <= 0x482));
        if (length > 0 && !common && find_range(grdi_nfc_touchy, grdi_nfc_touchy_count, c))
            return false;
        at += length > 0 ? (size_t)length : 1;
    }
    return true;
}

uint8_t *grdi_nfc(const uint8_t *text, size_t size_bytes, size_t *result_bytes)
{
    letters l = {0};
    bool ok = true;
    for (size_t at = 0; at < size_bytes && ok;) {
        uint32_t c;
        int length = grdi_utf8_decode(text + at, size_bytes - at, &c);
        ok = length > 0 ? take_apart(&l, c) : add(&l, raw_byte | text[at]);
        at += length > 0 ? (size_t)length : 1;
    }
    put_in_order(&l);
    join(&l);
    uint8_t *result = ok ? grdi_alloc(4 * l.count) : NULL;
    *result_bytes = 0;
    for (size_t i = 0; i < l.count && result; i++) {
        if (l.list[i] & raw_byte)
            result[(*result_bytes)++] = (uint8_t)l.list[i];
        else
            *result_bytes += (size_t)grdi_utf8_encode(l.list[i] & CODE_POINT, result + *result_bytes);
    }
    grdi_free(l.list);
    return result;
}
