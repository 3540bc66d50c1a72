/* philox.cuh - Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011), as in base/random.h.
 */
#ifndef GRDI_PHILOX_CUH
#define GRDI_PHILOX_CUH

#include "device/simt.cuh"

struct philox_stream {
    const int32_t *key; /* seed and step, low words first, in device memory */
    uint64_t path;
};

struct philox_words {
    uint32_t v[4];
};

/* The block of four words that holds element 4 `block`. */
__device__ inline philox_words philox(const philox_stream &s, uint64_t block)
{
    uint64_t seed = (uint64_t)(uint32_t)s.key[1] << 32 | (uint32_t)s.key[0], key = seed ^ s.path;
    philox_words c = {{(uint32_t)block, (uint32_t)(block >> 32), (uint32_t)s.key[2], (uint32_t)s.key[3]}};
    uint32_t low = (uint32_t)key, high = (uint32_t)(key >> 32);
    for (int round = 0; round < 10; round++) {
        uint64_t p = (uint64_t)0xD2511F53u * c.v[0], q = (uint64_t)0xCD9E8D57u * c.v[2];
        c = {{(uint32_t)(q >> 32) ^ c.v[1] ^ low, (uint32_t)q, (uint32_t)(p >> 32) ^ c.v[3] ^ high, (uint32_t)p}};
        low += 0x9E3779B9u;
        high += 0xBB67AE85u;
    }
    return c;
}

#endif
