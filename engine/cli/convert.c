/* convert.c - gradus convert: runs and checkpoints to Hugging Face folders, tensors to other types, tokens to other
 * formats. */
#include "cli/cli.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PATH_TEXT_MAX = 4096, CONFIG_MAX = 1 << 24 };

typedef struct convert_args {
    cli common;
    const char *from, *to;
    grd_dtype dtype;         /* GRD_DTYPE_COUNT: as they are */
    grd_token_format read;   /* of token shards */
    grd_token_format format; /* AUTO: as they are */
} convert_args;

enum { KEY_DTYPE = 1, KEY_FORMAT, KEY_FROM_FORMAT };

static const struct argp_option options[] = {
    {"dtype", KEY_DTYPE, "NAME", 0, "floats become f32, bf16 or f16 (default: as they are, bit for bit)", 1},
    {"format", KEY_FORMAT, "NAME", 0,
     "of token shards: gpt2 (llm.c's, 16 bits a token), llama3 (llm.c's, 32 bits), raw (nanoGPT's, 16 bits)", 1},
    {"from-format", KEY_FROM_FORMAT, "NAME", 0, "of the shard that is read (default: what its header says)", 1},
    {0}};

static error_t read_format(struct argp_state *state, const char *option, const char *text, grd_token_format *format)
{
    static const char *const names[] = {"gpt2", "llama3", "raw"};
    static const grd_token_format formats[] = {GRD_TOKENS_GPT2, GRD_TOKENS_LLAMA3, GRD_TOKENS_RAW_U16};
    for (int i = 0; i < 3; i++) {
        *format = formats[i];
        if (strcmp(text, names[i]) == 0) return 0;
    }
    return cli_refuse(state, "%s: '%s' is not one of: gpt2, llama3, raw", option, text);
}

static error_t parse(int key, char *text, struct argp_state *state)
{
    convert_args *a = state->input;
    switch (key) {
    case ARGP_KEY_INIT: state->child_inputs[0] = a; return 0;
    case KEY_DTYPE:
        a->dtype = grd_dtype_from_name(text);
        if (a->dtype == GRD_F32 || a->dtype == GRD_BF16 || a->dtype == GRD_F16) return 0;
        return cli_refuse(state, "--dtype: '%s' is not one of: f32, bf16, f16", text);
    case KEY_FORMAT: return read_format(state, "--format", text, &a->format);
    case KEY_FROM_FORMAT: return read_format(state, "--from-format", text, &a->read);
    case ARGP_KEY_ARG:
        if (state->arg_num > 1) return cli_refuse(state, "'%s': one path too many (gradus convert FROM TO)", text);
        *(state->arg_num ? &a->to : &a->from) = text;
        return 0;
    case ARGP_KEY_END:
        return a->to ? 0 : cli_refuse(state, "gradus convert: give what to convert and where to (FROM TO)");
    default: return ARGP_ERR_UNKNOWN;
    }
}

static int done(const convert_args *a, const char *what, size_t size_bytes)
{
    if (a->common.json)
        return cli_print_json(&a->common,
                              json_pack("{s:s, s:s, s:s, s:s, s:I}", "event", "converted", "kind", what, "from",
                                        a->from, "to", a->to, "size_bytes", (json_int_t)size_bytes));
    if (!a->common.quiet) printf("%s: %s of %s\n", a->to, what, cli_bytes((double)size_bytes));
    return CLI_DONE;
}

/* ---- token shards ---- */

static int convert_shard(const convert_args *a)
{
    grd_tokens *shard;
    grd_error error = {GRD_OK, ""};
    if (grd_tokens_open(a->from, a->read, &shard, &error)) return cli_fail(&a->common, &error, false);
    size_t count = grd_tokens_count(shard);
    grd_token_format format = a->format ? a->format : grd_tokens_format(shard);
    int32_t *tokens = malloc(count * sizeof(int32_t));
    grd_status status = tokens ? grd_tokens_read(shard, 0, count, tokens, &error)
                               : grd_fail(&error, GRD_E_MEMORY, "out of memory for %zu tokens", count);
    grd_tokens_close(shard);
    if (!status) status = grd_tokens_write(a->to, format, tokens, count, &error);
    free(tokens);
    if (status) return cli_fail(&a->common, &error, false);
    return done(a, "a token shard", count * (format == GRD_TOKENS_LLAMA3 ? 4 : 2));
}

