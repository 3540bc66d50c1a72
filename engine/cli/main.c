/* main.c - the command: finds the subcommand. */
#include "cli/cli.h"

#include <signal.h>
#include <string.h>

typedef struct command {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *what;
} command;

static const command commands[] = {
    {"train", cli_train, "train a language model on a text, from settings of its own choice or a config file"},
    {"sample", cli_sample, "continue a prompt with a trained model"},
    {"predict", cli_predict, "what a trained model says of new data, as CSV"},
    {"eval", cli_eval, "score a text with a trained model: loss and bits per byte"},
    {"plan", cli_plan, "what a training step needs: memory, arithmetic, time; without running it"},
    {"check", cli_check, "a preflight: silent mistakes in data, model and first steps"},
    {"tokenize", cli_tokenize, "train a tokenizer; text to tokens and back"},
    {"inspect", cli_inspect, "what a file or folder holds, checked: tensors, tokens, tokenizers, runs, configs"},
    {"convert", cli_convert, "runs to Hugging Face folders, tensors to other types, tokens to other formats"},
    {"bench", cli_bench, "measure whole models or single ops on this machine"},
    {"doctor", cli_doctor, "what this build and this machine offer"},
};
enum { COMMANDS = sizeof(commands) / sizeof(commands[0]) };

static void print_help(FILE *stream)
{
    fprintf(stream, "Usage: gradus COMMAND ...\nTrains neural networks. `gradus COMMAND --help` says more.\n\n");
    for (int i = 0; i < COMMANDS; i++) fprintf(stream, "  %-8s %s\n", commands[i].name, commands[i].what);
    fprintf(stream, "\nTo begin: gradus train --data book.txt\n");
}

static int run(int argc, char **argv, const cli *c)
{
    const char *name = argc > 1 ? argv[1] : "";
    if (strcmp(name, "--help") == 0 || strcmp(name, "help") == 0) {
        print_help(stdout);
        return CLI_DONE;
    }
    if (strcmp(name, "--version") == 0) {
        printf("gradus %s\n", grd_version());
        return CLI_DONE;
    }
    for (int i = 0; i < COMMANDS; i++)
        if (strcmp(name, commands[i].name) == 0) return commands[i].run(argc - 1, argv + 1);
    if (!name[0]) {
        print_help(stderr);
        return CLI_USAGE;
    }
    return cli_error(c, CLI_USAGE, "gradus: there is no command '%s' (gradus --help lists them)", name);
}

int main(int argc, char **argv)
{
    const cli c = {.command = "gradus", .json = cli_wants_json(argc, argv)};
    signal(SIGXFSZ, SIG_IGN); /* a file that may not grow is an error that writing tells of, as a full disk is */
    int code = run(argc, argv, &c);
    return code != CLI_DONE || cli_flush() ? code : cli_stdout_failed(&c, "");
}
