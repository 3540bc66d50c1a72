/* test_settings.c - config.yaml: what is wrong in it is named with file, line, column and key; what is right comes back
 * from the file that grd_settings_save writes. */
#include "scratch.h"

#include <criterion/criterion.h>
#include <gradus/run.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

TestSuite(settings, .fini = scratch_remove);

static const struct bad_config {
    const char *text, *piece;
} bad[] = {
    {"train: 3\n", "c.yaml:1:8: train: must hold keys of its own"},
    {"train:\n  steps: [1]\n", "c.yaml:2:11: train.steps: must be a single value"},
    {"train: {steps: 1, steps: 2}\n", "c.yaml:1"},
    {"[a, b]: 1\n", "a key must be a short text"},
    {"train: {betas: [0.9]}\n", "train.betas"},
    {"train: {betas: [0.9, 0.9, 0.9]}\n", "train.betas"},
    {"train: {betas: [0.9, {a: 1}]}\n", "train.betas"},
    {"train: {betas: [0.9, 1.5]}\n", "train.betas"},
    {"train: {lr: .nan}\n", "train.lr"},
    {"train: {lr: -1}\n", "train.lr"},
    {"train: {recompute: maybe}\n", "train.recompute: 'maybe' is not true or false"},
    {"train: {schedule: cubic}\n", "train.schedule: 'cubic' is not one of:"},
    {"train: {steps: 99999999999999999999}\n", "train.steps"},
    {"data: {tokens: {a: b}}\n", "data.tokens: must be a list of files"},
    {"data: {tokens: [[a]]}\n", "data.tokens: must be a list of at most"},
    {"train: {groups: 3}\n", "c.yaml:1:17: train.groups: must be a list"},
    {"train: {groups: [3]}\n", "train.groups: must be a list of mappings"},
    {"train: {groups: [{lr: 1}]}\n", "train.groups: a group needs a match"},
    {"train: {groups: [{match: a, lr: fast}]}\n", "train.groups: 'fast' is not a number"},
    {"train: {groups: [{match: a, lr: -1}]}\n", "train.groups: -1 is outside"},
    {"train: {groups: [{match: a, frozen: perhaps}]}\n", "frozen (true or false)"},
    {"train: {groups: [{match: a, decay: 1}]}\n", "'decay' is not one of: match, optimizer, lr"},
    {"train: {groups: [{match: [a]}]}\n", "match must be a single value"},
    {"train: {groups: [{match: a, optimizer: averylongnameofone}]}\n", "optimizer is too long"},
    {"- 1\n- 2\n", "must be a mapping"},
    {"train: {steps: 1\n", "c.yaml:"},
    {"model: &a {layers: *b}\n", "c.yaml:"},
};

static grd_settings *loaded(const char *text, grd_error *error)
{
    scratch_write(scratch_path("c.yaml"), text, strlen(text));
    grd_settings *settings = grd_settings_new();
    cr_assert(settings, "no settings");
    grd_status status = grd_settings_load(settings, scratch_path("c.yaml"), error);
    cr_assert(status == error->status, "returned %d, the error is %d", status, error->status);
    return settings;
}

Test(settings, what_is_wrong_is_named)
{
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        grd_error error = {GRD_OK, ""};
        grd_settings_free(loaded(bad[i].text, &error));
        cr_expect(error.status == GRD_E_FORMAT, "status %d for %s", error.status, bad[i].text);
        cr_expect(strstr(error.message, bad[i].piece), "no '%s' in '%s'", bad[i].piece, error.message);
        cr_expect(strstr(error.message, "c.yaml:"), "no file and line in '%s'", error.message);
    }
}

Test(settings, lists_have_ends)
{
    static char text[1 << 14];
    grd_error error = {GRD_OK, ""};
    size_t size = (size_t)sprintf(text, "train: {groups: [");
    for (int i = 0; i <= GRD_GROUPS_MAX; i++) size += (size_t)sprintf(text + size, "%s{match: a}", i ? ", " : "");
    sprintf(text + size, "]}\n");
    grd_settings_free(loaded(text, &error));
    cr_expect(strstr(error.message, "more than 16 groups"), "%s", error.message);
    size = (size_t)sprintf(text, "data: {tokens: [");
    for (int i = 0; i <= GRD_FILES_MAX; i++) size += (size_t)sprintf(text + size, "%sa.bin", i ? ", " : "");
    sprintf(text + size, "]}\n");
    error.status = GRD_OK;
    grd_settings_free(loaded(text, &error));
    cr_expect(strstr(error.message, "at most 256 names"), "%s", error.message);
}

