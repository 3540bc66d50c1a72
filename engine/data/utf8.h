/* utf8.h - UTF-8 as the tokenizers need it: bytes that may be anything, read without ever failing. */
#ifndef GRDI_UTF8_H
#define GRDI_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The bytes of the character at the start of `text`: 1 to 4, or 0 when there is none (not UTF-8, cut off, or size 0).
 * Surrogates, overlong forms and what lies above U+10FFFF are not UTF-8. */
int grdi_utf8_decode(const uint8_t *text, size_t size_bytes, uint32_t *code_point);
/* Writes the character and returns its bytes. */
int grdi_utf8_encode(uint32_t code_point, uint8_t out[4]);
/* How many bytes of `text` are UTF-8 before the first that is not. */
size_t grdi_utf8_valid(const uint8_t *text, size_t size_bytes);
/* How many bytes at the start of `text` belong to no character. */
size_t grdi_utf8_invalid(const uint8_t *text, size_t size_bytes);
/* Unicode's property White_Space. */
bool grdi_is_space(uint32_t code_point);

#endif
