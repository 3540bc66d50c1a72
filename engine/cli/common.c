/* common.c - options, errors and numbers that all subcommands share. */
#include "cli/cli.h"

#include <dirent.h>
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* ---- stdout ---- */

static int stdout_problem; /* of the first flush that failed; 0: none did */

bool cli_flush(void)
{
    if (fflush(stdout) != 0 && !stdout_problem) stdout_problem = errno;
    return !stdout_problem && !ferror(stdout);
}

int cli_stdout_failed(const cli *c, const char *more)
{
    if (!stdout_problem)
        return cli_error(c, CLI_FAILED, "stdout: not all could be written (is its disk full?)%s", more);
    return cli_error(c, CLI_FAILED, "stdout: cannot write: %s%s", strerror(stdout_problem), more);
}

/* ---- errors ---- */

static void print_error(bool json, const char *message)
{
    fprintf(stderr, "error: %s\n", message);
    if (!json) return;
    json_t *line = json_pack("{s:s, s:s}", "event", "error", "message", message);
    if (!line) line = json_pack("{s:s, s:s}", "event", "error", "message", "(not UTF-8: see stderr)");
    json_dumpf(line, stdout, JSON_COMPACT);
    printf("\n");
    cli_flush();
    json_decref(line);
}

int cli_error(const cli *c, int code, const char *format, ...)
{
    char message[GRD_MESSAGE_MAX];
    va_list args;
    va_start(args, format);
    vsnprintf(message, sizeof(message), format, args);
    va_end(args);
    print_error(c->json, message);
    return code;
}

int cli_fail(const cli *c, const grd_error *error, bool running)
{
    const char *message = error->message[0] ? error->message : grd_status_name(error->status);
    bool machine = error->status == GRD_E_MEMORY || error->status == GRD_E_NUMERIC || error->status == GRD_E_STATE ||
                   error->status == GRD_E_SPACE;
    return cli_error(c, running || machine ? CLI_FAILED : CLI_USAGE, "%s", message);
}

/* ---- results ---- */

int cli_print_json(const cli *c, json_t *line)
{
    if (!line) return cli_error(c, CLI_FAILED, "out of memory for a line of JSON");
    json_dumpf(line, stdout, JSON_COMPACT);
    printf("\n");
    cli_flush();
    json_decref(line);
    return CLI_DONE;
}

void cli_note(const cli *c, const char *format, ...)
{
    char text[GRD_MESSAGE_MAX];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    if (c->quiet) return;
    if (c->json) cli_print_json(c, json_pack("{s:s, s:o}", "event", "note", "text", cli_json_text(text, strlen(text))));
    else fprintf(stderr, "note: %s\n", text);
}

const char *cli_input(const char *path)
{
    return strcmp(path, "-") == 0 ? "/dev/stdin" : path;
}

/* Bytes of the UTF-8 character at `text`; 0 where there is none. */
static size_t character_bytes(const unsigned char *text, size_t size)
{
    size_t length = text[0] < 0x80 ? 1 : text[0] >= 0xF0 ? 4 : text[0] >= 0xE0 ? 3 : 2;
    if (length > size || (text[0] >= 0x80 && text[0] < 0xC2) || text[0] > 0xF4) return 0;
    json_t *valid = json_stringn((const char *)text, length); /* knows surrogates and overlong forms */
    json_decref(valid);
    return valid ? length : 0;
}

json_t *cli_json_text(const char *bytes, size_t size)
{
    json_t *text = json_stringn(bytes, size);
    if (text) return text;
    char *repaired = malloc(3 * size + 1);
    size_t used = 0;
    if (!repaired) return NULL;
    for (size_t at = 0; at < size;) {
        size_t length = character_bytes((const unsigned char *)bytes + at, size - at);
        memcpy(repaired + used, length ? bytes + at : "\xEF\xBF\xBD", length ? length : 3);
        used += length ? length : 3;
        at += length ? length : 1;
    }
    text = json_stringn(repaired, used);
    free(repaired);
    return text;
}

int cli_missing(const cli *c, const char *path)
{
    grd_error error = {GRD_OK, ""};
    if (errno == ENOENT) return cli_error(c, CLI_USAGE, "%s: no such file or folder (give one that is there)", path);
    grd_fail_system(&error, path, "open");
    return cli_fail(c, &error, false);
}

bool cli_has(const char *path, const char *name)
{
    char inside[4096];
    return snprintf(inside, sizeof(inside), "%s/%s", path, name) < (int)sizeof(inside) && access(inside, F_OK) == 0;
}

bool cli_ends_with(const char *path, const char *ending)
{
    size_t length = strlen(path), size = strlen(ending);
    return length > size && strcmp(path + length - size, ending) == 0;
}

/* ---- arguments ---- */

enum { KEY_DEVICE = 0x1000, KEY_THREADS, KEY_QUIET, KEY_JSON, KEY_HELP, KEY_VERSION };

