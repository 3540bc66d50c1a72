/* nfc.h - Unicode's normal form C (UAX #15), which Qwen's tokenizers ask for. */
#ifndef GRDI_NFC_H
#define GRDI_NFC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* True when the text is certainly in normal form C: every ASCII text, and nearly all others. */
bool grdi_nfc_is_plain(const uint8_t *text, size_t size_bytes);
/* The text in normal form C; free with grdi_free(). NULL when out of memory. Bytes that are not UTF-8 stay. */
uint8_t *grdi_nfc(const uint8_t *text, size_t size_bytes, size_t *result_bytes);

/* ---- the tables ---- */

typedef struct grdi_nfc_part {
    uint32_t whole, first, second; /* the canonical decomposition; second 0: into one character */
} grdi_nfc_part;

typedef struct grdi_nfc_range {
    uint32_t first, last;
    uint8_t value;
} grdi_nfc_range;

extern const grdi_nfc_part grdi_nfc_parts[];   /* by `whole`; without Hangul syllables */
extern const int grdi_nfc_part_count;
extern const uint16_t grdi_nfc_joins[];        /* the parts that may be joined again, by first, then second */
extern const int grdi_nfc_join_count;
extern const grdi_nfc_range grdi_nfc_marks[];  /* the combining class of each mark */
extern const int grdi_nfc_mark_count;
extern const grdi_nfc_range grdi_nfc_touchy[]; /* what a text in normal form C lacks or has in order */
extern const int grdi_nfc_touchy_count;

#endif
