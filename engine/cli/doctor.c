/* doctor.c - gradus doctor: what was built in, what was found, how fast it is, and what is missing. */
#include "cli/cli.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

static error_t parse(int key, char *text, struct argp_state *state)
{
    if (key == ARGP_KEY_INIT) state->child_inputs[0] = state->input;
    if (key == ARGP_KEY_ARG) return cli_refuse(state, "'%s': doctor takes no arguments", text);
    return key == ARGP_KEY_INIT ? 0 : ARGP_ERR_UNKNOWN;
}

/* The first line of a file that begins with `key` (or the first one), without the key; "" without such a line. */
static void read_line(const char *path, const char *key, char *text, size_t size)
{
    char line[512];
    FILE *file = fopen(path, "r");
    text[0] = '\0';
    while (file && !text[0] && fgets(line, sizeof(line), file)) {
        if (strncmp(line, key, strlen(key)) != 0) continue;
        const char *at = line + strlen(key);
        at += strspn(at, " \t:");
        snprintf(text, size, "%.*s", (int)strcspn(at, "\n"), at);
    }
    if (file) fclose(file);
}

/* What was found out. */
typedef struct facts {
    char processor[128], memory[64], available[64], pages[128];
    char kind[128];
    long processors;
    grd_rates rates;
    double waited_part; /* while they were measured */
} facts;

static void look(facts *f)
{
    struct utsname name;
    char line[128];
    read_line("/proc/cpuinfo", "model name", f->processor, sizeof(f->processor));
    if (!f->processor[0] && uname(&name) == 0) snprintf(f->processor, sizeof(f->processor), "%.64s", name.machine);
    read_line("/proc/meminfo", "MemTotal", line, sizeof(line));
    snprintf(f->memory, sizeof(f->memory), "%s", cli_bytes(1024 * strtod(line, NULL)));
    read_line("/proc/meminfo", "MemAvailable", line, sizeof(line));
    snprintf(f->available, sizeof(f->available), "%s", cli_bytes(1024 * strtod(line, NULL)));
    read_line("/sys/kernel/mm/transparent_hugepage/enabled", "", f->pages, sizeof(f->pages));
    f->processors = sysconf(_SC_NPROCESSORS_ONLN);
}

static const char *pages_advice(const char *pages)
{
    if (strstr(pages, "[always]") || strstr(pages, "[madvise]")) return "used for large blocks";
    return pages[0] ? "off: large models spend more time on addresses (echo madvise | sudo tee "
                      "/sys/kernel/mm/transparent_hugepage/enabled)"
                    : "not offered by this kernel";
}

static void show_json(const facts *f)
{
    grd_component component;
    json_t *components = json_object();
    for (int32_t i = 0; grd_component_at(i, &component); i++)
        json_object_set_new(components, component.name,
                            component.version ? json_string(component.version) : json_null());
    json_t *line =
        json_pack("{s:s, s:s, s:s, s:s, s:I, s:s, s:s, s:f, s:f, s:f, s:f, s:i, s:o, s:o}", "event", "doctor",
                  "version", grd_version(), "device", f->kind, "processor", f->processor, "processors",
                  (json_int_t)f->processors, "memory", f->memory, "huge_pages", f->pages, "matmul_flops_per_s",
                  f->rates.matmul_flops_per_s, "matmul_bf16_flops_per_s", f->rates.matmul_bf16_flops_per_s,
                  "copy_bytes_per_s", f->rates.copy_bytes_per_s, "map_flops_per_s", f->rates.map_flops_per_s, "ops",
                  (int)grd_op_count(), "components", components, "contended", cli_contended(f->waited_part));
    if (line) json_dumpf(line, stdout, JSON_COMPACT);
    printf("\n");
    json_decref(line);
}

static void show_text(const cli *c, const facts *f)
{
    grd_component component;
    printf("gradus       %s, %d ops\n", grd_version(), (int)grd_op_count());
    printf("processor    %s, %ld online\n", f->processor, f->processors);
    printf("device       %s\n", f->kind);
    printf("memory       %s, %s of it available\n", f->memory, f->available);
    printf("huge pages   %s: %s\n", f->pages[0] ? f->pages : "none", pages_advice(f->pages));
    printf("speed        matrix products %s in f32", cli_amount(f->rates.matmul_flops_per_s, "FLOP/s"));
    if (f->rates.matmul_bf16_flops_per_s > f->rates.matmul_flops_per_s)
        printf(", %s in bf16", cli_amount(f->rates.matmul_bf16_flops_per_s, "FLOP/s"));
    printf("; other arithmetic %s; memory %s\n", cli_amount(f->rates.map_flops_per_s, "FLOP/s"),
           cli_amount(f->rates.copy_bytes_per_s, "B/s"));
    cli_note_contended(c, f->waited_part);
    printf("\nlibraries\n");
    for (int32_t i = 0; grd_component_at(i, &component); i++)
        printf("  %-14s %-12s %s\n", component.name, component.version ? component.version : "missing",
               component.purpose);
    printf("\nnot in this version: several machines; of GPUs, device cuda has been run on an H100 and an H200 alone\n");
}

int cli_doctor(int argc, char **argv)
{
    cli c = {.command = "gradus doctor"};
    int code;
    if (!cli_parse(
            &c, NULL, parse, NULL,
            "Shows what this build and this machine offer: processor, memory, measured speed, libraries built in or "
            "missing. Measuring takes some seconds.",
            argc, argv, &code))
        return code;
    facts f = {0};
    grd_error error = {GRD_OK, ""};
    grd_engine *engine = grd_engine_open(c.device, .threads = c.threads);
    cli_turns turns = cli_turns_now();
    grd_status status = grd_engine_rates(engine, &f.rates, &error);
    f.waited_part = cli_waited_part(turns);
    look(&f);
    snprintf(f.kind, sizeof(f.kind), "%s", grd_engine_device_kind(engine));
    if (!status && c.json) show_json(&f);
    if (!status && !c.json) show_text(&c, &f);
    grd_engine_close(engine);
    return status ? cli_fail(&c, &error, false) : CLI_DONE;
}
