/* fibers.cpp - the threads of a block as fibers; of several blocks, where they are launched to run at once.
 *
 * What decides whether it finds mistakes is the order: each warp runs as far ahead as barriers let it, first to last or
 * last to first, so that a missing barrier lets a value be overwritten or read too early in one of the two. Shared
 * memory has no size but the one asked for and holds NaN until it is written. */
#include "cuda_runtime.h"

#include "sim_state.h"

#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <set>
#include <string>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#define SIM_ASAN 1
#else
#define SIM_ASAN 0
#endif

namespace
{

enum { THREADS_MAX = 1024, WARPS_MAX = 32, EXCHANGE_BYTES = 16, SHARED_MAX = 32, GUARD_BYTES = 64 };
/* Not a power of two apart: tops of stacks would share cache sets. AddressSanitizer reports on the stack it runs on. */
constexpr size_t stack_bytes = (SIM_ASAN ? 1 << 18 : 1 << 15) + 64 * 7;

struct gate {
    unsigned long long passed; /* how often it opened */
    unsigned waiting;
};

struct fiber {
    void *stack_pointer;
    uint3 place;
    const unsigned long long *waits_for; /* NULL: may run; else when it is no longer `seen` */
    unsigned long long seen;
    const char *call; /* where it waits */
    unsigned shared_taken;
    bool done;
};

struct shared_array {
    unsigned char *data;
    size_t size_bytes;
};

/* A block that runs. */
struct running_block {
    fiber fibers[THREADS_MAX];
    gate warp_gate[WARPS_MAX], block_gate;
    unsigned char slot[2][THREADS_MAX][EXCHANGE_BYTES];
    uint64_t given_at[2][THREADS_MAX]; /* which exchange of the warp a slot was filled for, counted from 1 */
    void *together[THREADS_MAX];       /* what the lanes of a warp bring to what they do at once */
    const char *together_call[THREADS_MAX];
    uint64_t together_at[THREADS_MAX], acted_at[WARPS_MAX];
    unsigned live, warp_live[WARPS_MAX], current;
    shared_array shared[SHARED_MAX];
    unsigned shared_count;
    size_t shared_used;
    char *stacks;
    uint3 place;
};

/* Blocks run one after another, in the first place; those of a cooperative launch all at once. */
running_block blocks[GRDI_SIM_BLOCKS_AT_ONCE], *now = blocks;

struct simulator {
    unsigned count; /* of a block's threads */
    size_t shared_given;
    const std::function<void()> *body;
    const char *kernel;
    void *main_stack_pointer;
    const void *asan_stack;
    size_t asan_size;
    int order;
    bool overtaken; /* a thread has told other blocks of something: they go on first */
} sim;

char error_text[1024], error_taken[1024];
grdi_sim_counts counts;

} // namespace

grdi_sim_place grdi_sim_here;

extern "C" grdi_sim_counts *grdi_sim_count(void)
{
    return &counts;
}
int grdi_sim_order(void)
{
    return sim.order;
}

extern "C" void grdi_sim_set_order(int order)
{
    sim.order = order;
}

static std::set<std::string> launched;

extern "C" const char *grdi_sim_kernel_at(int index)
{
    auto name = launched.begin();
    for (; index > 0 && name != launched.end(); index--) ++name;
    return name == launched.end() ? nullptr : name->c_str();
}

extern "C" const char *grdi_sim_take_error(void)
{
    memcpy(error_taken, error_text, sizeof error_taken);
    error_text[0] = '\0';
    return error_taken;
}

/* Keeps the first thing found wrong. */
void grdi_sim_wrong(const char *format, ...)
{
    if (error_text[0]) return;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(error_text, sizeof error_text, format, arguments);
    va_end(arguments);
}

/* ---- switching stacks ---- */

#if defined(__x86_64__)
extern "C" void grdi_sim_switch(void **from, void *to);
asm(".text\n.globl grdi_sim_switch\n.hidden grdi_sim_switch\n.type grdi_sim_switch,@function\ngrdi_sim_switch:\n"
    "push %rbp\npush %rbx\npush %r12\npush %r13\npush %r14\npush %r15\nmov %rsp,(%rdi)\nmov %rsi,%rsp\n"
    "pop %r15\npop %r14\npop %r13\npop %r12\npop %rbx\npop %rbp\nret\n.size grdi_sim_switch,.-grdi_sim_switch\n");

