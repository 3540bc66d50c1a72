/* cost.c - how long a plan should take: each launch needs the time of its arithmetic and that of its memory traffic.
 * Their sum, not the longer of the two: kernels seldom overlap them, and a prediction is to be kept, not a limit. */
#include "plan/plan.h"

static bool is_narrow(const grdi_call *call)
{
    return call->input_count && (call->in[0].dtype == GRD_BF16 || call->in[0].dtype == GRD_F16);
}

double grdi_arithmetic_rate(const grdi_launch *launch, const grdi_rates *rates)
{
    const grdi_call *call = &launch->call;
    if (!(call->op->flags & GRDI_OP_MATMUL)) return rates->map_flops_per_s;
    return is_narrow(call) ? rates->matmul_bf16_flops_per_s
                           : rates->matmul_flops_per_s; /* f16 has bf16's rate on tensor cores */
}

static double product_traffic(double bytes, const grdi_rates *r)
{
    double fresh = r->fresh_bytes_per_s <= 0 ? 0 : bytes < r->near_bytes ? bytes : r->near_bytes;
    double bytes_per_s = r->product_bytes_per_s > 0 ? r->product_bytes_per_s : r->copy_bytes_per_s;
    return (fresh > 0 ? fresh / r->fresh_bytes_per_s : 0) + (bytes_per_s > 0 ? (bytes - fresh) / bytes_per_s : 0);
}

double grdi_launch_seconds(const grdi_launch *launch, const grdi_rates *rates)
{
    const grdi_kernel *kernel = launch->kernel;
    const bool product = launch->call.op->flags & GRDI_OP_MATMUL;
    double flops_per_s = grdi_arithmetic_rate(launch, rates), bytes = launch->bytes, traffic = 0;
    double part = kernel->rate_part_of ? kernel->rate_part_of(&launch->call) : kernel->rate_part;
    if (product) {
        double loops = is_narrow(&launch->call) && !kernel->of_loops ? 0 : rates->loops_flops_per_s;
        if (part > 0 && loops > 0) flops_per_s = loops;
        traffic = product_traffic(bytes, rates);
    } else if (bytes < rates->near_bytes && rates->near_bytes_per_s > 0) {
        traffic = bytes / rates->near_bytes_per_s;
    } else if (rates->copy_bytes_per_s > 0) {
        traffic = bytes / rates->copy_bytes_per_s;
    }
    if (part > 0) flops_per_s *= part;
    double arithmetic = flops_per_s > 0 ? launch->flops / flops_per_s : 0;
    double calls = launch->device_calls > 1 ? launch->device_calls : 1;
    return arithmetic + traffic + calls * rates->launch_s;
}

double grdi_plan_seconds(const grdi_plan *plan, const grdi_rates *rates, double runs)
{
    double seconds = 0;
    for (size_t i = 0; i < plan->launch_count; i++)
        seconds += grdi_launch_seconds(&plan->launches[i], rates) * (plan->launches[i].of_weights ? 1 : runs);
    return seconds;
}

double grdi_plan_bytes(const grdi_plan *plan, double runs)
{
    double bytes = 0;
    for (size_t i = 0; i < plan->launch_count; i++)
        bytes += plan->launches[i].bytes * (plan->launches[i].of_weights ? 1 : runs);
    return bytes;
}
