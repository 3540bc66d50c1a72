/* loss_scale.c - dynamic loss scaling, for steps in f16, whose least number is 6e-8 (Micikevicius et al., "Mixed
 * precision training", 2018): the loss is multiplied before it is differentiated, and gradients, in f32, are divided
 * again where they are read. Where a gradient is not finite the weights are left alone and the scale is halved; after
 * so many good steps on end it is doubled, as PyTorch's GradScaler does. All is decided on the device. */
#include "train/train.h"

#include "backend/backend.h"
#include "ops/table.h"

#include <gradus/ops.h>

enum { GROWTH_INTERVAL = 2000 };
static const float first_scale = 65536;

/* What of a step's scale (grd_step.scale) means that it was left out: as an overflow, or as one that ends the run. */
enum { LEFT_OUT = -1, ENDED = -2 };

bool grdi_scaling_open(grd_step *step)
{
    const grdi_type scalar = {GRD_F32, grd_scalar()};
    if (!step->options.program.f16) return true;
    step->scaling.scale = grdi_step_variable(step, "loss_scale/scale", GRDI_VARIABLE_MOMENT, scalar);
    if (!step->scaling.scale) return false;
    step->scaling.good_steps = grdi_step_variable(step, "loss_scale/growth_tracker", GRDI_VARIABLE_MOMENT, scalar);
    if (!step->scaling.good_steps) return false;
    step->scaling.loss = grdi_step_variable(step, "gradient//loss", GRDI_VARIABLE_GRADIENT, scalar);
    return step->scaling.loss != NULL;
}

void grdi_scaling_begin(grd_step *step)
{
    const grd_engine *engine = step->model->engine;
    float is = 0;
    if (!step->scaling.scale || !engine->backend->runs) return;
    void *at = grdi_variable_data(step->scaling.scale);
    engine->backend->download(engine->device, &is, at, sizeof(is));
    if (is == 0) engine->backend->upload(engine->device, at, &first_scale, sizeof(first_scale)); /* none before it */
}

grd_tensor grdi_scaling_seed(grd_step *step, grd_tensor seed)
{
    if (!step->scaling.scale) return seed;
    return grd_mul(seed, grdi_variable_node(step->graph, step->scaling.scale));
}

/* The sum of the micro-batches' losses. */
bool grdi_scaling_keep_loss(grd_step *step, grd_tensor *roots, int32_t *count)
{
    static const grd_attr mode[] = {GRD_INT("mode", 2)};
    if (!step->scaling.scale) return true;
    grd_tensor to = grdi_variable_node(step->graph, step->scaling.loss), loss = grd_reshape(step->loss, grd_scalar());
    roots[*count] = grdi_emit(NULL, &grdi_op_assign, (grd_tensor[]){to, loss}, 2, mode, 1, NULL);
    return roots[(*count)++].node != NULL;
}

static grd_tensor number(const grdi_update *u, double value)
{
    return grd_scalar_constant(u->graph, value);
}

grd_tensor grdi_scaling_inverse(const grdi_update *u)
{
    return grd_reciprocal(grdi_variable_node(u->graph, u->step->scaling.scale));
}

grd_tensor grdi_scaling_stopped(const grdi_update *u, grd_tensor last)
{
    return grd_sqrt(grd_minimum(grd_add_scalar(last, -LEFT_OUT), number(u, 0)));
}

/* A loss that is not finite itself, a gradient that is not so without any scale, and what follows such a step. */
grd_tensor grdi_scaling_verdict(const grdi_update *u, grd_tensor last)
{
    const grdi_scaling *s = &u->step->scaling;
    grd_tensor overflow = number(u, LEFT_OUT), stop = number(u, ENDED);
    if (u->step->options.skip_nonfinite) return overflow;
    grd_tensor goes_on = grd_ge(last, overflow), scaled = grd_gt(grdi_variable_node(u->graph, s->scale), number(u, 1));
    grd_tensor sound = grd_isfinite(grdi_variable_node(u->graph, s->loss));
    return grd_where(grd_and(grd_and(goes_on, scaled), sound), overflow, stop);
}

bool grdi_scaling_build(const grdi_update *u, grd_tensor *roots, int32_t *count, int32_t max)
{
    const grdi_scaling *s = &u->step->scaling;
    if (!s->scale) return true;
    grd_tensor scale = grdi_variable_node(u->graph, s->scale), steps = grdi_variable_node(u->graph, s->good_steps);
    grd_tensor zero = number(u, 0), good = grd_ge(u->scale, zero), stops = grd_lt(u->scale, number(u, LEFT_OUT));
    grd_tensor more = grd_add_scalar(steps, 1), grows = grd_ge(more, number(u, GROWTH_INTERVAL));
    grd_tensor twice = grd_mul_scalar(scale, 2), half = grd_maximum(grd_mul_scalar(scale, 0.5), number(u, 1));
    grd_tensor grown = grd_where(grd_and(grows, grd_isfinite(twice)), twice, scale);
    grd_tensor next = grd_where(good, grown, grd_where(stops, scale, half));
    grd_tensor left = grd_where(good, grd_where(grows, zero, more), grd_where(stops, steps, zero));
    if (*count + 2 > max) return false;
    roots[(*count)++] = grd_assign(scale, next);
    roots[(*count)++] = grd_assign(steps, left);
    return roots[*count - 2].node && roots[*count - 1].node;
}

bool grdi_scaling_overflowed(const grd_step *step, float scale)
{
    return step->scaling.scale && scale == LEFT_OUT;
}
