/* sample.c - gradus sample: continues a prompt with the model of a run directory. */
#include "cli/cli.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

typedef struct sample_args {
    cli common;
    const char *run, *prompt_file;
    grd_sample_options sample;
} sample_args;

enum { KEY_PROMPT = 1, KEY_PROMPT_FILE, KEY_TOKENS, KEY_TEMPERATURE, KEY_TOP_K, KEY_TOP_P, KEY_SEED, KEY_NO_CACHE };

static const struct argp_option options[] = {
    {"prompt", KEY_PROMPT, "TEXT", 0, "the text to continue (default: none, a text from its beginning)", 1},
    {"prompt-file", KEY_PROMPT_FILE, "FILE", 0,
     "the text to continue is in a file, as it is; - is standard input", 1},
    {"tokens", KEY_TOKENS, "N", 0, "tokens to add (default 200)", 1},
    {"temperature", KEY_TEMPERATURE, "X", 0,
     "default 1: as often as the model predicts; below 1 favours the likelier, 0 always takes the "
     "likeliest",
     1},
    {"top-k", KEY_TOP_K, "N", 0, "choose only among the N likeliest tokens (default: all)", 1},
    {"top-p", KEY_TOP_P, "X", 0,
     "choose only among the likeliest tokens that have probability X together (default: 1, all)", 1},
    {"seed", KEY_SEED, "N", 0, "the same seed gives the same text (default 0)", 1},
    {"no-cache", KEY_NO_CACHE, NULL, 0, "run the whole text again for each token: slower, the same text", 2},
    {0}};

static error_t parse(int key, char *text, struct argp_state *state)
{
    sample_args *a = state->input;
    int64_t whole = 0;
    error_t failed = 0;
    switch (key) {
    case ARGP_KEY_INIT: state->child_inputs[0] = a; return 0;
    case KEY_PROMPT: a->sample.prompt = text; return 0;
    case KEY_PROMPT_FILE: a->prompt_file = cli_input(text); return 0;
    case KEY_TOKENS: return cli_whole(state, "--tokens", text, 1, 10000000, &a->sample.tokens);
    case KEY_TEMPERATURE:
        failed = cli_number(state, "--temperature", text, 0, 1000, &a->sample.temperature);
        if (a->sample.temperature == 0) a->sample.temperature = -1; /* the engine's word for "the likeliest" */
        return failed;
    case KEY_TOP_K:
        failed = cli_whole(state, "--top-k", text, 1, INT32_MAX, &whole);
        a->sample.top_k = (int32_t)whole;
        return failed;
    case KEY_TOP_P: return cli_number(state, "--top-p", text, 1e-9, 1, &a->sample.top_p);
    case KEY_SEED:
        failed = cli_whole(state, "--seed", text, 0, INT64_MAX, &whole);
        a->sample.seed = (uint64_t)whole;
        return failed;
    case KEY_NO_CACHE: a->sample.no_cache = true; return 0;
    case ARGP_KEY_ARG:
        if (a->run) return cli_refuse(state, "'%s': a second run directory after %s (give one)", text, a->run);
        a->run = text;
        return 0;
    case ARGP_KEY_END:
        if (a->prompt_file && a->sample.prompt) return cli_refuse(state, "--prompt-file: --prompt is given too");
        return a->run ? 0 : cli_refuse(state, "gradus sample: there is no run directory to sample from (RUN_DIR)");
    default: return ARGP_ERR_UNKNOWN;
    }
}

/* Text as it comes, or held back for one JSON line. */
typedef struct sink {
    bool hold;
    char *bytes;
    size_t size, capacity;
} sink;

static void take(void *context, const char *bytes, size_t size)
{
    sink *s = context;
    if (!s->hold) {
        fwrite(bytes, 1, size, stdout);
        cli_flush();
        return;
    }
    if (s->size + size > s->capacity) {
        size_t capacity = 2 * (s->size + size);
        char *more = realloc(s->bytes, capacity);
        if (!more) return;
        s->bytes = more;
        s->capacity = capacity;
    }
    memcpy(s->bytes + s->size, bytes, size);
    s->size += size;
}

/* The text of a file, zero-terminated (a corpus has no zero bytes); free() it. */
static grd_status read_prompt(const char *path, char **prompt, grd_error *error)
{
    const grd_corpus_options options = {.size = sizeof(options), .no_validation = true, .pipes = true};
    grd_corpus *corpus;
    size_t count;
    grd_status status = grd_corpus_open(path, &options, &corpus, error);
    if (status) return status;
    const grd_text *texts = grd_corpus_texts(corpus, GRD_TRAIN, &count);
    if (count > 1) status = grd_fail(error, GRD_E_ARGUMENT, "%s: holds %zu files (give one)", path, count);
    else if (!(*prompt = calloc(texts[0].size_bytes + 1, 1))) status = grd_fail(error, GRD_E_MEMORY, "out of memory");
    else memcpy(*prompt, texts[0].data, texts[0].size_bytes);
    grd_corpus_free(corpus);
    return status;
}

int cli_sample(int argc, char **argv)
{
    sample_args a = {.common = {.command = "gradus sample"}, .sample = {.size = sizeof(a.sample)}};
    int code;
    if (!cli_parse(
            &a, options, parse, "RUN_DIR\nHF_DIR",
            "Continues a prompt with the newest checkpoint of a run, with one checkpoint, or with a Hugging Face "
            "folder.\vText that outgrows the model's context goes on from the later half of what the model saw, "
            "each time that the context is full.",
            argc, argv, &code))
        return code;
    const grd_run_options run = {.size = sizeof(run), .device = a.common.device, .threads = a.common.threads};
    grd_error error = {GRD_OK, ""};
    sink s = {.hold = a.common.json};
    char *prompt = NULL;
    grd_status status = a.prompt_file ? read_prompt(a.prompt_file, &prompt, &error) : GRD_OK;
    if (prompt) a.sample.prompt = prompt;
    if (!status) status = grd_sample_run(a.run, &a.sample, &run, take, &s, &error);
    code = status ? cli_fail(&a.common, &error, false) : CLI_DONE;
    if (!status && s.hold)
        code = cli_print_json(&a.common, json_pack("{s:s, s:o}", "event", "sample", "text",
                                                   cli_json_text(s.bytes ? s.bytes : "", s.size)));
    if (!status && !s.hold) printf("\n");
    free(s.bytes);
    free(prompt);
    return code;
}
