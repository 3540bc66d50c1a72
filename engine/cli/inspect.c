/* inspect.c - gradus inspect: finds out what a file or folder is, checks it, and says what it holds. */
#include "cli/inspect.h"

#include <string.h>
#include <sys/stat.h>

static error_t parse(int key, char *text, struct argp_state *state)
{
    inspection *a = state->input;
    switch (key) {
    case ARGP_KEY_INIT: state->child_inputs[0] = a; return 0;
    case ARGP_KEY_ARG:
        if (a->path) return cli_refuse(state, "'%s': a second path after %s (give one)", text, a->path);
        a->path = text;
        return 0;
    case ARGP_KEY_END:
        return a->path ? 0 : cli_refuse(state, "gradus inspect: there is nothing to look at (FILE_OR_DIR)");
    default: return ARGP_ERR_UNKNOWN;
    }
}

static int inspect_folder(inspection *a)
{
    const char *path = a->path;
    if (cli_has(path, "config.yaml")) return inspect_run(a);
    if (cli_has(path, "state.json") && cli_has(path, "checksums.json")) return inspect_checkpoint(a);
    if (cli_has(path, "config.json")) return inspect_hf(a);
    if (cli_has(path, "model.safetensors") || cli_has(path, "model.safetensors.index.json")) return inspect_tensors(a);
    if (cli_has(path, "tokenizer.json")) return inspect_tokenizer(a);
    return cli_error(&a->common, CLI_USAGE,
                     "%s: is no run, checkpoint, Hugging Face folder or tokenizer (it has no config.yaml, config.json, "
                     "model.safetensors or tokenizer.json)",
                     path);
}

static int inspect_file(inspection *a)
{
    if (cli_ends_with(a->path, ".safetensors") || cli_ends_with(a->path, ".index.json")) return inspect_tensors(a);
    if (cli_ends_with(a->path, ".bin")) return inspect_shard(a);
    if (cli_ends_with(a->path, ".yaml") || cli_ends_with(a->path, ".yml")) return inspect_config(a);
    if (cli_ends_with(a->path, ".json")) return inspect_tokenizer(a);
    return cli_error(
        &a->common, CLI_USAGE,
        "%s: cannot tell what it is (give a .safetensors, .index.json, .bin, .yaml or tokenizer.json file, "
        "or a folder)",
        a->path);
}

int cli_inspect(int argc, char **argv)
{
    inspection a = {.common = {.command = "gradus inspect"}};
    int code;
    if (!cli_parse(&a, NULL, parse, "FILE_OR_DIR",
                   "Says what a file or folder holds, and checks all of it: safetensors files and their indices, token "
                   "shards (.bin), tokenizer.json, config files (.yaml), run directories, checkpoints, Hugging Face "
                   "folders. What is damaged is an error that names it.",
                   argc, argv, &code))
        return code;
    struct stat about;
    if (stat(a.path, &about) != 0) return cli_missing(&a.common, a.path);
    return S_ISDIR(about.st_mode) ? inspect_folder(&a) : inspect_file(&a);
}
