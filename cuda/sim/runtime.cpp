/* runtime.cpp - the stand-in for the CUDA runtime: memory, streams, events, capture. What a GPU would leave undefined
 * is an error here: copies past an allocation, pageable memory in a captured stream, a pinned buffer written again
 * before its copy has happened, or read before it has (such copies happen as late as they may). */
#include "cuda_runtime.h"

#include "sim_state.h"

#include <cstdio>
#include <cstdlib>
#include <deque>
#include <map>
#include <memory>
#include <set>
#include <vector>

struct CUgraph_st {
    std::vector<std::function<cudaError_t()>> work;
};
struct CUgraphExec_st {
    std::vector<std::function<cudaError_t()>> work;
};
struct CUevent_st {
    cudaStream_t stream;
    uint64_t asked, done; /* of the stream's late work, and of the other, when the event was recorded */
    uint32_t queries;
    double clock;
    unsigned flags;
};
struct CUstream_st {
    std::deque<std::function<void()>> late; /* copies, and waits for other streams, that have not happened yet */
    uint64_t asked, happened;
    uint64_t done;                                                  /* other work, which happens at once */
    std::deque<std::pair<uint64_t, std::function<void()>>> letters; /* copied, but not yet seen by the host */
    CUgraph_st *capturing;
};

namespace
{

/* The most that sm_86, sm_89 and sm_120 give a block; others give more. */
constexpr size_t SHARED_BYTES_MAX = 99 * 1024;

std::map<char *, size_t> device_blocks, pinned_blocks;
std::set<cudaStream_t> streams;
std::map<const void *, size_t> shared_limits; /* of kernels that may have more than 48 KB */
cudaError_t last_error = cudaSuccess;
double simulated_ms; /* that calls of libraries have taken */
int algorithms, fastest_algorithm, any_order;
cudaEvent_t timed_from; /* between it and the next event that keeps time calls are timed; NULL */
char *newest;           /* allocation */

/* Of the variable, where a test has not said otherwise. */
int or_variable(int value, const char *name, int otherwise)
{
    const char *text = getenv(name);
    return value ? value : text ? atoi(text) : otherwise;
}

cudaError_t failed(cudaError_t error)
{
    last_error = error;
    return error;
}

/* Whether the range lies within one block. */
bool within(const std::map<char *, size_t> &blocks, const void *memory, size_t size_bytes)
{
    auto next = blocks.upper_bound((char *)memory);
    if (next == blocks.begin()) return false;
    auto block = std::prev(next);
    return (const char *)memory + size_bytes <= block->first + block->second;
}

/* The stream's late work up to that one; work may need another stream to come so far. */
void happen(cudaStream_t stream, uint64_t until = UINT64_MAX)
{
    while (!stream->late.empty() && stream->happened < until) {
        auto work = std::move(stream->late.front());
        stream->late.pop_front();
        work();
        stream->happened++;
    }
}

/* The host sees what has been copied to it. */
void deliver(cudaStream_t stream, uint64_t until = UINT64_MAX)
{
    happen(stream, until);
    while (!stream->letters.empty() && stream->letters.front().first <= until) {
        stream->letters.front().second();
        stream->letters.pop_front();
    }
}

void ask(cudaStream_t stream, std::function<void()> work)
{
    stream->asked++;
    stream->late.push_back(std::move(work));
}

/* Copies to pinned memory are there when somebody has waited for them, has asked for them when there was more to do
 * since, or has asked often. */
void send(cudaStream_t stream, void *to, const void *from, size_t size_bytes)
{
    memset(to, 0xFF, size_bytes); /* nobody may read it yet */
    uint64_t number = stream->asked + 1;
    ask(stream, [=] {
        auto bytes = std::make_shared<std::vector<char>>((const char *)from, (const char *)from + size_bytes);
        stream->letters.emplace_back(number, [=] { memcpy(to, bytes->data(), size_bytes); });
    });
}

const struct {
    cudaError_t error;
    const char *name, *text;
} errors[] = {{cudaSuccess, "cudaSuccess", "no error"},
              {cudaErrorInvalidValue, "cudaErrorInvalidValue", "invalid argument"},
              {cudaErrorMemoryAllocation, "cudaErrorMemoryAllocation", "out of memory"},
              {cudaErrorInvalidConfiguration, "cudaErrorInvalidConfiguration", "invalid configuration argument"},
              {cudaErrorInvalidDevice, "cudaErrorInvalidDevice", "invalid device ordinal"},
              {cudaErrorNotReady, "cudaErrorNotReady", "device not ready"},
              {cudaErrorLaunchFailure, "cudaErrorLaunchFailure", "unspecified launch failure"},
              {cudaErrorStreamCaptureUnsupported, "cudaErrorStreamCaptureUnsupported",
               "operation not permitted when stream is capturing"}};

/* Memory that the simulated device has: enough for tests, little enough to run out of. */
size_t memory_left()
{
    static const size_t total = (size_t)4 << 30;
    size_t used = 0;
    for (auto &block : device_blocks) used += block.second;
    return total - used;
}

} // namespace

