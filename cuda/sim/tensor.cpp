/* tensor.cpp - tensor cores, ldmatrix and cp.async as NVIDIA's "PTX ISA" describes them.
 *
 * A copy by cp.async may happen at any time between its issue and its wait. So the place that it goes to is made NaN
 * when it is issued, and filled when its thread waits: what is read too early, or is still needed, shows. */
#include "cuda_runtime.h"

#include "base/convert.h"
#include "sim_state.h"

#include <vector>

namespace
{

enum { LANES = 32 };

float value_of(uint32_t pair, int which, bool f16)
{
    if (f16) return grdi_f16_to_f32((uint16_t)(which ? pair >> 16 : pair));
    uint32_t bits = which ? pair & 0xFFFF0000u : pair << 16;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* ---- mma.m16n8k16: the registers of a warp are put together, multiplied as matrices and taken apart ---- */

struct product {
    float *d;
    const uint32_t *a;
    uint32_t b[2];
    bool f16;
};

void multiply(void *const *lanes)
{
    float a[16][16], b[16][8];
    for (int lane = 0; lane < LANES; lane++) {
        const product *p = (const product *)lanes[lane];
        int group = lane / 4, pair = lane % 4 * 2;
        for (int e = 0; e < 2; e++) {
            for (int r = 0; r < 4; r++) a[group + r % 2 * 8][pair + r / 2 * 8 + e] = value_of(p->a[r], e, p->f16);
            for (int r = 0; r < 2; r++) b[pair + r * 8 + e][group] = value_of(p->b[r], e, p->f16);
        }
    }
    for (int lane = 0; lane < LANES; lane++) {
        float *d = ((const product *)lanes[lane])->d;
        for (int e = 0; e < 4; e++) {
            int row = lane / 4 + e / 2 * 8, column = lane % 4 * 2 + e % 2;
            for (int k = 0; k < 16; k++) d[e] += a[row][k] * b[k][column];
        }
    }
}

/* ---- ldmatrix ---- */

struct load {
    uint32_t *x;
    const uint16_t *row;
    bool transposed;
};

/* Eight rows are read at once where they lie in different banks; each other row of the same banks costs a turn. */
int turns_of(void *const *lanes, int first)
{
    int rows[8] = {0}, most = 0;
    for (int r = 0; r < 8; r++) {
        int n = ++rows[(uintptr_t)((const load *)lanes[first + r])->row / 16 % 8];
        most = n > most ? n : most;
    }
    return most;
}

void load_matrices(void *const *lanes)
{
    bool good = true;
    unsigned first = grdi_sim_thread() / LANES * LANES;
    for (unsigned lane = 0; lane < LANES; lane++)
        good &= grdi_sim_is_shared(((const load *)lanes[lane])->row, 16, first + lane, "ldmatrix");
    for (int i = 0; i < 4 && good; i++) {
        grdi_sim_count()->bank_conflicts += turns_of(lanes, 8 * i) - 1;
        for (int lane = 0; lane < LANES; lane++) {
            uint16_t pair[2];
            const load *l = (const load *)lanes[lane];
            for (int e = 0; e < 2; e++) {
                int row = lane / 4, column = lane % 4 * 2 + e;
                if (l->transposed) row = column, column = lane / 4;
                pair[e] = ((const load *)lanes[8 * i + row])->row[column];
            }
            l->x[i] = (uint32_t)pair[0] | (uint32_t)pair[1] << 16;
        }
    }
}

/* ---- cp.async ---- */

struct copy {
    void *to;
    const void *from;
    unsigned size_bytes;
    uint64_t group;
};

std::vector<copy> issued[GRDI_SIM_THREADS_AT_ONCE];
uint64_t groups[GRDI_SIM_THREADS_AT_ONCE]; /* committed */

} // namespace

void grdi_sim_mma(float *d, const uint32_t *a, uint32_t b0, uint32_t b1, bool f16)
{
    product mine = {d, a, {b0, b1}, f16};
    grdi_sim_together("mma.sync", &mine, multiply);
}

void grdi_sim_load_matrices(uint32_t *x, const uint16_t *row, bool transposed)
{
    load mine = {x, row, transposed};
    grdi_sim_together(transposed ? "ldmatrix.trans" : "ldmatrix", &mine, load_matrices);
}

void grdi_sim_copy_async(void *shared, const void *global, unsigned size_bytes)
{
    unsigned me = grdi_sim_running();
    if (!grdi_sim_is_shared(shared, 16, grdi_sim_thread(), "cp.async")) return;
    if ((uintptr_t)global % 16)
        grdi_sim_wrong("%s: cp.async from %p, which is not 16-byte aligned", grdi_sim_kernel(), global);
    memset(shared, 0xFF, 16);
    issued[me].push_back(copy{shared, global, size_bytes, groups[me]});
}

void grdi_sim_copies_commit()
{
    groups[grdi_sim_running()]++;
}

void grdi_sim_copies_wait(unsigned left)
{
    unsigned me = grdi_sim_running();
    std::vector<copy> later;
    for (const copy &c : issued[me]) {
        if (c.group + left >= groups[me]) {
            later.push_back(c);
            continue;
        }
        memset(c.to, 0, 16);
        memcpy(c.to, c.from, c.size_bytes);
        grdi_sim_reads(c.from, c.size_bytes);
    }
    issued[me].swap(later);
}

void grdi_sim_thread_ended(void)
{
    unsigned me = grdi_sim_running();
    if (!issued[me].empty())
        grdi_sim_wrong("%s: thread %u ended before %zu of its copies by cp.async", grdi_sim_kernel(), grdi_sim_thread(),
                       issued[me].size());
    issued[me].clear();
    groups[me] = 0;
}
