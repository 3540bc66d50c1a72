/* tokenize.c - gradus tokenize: makes tokenizers, turns texts into token shards and tokens into text. */
#include "cli/cli.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { IDS_MAX = 4096 };

typedef struct tokenize_args {
    cli common;
    const char *input; /* train: a text; else a tokenizer */
    const char *rest[IDS_MAX];
    int rest_count;
    const char *out, *validation, *text;
    int64_t vocab;
    int kind, pattern;
    double validation_part;
    bool whole;
    grd_token_format format; /* AUTO: by the vocabulary */
} tokenize_args;

enum { KEY_OUT = 1, KEY_KIND, KEY_VOCAB, KEY_PATTERN, KEY_WHOLE, KEY_TEXT, KEY_VALIDATION, KEY_PART, KEY_FORMAT };

static error_t read_format(struct argp_state *state, const char *text, grd_token_format *format)
{
    static const char *const names[] = {"gpt2", "llama3", "raw"};
    static const grd_token_format formats[] = {GRD_TOKENS_GPT2, GRD_TOKENS_LLAMA3, GRD_TOKENS_RAW_U16};
    for (int i = 0; i < 3; i++) {
        *format = formats[i];
        if (strcmp(text, names[i]) == 0) return 0;
    }
    return cli_refuse(state, "--format: '%s' is not one of: gpt2, llama3, raw", text);
}

static error_t parse(int key, char *text, struct argp_state *state)
{
    tokenize_args *a = state->input;
    switch (key) {
    case ARGP_KEY_INIT: state->child_inputs[0] = a; return 0;
    case KEY_OUT: a->out = text; return 0;
    case KEY_TEXT: a->text = text; return 0;
    case KEY_VALIDATION: a->validation = text; return 0;
    case KEY_PART: return cli_number(state, "--validation-part", text, 1e-9, 0.9, &a->validation_part);
    case KEY_VOCAB: return cli_whole(state, "--vocab", text, 1, INT32_MAX, &a->vocab);
    case KEY_KIND:
        a->kind = grd_tokenizer_kind_from_name(text);
        return a->kind >= 0 ? 0 : cli_refuse(state, "--kind: '%s' is not one of: bpe, byte, char", text);
    case KEY_PATTERN:
        a->pattern = grd_pattern_from_name(text);
        return a->pattern >= 0 ? 0 : cli_refuse(state, "--pattern: '%s' is not one of: gpt2, llama3, qwen2", text);
    case KEY_WHOLE: a->whole = true; return 0;
    case KEY_FORMAT: return read_format(state, text, &a->format);
    case ARGP_KEY_ARG:
        if (a->rest_count == IDS_MAX)
            return cli_refuse(state, "%s: more than %d arguments", a->common.command, IDS_MAX);
        if (!a->input) a->input = text;
        else a->rest[a->rest_count++] = text;
        return 0;
    case ARGP_KEY_END:
        return a->input ? 0 : cli_refuse(state, "%s: there is nothing to work on (see --help)", a->common.command);
    default: return ARGP_ERR_UNKNOWN;
    }
}

/* What was found in the texts. */
static void tell(const tokenize_args *a, const grd_corpus *corpus)
{
    char line[GRD_MESSAGE_MAX];
    for (int32_t i = 0; grd_corpus_note(corpus, i, line, sizeof(line)); i++) cli_note(&a->common, "%s", line);
}

/* ---- train ---- */

static const struct argp_option train_options[] = {
    {"out", KEY_OUT, "FILE", 0, "where to write it (default tokenizer.json)", 1},
    {"kind", KEY_KIND, "KIND", 0, "bpe (default), byte or char", 1},
    {"vocab", KEY_VOCAB, "N", 0, "bpe: tokens in all (default 4096)", 1},
    {"pattern", KEY_PATTERN, "NAME", 0, "bpe: how text is cut into words: gpt2 (default), llama3 or qwen2", 1},
    {"whole", KEY_WHOLE, NULL, 0,
     "bpe: count all of the text, even where its different words take much more memory than twice its size (default: "
     "a part of such a text)",
     1},
    {0}};

static const char *kind_name(const grd_tokenizer *tokenizer)
{
    static const char *const names[] = {"bpe", "byte", "char"};
    return names[grd_tokenizer_kind_of(tokenizer)];
}

static grd_status train_on(const tokenize_args *a, const grd_corpus *corpus, grd_tokenizer **tokenizer,
                           grd_error *error)
{
    static const char *const special[] = {"<|endoftext|>"};
    const grd_tokenizer_options options = {.size = sizeof(options),
                                           .kind = (grd_tokenizer_kind)a->kind,
                                           .pattern = (grd_pattern)a->pattern,
                                           .vocab_size = (int32_t)a->vocab,
                                           .special = special,
                                           .special_count = 1,
                                           .threads = a->common.threads,
                                           .mapped = true,
                                           .whole = a->whole};
    size_t count;
    const grd_text *texts = grd_corpus_texts(corpus, GRD_TRAIN, &count);
    return grd_tokenizer_train(texts, count, &options, tokenizer, error);
}