/* ---- folders ---- */

static bool join(const convert_args *a, char path[PATH_TEXT_MAX], const char *folder, const char *name, int *code)
{
    if (snprintf(path, PATH_TEXT_MAX, "%s/%s", folder, name) < PATH_TEXT_MAX) return true;
    *code = cli_error(&a->common, CLI_USAGE, "%.100s...: the path is too long", folder);
    return false;
}

static int copy_file(const convert_args *a, const char *folder, const char *name)
{
    char from[PATH_TEXT_MAX], to[PATH_TEXT_MAX], bytes[65536];
    int code;
    if (!cli_has(folder, name)) return CLI_DONE;
    if (!join(a, from, folder, name, &code) || !join(a, to, a->to, name, &code)) return code;
    FILE *in = fopen(from, "rb"), *out = in ? fopen(to, "wb") : NULL;
    bool ok = in && out;
    for (size_t got; ok && (got = fread(bytes, 1, sizeof(bytes), in)) > 0;) ok = fwrite(bytes, 1, got, out) == got;
    ok = ok && !ferror(in);
    int problem = errno;
    if (in) fclose(in);
    if (out && fclose(out)) ok = false, problem = errno;
    if (ok) return CLI_DONE;
    grd_error error = {GRD_OK, ""};
    errno = problem;
    grd_fail_system(&error, in ? to : from, !in ? "open" : out ? "write" : "create");
    return cli_fail(&a->common, &error, true);
}

/* config.json, with the type that the weights have now. */
static int write_config(const convert_args *a, const char *folder)
{
    static const char *const names[] = {[GRD_F32] = "float32", [GRD_BF16] = "bfloat16", [GRD_F16] = "float16"};
    char from[PATH_TEXT_MAX], to[PATH_TEXT_MAX];
    int code;
    if (a->dtype == GRD_DTYPE_COUNT || !cli_has(folder, "config.json")) return copy_file(a, folder, "config.json");
    if (!join(a, from, folder, "config.json", &code) || !join(a, to, a->to, "config.json", &code)) return code;
    grd_error error = {GRD_OK, ""};
    json_t *config = grd_json_read(from, CONFIG_MAX, &error);
    if (!config) return cli_fail(&a->common, &error, false);
    if (!json_is_object(config)) {
        json_decref(config);
        return cli_error(&a->common, CLI_USAGE, "%s: must be an object", from);
    }
    json_object_set_new(config, json_object_get(config, "dtype") ? "dtype" : "torch_dtype",
                        json_string(names[a->dtype]));
    errno = 0;
    if (json_dump_file(config, to, JSON_INDENT(2))) grd_fail_system(&error, to, "write");
    code = error.status ? cli_fail(&a->common, &error, true) : CLI_DONE;
    json_decref(config);
    return code;
}

/* transformers guesses a tokenizer's class from the model's kind unless this file says it. */
static int write_tokenizer_config(const convert_args *a, const char *folder)
{
    char path[PATH_TEXT_MAX];
    grd_tokenizer *tokenizer;
    grd_error error = {GRD_OK, ""};
    grd_gpt gpt;
    int code;
    if (cli_has(folder, "tokenizer_config.json")) return copy_file(a, folder, "tokenizer_config.json");
    if (!cli_has(folder, "tokenizer.json")) return CLI_DONE;
    if (!join(a, path, a->to, "tokenizer_config.json", &code)) return code;
    if (grd_tokenizer_load(folder, &tokenizer, &error)) return cli_fail(&a->common, &error, false);
    int64_t context = grd_hf_read_config(a->to, &gpt, NULL) ? 0 : gpt.context;
    grd_status status = grd_tokenizer_save_config(tokenizer, path, context, &error);
    grd_tokenizer_free(tokenizer);
    return status ? cli_fail(&a->common, &error, true) : CLI_DONE;
}

