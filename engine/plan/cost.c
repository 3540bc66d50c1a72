/* cost.c - how long a plan should take: each launch needs the longer of its arithmetic and its memory traffic. */
#include "plan/plan.h"

static double launch_seconds(const grdi_launch *launch, const grdi_rates *rates)
{
    double rate = launch->call.op->flags & GRDI_OP_MATMUL ? rates->matmul_flops_per_s : rates->map_flops_per_s;
    if ((launch->call.op->flags & GRDI_OP_MATMUL) && launch->call.input_count && launch->call.in[0].dtype == GRD_BF16)
        rate = rates->matmul_bf16_flops_per_s;
    double arithmetic = rate > 0 ? launch->flops / rate : 0;
    double traffic = rates->copy_bytes_per_s > 0 ? launch->bytes / rates->copy_bytes_per_s : 0;
    return (arithmetic > traffic ? arithmetic : traffic) + rates->launch_s;
}

double grdi_plan_seconds(const grdi_plan *plan, const grdi_rates *rates)
{
    double seconds = 0;
    for (size_t i = 0; i < plan->launch_count; i++) seconds += launch_seconds(&plan->launches[i], rates);
    return seconds;
}
