/* traffic.cpp - what kernels read and write of device memory, counted access by access. Built into a library of its own
 * (sim/CMakeLists.txt), whose kernels the compiler instruments as for its thread sanitizer: each load and store that is
 * left after optimization calls one of the functions below, which stand where the sanitizer's own would. */
#include "sim_state.h"

#include <cstring>
#include <list>
#include <map>
#include <string>
#include <unordered_map>

namespace
{

/* What memory and second-level caches of NVIDIA's GPUs exchange. */
constexpr uintptr_t SECTOR_BYTES = 32;

/* A sector that the running launch has touched. */
struct sector {
    uint32_t read, written; /* by byte */
    bool cached, dirty;
    std::list<uintptr_t>::iterator place; /* in `cached`, the last used first */
};

std::map<std::string, grdi_sim_traffic> kernels;
std::unordered_map<uintptr_t, sector> sectors;
std::list<uintptr_t> cached;
size_t cache_bytes = SIZE_MAX;
int64_t launch; /* number of the one that runs */
grdi_sim_traffic *now;

void forget_launch()
{
    for (auto &s : sectors)
        if (now && s.second.dirty) now->from_memory_written += (int64_t)SECTOR_BYTES;
    sectors.clear();
    cached.clear();
}

/* Cached sectors of earlier launches count as gone. */
void follow_launch()
{
    if (launch == grdi_sim_count()->kernels) return;
    forget_launch();
    launch = grdi_sim_count()->kernels;
    now = &kernels[grdi_sim_kernel()];
    now->launches++;
}

void keep(uintptr_t at, sector &s, bool writes, bool whole)
{
    if (s.cached) cached.erase(s.place);
    else if (!whole) now->from_memory_read += (int64_t)SECTOR_BYTES;
    cached.push_front(at);
    s.place = cached.begin();
    s.cached = true;
    s.dirty |= writes;
    while (cached.size() * SECTOR_BYTES > cache_bytes) {
        sector &last = sectors[cached.back()];
        if (last.dirty) now->from_memory_written += (int64_t)SECTOR_BYTES;
        last.cached = last.dirty = false;
        cached.pop_back();
    }
}

void touch(const void *memory, size_t size_bytes, bool writes)
{
    uintptr_t at = (uintptr_t)memory, end = at + size_bytes;
    if (!grdi_sim_in_kernel() || !grdi_sim_on_device(memory, size_bytes)) return;
    follow_launch();
    (writes ? now->asked_written : now->asked_read) += (int64_t)size_bytes;
    while (at < end) {
        uintptr_t first = at / SECTOR_BYTES * SECTOR_BYTES,
                  next = first + SECTOR_BYTES < end ? first + SECTOR_BYTES : end;
        sector &s = sectors[first];
        uint32_t bytes = 0, &mask = writes ? s.written : s.read;
        for (uintptr_t i = at - first; i < next - first; i++) bytes |= 1u << i;
        /* what the kernel has written itself need not come from memory */
        uint32_t fresh = bytes & ~mask & (writes ? ~0u : ~s.written);
        (writes ? now->written : now->read) += __builtin_popcount(fresh);
        mask |= bytes;
        keep(first, s, writes, writes);
        at = next;
    }
}

} // namespace

void grdi_sim_reads(const void *memory, size_t size_bytes)
{
    touch(memory, size_bytes, false);
}

extern "C" {

const grdi_sim_traffic *grdi_sim_traffic_at(int index)
{
    forget_launch();
    launch = -1;
    auto kernel = kernels.begin();
    for (; index > 0 && kernel != kernels.end(); index--) ++kernel;
    if (kernel == kernels.end()) return nullptr;
    kernel->second.kernel = kernel->first.c_str();
    return &kernel->second;
}

void grdi_sim_forget_traffic(size_t size_bytes)
{
    now = nullptr;
    forget_launch();
    kernels.clear();
    launch = -1;
    cache_bytes = size_bytes;
}

#define ACCESS(kind, size)                                                                                             \
    void __tsan_##kind##read##size(void *at);                                                                          \
    void __tsan_##kind##read##size(void *at)                                                                           \
    {                                                                                                                  \
        touch(at, size, false);                                                                                        \
    }                                                                                                                  \
    void __tsan_##kind##write##size(void *at);                                                                         \
    void __tsan_##kind##write##size(void *at)                                                                          \
    {                                                                                                                  \
        touch(at, size, true);                                                                                         \
    }
ACCESS(, 1)
ACCESS(, 2)
ACCESS(, 4)
ACCESS(, 8)
ACCESS(, 16)
ACCESS(unaligned_, 2)
ACCESS(unaligned_, 4)
ACCESS(unaligned_, 8)
ACCESS(unaligned_, 16)

void __tsan_read_range(void *at, size_t size_bytes);
void __tsan_read_range(void *at, size_t size_bytes)
{
    touch(at, size_bytes, false);
}
void __tsan_write_range(void *at, size_t size_bytes);
void __tsan_write_range(void *at, size_t size_bytes)
{
    touch(at, size_bytes, true);
}

/* Of no interest here. */
void __tsan_init(void);
void __tsan_init(void) {}
void __tsan_func_entry(void *);
void __tsan_func_entry(void *) {}
void __tsan_func_exit(void);
void __tsan_func_exit(void) {}
void __tsan_vptr_update(void **, void *);
void __tsan_vptr_update(void **, void *) {}
void __tsan_vptr_read(void **);
void __tsan_vptr_read(void **) {}

} // extern "C"