/* At its entry a function finds the stack 8 bytes past a multiple of 16, as after a call. */
static void *new_stack(char *top, void (*entry)())
{
    void **at = (void **)top - 2;
    at[-1] = nullptr;
    at[-2] = (void *)entry;
    return at - 8;
}
#elif defined(__aarch64__)
extern "C" void grdi_sim_switch(void **from, void *to);
asm(".text\n.globl grdi_sim_switch\n.hidden grdi_sim_switch\n.type grdi_sim_switch,%function\ngrdi_sim_switch:\n"
    "sub sp,sp,#160\nstp x19,x20,[sp]\nstp x21,x22,[sp,#16]\nstp x23,x24,[sp,#32]\nstp x25,x26,[sp,#48]\n"
    "stp x27,x28,[sp,#64]\nstp x29,x30,[sp,#80]\nstp d8,d9,[sp,#96]\nstp d10,d11,[sp,#112]\nstp d12,d13,[sp,#128]\n"
    "stp d14,d15,[sp,#144]\nmov x9,sp\nstr x9,[x0]\nmov sp,x1\nldp x19,x20,[sp]\nldp x21,x22,[sp,#16]\n"
    "ldp x23,x24,[sp,#32]\nldp x25,x26,[sp,#48]\nldp x27,x28,[sp,#64]\nldp x29,x30,[sp,#80]\nldp d8,d9,[sp,#96]\n"
    "ldp d10,d11,[sp,#112]\nldp d12,d13,[sp,#128]\nldp d14,d15,[sp,#144]\nadd sp,sp,#160\nret\n"
    ".size grdi_sim_switch,.-grdi_sim_switch\n");

static void *new_stack(char *top, void (*entry)())
{
    void **at = (void **)top - 20;
    memset(at, 0, 160);
    at[11] = (void *)entry; /* x30 */
    return at;
}
#else
#error "the simulator switches stacks on x86-64 and aarch64 only (configure with -DGRADUS_CUDASIM=OFF)"
#endif

static void to_fiber(unsigned index)
{
#if SIM_ASAN
    void *fake;
    __sanitizer_start_switch_fiber(&fake, now->stacks + index * stack_bytes, stack_bytes);
#endif
    grdi_sim_switch(&sim.main_stack_pointer, now->fibers[index].stack_pointer);
#if SIM_ASAN
    __sanitizer_finish_switch_fiber(fake, nullptr, nullptr);
#endif
}

static void to_main(fiber *f)
{
    counts.switches++;
#if SIM_ASAN
    void *fake;
    __sanitizer_start_switch_fiber(f->done ? nullptr : &fake, sim.asan_stack, sim.asan_size);
#endif
    grdi_sim_switch(&f->stack_pointer, sim.main_stack_pointer);
#if SIM_ASAN
    __sanitizer_finish_switch_fiber(fake, &sim.asan_stack, &sim.asan_size);
#endif
    grdi_sim_here.thread = f->place;
}

/* ---- barriers and exchanges ---- */

static void try_open(gate *g, unsigned live)
{
    if (g->waiting && g->waiting >= live) {
        g->waiting = 0;
        g->passed++;
    }
}

static void pass(gate *g, unsigned live, const char *call)
{
    fiber *f = &now->fibers[now->current];
    uint64_t before = g->passed;
    g->waiting++;
    try_open(g, live);
    if (g->passed != before) return;
    f->waits_for = &g->passed;
    f->seen = before;
    f->call = call;
    to_main(f);
}

static void check_mask(unsigned mask, const char *call)
{
    if (mask != ~0u)
        grdi_sim_wrong("%s: %s with the mask %#x (the simulator knows whole warps only)", sim.kernel, call, mask);
}

void grdi_sim_block_barrier()
{
    pass(&now->block_gate, now->live, "__syncthreads");
}

void grdi_sim_warp_barrier(unsigned mask, const char *call)
{
    unsigned warp = now->current / 32;
    check_mask(mask, call);
    pass(&now->warp_gate[warp], now->warp_live[warp], call);
}

unsigned grdi_sim_lane()
{
    return now->current % 32;
}