static int run_train(tokenize_args *a)
{
    if (a->rest_count)
        return cli_error(&a->common, CLI_USAGE, "'%s': a second text (give one file or one folder)", a->rest[0]);
    const char *out = a->out ? a->out : "tokenizer.json";
    const grd_corpus_options whole = {
        .size = sizeof(whole), .no_validation = true, .threads = a->common.threads, .pipes = true};
    grd_corpus *corpus = NULL;
    grd_tokenizer *tokenizer = NULL;
    grd_error error = {GRD_OK, ""};
    grd_status status = grd_corpus_open(cli_input(a->input), &whole, &corpus, &error);
    if (!status) status = grd_corpus_fits(corpus, (grd_tokenizer_kind)a->kind, &error);
    if (!status) status = train_on(a, corpus, &tokenizer, &error);
    if (!status) status = grd_tokenizer_save(tokenizer, out, &error);
    int code = status ? cli_fail(&a->common, &error, false) : CLI_DONE;
    if (!status) tell(a, corpus);
    if (!status && a->common.json)
        code = cli_print_json(&a->common,
                              json_pack("{s:s, s:s, s:s, s:i, s:I}", "event", "tokenizer", "path", out, "kind",
                                        kind_name(tokenizer), "vocab", (int)grd_tokenizer_vocab_size(tokenizer),
                                        "text_bytes", (json_int_t)grd_corpus_about(corpus).size_bytes[GRD_TRAIN]));
    else if (!status && !a->common.quiet)
        printf("%s: a %s tokenizer of %s tokens, from %s bytes of text\n", out, kind_name(tokenizer),
               cli_count(grd_tokenizer_vocab_size(tokenizer)),
               cli_count(grd_corpus_about(corpus).size_bytes[GRD_TRAIN]));
    grd_tokenizer_free(tokenizer);
    grd_corpus_free(corpus);
    return code;
}

/* ---- encode ---- */

static const struct argp_option encode_options[] = {
    {"text", KEY_TEXT, "TEXT", 0, "this text instead of a file", 1},
    {"out", KEY_OUT, "FILE", 0, "write a token shard (default: the ids, to stdout)", 1},
    {"validation", KEY_VALIDATION, "FILE", 0, "with --out: the last part of the text goes into this shard", 1},
    {"validation-part", KEY_PART, "X", 0, "... which part of its bytes (default 0.1)", 1},
    {"format", KEY_FORMAT, "NAME", 0,
     "of shards: gpt2 (llm.c's, 16 bits a token), llama3 (llm.c's, 32 bits), raw (nanoGPT's, 16 bits); default: gpt2 "
     "where the vocabulary fits",
     1},
    {0}};

static int print_ids(const tokenize_args *a, const grd_ids *ids)
{
    bool json = a->common.json;
    int32_t id;
    if (json) printf("{\"event\":\"tokens\",\"count\":%lld,\"ids\":[", (long long)ids->count);
    for (int64_t i = 0; i < ids->count; i++) {
        grd_ids_read(ids, i, 1, &id);
        printf("%s%d", !i ? "" : json ? "," : " ", id);
    }
    printf(json ? "]}\n" : "\n");
    return CLI_DONE;
}

static int write_shard(const tokenize_args *a, const grd_tokenizer *tokenizer, const char *path, const grd_ids *ids,
                       int64_t size_bytes)
{
    grd_token_format format = a->format;
    if (format == GRD_TOKENS_AUTO)
        format = grd_tokenizer_vocab_size(tokenizer) <= 65536 ? GRD_TOKENS_GPT2 : GRD_TOKENS_LLAMA3;
    grd_error error = {GRD_OK, ""};
    if (grd_ids_save(ids, path, format, &error)) return cli_fail(&a->common, &error, false);
    if (a->common.json)
        return cli_print_json(&a->common, json_pack("{s:s, s:s, s:I, s:I}", "event", "shard", "path", path, "tokens",
                                                    (json_int_t)ids->count, "text_bytes", (json_int_t)size_bytes));
    if (!a->common.quiet)
        printf("%s: %s tokens from %s bytes of text\n", path, cli_count(ids->count), cli_count(size_bytes));
    return CLI_DONE;
}

