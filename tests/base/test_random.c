/* Philox against the published vectors; what is built on it against its definition. */
#include "base/random.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>

/* Random123 1.14, tests/kat_vectors, philox4x32 with 10 rounds: counter, key, result. */
static const uint32_t known[][10] = {
    {0, 0, 0, 0, 0, 0, 0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8},
    {0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff, 0x408f276d, 0x41c83b0e, 0xa20bc7c6,
     0x6d5451fd},
    {0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344, 0xa4093822, 0x299f31d0, 0xd16cfe09, 0x94fdcceb, 0x5001e420,
     0x24126ea1},
};

Test(random, philox_gives_the_published_vectors)
{
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        const uint32_t *k = known[i];
        grdi_philox got = grdi_philox4x32((grdi_philox){{k[0], k[1], k[2], k[3]}}, k[4], k[5]);
        for (int j = 0; j < 4; j++)
            cr_assert(got.v[j] == k[6 + j], "vector %zu, word %d: %08x instead of %08x", i, j, got.v[j], k[6 + j]);
    }
}

Test(random, a_stream_puts_seed_step_path_and_index_where_it_says)
{
    /* The third vector as a stream: counter = {index / 4, step}, key = seed ^ path hash. */
    uint64_t block = 0x85a308d3243f6a88u, step = 0x0370734413198a2eu, key = 0x299f31d0a4093822u;
    for (int j = 0; j < 4; j++) {
        uint64_t index = (block & (UINT64_MAX >> 2)) * 4 + (uint64_t)j;
        grdi_philox want = grdi_philox4x32(
            (grdi_philox){{(uint32_t)(index >> 2), (uint32_t)(index >> 34), (uint32_t)step, (uint32_t)(step >> 32)}},
            (uint32_t)key, (uint32_t)(key >> 32));
        uint32_t got = grdi_random_u32(key ^ 77, step, 77, index);
        cr_assert(got == want.v[j], "word %d: %08x instead of %08x", j, got, want.v[j]);
    }
}

Test(random, unit_is_in_zero_to_one)
{
    cr_assert(grdi_unit(0) == 0.0, "least value");
    cr_assert(grdi_unit(UINT32_MAX) < 1.0 && grdi_unit(UINT32_MAX) > 0.9999999, "largest value");
}

/* The moments of a standard normal are 0, 1, 0, 3. With n = 10^6 samples their standard errors are sqrt(1/n),
 * sqrt(2/n), sqrt(15/n) and sqrt(96/n); five of them are allowed. */
Test(random, normal_values_have_normal_moments)
{
    const int n = 1000000;
    double sum[5] = {0}, product = 0;
    for (int i = 0; i < n; i++) {
        double x = grdi_random_normal(42, 7, 3, (uint64_t)i), power = 1;
        for (int k = 1; k <= 4; k++)
            sum[k] += power *= x;
        if (i & 1)
            product += x * grdi_random_normal(42, 7, 3, (uint64_t)i - 1);
    }
    const double want[5] = {0, 0, 1, 0, 3}, variance[5] = {0, 1, 2, 15, 96};
    for (int k = 1; k <= 4; k++) {
        double error = fabs(sum[k] / n - want[k]), allowed = 5 * sqrt(variance[k] / n);
        cr_assert(error < allowed, "moment %d is off by %g, allowed %g", k, error, allowed);
    }
    cr_assert(fabs(product / (n / 2)) < 5 / sqrt(n / 2), "the two values of a pair correlate: %g", product / (n / 2));
}

Test(random, normal_values_depend_on_every_part_of_the_key)
{
    double x = grdi_random_normal(1, 2, 3, 4);
    cr_assert(x == grdi_random_normal(1, 2, 3, 4), "not a function");
    cr_assert(x != grdi_random_normal(2, 2, 3, 4) && x != grdi_random_normal(1, 3, 3, 4) &&
                  x != grdi_random_normal(1, 2, 4, 4) && x != grdi_random_normal(1, 2, 3, 5),
              "a part of the key is ignored");
}

/* Vectors of the FNV authors (draft-eastlake-fnv, 64-bit FNV-1a). */
Test(random, path_hash_is_fnv1a)
{
    cr_assert(grdi_hash_text("") == 0xcbf29ce484222325u, "empty text");
    cr_assert(grdi_hash_text("a") == 0xaf63dc4c8601ec8cu, "a");
    cr_assert(grdi_hash_text("foobar") == 0x85944171f73967e8u, "foobar");
}

Test(random, permute_is_a_permutation_of_any_size)
{
    for (uint64_t count = 1; count < 400; count++) {
        char seen[400] = {0};
        for (uint64_t i = 0; i < count; i++) {
            uint64_t p = grdi_permute(count * 31, count, i);
            cr_assert(p < count && !seen[p], "count %lu, index %lu: %lu is outside or taken", count, i, p);
            seen[p] = 1;
        }
    }
    uint64_t large = ((uint64_t)1 << 40) + 12345;
    cr_assert(grdi_permute(5, large, 0) < large && grdi_permute(5, large, large - 1) < large, "large counts");
    cr_assert(grdi_permute(5, UINT64_MAX, UINT64_MAX - 1) < UINT64_MAX, "the largest count");
}

/* Over many keys every place must be reached from every index equally often: 24 cells of an expected 1000 each, whose
 * chi-square (23 degrees of freedom) exceeds 52.6 once in 2500 such tests. */
Test(random, permute_reaches_every_order)
{
    int reached[24] = {0};
    for (uint64_t key = 0; key < 24000; key++) {
        uint64_t p[4];
        for (uint64_t i = 0; i < 4; i++)
            p[i] = grdi_permute(key, 4, i);
        int rank = 0;
        for (int i = 0; i < 4; i++) {
            int smaller = 0;
            for (int j = i + 1; j < 4; j++)
                smaller += p[j] < p[i];
            rank = rank * (4 - i) + smaller;
        }
        reached[rank]++;
    }
    double chi_square = 0;
    for (int i = 0; i < 24; i++)
        chi_square += (reached[i] - 1000.0) * (reached[i] - 1000.0) / 1000.0;
    cr_assert(chi_square < 52.6, "chi-square %g", chi_square);
}
