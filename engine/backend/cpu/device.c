/* device.c - backend `cpu`: threads, instruction set, kernel lookup. "cpu" takes the best instruction set of the
 * processor, "cpu:base", "cpu:avx2", "cpu:avx512", "cpu:avx512bf16" and "cpu:amx" ask for one. */
#include "backend/cpu/cpu.h"
#include "backend/cpu/device.h"
#include "backend/cpu/gemm.h"
#include "backend/cpu/onednn.h"
#include "backend/cpu/parallel.h"
#include "base/memory.h"

#include <omp.h>
#if defined(__x86_64__)
#include <cpuid.h>
#endif
#include <sched.h>
#include <stdio.h>
#include <string.h>
#if defined(__x86_64__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

static const char *const isa_names[GRDI_ISA_COUNT] = {"base", "avx2", "avx512", "avx512bf16", "amx"};

const char *grdi_isa_name(grdi_isa isa)
{
    return isa_names[isa];
}

#if defined(__x86_64__)
/* clang's __builtin_cpu_supports does not know the name "f16c". */
static bool has_f16c(void)
{
    unsigned a, b, c, d;
    return __get_cpuid(1, &a, &b, &c, &d) && c & bit_F16C;
}

/* Linux gives a process the registers of tiles when it asks (Documentation/arch/x86/xstate.rst). */
static bool has_amx(void)
{
    enum { AMX_BF16 = 1 << 22, AMX_TILE = 1 << 24, REQUEST_PERMISSION = 0x1023, TILE_DATA = 18 };
    unsigned a, b, c, d;
    return __get_cpuid_count(7, 0, &a, &b, &c, &d) && d & AMX_BF16 && d & AMX_TILE &&
           syscall(SYS_arch_prctl, REQUEST_PERMISSION, TILE_DATA) == 0;
}
#endif

bool grdi_isa_usable(grdi_isa isa)
{
    if (isa == GRDI_ISA_BASE) return true;
#if defined(__x86_64__)
    __builtin_cpu_init();
    bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c();
    if (isa == GRDI_ISA_AVX2) return avx2;
    bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                  __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
    if (isa == GRDI_ISA_AVX512) return avx512;
    bool pairs = avx512 && __builtin_cpu_supports("avx512bf16");
    return pairs && (isa == GRDI_ISA_AVX512BF16 || has_amx());
#else
    return false;
#endif
}

grdi_isa grdi_isa_best(void)
{
    static _Atomic int32_t known; /* 1 + the answer: asking the processor takes microseconds in a virtual machine */
    if (!known) {
        int32_t best = GRDI_ISA_BASE;
        for (int32_t isa = 0; isa < GRDI_ISA_COUNT; isa++)
            if (grdi_isa_usable((grdi_isa)isa)) best = isa;
        known = 1 + best;
    }
    return (grdi_isa)(known - 1);
}

typedef const grdi_kernel *const *kernel_table;

#define GRDI_KERNELS_ONE(family) grdi_cpu_kernels_##family,
#define GRDI_KERNELS(family) grdi_cpu_kernels_##family##_base,
static const kernel_table base_tables[] = {
#include "backend/cpu/kernels.def"
    NULL};
#undef GRDI_KERNELS
#if defined(__x86_64__)
#define GRDI_KERNELS(family) grdi_cpu_kernels_##family##_avx2,
static const kernel_table avx2_tables[] = {
#include "backend/cpu/kernels.def"
    NULL};
#undef GRDI_KERNELS
#define GRDI_KERNELS(family) grdi_cpu_kernels_##family##_avx512,
static const kernel_table avx512_tables[] = {
#include "backend/cpu/kernels.def"
    NULL};
#undef GRDI_KERNELS
#define GRDI_KERNELS(family) grdi_cpu_kernels_##family##_avx512bf16,
static const kernel_table avx512bf16_tables[] = {
#include "backend/cpu/kernels.def"
    NULL};
#define GRDI_KERNELS_AMX(family) grdi_cpu_kernels_##family##_amx,
static const kernel_table amx_tables[] = {
    GRDI_AMX_FAMILIES(GRDI_KERNELS_AMX)
#include "backend/cpu/kernels.def"
    NULL};
static const kernel_table *const tables[GRDI_ISA_COUNT] = {base_tables, avx2_tables, avx512_tables, avx512bf16_tables,
                                                           amx_tables};
#else
static const kernel_table *const tables[GRDI_ISA_COUNT] = {base_tables, base_tables, base_tables, base_tables,
                                                           base_tables};
#endif

