/* cli.h - what the subcommands share: common options, errors and exit codes, numbers for people, signals. */
#ifndef GRADUS_CLI_H
#define GRADUS_CLI_H

#include <argp.h>
#include <gradus/gradus.h>
#include <jansson.h>

enum { CLI_DONE = 0, CLI_FAILED = 1, CLI_USAGE = 2, CLI_STOPPED = 3, CLI_FOUND = 4 };

/* The common options. First member of each subcommand's own arguments. */
typedef struct cli {
    const char *command; /* "gradus train" */
    const char *device;  /* NULL: auto */
    int32_t threads;     /* 0: all */
    bool json, quiet;
    bool ended;   /* --help or --version has been answered */
    bool refused; /* an error has been printed */
} cli;

/* The subcommands: each takes its own name as argv[0] and returns an exit code. */
int cli_train(int argc, char **argv);
int cli_sample(int argc, char **argv);
int cli_predict(int argc, char **argv);
int cli_plan(int argc, char **argv);
int cli_check(int argc, char **argv);
int cli_bench(int argc, char **argv);
int cli_doctor(int argc, char **argv);
int cli_tokenize(int argc, char **argv);
int cli_inspect(int argc, char **argv);
int cli_eval(int argc, char **argv);
int cli_convert(int argc, char **argv);

/* Parses argv into `args`, which begins with a `cli`. True: go on. False: return *code. A parser refuses by `return
 * cli_refuse(...)` and hands other keys on as ARGP_ERR_UNKNOWN. */
bool cli_parse(void *args, const struct argp_option *options, argp_parser_t parser, const char *args_doc,
               const char *doc, int argc, char **argv, int *code);
error_t cli_refuse(struct argp_state *state, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* A whole number in least..most, or a refusal that names the option. */
error_t cli_whole(struct argp_state *state, const char *option, const char *text, int64_t least, int64_t most,
                  int64_t *value);
error_t cli_number(struct argp_state *state, const char *option, const char *text, double least, double most,
                   double *value);

/* What --set gave, in order. */
typedef struct cli_sets {
    const char *text[64];
    int count;
} cli_sets;

/* Adds one, or refuses. */
error_t cli_add_set(struct argp_state *state, cli_sets *sets, const char *text);
/* The config file's settings, changed by `sets`. */
grd_status cli_load_config(grd_settings *settings, const char *config, const cli_sets *sets, grd_error *error);

/* Whether --json is among the arguments, for errors that come before they are parsed. */
bool cli_wants_json(int argc, char **argv);
/* Prints "error: ..." to stderr, with --json also as a line on stdout; returns `code`. */
int cli_error(const cli *c, int code, const char *format, ...) __attribute__((format(printf, 3, 4)));
/* The same for an engine's error. `running`: the work had begun, so that it is no wrong use (exit 1, not 2). */
int cli_fail(const cli *c, const grd_error *error, bool running);

/* Says why `path` cannot be looked at, by errno. */
int cli_missing(const cli *c, const char *path);

/* Writes out what was printed; false once something could not be written. */
bool cli_flush(void);
/* Tells of that; returns the exit code. `more` ends the line: what became of the work. */
int cli_stdout_failed(const cli *c, const char *more);
/* Prints the object as one line on stdout and lets go of it. NULL (out of memory) is a failure: exit code 1. */
int cli_print_json(const cli *c, json_t *line);
/* A remark beside the result: to stderr, or with --json as a line on stdout; with --quiet not at all. */
void cli_note(const cli *c, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* The file to read: "-" is standard input. */
const char *cli_input(const char *path);
/* A JSON string of any bytes: those that are not UTF-8 become U+FFFD. */
json_t *cli_json_text(const char *bytes, size_t size);
/* Whether there is a file or folder `name` in the folder `path`. */
bool cli_has(const char *path, const char *name);
/* Whether a file of that path has a name before the ending: ".bin" alone has none. */
bool cli_ends_with(const char *path, const char *ending);

/* "4,404,412"; "1.63 million", "6.4 MB", "12.3 GFLOP", "1:05". Each call may use one of eight texts at once. */
const char *cli_count(int64_t value);
const char *cli_bytes(double bytes);
const char *cli_amount(double value, const char *unit);
const char *cli_clock(double seconds);
/* "8.923 ms", "1,740 ms", "210 s" */
const char *cli_ms(double ms);

/* Becomes non-zero at Ctrl-C or SIGTERM once cli_catch_signals() was called; a second signal ends the process. */
extern volatile int cli_stop;
void cli_catch_signals(void);

/* The threads that an engine opened with these options has. */
int cli_threads(const cli *c);

/* Seconds since this process was started (to 10 ms), and its resident memory in bytes: now and at its peak. */
double cli_seconds_since_start(void);
int64_t cli_resident_bytes(bool peak);

/* Processor time that this process's threads have had, and how long they were ready but had to wait for it, in seconds;
 * both 0 where the kernel does not say (/proc/self/task/N/schedstat). */
typedef struct cli_turns {
    double run_s, waited_s;
} cli_turns;
cli_turns cli_turns_now(void);
/* The part waited of all that the threads wanted since then; negative where it is not known. */
double cli_waited_part(cli_turns since);
/* Whether that is so much that what was measured meanwhile says little about this machine: false, true or null. */
json_t *cli_contended(double waited_part);
/* Tells so, if so. */
void cli_note_contended(const cli *c, double waited_part);

#endif
