/* bench.h - the kinds of benchmark. */
#ifndef GRADUS_CLI_BENCH_H
#define GRADUS_CLI_BENCH_H

#include "cli/cli.h"

#define BENCH_MODELS "gpt2-124m, gpt2-1.5b, qwen2.5-0.5b, gpt-baby, gpt-small, mlp, lenet, resnet18, resnet50, lstm"

enum { BENCH_STEPS_MAX = 1 << 20 };

typedef struct bench_args {
    cli common;
    const char *what, *name; /* "model", "op" or "images"; the model, op (NULL: all) or folder */
    int64_t batch, context;  /* 0: the model's own */
    int64_t steps;           /* 0: as many as fit into `seconds` */
    double seconds;
    int precision;           /* grd_precision, not AUTO */
    bool recompute, nondeterministic, profile;
    const char *profile_path;
} bench_args;

int bench_model(const bench_args *args);
int bench_op(const bench_args *args);
int bench_images(const bench_args *args);

#endif