cudaError_t grdi_sim_submit(cudaStream_t stream, std::function<cudaError_t()> work)
{
    if (!stream) return failed(cudaErrorInvalidValue);
    if (stream->capturing) {
        stream->capturing->work.push_back(std::move(work));
        return cudaSuccess;
    }
    happen(stream);
    stream->done++;
    return failed(work());
}

/* Counted from 1, so that 0 is "not said". */
void grdi_sim_set_algorithms(int count, int fastest)
{
    algorithms = count;
    fastest_algorithm = fastest + 1;
}

int grdi_sim_algorithms(void)
{
    return or_variable(algorithms, "GRADUS_SIM_ALGORITHMS", 1);
}

void grdi_sim_allow_any_order(int allowed)
{
    any_order = allowed;
}

bool grdi_sim_any_order(void)
{
    return or_variable(any_order, "GRADUS_SIM_ANY_ORDER", 0) != 0;
}

int grdi_sim_fastest(void)
{
    return fastest_algorithm ? fastest_algorithm - 1 : or_variable(0, "GRADUS_SIM_FASTEST", 0);
}

/* Libraries' algorithms are as fast as tests say, kernels faster than those that are not the fastest. */
void grdi_sim_spend(int64_t algorithm)
{
    simulated_ms += algorithm == grdi_sim_fastest() ? 1 : 2;
}

void grdi_sim_spend_kernel(void)
{
    simulated_ms += 1.5;
}

/* Of an epilogue that sums columns: nothing, or more than a kernel for it takes. */
void grdi_sim_spend_sums(void)
{
    simulated_ms += 8 * or_variable(0, "GRADUS_SIM_SLOW_SUMS", 0);
}

void grdi_sim_writes(const char *call, const void *memory)
{
    if (!timed_from) return;
    grdi_sim_count()->timed++;
    auto block = device_blocks.find(newest);
    if (block == device_blocks.end() || (const char *)memory < newest || (const char *)memory >= newest + block->second)
        grdi_sim_wrong("%s: while it is timed it writes to %p, which is not memory of its own", call, memory);
}

size_t grdi_sim_shared_limit(const void *function)
{
    auto found = shared_limits.find(function);
    return found == shared_limits.end() ? 48 * 1024 : found->second;
}

bool grdi_sim_on_device(const void *memory, size_t size_bytes)
{
    return within(device_blocks, memory, size_bytes);
}

const char *grdi_sim_wrong_memory(const char *what, const void *memory, size_t size_bytes, size_t alignment)
{
    static char text[160];
    if (!memory) snprintf(text, sizeof text, "%s is NULL", what);
    else if ((uintptr_t)memory % alignment)
        snprintf(text, sizeof text, "%s is aligned to less than %zu bytes", what, alignment);
    else if (!grdi_sim_on_device(memory, size_bytes))
        snprintf(text, sizeof text, "%s of %zu bytes does not lie within one allocation of the device", what,
                 size_bytes);
    else return nullptr;
    return text;
}

