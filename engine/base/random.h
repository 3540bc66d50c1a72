/* random.h - Philox4x32-10, the counter-based generator (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3",
 * SC'11). A value depends on its key and counter alone: no state, any order, any thread. */
#ifndef GRDI_RANDOM_H
#define GRDI_RANDOM_H

#include <stdint.h>

typedef struct grdi_philox {
    uint32_t v[4];
} grdi_philox;

static inline grdi_philox grdi_philox4x32(grdi_philox counter, uint32_t key0, uint32_t key1)
{
    for (int round = 0; round < 10; round++) {
        uint64_t p0 = (uint64_t)0xD2511F53u * counter.v[0], p1 = (uint64_t)0xCD9E8D57u * counter.v[2];
        grdi_philox next = {{(uint32_t)(p1 >> 32) ^ counter.v[1] ^ key0, (uint32_t)p1,
                             (uint32_t)(p0 >> 32) ^ counter.v[3] ^ key1, (uint32_t)p0}};
        counter = next;
        key0 += 0x9E3779B9u;
        key1 += 0xBB67AE85u;
    }
    return counter;
}

/* Element `index` of the stream (seed, step, path_hash): counter = {index / 4, step}, key = seed mixed with the hash.
 */
static inline uint32_t grdi_random_u32(uint64_t seed, uint64_t step, uint64_t path_hash, uint64_t index)
{
    uint64_t block = index >> 2, key = seed ^ path_hash;
    grdi_philox counter = {{(uint32_t)block, (uint32_t)(block >> 32), (uint32_t)step, (uint32_t)(step >> 32)}};
    return grdi_philox4x32(counter, (uint32_t)key, (uint32_t)(key >> 32)).v[index & 3];
}

/* The stream of the bits by which weights are rounded: grdi_hash_text("stochastic rounding"). */
#define GRDI_ROUNDING_STREAM 0x9827F9AB9E46AF30ULL

/* Half a word for each element: element `index` takes word index / 2, an even one its low half. */
static inline uint32_t grdi_random_u16(uint64_t seed, uint64_t step, uint64_t path_hash, uint64_t index)
{
    return grdi_random_u32(seed, step, path_hash, index >> 1) >> (index & 1 ? 16 : 0) & 0xFFFFu;
}

/* 24 random bits as a number in [0, 1). */
static inline double grdi_unit(uint32_t bits)
{
    return (bits >> 8) * (1.0 / 16777216.0);
}

/* Standard normal value `index` of a stream (Box-Muller on the pair of words that holds it). */
double grdi_random_normal(uint64_t seed, uint64_t step, uint64_t path_hash, uint64_t index);

/* FNV-1a, 64 bits: the hash of scope paths. */
uint64_t grdi_hash_text(const char *text);
/* A permutation of [0, count) as a pure function of (key, index): a balanced Feistel network with cycle walking. */
uint64_t grdi_permute(uint64_t key, uint64_t count, uint64_t index);

#endif
