/* philox.h - Philox4x32-10 on many counters at once: the words of base/random.h, whatever thread computes them. */
#ifndef GRDI_CPU_PHILOX_H
#define GRDI_CPU_PHILOX_H

#include <stdint.h>

enum {
    GRDI_PHILOX_BLOCKS = 64,                    /* counters at a time */
    GRDI_PHILOX_WORDS = 4 * GRDI_PHILOX_BLOCKS, /* their words */
};

typedef struct grdi_stream {
    uint64_t key, step;
} grdi_stream;

/* word: i32[4] = {seed low, seed high, step low, step high}. */
static inline grdi_stream grdi_stream_of(const int32_t *word, uint64_t path)
{
    return (grdi_stream){((uint64_t)(uint32_t)word[1] << 32 | (uint32_t)word[0]) ^ path,
                         (uint64_t)(uint32_t)word[3] << 32 | (uint32_t)word[2]};
}

/* words[0..GRDI_PHILOX_WORDS): the words of counters first, first + 1, ... */
static inline void grdi_draw(uint32_t *words, const grdi_stream *s, uint64_t first)
{
    uint32_t c0[GRDI_PHILOX_BLOCKS], c1[GRDI_PHILOX_BLOCKS], c2[GRDI_PHILOX_BLOCKS], c3[GRDI_PHILOX_BLOCKS];
    uint32_t key0 = (uint32_t)s->key, key1 = (uint32_t)(s->key >> 32);
    for (int i = 0; i < GRDI_PHILOX_BLOCKS; i++) {
        c0[i] = (uint32_t)(first + (uint64_t)i);
        c1[i] = (uint32_t)((first + (uint64_t)i) >> 32);
        c2[i] = (uint32_t)s->step;
        c3[i] = (uint32_t)(s->step >> 32);
    }
    for (int round = 0; round < 10; round++) {
        for (int i = 0; i < GRDI_PHILOX_BLOCKS; i++) {
            uint64_t p0 = (uint64_t)0xD2511F53u * c0[i], p1 = (uint64_t)0xCD9E8D57u * c2[i];
            c0[i] = (uint32_t)(p1 >> 32) ^ c1[i] ^ key0;
            c2[i] = (uint32_t)(p0 >> 32) ^ c3[i] ^ key1;
            c1[i] = (uint32_t)p1;
            c3[i] = (uint32_t)p0;
        }
        key0 += 0x9E3779B9u;
        key1 += 0xBB67AE85u;
    }
    for (int i = 0; i < GRDI_PHILOX_BLOCKS; i++) {
        words[4 * i] = c0[i];
        words[4 * i + 1] = c1[i];
        words[4 * i + 2] = c2[i];
        words[4 * i + 3] = c3[i];
    }
}

#endif