/* Every input and output in f32, but ids in i32 and masks in bool: what a kernel without `supports` takes. */
static bool plain_dtypes(const grdi_call *call)
{
    for (int32_t i = 0; i < call->input_count; i++)
        if (call->in[i].dtype != GRD_F32 && call->in[i].dtype != GRD_I32 && call->in[i].dtype != GRD_BOOL) return false;
    for (int32_t o = 0; o < call->output_count; o++)
        if (call->out[o].dtype != GRD_F32 && call->out[o].dtype != GRD_I32 && call->out[o].dtype != GRD_BOOL)
            return false;
    return true;
}

const grdi_kernel *grdi_cpu_find(grdi_isa isa, const grdi_call *call)
{
    for (const kernel_table *table = tables[isa]; *table; table++)
        for (kernel_table entry = *table; *entry; entry++)
            if (strcmp((*entry)->op, call->op->name) == 0 &&
                ((*entry)->supports ? (*entry)->supports(call) : plain_dtypes(call)))
                return *entry;
    return grdi_reference_kernel.supports(call) ? &grdi_reference_kernel : NULL;
}

static int32_t usable_processors(void)
{
    cpu_set_t set;
    int count = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : omp_get_num_procs();
    return count > 0 ? count : 1;
}

static bool parse_isa(const char *argument, grdi_isa *isa)
{
    *isa = grdi_isa_best();
    if (!argument[0]) return true;
    for (int32_t i = 0; i < GRDI_ISA_COUNT; i++) {
        if (strcmp(argument, isa_names[i]) == 0) {
            *isa = (grdi_isa)i;
            return true;
        }
    }
    return false;
}

static void touch(int64_t begin, int64_t end, int32_t thread, void *context)
{
    (void)begin, (void)end, (void)thread, (void)context;
}

static grd_status open_device(const char *argument, int32_t threads, grdi_device **device, grd_error *error)
{
    grdi_isa isa;
    if (!parse_isa(argument, &isa))
        return grd_fail(error, GRD_E_ARGUMENT,
                        "device 'cpu:%s': no such instruction set (use cpu, cpu:base, cpu:avx2, cpu:avx512, "
                        "cpu:avx512bf16 or cpu:amx)",
                        argument);
    if (!grdi_isa_usable(isa))
        return grd_fail(error, GRD_E_DEVICE, "device 'cpu:%s': this processor does not have it (use cpu:%s)", argument,
                        isa_names[grdi_isa_best()]);
    grdi_device *d = grdi_alloc_zero(1, sizeof *d);
    if (!d) return grd_fail(error, GRD_E_MEMORY, "device 'cpu': out of memory");
    d->isa = isa;
    d->threads = threads > 0 ? threads : usable_processors();
    const char *library = grdi_cpu_matmul_library();
    snprintf(d->kind, sizeof d->kind, "cpu %s threads=%d%s%s", isa_names[isa], d->threads, library[0] ? " " : "",
             library);
    omp_set_num_threads(d->threads); /* for libraries that ask OpenMP how many threads to use */
    grdi_parallel_for(d->threads, d->threads, 1, touch, NULL); /* starts the pool */
    *device = d;
    return GRD_OK;
}

static void close_device(grdi_device *device)
{
    if (device) grdi_free(device->blocks);
    grdi_free(device);
}

static const char *kind(grdi_device *device)
{
    return device->kind;
}

static const grdi_kernel *find(grdi_device *device, const grdi_call *call)
{
    return grdi_cpu_find(device->isa, call);
}

/* Without a device: of the best instruction set. */
static bool fast_bf16(grdi_device *device)
{
    grdi_isa isa = device ? device->isa : grdi_isa_best();
    return isa >= GRDI_ISA_AVX512BF16 || grdi_onednn_takes_bf16();
}

/* Not where tiles' packing rounds: the copy would be written once and read as often as the original. */
static bool copies_rounded(grdi_device *device)
{
    grdi_isa isa = device ? device->isa : grdi_isa_best();
    return isa != GRDI_ISA_AMX && grdi_onednn_takes_bf16();
}

const grdi_backend grdi_backend_cpu = {
    .name = "cpu",
    .open = open_device,
    .close = close_device,
    .kind = kind,
    .allocate = grdi_cpu_allocate,
    .release = grdi_cpu_release,
    .upload = grdi_cpu_upload,
    .download = grdi_cpu_download,
    .find = find,
    .rates = grdi_cpu_rates,
    .measure = grdi_cpu_measure,
    .fast_bf16 = fast_bf16,
    .copies_rounded = copies_rounded,
    .runs = true,
};