static const struct argp_option common_options[] = {
    {"device", KEY_DEVICE, "NAME", 0,
     "auto (default), cpu, cuda, cuda:N, ref (slow double-precision references); null:PROFILE only plans", 90},
    {"threads", KEY_THREADS, "N", 0, "processor threads to use (default: one for each usable core)", 90},
    {"json", KEY_JSON, NULL, 0, "results as JSON lines on stdout, nothing else there", 90},
    {"quiet", KEY_QUIET, NULL, 0, "print results and errors only", 90},
    {"help", KEY_HELP, NULL, 0, "this text", 99},
    {"version", KEY_VERSION, NULL, 0, "the version", 99},
    {0}};

static error_t parse_common(int key, char *text, struct argp_state *state)
{
    cli *c = state->input;
    int64_t threads;
    switch (key) {
    case KEY_DEVICE: c->device = text; return 0;
    case KEY_THREADS:
        if (cli_whole(state, "--threads", text, 1, 4096, &threads)) return EINVAL;
        c->threads = (int32_t)threads;
        return 0;
    case KEY_JSON: c->json = true; return 0;
    case KEY_QUIET: c->quiet = true; return 0;
    case KEY_HELP:
        argp_help(state->root_argp, stdout, ARGP_HELP_STD_HELP & ~(unsigned)ARGP_HELP_EXIT_OK, (char *)c->command);
        c->ended = true;
        return ECANCELED;
    case KEY_VERSION:
        printf("gradus %s\n", grd_version());
        c->ended = true;
        return ECANCELED;
    case ARGP_KEY_ERROR:
        if (!c->refused && !c->ended)
            cli_refuse(state, "'%s': there is no such option, or its value is missing (see %s --help)",
                       state->argv[state->next > 0 ? state->next - 1 : 0], c->command);
        return 0;
    default: return ARGP_ERR_UNKNOWN;
    }
}

bool cli_wants_json(int argc, char **argv)
{
    for (int i = 1; i < argc; i++)
        if (strcmp(argv[i], "--json") == 0) return true;
    return false;
}

bool cli_parse(void *args, const struct argp_option *options, argp_parser_t parser, const char *args_doc,
               const char *doc, int argc, char **argv, int *code)
{
    static const struct argp common = {.options = common_options, .parser = parse_common};
    cli *c = args;
    struct argp_child children[] = {{.argp = &common}, {0}};
    struct argp own = {.options = options, .parser = parser, .args_doc = args_doc, .doc = doc, .children = children};
    c->json = cli_wants_json(argc, argv);
    error_t failed = argp_parse(&own, argc, argv, ARGP_NO_EXIT | ARGP_NO_ERRS | ARGP_NO_HELP, NULL, args);
    *code = c->ended ? CLI_DONE : CLI_USAGE;
    if (failed && !c->ended && !c->refused) cli_error(c, CLI_USAGE, "%s: %s", c->command, strerror(failed));
    return !failed && !c->refused;
}

error_t cli_refuse(struct argp_state *state, const char *format, ...)
{
    cli *c = state->input;
    char message[GRD_MESSAGE_MAX];
    va_list args;
    va_start(args, format);
    vsnprintf(message, sizeof(message), format, args);
    va_end(args);
    if (!c->refused) print_error(c->json, message);
    c->refused = true;
    return EINVAL;
}

error_t cli_add_set(struct argp_state *state, cli_sets *sets, const char *text)
{
    const int most = sizeof(sets->text) / sizeof(sets->text[0]);
    if (sets->count == most) return cli_refuse(state, "--set: more than %d of them", most);
    sets->text[sets->count++] = text;
    return 0;
}

grd_status cli_load_config(grd_settings *settings, const char *config, const cli_sets *sets, grd_error *error)
{
    grd_status status = grd_settings_load(settings, config, error);
    for (int i = 0; i < sets->count && !status; i++) status = grd_settings_set(settings, sets->text[i], error);
    return status;
}

error_t cli_whole(struct argp_state *state, const char *option, const char *text, int64_t least, int64_t most,
                  int64_t *value)
{
    char *end;
    errno = 0;
    long long v = strtoll(text, &end, 10);
    if (end == text || *end || errno)
        return cli_refuse(state, "%s: '%s' is not a whole number (give digits, as in 100)", option, text);
    if (v < least || v > most)
        return cli_refuse(state, "%s: %lld is outside %lld to %lld", option, v, (long long)least, (long long)most);
    *value = v;
    return 0;
}

error_t cli_number(struct argp_state *state, const char *option, const char *text, double least, double most,
                   double *value)
{
    char *end;
    double v = strtod(text, &end);
    if (end == text || *end) return cli_refuse(state, "%s: '%s' is not a number (give one as in 0.5)", option, text);
    if (!(v >= least && v <= most)) return cli_refuse(state, "%s: %s is outside %g to %g", option, text, least, most);
    *value = v;
    return 0;
}

/* ---- numbers for people ---- */

static char *next_text(void)
{
    static char texts[8][48];
    static unsigned next;
    return texts[next++ % 8];
}