/* Two sets of slots take turns, so that one barrier an exchange is enough. */
void grdi_sim_exchange(unsigned mask, const void *given, void *taken, size_t size_bytes, unsigned source,
                       const char *call)
{
    unsigned me = now->current, warp = me / 32;
    uint64_t number = now->warp_gate[warp].passed + 1;
    unsigned side = number & 1;
    check_mask(mask, call);
    memcpy(now->slot[side][me], given, size_bytes);
    now->given_at[side][me] = number;
    pass(&now->warp_gate[warp], now->warp_live[warp], call);
    unsigned from = warp * 32 + (source & 31);
    if (from >= sim.count || now->given_at[side][from] != number)
        grdi_sim_wrong("%s: %s reads lane %u, which is not there", sim.kernel, call, source);
    memcpy(taken, now->slot[side][from], size_bytes);
}

unsigned grdi_sim_ballot(unsigned mask, bool vote)
{
    unsigned me = now->current, warp = me / 32, bits = 0;
    uint64_t number = now->warp_gate[warp].passed + 1;
    unsigned side = number & 1;
    check_mask(mask, "__ballot_sync");
    now->slot[side][me][0] = vote;
    now->given_at[side][me] = number;
    pass(&now->warp_gate[warp], now->warp_live[warp], "__ballot_sync");
    for (unsigned lane = 0; lane < 32 && warp * 32 + lane < sim.count; lane++)
        if (now->slot[side][warp * 32 + lane][0] && now->given_at[side][warp * 32 + lane] == number) bits |= 1u << lane;
    return bits;
}

/* The last lane that comes does it for all. Results go to the lanes' own memory, so nobody need wait to read them. */
void grdi_sim_together(const char *call, void *mine, void (*act)(void *const *lanes))
{
    unsigned me = now->current, warp = me / 32, first = warp * 32;
    const gate *g = &now->warp_gate[warp];
    uint64_t number = g->passed + 1;
    now->together[me] = mine;
    now->together_call[me] = call;
    now->together_at[me] = number;
    if (g->waiting + 1 >= now->warp_live[warp]) {
        bool whole = now->warp_live[warp] == 32;
        for (unsigned i = first; i < first + 32; i++)
            whole &= now->together_at[i] == number && strcmp(now->together_call[i], call) == 0;
        if (whole) act(&now->together[first]), now->acted_at[warp] = number;
    }
    pass(&now->warp_gate[warp], now->warp_live[warp], call);
    if (now->acted_at[warp] != number) grdi_sim_wrong("%s: %s by some lanes of warp %u only", sim.kernel, call, warp);
}

unsigned grdi_sim_running(void)
{
    return (unsigned)(now - blocks) * THREADS_MAX + now->current;
}

/* In order 0 whoever posts is overtaken by the other blocks, so that what the rest of its own has not done yet shows;
 * in order 1 its block runs on, so that a missing wait does. */
void grdi_sim_post(unsigned long long *word, unsigned long long value)
{
    *word = value;
    if (sim.order) return;
    sim.overtaken = true;
    to_main(&now->fibers[now->current]);
}

/* Threads of other blocks post it. */
unsigned long long grdi_sim_await(const unsigned long long *word, unsigned long long least)
{
    fiber *f = &now->fibers[now->current];
    while (*word < least) {
        f->waits_for = word;
        f->seen = *word;
        f->call = "a wait for other blocks";
        to_main(f);
    }
    return *word;
}

unsigned grdi_sim_thread()
{
    return now->current;
}

const char *grdi_sim_kernel()
{
    return sim.kernel;
}

bool grdi_sim_in_kernel()
{
    return sim.body != nullptr;
}

/* ---- shared memory ---- */

/* Without AddressSanitizer a guard behind each array shows writes past it. */
static constexpr size_t guard_bytes = SIM_ASAN ? 0 : GUARD_BYTES;