extern "C" {

const char *cudaGetErrorName(cudaError_t error)
{
    for (auto &e : errors)
        if (e.error == error) return e.name;
    return "cudaErrorUnknown";
}

const char *cudaGetErrorString(cudaError_t error)
{
    for (auto &e : errors)
        if (e.error == error) return e.text;
    return "unknown error";
}

cudaError_t cudaGetLastError(void)
{
    cudaError_t error = last_error;
    last_error = cudaSuccess;
    return error;
}

cudaError_t cudaGetDeviceCount(int *count)
{
    *count = 2;
    return cudaSuccess;
}

cudaError_t cudaSetDevice(int device)
{
    return device < 0 || device > 1 ? cudaErrorInvalidDevice : cudaSuccess;
}

cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *properties, int device)
{
    if (cudaSetDevice(device) != cudaSuccess) return failed(cudaErrorInvalidDevice);
    *properties = cudaDeviceProp{};
    snprintf(properties->name, sizeof properties->name, "simulator");
    properties->totalGlobalMem = (size_t)4 << 30;
    properties->major = 9;
    properties->multiProcessorCount = GRDI_SIM_BLOCKS_AT_ONCE;
    properties->sharedMemPerBlockOptin = SHARED_BYTES_MAX;
    return cudaSuccess;
}

cudaError_t cudaDriverGetVersion(int *version)
{
    *version = 13000;
    return cudaSuccess;
}

cudaError_t cudaRuntimeGetVersion(int *version)
{
    return cudaDriverGetVersion(version);
}

cudaError_t cudaFuncSetAttribute(const void *function, enum cudaFuncAttribute attribute, int value)
{
    if (!function || attribute != cudaFuncAttributeMaxDynamicSharedMemorySize || value < 0 ||
        (size_t)value > SHARED_BYTES_MAX) {
        grdi_sim_wrong("cudaFuncSetAttribute: %d bytes of shared memory cannot be allowed", value);
        return failed(cudaErrorInvalidValue);
    }
    shared_limits[function] = (size_t)value;
    return cudaSuccess;
}

/* Not zeroed, as on a device. */
cudaError_t cudaMalloc(void **memory, size_t size_bytes)
{
    grdi_sim_count()->device_allocations++;
    *memory = nullptr;
    if (size_bytes > memory_left()) return failed(cudaErrorMemoryAllocation);
    size_t rounded = (size_bytes + 255) / 256 * 256;
    *memory = aligned_alloc(256, rounded ? rounded : 256);
    if (!*memory) return failed(cudaErrorMemoryAllocation);
    memset(*memory, 0xFF, size_bytes);
    device_blocks[(char *)*memory] = size_bytes;
    newest = (char *)*memory;
    return cudaSuccess;
}

cudaError_t cudaFree(void *memory)
{
    for (auto stream : streams) happen(stream); /* it waits for all work */
    if (memory && !device_blocks.erase((char *)memory)) return failed(cudaErrorInvalidValue);
    free(memory);
    return cudaSuccess;
}

cudaError_t cudaMallocHost(void **memory, size_t size_bytes)
{
    grdi_sim_count()->host_allocations++;
    *memory = malloc(size_bytes);
    if (!*memory) return failed(cudaErrorMemoryAllocation);
    pinned_blocks[(char *)*memory] = size_bytes;
    return cudaSuccess;
}

cudaError_t cudaFreeHost(void *memory)
{
    if (memory && !pinned_blocks.erase((char *)memory)) return failed(cudaErrorInvalidValue);
    free(memory);
    return cudaSuccess;
}

cudaError_t cudaMemsetAsync(void *memory, int value, size_t size_bytes, cudaStream_t stream)
{
    grdi_sim_count()->sets++;
    if (!within(device_blocks, memory, size_bytes)) {
        grdi_sim_wrong("cudaMemsetAsync: %zu bytes at %p are not within an allocation", size_bytes, memory);
        return failed(cudaErrorInvalidValue);
    }
    return grdi_sim_submit(stream, [=] {
        memset(memory, value, size_bytes);
        return cudaSuccess;
    });
}

cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t size_bytes, enum cudaMemcpyKind kind,
                            cudaStream_t stream)
{
    grdi_sim_count()->copies++;
    const void *host = kind == cudaMemcpyHostToDevice ? from : kind == cudaMemcpyDeviceToHost ? to : nullptr;
    bool pinned = host && within(pinned_blocks, host, size_bytes);
    bool good = (kind == cudaMemcpyHostToDevice || within(device_blocks, from, size_bytes)) &&
                (kind == cudaMemcpyDeviceToHost || within(device_blocks, to, size_bytes)) &&
                !(host && within(device_blocks, host, 1));
    if (!stream || !good) {
        grdi_sim_wrong("cudaMemcpyAsync: %zu bytes from %p to %p do not lie where kind %d says", size_bytes, from, to,
                       (int)kind);
        return failed(cudaErrorInvalidValue);
    }
    if (host && !pinned) {
        grdi_sim_count()->synchronisations++; /* the host waits for pageable memory */
        if (stream->capturing) return failed(cudaErrorStreamCaptureUnsupported);
    }
    bool late = !stream->capturing && (pinned || kind == cudaMemcpyDeviceToDevice);
    if (!late)
        return grdi_sim_submit(stream, [=] {
            memmove(to, from, size_bytes);
            return cudaSuccess;
        });
    if (kind == cudaMemcpyDeviceToHost) send(stream, to, from, size_bytes);
    else ask(stream, [=] { memmove(to, from, size_bytes); });
    if (kind == cudaMemcpyHostToDevice && grdi_sim_order()) happen(stream);
    return cudaSuccess;
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned)
{
    *stream = new CUstream_st{};
    streams.insert(*stream);
    return cudaSuccess;
}

cudaError_t cudaStreamDestroy(cudaStream_t stream)
{
    deliver(stream);
    streams.erase(stream);
    delete stream;
    return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream)
{
    grdi_sim_count()->synchronisations++;
    if (stream->capturing) return failed(cudaErrorStreamCaptureUnsupported);
    deliver(stream);
    return cudaSuccess;
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned)
{
    if (stream->capturing) return failed(cudaErrorStreamCaptureUnsupported);
    cudaStream_t other = event->stream;
    uint64_t until = event->asked;
    if (other && other != stream) ask(stream, [=] { happen(other, until); });
    return cudaSuccess;
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned flags)
{
    *event = new CUevent_st{};
    (*event)->flags = flags;
    return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream)
{
    *event = CUevent_st{stream, stream->asked, stream->done, 0, simulated_ms, event->flags};
    if (!(event->flags & cudaEventDisableTiming)) timed_from = timed_from ? nullptr : event;
    return cudaSuccess;
}

cudaError_t cudaEventSynchronize(cudaEvent_t event)
{
    grdi_sim_count()->synchronisations++;
    if (event->stream) deliver(event->stream, event->asked);
    return cudaSuccess;
}

cudaError_t cudaEventElapsedTime(float *milliseconds, cudaEvent_t from, cudaEvent_t to)
{
    if (!from->stream || !to->stream || (from->flags | to->flags) & cudaEventDisableTiming) {
        grdi_sim_wrong("cudaEventElapsedTime: of an event that was not recorded, or keeps no time");
        return failed(cudaErrorInvalidValue);
    }
    *milliseconds = (float)(to->clock - from->clock);
    return cudaSuccess;
}

cudaError_t cudaEventQuery(cudaEvent_t event)
{
    cudaStream_t stream = event->stream;
    if (!stream) return cudaSuccess;
    if (stream->done == event->done && ++event->queries < 1000) {
        bool letters = !stream->letters.empty() && stream->letters.front().first <= event->asked;
        if (stream->happened < event->asked || letters) return cudaErrorNotReady;
    }
    deliver(stream, event->asked);
    return cudaSuccess;
}

cudaError_t cudaEventDestroy(cudaEvent_t event)
{
    if (event == timed_from) timed_from = nullptr;
    delete event;
    return cudaSuccess;
}

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, enum cudaStreamCaptureMode)
{
    if (stream->capturing) return failed(cudaErrorInvalidValue);
    happen(stream);
    stream->capturing = new CUgraph_st{};
    return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *graph)
{
    *graph = stream->capturing;
    stream->capturing = nullptr;
    return *graph ? cudaSuccess : failed(cudaErrorInvalidValue);
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t *executable, cudaGraph_t graph, unsigned long long)
{
    *executable = new CUgraphExec_st{graph->work};
    return cudaSuccess;
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t stream)
{
    grdi_sim_count()->graph_launches++;
    happen(stream);
    stream->done++;
    for (auto &work : executable->work) {
        cudaError_t error = work();
        if (error != cudaSuccess) return failed(error);
    }
    return cudaSuccess;
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable)
{
    delete executable;
    return cudaSuccess;
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph)
{
    delete graph;
    return cudaSuccess;
}

} // extern "C"
