/* bench_op.c - gradus bench op: the samples of the op table, each with the part of the machine's limit it reaches. */
#include "cli/bench.h"

#include <jansson.h>

static void show_time(void *context, const grd_op_time *t)
{
    const cli *c = context;
    if (c->json) {
        json_t *line = json_pack("{s:s, s:s, s:s, s:s, s:b, s:f, s:f, s:f, s:f}", "event", "bench_op", "op", t->op,
                                 "inputs", t->shapes, "attributes", t->attrs, "reference", t->reference, "ms",
                                 1e3 * t->seconds, "flops_per_s", t->flops / t->seconds, "bytes_per_s",
                                 t->bytes / t->seconds, "limit_part", t->limit_part);
        if (line) json_dumpf(line, stdout, JSON_COMPACT);
        printf("\n");
        json_decref(line);
        return;
    }
    printf("%-28s %10.4f %9.2f %8.2f %7.0f%%  %s%s%s%s\n", t->op, 1e3 * t->seconds, 1e-9 * t->flops / t->seconds,
           1e-9 * t->bytes / t->seconds, 100 * t->limit_part, t->shapes, t->attrs[0] ? "  " : "", t->attrs,
           t->reference ? "  (reference)" : "");
    fflush(stdout);
}

static void show_limits(const cli *c, const grd_rates *rates, double waited_part)
{
    if (c->json) {
        json_t *line =
            json_pack("{s:s, s:f, s:f, s:f, s:f, s:o}", "event", "rates", "matmul_flops_per_s",
                      rates->matmul_flops_per_s, "copy_bytes_per_s", rates->copy_bytes_per_s, "map_flops_per_s",
                      rates->map_flops_per_s, "launch_s", rates->launch_s, "contended", cli_contended(waited_part));
        if (line) json_dumpf(line, stdout, JSON_COMPACT);
        printf("\n");
        json_decref(line);
        return;
    }
    printf("limits: matrix products %s, other arithmetic %s, memory %s\n",
           cli_amount(rates->matmul_flops_per_s, "FLOP/s"), cli_amount(rates->map_flops_per_s, "FLOP/s"),
           cli_amount(rates->copy_bytes_per_s, "B/s"));
    printf("%-28s %10s %9s %8s %8s  %s\n", "op", "ms", "GFLOP/s", "GB/s", "of limit", "inputs");
}

int bench_op(const bench_args *a)
{
    grd_error error = {GRD_OK, ""};
    grd_rates rates;
    grd_engine *engine = grd_engine_open(a->common.device, .threads = a->common.threads);
    cli_turns turns = cli_turns_now();
    grd_status status = grd_engine_rates(engine, &rates, &error);
    double waited_part = cli_waited_part(turns);
    if (!status) show_limits(&a->common, &rates, waited_part);
    for (int32_t i = 0; !status && i < grd_op_count(); i++) {
        const char *name = a->name ? a->name : grd_op_name(i);
        status = grd_bench_op(engine, name, show_time, (void *)&a->common, &error);
        if (a->name) break;
    }
    if (!status && !a->common.json) cli_note_contended(&a->common, waited_part);
    grd_engine_close(engine);
    return status ? cli_fail(&a->common, &error, false) : CLI_DONE;
}
