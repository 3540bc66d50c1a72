/* utf8.c - reading and writing UTF-8. */
#include "data/utf8.h"

#include <string.h>

static bool continues(uint8_t byte) { return (byte & 0xC0) == 0x80; }

int grdi_utf8_decode(const uint8_t *text, size_t size_bytes, uint32_t *code_point)
{
    if (size_bytes == 0)
        return 0;
    uint8_t first = text[0];
    if (first < 0x80) {
        *code_point = first;
        return 1;
    }
    if (first < 0xC2 || first > 0xF4 || size_bytes < 2 || !continues(text[1]))
        return 0;
    if (first < 0xE0) {
        *code_point = (uint32_t)(first & 0x1F) << 6 | (text[1] & 0x3F);
        return 2;
    }
    if (size_bytes < 3 || !continues(text[2]))
        return 0;
    if (first < 0xF0) {
        uint32_t c = (uint32_t)(first & 0x0F) << 12 | (uint32_t)(text[1] & 0x3F) << 6 | (text[2] & 0x3F);
        *code_point = c;
        return c < 0x800 || (c >= 0xD800 && c < 0xE000) ? 0 : 3;
    }
    if (size_bytes < 4 || !continues(text[3]))
        return 0;
    uint32_t c = (uint32_t)(first & 0x07) << 18 | (uint32_t)(text[1] & 0x3F) << 12 | (uint32_t)(text[2] & 0x3F) << 6 |
                 (text[3] & 0x3F);
    *code_point = c;
    return c < 0x10000 || c > 0x10FFFF ? 0 : 4;
}

int grdi_utf8_encode(uint32_t c, uint8_t out[4])
{
    if (c < 0x80) {
        out[0] = (uint8_t)c;
        return 1;
    }
    if (c < 0x800) {
        out[0] = (uint8_t)(0xC0 | c >> 6);
        out[1] = (uint8_t)(0x80 | (c & 0x3F));
        return 2;
    }
    if (c < 0x10000) {
        out[0] = (uint8_t)(0xE0 | c >> 12);
        out[1] = (uint8_t)(0x80 | (c >> 6 & 0x3F));
        out[2] = (uint8_t)(0x80 | (c & 0x3F));
        return 3;
    }
    out[0] = (uint8_t)(0xF0 | c >> 18);
    out[1] = (uint8_t)(0x80 | (c >> 12 & 0x3F));
    out[2] = (uint8_t)(0x80 | (c >> 6 & 0x3F));
    out[3] = (uint8_t)(0x80 | (c & 0x3F));
    return 4;
}

size_t grdi_utf8_valid(const uint8_t *text, size_t size_bytes)
{
    size_t at = 0;
    while (at < size_bytes) {
        uint64_t eight;
        if (at + sizeof(eight) <= size_bytes) {
            memcpy(&eight, text + at, sizeof(eight));
            if (!(eight & 0x8080808080808080u)) { /* all ASCII */
                at += sizeof(eight);
                continue;
            }
        }
        uint32_t c;
        int length = grdi_utf8_decode(text + at, size_bytes - at, &c);
        if (length == 0)
            break;
        at += (size_t)length;
    }
    return at;
}

size_t grdi_utf8_invalid(const uint8_t *text, size_t size_bytes)
{
    size_t at = 0;
    uint32_t c;
    while (at < size_bytes && grdi_utf8_decode(text + at, size_bytes - at, &c) == 0)
        at++;
    return at;
}

bool grdi_is_space(uint32_t c)
{
    if (c < 0x80)
        return c == ' ' || (c >= '\t' && c <= '\r');
    return c == 0x85 || c == 0xA0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 ||
           c == 0x202F || c == 0x205F || c == 0x3000;
}