static int convert_folder(const convert_args *a, const char *folder)
{
    static const char *const others[] = {"tokenizer.json", "special_tokens_map.json", "generation_config.json"};
    char weights[PATH_TEXT_MAX];
    grd_error error = {GRD_OK, ""};
    size_t size_bytes;
    int code;
    if (cli_has(a->to, "."))
        return cli_error(&a->common, CLI_USAGE, "%s: exists already (choose another folder)", a->to);
    if (!join(a, weights, a->to, "model.safetensors", &code)) return code;
    if (mkdir(a->to, 0777)) {
        grd_fail_system(&error, a->to, "create");
        return cli_fail(&a->common, &error, false);
    }
    if (grd_safetensors_convert(folder, weights, a->dtype, &size_bytes, &error)) {
        rmdir(a->to);
        return cli_fail(&a->common, &error, false);
    }
    code = write_config(a, folder);
    for (int i = 0; i < 3 && !code; i++) code = copy_file(a, folder, others[i]);
    if (!code) code = write_tokenizer_config(a, folder);
    return code ? code : done(a, "a Hugging Face folder", size_bytes);
}

static int convert_tensors(const convert_args *a, const char *from)
{
    grd_error error = {GRD_OK, ""};
    size_t size_bytes;
    if (grd_safetensors_convert(from, a->to, a->dtype, &size_bytes, &error)) return cli_fail(&a->common, &error, false);
    return done(a, "a safetensors file", size_bytes);
}

/* ---- the command ---- */

static int convert(const convert_args *a)
{
    char folder[PATH_TEXT_MAX];
    grd_error error = {GRD_OK, ""};
    grd_checkpoint_info info;
    struct stat about;
    if (stat(a->from, &about) != 0) return cli_missing(&a->common, a->from);
    if (!S_ISDIR(about.st_mode) && cli_ends_with(a->from, ".bin")) return convert_shard(a);
    if (!S_ISDIR(about.st_mode) && !cli_ends_with(a->from, ".safetensors") && !cli_ends_with(a->from, ".index.json"))
        return cli_error(&a->common, CLI_USAGE,
                         "%s: is neither a token shard (.bin) nor a .safetensors file nor a folder (texts become "
                         "shards by gradus tokenize encode)",
                         a->from);
    if (a->format || a->read) return cli_error(&a->common, CLI_USAGE, "--format: goes with token shards (.bin)");
    if (!S_ISDIR(about.st_mode) && !cli_ends_with(a->to, ".safetensors"))
        return cli_error(&a->common, CLI_USAGE, "%s: a single file becomes a .safetensors file (name one)", a->to);
    snprintf(folder, sizeof(folder), "%s", a->from);
    if (cli_has(a->from, "config.yaml") && grd_checkpoint_path(a->from, 0, folder, sizeof(folder), &error))
        return cli_fail(&a->common, &error, false);
    if (!folder[0])
        return cli_error(&a->common, CLI_USAGE, "%s: has no checkpoint yet (train it until one is saved)", a->from);
    if (cli_has(folder, "checksums.json") && grd_checkpoint_about(folder, &info, &error))
        return cli_fail(&a->common, &error, false);
    return cli_ends_with(a->to, ".safetensors") ? convert_tensors(a, folder) : convert_folder(a, folder);
}

int cli_convert(int argc, char **argv)
{
    convert_args a = {.common = {.command = "gradus convert"}, .dtype = GRD_DTYPE_COUNT};
    int code;
    if (!cli_parse(&a, options, parse,
                   "RUN_DIR|CHECKPOINT|HF_DIR NEW_HF_DIR\nRUN_DIR|CHECKPOINT|HF_DIR|FILE.safetensors NEW.safetensors\n"
                   "SHARD.bin NEW.bin",
                   "Writes a model as a Hugging Face folder (of a run: its newest checkpoint, verified first), tensors "
                   "as one safetensors file, or tokens in another format.\vExamples:\n  gradus convert runs/a hf "
                   "--dtype bf16\n"
                   "  gradus convert train.bin raw.bin --format raw",
                   argc, argv, &code))
        return code;
    return convert(&a);
}
