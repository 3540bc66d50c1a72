/* choose.h - what train and check share: --data PATH with its options, and the settings that are chosen for it. */
#ifndef GRADUS_CLI_CHOOSE_H
#define GRADUS_CLI_CHOOSE_H

#include "cli/cli.h"

typedef struct cli_data {
    const char *path, *model, *target, *time, *horizon; /* NULL: not given */
} cli_data;

enum { CLI_KEY_DATA = 0x800, CLI_KEY_MODEL, CLI_KEY_TARGET, CLI_KEY_TIME, CLI_KEY_HORIZON };
enum { CLI_CHOICE_MAX = 4608 };

/* The options, as rows of a table of argp. */
#define CLI_DATA_OPTIONS                                                                                               \
    {"data", CLI_KEY_DATA, "PATH", 0,                                                                                  \
     "a UTF-8 text file, a folder of them, a folder of IDX files (images), a folder with a sub-folder of JPEG or "     \
     "PNG images for each class, or a CSV file; all else is chosen to fit",                                            \
     1},                                                                                                               \
        {"model",                                                                                                      \
         CLI_KEY_MODEL,                                                                                                \
         "KIND",                                                                                                       \
         0,                                                                                                            \
         "with --data: fast (default), gpt2 or llama; for images lenet, resnet18, resnet34, resnet50, vit, mlp or "    \
         "logistic; for a series lstm (default), gru, tcn or linear",                                                  \
         1},                                                                                                           \
        {"target",                                                                                                     \
         CLI_KEY_TARGET,                                                                                               \
         "COLUMN",                                                                                                     \
         0,                                                                                                            \
         "with --data TABLE.csv: the column that is to be predicted from the others (--model linear, logistic or "     \
         "mlp; default: by the column and the number of rows)",                                                        \
         1},                                                                                                           \
        {"time",                                                                                                       \
         CLI_KEY_TIME,                                                                                                 \
         "COLUMN",                                                                                                     \
         0,                                                                                                            \
         "with --data X.csv: the column of times, which makes the target a series to forecast",                        \
         1},                                                                                                           \
    {                                                                                                                  \
        "horizon", CLI_KEY_HORIZON, "N", 0, "with --time: how many steps to forecast (default: 1)", 1                  \
    }

/* Takes such an option; ARGP_ERR_UNKNOWN for any other. */
error_t cli_take_data(int key, char *text, struct argp_state *state, cli_data *data);
/* Refuses options that do not go together, once all are known. */
error_t cli_check_data(struct argp_state *state, const cli_data *data);

grd_status cli_set_text(grd_settings *settings, const char *key, const char *value, grd_error *error);
/* Settings for --data, changed by `sets`. `choice` becomes a sentence on what was chosen and why; "" where the run
 * itself says it, once it has seen the table or the series. */
grd_status cli_choose(const cli *c, const cli_data *data, const cli_sets *sets, grd_settings *settings,
                      char choice[CLI_CHOICE_MAX], grd_error *error);

#endif
