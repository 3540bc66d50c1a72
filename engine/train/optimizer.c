/* optimizer.c - the usual settings of each optimizer, learning-rate schedules, and patterns over parameter paths. */
#include "train/train.h"

#include <math.h>

grd_optimizer grd_adamw(double lr)
{
    return (grd_optimizer){
        .kind = GRD_OPTIMIZER_ADAMW, .lr = lr, .beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8, .weight_decay = 0.01};
}

grd_optimizer grd_adam(double lr)
{
    return (grd_optimizer){.kind = GRD_OPTIMIZER_ADAM, .lr = lr, .beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8};
}

grd_optimizer grd_sgd(double lr)
{
    return (grd_optimizer){.kind = GRD_OPTIMIZER_SGD, .lr = lr};
}

grd_optimizer grd_lion(double lr)
{
    return (grd_optimizer){.kind = GRD_OPTIMIZER_LION, .lr = lr, .beta1 = 0.9, .beta2 = 0.99};
}

grd_optimizer grd_muon(double lr)
{
    return (grd_optimizer){.kind = GRD_OPTIMIZER_MUON, .lr = lr, .momentum = 0.95, .nesterov = true};
}

grd_optimizer grd_lbfgs(double lr)
{
    return (grd_optimizer){.kind = GRD_OPTIMIZER_LBFGS,
                           .lr = lr,
                           .history_size = 100,
                           .max_iter = 20,
                           .tolerance_grad = 1e-7,
                           .tolerance_change = 1e-9};
}

double grd_schedule_factor(const grd_schedule *schedule, int64_t step, double progress)
{
    if (step < schedule->warmup) return (double)(step + 1) / (double)schedule->warmup;
    progress = progress < 0 ? 0 : progress > 1 ? 1 : progress;
    double least = schedule->min_factor, part = schedule->decay_part > 0 ? schedule->decay_part : 0.2;
    switch (schedule->kind) {
    case GRD_SCHEDULE_LINEAR: return least + (1 - least) * (1 - progress);
    case GRD_SCHEDULE_COSINE: return least + (1 - least) * 0.5 * (1 + cos(3.14159265358979323846 * progress));
    case GRD_SCHEDULE_WSD: return progress < 1 - part ? 1.0 : least + (1 - least) * (1 - progress) / part;
    default: return 1.0;
    }
}

bool grdi_path_matches(const char *pattern, const char *path)
{
    if (pattern[0] == '\0') return path[0] == '\0';
    if (pattern[0] == '*' && pattern[1] == '*') {
        const char *rest = pattern + 2;
        if (rest[0] == '/' && grdi_path_matches(rest + 1, path)) return true; /* "a/" + "**" + "/b" matches a/b */
        for (;; path++) {
            if (grdi_path_matches(rest, path)) return true;
            if (*path == '\0') return false;
        }
    }
    if (pattern[0] == '*') {
        for (;; path++) {
            if (grdi_path_matches(pattern + 1, path)) return true;
            if (*path == '\0' || *path == '/') return false;
        }
    }
    return pattern[0] == path[0] && grdi_path_matches(pattern + 1, path + 1);
}
