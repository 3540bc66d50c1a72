/* random.c - what is built on Philox: normal values, path hashes, permutations. */
#include "base/random.h"

#include <math.h>

/* Box and Muller, "A note on the generation of random normal deviates", 1958: with u in (0, 1] and v in [0, 1),
 * sqrt(-2 ln u) cos(2 pi v) and sqrt(-2 ln u) sin(2 pi v) are two independent standard normal values. Values 2k and
 * 2k + 1 come from the words 2k (u) and 2k + 1 (v), which lie in one Philox block; all 32 bits are used, so values
 * reach 6.66 standard deviations. */
double grdi_random_normal(uint64_t seed, uint64_t step, uint64_t path_hash, uint64_t index)
{
    const double word = 1.0 / 4294967296.0, two_pi = 6.28318530717958647692;
    uint64_t even = index & ~(uint64_t)1;
    double u = (grdi_random_u32(seed, step, path_hash, even) + 1.0) * word;
    double v = grdi_random_u32(seed, step, path_hash, even + 1) * word;
    double radius = sqrt(-2.0 * log(u));
    return radius * (index & 1 ? sin(two_pi * v) : cos(two_pi * v));
}

uint64_t grdi_hash_text(const char *text)
{
    uint64_t hash = 0xCBF29CE484222325u;
    for (const unsigned char *c = (const unsigned char *)text; *c; c++)
        hash = (hash ^ *c) * 0x100000001B3u;
    return hash;
}

/* Eight rounds instead of the usual four, since for small counts a round's function has only a few bits. */
enum { FEISTEL_ROUNDS = 8 };

static uint64_t feistel(uint64_t key, int half_bits, uint64_t value)
{
    uint64_t mask = ((uint64_t)1 << half_bits) - 1, left = value >> half_bits, right = value & mask;
    for (uint32_t round = 0; round < FEISTEL_ROUNDS; round++) {
        grdi_philox mixed = grdi_philox4x32((grdi_philox){{(uint32_t)right, round, 0, (uint32_t)half_bits}},
                                            (uint32_t)key, (uint32_t)(key >> 32));
        uint64_t next = left ^ (mixed.v[0] & mask);
        left = right;
        right = next;
    }
    return left << half_bits | right;
}

/* The network permutes the least power of four that holds `count`; a result outside goes round again, which gives a
 * permutation of [0, count) after fewer than four rounds on average. `index` must be below `count`. */
uint64_t grdi_permute(uint64_t key, uint64_t count, uint64_t index)
{
    if (count <= 1)
        return 0;
    int half_bits = 1;
    while (half_bits < 32 && (uint64_t)1 << (2 * half_bits) < count)
        half_bits++;
    do
        index = feistel(key, half_bits, index);
    while (index >= count);
    return index;
}