void *grdi_sim_shared(size_t size_bytes)
{
    fiber *f = &now->fibers[now->current];
    unsigned index = f->shared_taken++;
    if (index >= SHARED_MAX) {
        grdi_sim_wrong("%s: more than %d shared arrays", sim.kernel, (int)SHARED_MAX);
        index = SHARED_MAX - 1;
    }
    shared_array *array = &now->shared[index];
    if (index < now->shared_count) {
        if (array->size_bytes != size_bytes)
            grdi_sim_wrong("%s: threads ask for shared array %u of %zu and of %zu bytes", sim.kernel, index,
                           array->size_bytes, size_bytes);
        return array->data;
    }
    now->shared_count = index + 1;
    now->shared_used += (size_bytes + 15) / 16 * 16;
    if (now->shared_used > sim.shared_given)
        grdi_sim_wrong("%s: shared arrays of %zu bytes, but %zu were asked for at its launch", sim.kernel,
                       now->shared_used, sim.shared_given);
    array->size_bytes = size_bytes;
    array->data = (unsigned char *)malloc(size_bytes + guard_bytes);
    memset(array->data, 0xFF, size_bytes);
    memset(array->data + size_bytes, 0xA5, guard_bytes);
    return array->data;
}

bool grdi_sim_is_shared(const void *at, size_t size_bytes, unsigned thread, const char *call)
{
    const unsigned char *first = (const unsigned char *)at;
    bool within = false;
    for (unsigned k = 0; k < now->shared_count; k++)
        within |= first >= now->shared[k].data && first + size_bytes <= now->shared[k].data + now->shared[k].size_bytes;
    if (!within)
        grdi_sim_wrong("%s: thread %u: %s of %zu bytes that do not lie within a shared array", sim.kernel, thread, call,
                       size_bytes);
    else if ((uintptr_t)at % size_bytes)
        grdi_sim_wrong("%s: thread %u: %s of a row that is not %zu-byte aligned", sim.kernel, thread, call, size_bytes);
    return within && (uintptr_t)at % size_bytes == 0;
}

static void release_shared()
{
    for (unsigned k = 0; k < now->shared_count; k++) {
        for (size_t i = 0; i < guard_bytes; i++)
            if (now->shared[k].data[now->shared[k].size_bytes + i] != 0xA5)
                grdi_sim_wrong("%s: block %u wrote %zu bytes past shared array %u of %zu bytes", sim.kernel,
                               grdi_sim_here.block.x, i + 1, k, now->shared[k].size_bytes);
        free(now->shared[k].data);
    }
    now->shared_count = 0;
    now->shared_used = 0;
}

/* ---- a block ---- */

static void enter()
{
#if SIM_ASAN
    __sanitizer_finish_switch_fiber(nullptr, &sim.asan_stack, &sim.asan_size);
#endif
    fiber *f = &now->fibers[now->current];
    grdi_sim_here.thread = f->place;
    (*sim.body)();
    f = &now->fibers[now->current];
    unsigned warp = now->current / 32;
    grdi_sim_thread_ended();
    f->done = true; /* threads that have ended count at no barrier, as on sm_70 and later */
    try_open(&now->block_gate, --now->live);
    try_open(&now->warp_gate[warp], --now->warp_live[warp]);
    for (;;) to_main(f);
}

static void start_block(uint64_t index)
{
    dim3 size = grdi_sim_here.block_size, grid = grdi_sim_here.grid_size;
    if (!now->stacks) now->stacks = (char *)aligned_alloc(4096, (THREADS_MAX * stack_bytes + 4095) / 4096 * 4096);
    now->place =
        uint3{(unsigned)(index % grid.x), (unsigned)(index / grid.x % grid.y), (unsigned)(index / grid.x / grid.y)};
    now->live = sim.count;
    now->block_gate.waiting = 0;
    for (unsigned i = 0; i < sim.count; i++) {
        fiber *f = &now->fibers[i];
        char *top = now->stacks + (i + 1) * stack_bytes;
#if SIM_ASAN
        /* The frames that a fiber ended in never return, and so leave their red zones to the next one. */
        if (f->stack_pointer) __asan_unpoison_memory_region(f->stack_pointer, (size_t)(top - (char *)f->stack_pointer));
#endif
        *f = fiber{};
        f->place = uint3{i % size.x, i / size.x % size.y, i / (size.x * size.y)};
        if (i % 32 == 0) {
            now->warp_gate[i / 32].waiting = 0;
            now->warp_live[i / 32] = sim.count - i < 32 ? sim.count - i : 32;
        }
        f->stack_pointer = new_stack(top, enter);
    }
}

