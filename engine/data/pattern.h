/* pattern.h - regular expressions as Hugging Face `tokenizers` understands them, in PCRE2's words. */
#ifndef GRDI_PATTERN_H
#define GRDI_PATTERN_H

/* What a Unicode category gained after Unicode 14, as the inside of a character class. */
typedef struct grdi_newer {
    const char *name, *ranges;
} grdi_newer;

extern const grdi_newer grdi_newer_classes[];
extern const int grdi_newer_count;

/* The pattern with those escapes spelt out that PCRE2 takes otherwise: \s (to PCRE2 U+180E is white space) and \p{L},
 * \p{N}, \p{M} (PCRE2 has the Unicode of its release, as in Debian 12: 14; theirs is 16). Free with grdi_free(); NULL
 * when out of memory. */
char *grdi_pattern_translate(const char *pattern);

#endif
