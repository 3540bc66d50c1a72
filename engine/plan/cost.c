/* cost.c - how long a plan should take: each launch needs the time of its arithmetic and that of its memory traffic.
 * Their sum, not the longer of the two: kernels seldom overlap them, and a prediction is to be kept, not a limit. */
#include "plan/plan.h"

static double launch_seconds(const grdi_launch *launch, const grdi_rates *rates)
{
    bool products = launch->call.op->flags & GRDI_OP_MATMUL;
    double rate = products ? rates->matmul_flops_per_s : rates->map_flops_per_s;
    if (products && launch->call.input_count && launch->call.in[0].dtype == GRD_BF16)
        rate = rates->matmul_bf16_flops_per_s;
    if (products && launch->kernel->rate_part > 0)
        rate *= launch->kernel->rate_part;
    double arithmetic = rate > 0 ? launch->flops / rate : 0;
    double traffic = rates->copy_bytes_per_s > 0 ? launch->bytes / rates->copy_bytes_per_s : 0;
    return arithmetic + traffic + rates->launch_s;
}

double grdi_plan_seconds(const grdi_plan *plan, const grdi_rates *rates)
{
    double seconds = 0;
    for (size_t i = 0; i < plan->launch_count; i++) seconds += launch_seconds(&plan->launches[i], rates);
    return seconds;
}