/* Runs the warp as far as it gets; the number of its threads that ended. */
static unsigned run_warp(unsigned warp, bool *moved)
{
    unsigned ended = 0;
    for (bool ran = true; ran && !sim.overtaken; *moved |= ran) {
        ran = false;
        for (unsigned k = 0; k < 32; k++) {
            unsigned i = warp * 32 + (sim.order ? 31 - k : k);
            fiber *f = &now->fibers[i];
            if (i >= sim.count || f->done || (f->waits_for && *f->waits_for == f->seen)) continue;
            f->waits_for = nullptr;
            now->current = i;
            grdi_sim_here.thread = f->place;
            ran = true;
            to_fiber(i);
            ended += f->done;
            if (sim.overtaken) break;
        }
    }
    return ended;
}

static void name_stuck()
{
    for (unsigned i = 0; i < sim.count; i++) {
        const fiber *f = &now->fibers[i];
        if (f->done) continue;
        grdi_sim_wrong("%s: block %u,%u,%u: thread %u (lane %u of warp %u) is stuck at %s", sim.kernel,
                       grdi_sim_here.block.x, grdi_sim_here.block.y, grdi_sim_here.block.z, i, i % 32, i / 32,
                       f->call ? f->call : "its start");
        return;
    }
}

/* Runs the block as far as it gets; the number of its threads that ended. */
static unsigned run_block(running_block *block, bool *moved)
{
    unsigned warps = (sim.count + 31) / 32, ended = 0;
    now = block;
    grdi_sim_here.block = block->place;
    sim.overtaken = false;
    for (bool ran = true; ran && !sim.overtaken; *moved |= ran) {
        ran = false;
        for (unsigned k = 0; k < warps && !sim.overtaken; k++) ended += run_warp(sim.order ? warps - 1 - k : k, &ran);
    }
    return ended;
}

/* Blocks `from` to `from + count` of the grid, side by side, each as far ahead as it gets. */
static bool run_blocks(uint64_t from, unsigned count)
{
    for (unsigned k = 0; k < count; k++) {
        now = &blocks[k];
        start_block(from + k);
    }
    for (unsigned done = 0; done < count * sim.count;) {
        bool moved = false;
        for (unsigned k = 0; k < count; k++) done += run_block(&blocks[sim.order ? count - 1 - k : k], &moved);
        if (!moved) {
            for (now = blocks; now + 1 < blocks + count && now->live == 0;) now++;
            grdi_sim_here.block = now->place;
            name_stuck();
            break;
        }
    }
    for (unsigned k = 0; k < count; k++) {
        now = &blocks[k];
        grdi_sim_here.block = now->place;
        release_shared();
    }
    now = blocks;
    return !error_text[0];
}

cudaError_t grdi_sim_launch(const char *name, dim3 grid, dim3 block, size_t shared_bytes,
                            const std::function<void()> &body, const void *function, bool together)
{
    uint64_t threads = (uint64_t)block.x * block.y * block.z, count = (uint64_t)grid.x * grid.y * grid.z;
    if (threads < 1 || threads > THREADS_MAX || count < 1 || grid.x > 0x7FFFFFFFu || grid.y > 65535 || grid.z > 65535 ||
        shared_bytes > grdi_sim_shared_limit(function) || (together && count > GRDI_SIM_BLOCKS_AT_ONCE)) {
        grdi_sim_wrong("%s: %llu x %llu threads with %zu bytes of shared memory cannot be launched%s", name,
                       (unsigned long long)count, (unsigned long long)threads, shared_bytes,
                       together ? " at once" : "");
        return cudaErrorInvalidConfiguration;
    }
    sim.kernel = name;
    sim.body = &body;
    sim.count = (unsigned)threads;
    sim.shared_given = shared_bytes;
    grdi_sim_here.block_size = block;
    grdi_sim_here.grid_size = grid;
    counts.kernels++;
    grdi_sim_spend_kernel();
    launched.insert(name);
    unsigned at_once = together ? (unsigned)count : 1;
    bool good = true;
    for (uint64_t b = 0; b < count && good; b += at_once) good = run_blocks(b, at_once);
    sim.body = nullptr;
    return good ? cudaSuccess : cudaErrorLaunchFailure;
}