static int encode_text(const tokenize_args *a, const grd_tokenizer *tokenizer)
{
    grd_error error = {GRD_OK, ""};
    grd_ids ids = {0};
    const grd_encode_options options = {.size = sizeof(options), .threads = a->common.threads};
    size_t size = strlen(a->text);
    if (grd_tokenizer_encode(tokenizer, (grd_text){a->text, size}, &options, &ids, &error))
        return cli_fail(&a->common, &error, false);
    char line[GRD_MESSAGE_MAX];
    if (grd_ids_note(&ids, line, sizeof(line))) cli_note(&a->common, "%s", line);
    int code = a->out ? write_shard(a, tokenizer, a->out, &ids, (int64_t)size) : print_ids(a, &ids);
    grd_ids_free(&ids);
    return code;
}

/* From that many bytes of text on, ids lie in a file beside the shard until they are written. */
enum { SCRATCH_FROM_BYTES = 1 << 24 };

static int encode_files(const tokenize_args *a, const grd_tokenizer *tokenizer)
{
    char *folder = a->out ? strdup(a->out) : NULL;
    char *slash = folder ? strrchr(folder, '/') : NULL;
    if (slash) slash[1] = '\0';
    const grd_corpus_options options = {.size = sizeof(options),
                                        .no_validation = !a->validation,
                                        .validation_part = a->validation_part,
                                        .threads = a->common.threads,
                                        .scratch = slash ? folder : a->out ? "." : NULL,
                                        .scratch_from = SCRATCH_FROM_BYTES,
                                        .pipes = true};
    grd_corpus *corpus = NULL;
    grd_error error = {GRD_OK, ""};
    grd_status status = grd_corpus_open(cli_input(a->rest[0]), &options, &corpus, &error);
    if (!status) status = grd_corpus_encode(corpus, tokenizer, &error);
    const char *const paths[2] = {a->out, a->validation};
    int code = status ? cli_fail(&a->common, &error, false) : CLI_DONE;
    if (!status) tell(a, corpus);
    for (int part = 0; part < 2 && !code && paths[part]; part++)
        code = write_shard(a, tokenizer, paths[part], grd_corpus_ids(corpus, (grd_part)part),
                           grd_corpus_about(corpus).size_bytes[part]);
    if (!code && !a->out) code = print_ids(a, grd_corpus_ids(corpus, GRD_TRAIN));
    grd_corpus_free(corpus);
    free(folder);
    return code;
}

static int run_encode(tokenize_args *a)
{
    const cli *c = &a->common;
    if ((a->rest_count > 0) + (a->text != NULL) != 1 || a->rest_count > 1)
        return cli_error(c, CLI_USAGE, "gradus tokenize encode: give one text (a file, a folder, or --text TEXT)");
    if (a->validation && (!a->out || a->text))
        return cli_error(c, CLI_USAGE, "--validation: goes with a file of text and --out FILE");
    if (a->validation_part > 0 && !a->validation)
        return cli_error(c, CLI_USAGE, "--validation-part: goes with --validation FILE");
    grd_tokenizer *tokenizer;
    grd_error error = {GRD_OK, ""};
    if (grd_tokenizer_load(a->input, &tokenizer, &error)) return cli_fail(c, &error, false);
    int code = a->text ? encode_text(a, tokenizer) : encode_files(a, tokenizer);
    grd_tokenizer_free(tokenizer);
    return code;
}

/* ---- decode ---- */

static const struct argp_option decode_options[] = {
    {"out", KEY_OUT, "FILE", 0, "write the text there (default: to stdout)", 1},
    {"format", KEY_FORMAT, "NAME", 0, "of the shard: gpt2, llama3, raw (default: what its header says)", 1},
    {0}};

/* The ids of the arguments, or of a shard; free() them. */
static grd_status read_ids(const tokenize_args *a, int32_t **ids, size_t *count, grd_error *error)
{
    char *end;
    strtol(a->rest[0], &end, 10);
    if (*end) {
        grd_tokens *shard;
        grd_status status = grd_tokens_open(a->rest[0], a->format, &shard, error);
        if (status) return status;
        *count = grd_tokens_count(shard);
        *ids = malloc(*count * sizeof(int32_t));
        status = *ids ? grd_tokens_read(shard, 0, *count, *ids, error) : grd_fail(error, GRD_E_MEMORY, "out of memory");
        grd_tokens_close(shard);
        return status;
    }
    *count = (size_t)a->rest_count;
    *ids = malloc(*count * sizeof(int32_t));
    if (!*ids) return grd_fail(error, GRD_E_MEMORY, "out of memory");
    for (size_t i = 0; i < *count; i++) {
        errno = 0;
        long id = strtol(a->rest[i], &end, 10);
        if (*end || errno || id < 0 || id > INT32_MAX)
            return grd_fail(error, GRD_E_ARGUMENT, "'%s': is no token id (a whole number from 0 on)", a->rest[i]);
        (*ids)[i] = (int32_t)id;
    }
    return GRD_OK;
}