const char *cli_count(int64_t value)
{
    char digits[24], *text = next_text(), *to = text;
    int length = snprintf(digits, sizeof(digits), "%lld", (long long)value);
    for (int i = 0; i < length; i++) {
        *to++ = digits[i];
        int left = length - 1 - i;
        if (left > 0 && left % 3 == 0 && digits[i] != '-') *to++ = ',';
    }
    *to = '\0';
    return text;
}

const char *cli_amount(double value, const char *unit)
{
    static const char *const prefixes[] = {"", "k", "M", "G", "T", "P"};
    int power = 0;
    while (value >= 999.5 && power < 5) {
        value /= 1000;
        power++;
    }
    char *text = next_text();
    snprintf(text, 48, "%.*f %s%s",
             value >= 99.5 || power == 0 ? 0
             : value >= 9.95             ? 1
                                         : 2,
             value, prefixes[power], unit);
    return text;
}

const char *cli_bytes(double bytes)
{
    return cli_amount(bytes, "B");
}

const char *cli_clock(double seconds)
{
    char *text = next_text();
    long long s = seconds > 0 ? (long long)(seconds + 0.5) : 0;
    if (s >= 3600) snprintf(text, 48, "%lld:%02lld:%02lld", s / 3600, s / 60 % 60, s % 60);
    else snprintf(text, 48, "%lld:%02lld", s / 60, s % 60);
    return text;
}

const char *cli_ms(double ms)
{
    char *text = next_text();
    if (ms >= 1e5) snprintf(text, 48, "%s s", cli_count((int64_t)(ms / 1000 + 0.5)));
    else if (ms >= 999.5) snprintf(text, 48, "%s ms", cli_count((int64_t)(ms + 0.5)));
    else snprintf(text, 48, "%.4g ms", ms);
    return text;
}

/* ---- signals ---- */

volatile int cli_stop;

static void on_signal(int signal)
{
    (void)signal;
    cli_stop = 1;
}

void cli_catch_signals(void)
{
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = (int)SA_RESETHAND};
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    signal(SIGPIPE, SIG_IGN); /* a reader that is gone is an error of writing */
}

/* ---- this process ---- */

int cli_threads(const cli *c)
{
    cpu_set_t set;
    if (c->threads > 0) return c->threads;
    return sched_getaffinity(0, sizeof(set), &set) == 0 ? CPU_COUNT(&set) : 1;
}

double cli_seconds_since_start(void)
{
    FILE *file = fopen("/proc/self/stat", "r");
    char line[1024] = "";
    if (!file) return 0;
    size_t size = fread(line, 1, sizeof(line) - 1, file);
    fclose(file);
    line[size] = '\0';
    char *at = strrchr(line, ')'); /* the name before it may hold spaces */
    for (int field = 2; at && field < 22; field++) at = strchr(at + 1, ' ');
    struct timespec now;
    clock_gettime(CLOCK_BOOTTIME, &now);
    if (!at) return 0;
    double start = strtod(at, NULL) / (double)sysconf(_SC_CLK_TCK);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9 - start;
}

int64_t cli_resident_bytes(bool peak)
{
    FILE *file = fopen("/proc/self/status", "r");
    char line[256];
    const char *key = peak ? "VmHWM:" : "VmRSS:";
    int64_t bytes = 0;
    while (file && fgets(line, sizeof(line), file))
        if (strncmp(line, key, strlen(key)) == 0) bytes = strtoll(line + strlen(key), NULL, 10) * 1024;
    if (file) fclose(file);
    return bytes;
}

#define WAITED_MUCH 0.05

cli_turns cli_turns_now(void)
{
    cli_turns turns = {0, 0};
    DIR *threads = opendir("/proc/self/task");
    for (struct dirent *thread; threads && (thread = readdir(threads));) {
        char path[64];
        long long run, waited; /* ns */
        snprintf(path, sizeof(path), "/proc/self/task/%.20s/schedstat", thread->d_name);
        FILE *file = fopen(path, "r");
        if (file && fscanf(file, "%lld %lld", &run, &waited) == 2) {
            turns.run_s += 1e-9 * (double)run;
            turns.waited_s += 1e-9 * (double)waited;
        }
        if (file) fclose(file);
    }
    if (threads) closedir(threads);
    return turns;
}

double cli_waited_part(cli_turns since)
{
    cli_turns now = cli_turns_now();
    double run_s = now.run_s - since.run_s, waited_s = now.waited_s - since.waited_s;
    return run_s > 0 && waited_s >= 0 ? waited_s / (run_s + waited_s) : -1;
}

json_t *cli_contended(double waited_part)
{
    return waited_part < 0 ? json_null() : json_boolean(waited_part > WAITED_MUCH);
}

void cli_note_contended(const cli *c, double waited_part)
{
    if (waited_part > WAITED_MUCH)
        cli_note(c,
                 "contended: threads waited for a processor %.0f%% of their time, so times are longer and rates lower "
                 "than this machine's (measure again when nothing else runs, with no more threads than processors)",
                 100 * waited_part);
}