Test(settings, what_was_set_comes_back)
{
    grd_error error = {GRD_OK, ""};
    grd_settings *first = loaded("model: {kind: llama, layers: 3, heads: 4, width: 64, context: 32, vocab: 99}\n"
                                 "data: {tokens: [\"a b.bin\", 'it''s.bin'], validation: c.bin}\n"
                                 "train: {steps: 7, lr: 1.25e-3, betas: [0.8, 0.95], recompute: true,\n"
                                 "        deterministic: false,\n"
                                 "        groups: [{match: \"h0/**\", lr_scale: 0.5, frozen: true},\n"
                                 "                 {match: \"head/**\", optimizer: sgd, lr: 2, weight_decay: 0}]}\n"
                                 "out: \"runs/x: y\"\n",
                                 &error);
    cr_assert(!error.status, "%s", error.message);
    cr_assert(!grd_settings_resolve(first, &error), "%s", error.message);
    cr_assert(!grd_settings_save(first, scratch_path("d.yaml"), &error), "%s", error.message);
    grd_settings *s = grd_settings_new();
    cr_assert(!grd_settings_load(s, scratch_path("d.yaml"), &error), "%s", error.message);
    cr_expect(s->model.gpt.layers == 3 && s->model.gpt.vocab == 99 && s->train.lr == 1.25e-3 && s->train.recompute,
              "numbers");
    cr_expect(!s->train.deterministic, "deterministic");
    cr_expect(s->train.betas[0] == 0.8 && s->train.betas[1] == 0.95, "betas %g %g", s->train.betas[0],
              s->train.betas[1]);
    cr_expect(s->data.token_count == 2 && strcmp(s->data.tokens[0], "a b.bin") == 0 &&
                  strcmp(s->data.tokens[1], "it's.bin") == 0 && s->data.validation_count == 1,
              "files");
    cr_expect(s->train.group_count == 2 && s->train.groups[0].frozen && s->train.groups[0].lr_scale == 0.5 &&
                  s->train.groups[0].weight_decay < 0 && strcmp(s->train.groups[1].optimizer, "sgd") == 0 &&
                  s->train.groups[1].lr == 2 && s->train.groups[1].weight_decay == 0,
              "groups");
    cr_expect(strcmp(s->out, "runs/x: y") == 0, "out %s", s->out);
    grd_settings_free(first);
    grd_settings_free(s);
}

/* The rate that --data chooses goes with the optimizer, whoever chose that. */
Test(settings, a_chosen_optimizer_has_its_rate)
{
    static const struct {
        const char *set;
        int kind;
        double lr, clip_norm;
    } cases[] = {{NULL, GRD_MODEL_FAST, 0.014, 0},
                 {NULL, GRD_MODEL_GPT2, 1e-3, 1},
                 {"train.optimizer=adamw", GRD_MODEL_FAST, 1e-3, 1},
                 {"train.optimizer=muon", GRD_MODEL_GPT2, 0.014, 0},
                 {"train.optimizer=sgd", GRD_MODEL_GPT2, 0.02, 1},
                 {"train.optimizer=lion", GRD_MODEL_FAST, 3e-4, 1}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char why[256];
        grd_error error = {GRD_OK, ""};
        grd_settings *s = grd_settings_new();
        if (cases[i].set) cr_assert(!grd_settings_set(s, cases[i].set, &error), "%s", error.message);
        cr_assert(!grd_settings_for_text(s, cases[i].kind, 4 << 20, why, sizeof why, &error), "%s", error.message);
        cr_expect(s->train.lr == cases[i].lr && s->train.clip_norm == cases[i].clip_norm, "%s: rate %g, clip %g",
                  cases[i].set ? cases[i].set : "none", s->train.lr, s->train.clip_norm);
        grd_settings_free(s);
    }
}