static grd_status no_such_id(const grd_tokenizer *tokenizer, const int32_t *ids, size_t count, grd_error *error)
{
    size_t size, i = 0;
    while (i < count && grd_tokenizer_token(tokenizer, ids[i], &size)) i++;
    return grd_fail(error, GRD_E_ARGUMENT,
                    "token %d at position %zu: the tokenizer has none of that number (its are below %d)",
                    i < count ? ids[i] : -1, i, grd_tokenizer_vocab_size(tokenizer));
}

static int show_decoded(const tokenize_args *a, const char *text, size_t size)
{
    const cli *c = &a->common;
    if (a->out) {
        grd_error error = {GRD_OK, ""};
        FILE *file = fopen(a->out, "wb");
        bool whole = file && fwrite(text, 1, size, file) == size;
        if ((!file || fclose(file) == 0) && whole) return CLI_DONE;
        grd_fail_system(&error, a->out, file ? "write" : "create");
        return cli_fail(c, &error, true);
    }
    if (c->json) return cli_print_json(c, json_pack("{s:s, s:o}", "event", "text", "text", cli_json_text(text, size)));
    fwrite(text, 1, size, stdout);
    if (isatty(STDOUT_FILENO)) printf("\n"); /* elsewhere the bytes are the text's */
    return CLI_DONE;
}

static int run_decode(tokenize_args *a)
{
    const cli *c = &a->common;
    if (!a->rest_count) return cli_error(c, CLI_USAGE, "gradus tokenize decode: there are no tokens (ids, or a shard)");
    grd_tokenizer *tokenizer = NULL;
    grd_error error = {GRD_OK, ""};
    int32_t *ids = NULL;
    size_t count = 0;
    char *text = NULL;
    grd_status status = grd_tokenizer_load(a->input, &tokenizer, &error);
    if (!status) status = read_ids(a, &ids, &count, &error);
    int64_t size = status ? 0 : grd_tokenizer_decode(tokenizer, ids, (int64_t)count, false, NULL, 0);
    if (!status && size < 0) status = no_such_id(tokenizer, ids, count, &error);
    if (!status && !(text = malloc((size_t)size + 1))) status = grd_fail(&error, GRD_E_MEMORY, "out of memory");
    if (!status) grd_tokenizer_decode(tokenizer, ids, (int64_t)count, false, text, (size_t)size);
    int code = status ? cli_fail(c, &error, false) : show_decoded(a, text, (size_t)size);
    free(text);
    free(ids);
    grd_tokenizer_free(tokenizer);
    return code;
}

/* ---- the command ---- */

static const struct way {
    const char *name, *command, *arguments, *what;
    const struct argp_option *options;
    int (*run)(tokenize_args *a);
} ways[] = {
    {"train", "gradus tokenize train", "TEXT", 
     "Makes a tokenizer.json for the text in a file or folder, in a pipe, or (-) on standard input.",
     train_options, run_train},
    {"encode", "gradus tokenize encode", "TOKENIZER TEXT",
     "Turns a text into tokens: a file, a folder, a pipe, or - for standard input. TOKENIZER is a tokenizer.json, or a "
     "folder that holds one (a run, a Hugging Face "
     "model).",
     encode_options, run_encode},
    {"decode", "gradus tokenize decode", "TOKENIZER ID...\nTOKENIZER SHARD.bin",
     "Turns token ids, or the tokens of a shard, into text.", decode_options, run_decode},
};
enum { WAYS = sizeof(ways) / sizeof(ways[0]) };

static void print_help(FILE *stream)
{
    fprintf(stream,
            "Usage: gradus tokenize train|encode|decode ...\nMakes tokenizers and uses them. `gradus tokenize WHAT "
            "--help` says more.\n\n");
    for (int i = 0; i < WAYS; i++) fprintf(stream, "  %-7s %s\n", ways[i].name, ways[i].what);
}

int cli_tokenize(int argc, char **argv)
{
    tokenize_args *a = calloc(1, sizeof(*a));
    const char *name = argc > 1 ? argv[1] : "";
    const cli plain = {.command = "gradus tokenize", .json = cli_wants_json(argc, argv)};
    if (!a) return cli_error(&plain, CLI_FAILED, "out of memory");
    int code = CLI_USAGE, way = 0;
    while (way < WAYS && strcmp(ways[way].name, name) != 0) way++;
    if (way < WAYS) {
        a->common.command = ways[way].command;
        if (cli_parse(a, ways[way].options, parse, ways[way].arguments, ways[way].what, argc - 1, argv + 1, &code))
            code = ways[way].run(a);
    } else if (strcmp(name, "--help") == 0) {
        print_help(stdout);
        code = CLI_DONE;
    } else {
        code = cli_error(&plain, CLI_USAGE, "gradus tokenize: '%s' is not one of: train, encode, decode", name);
    }
    free(a);
    return code;
}
