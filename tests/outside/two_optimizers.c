/* two_optimizers.c - two steps with their own optimizers take turns on one model (a GAN on one number), and a frozen
 * backbone stays as it is while a head on it is trained. Installed library only. */
#include "check.h"

#include <gradus/gradus.h>

#include <math.h>
#include <string.h>

enum { BATCH = 32, WIDTH = 8 };

typedef struct weights {
    float all[8][WIDTH * WIDTH];
    int count;
} weights;

/* The values of all parameters below `prefix`. */
static weights read_weights(grd_model *model, const char *prefix)
{
    weights w = {.count = 0};
    grd_variable v;
    grd_error error = {GRD_OK, ""};
    for (int64_t i = 0; grd_model_variable_at(model, i, &v); i++)
        if (v.kind == GRD_VARIABLE_PARAMETER && strncmp(v.path, prefix, strlen(prefix)) == 0 &&
            v.size_bytes <= sizeof(w.all[0]) && w.count < 8)
            CHECK(grd_model_read(model, v.path, w.all[w.count++], &error) == GRD_OK, "%s", error.message);
    return w;
}

static int same(const weights *a, const weights *b)
{
    return a->count == b->count && memcmp(a->all, b->all, sizeof(a->all)) == 0;
}

static grd_tensor generator(grd_tensor noise)
{
    grd_graph *graph = grd_tensor_graph(noise);
    grd_scope_push(graph, "gen");
    grd_tensor made = grd_linear(grd_leaky_relu(grd_linear(noise, "fc1", WIDTH), 0.2), "fc2", 1);
    grd_scope_pop(graph);
    return made;
}

/* One network judges real and made numbers, so both go through it together: [2 BATCH,1]. */
static grd_tensor discriminator(grd_tensor numbers)
{
    grd_graph *graph = grd_tensor_graph(numbers);
    grd_scope_push(graph, "disc");
    grd_tensor score = grd_linear(grd_leaky_relu(grd_linear(numbers, "fc1", WIDTH), 0.2), "fc2", 1);
    grd_scope_pop(graph);
    return score;
}

static void random_numbers(float *to, float mean, float spread)
{
    static uint32_t state = 7;
    for (int i = 0; i < BATCH; i++) {
        state = state * 1664525u + 1013904223u;
        to[i] = mean + spread * ((float)(state >> 8) / (1 << 23) - 1);
    }
}

static void gan(void)
{
    grd_engine *engine = grd_engine_open("cpu");
    grd_model *model = grd_model_new(engine, 3);
    grd_graph *graph = grd_graph_new(model);
    grd_tensor noise = grd_input(graph, "noise", GRD_F32, grd_shape(BATCH, 1));
    grd_tensor real = grd_input(graph, "real", GRD_F32, grd_shape(BATCH, 1));
    grd_tensor made = generator(noise);
    grd_tensor both[] = {real, made};
    grd_tensor scores = discriminator(grd_concat(both, 2, 0));
    grd_tensor of_real = grd_slice(scores, 0, 0, BATCH), of_made = grd_slice(scores, 0, BATCH, BATCH);
    grd_tensor ones = grd_ones_like(of_made), zeros = grd_zeros_like(of_made);
    grd_tensor disc_loss =
        grd_add(grd_mean(grd_bce_with_logits(of_real, ones)), grd_mean(grd_bce_with_logits(of_made, zeros)));
    grd_tensor gen_loss = grd_mean(grd_bce_with_logits(of_made, ones));
    grd_step *disc = grd_step_new(disc_loss, grd_adam(5e-3), .train = "disc/**");
    grd_step *gen = grd_step_new(gen_loss, grd_sgd(2e-2), .train = "gen/**");
    grd_tensor mean = grd_mean(made);
    grd_program *look = grd_program_new(&mean, 1);
    CHECK(disc && gen && look, "%s", grd_engine_error(engine)->message);
    if (!disc || !gen || !look) return;

    float numbers[BATCH], noises[BATCH], first = 0, last = 0;
    for (int turn = 0; turn < 600; turn++) {
        random_numbers(numbers, 3, 0.5f);
        random_numbers(noises, 0, 1);
        grd_step *steps[] = {disc, gen};
        static const char *const trained[] = {"disc", "gen"};
        for (int k = 0; k < 2; k++) {
            weights own = read_weights(model, trained[k]), other = read_weights(model, trained[1 - k]);
            grd_step_feed(steps[k], noise, noises);
            grd_step_feed(steps[k], real, numbers);
            CHECK(grd_step_run(steps[k], NULL) == GRD_OK, "%s", grd_step_error(steps[k])->message);
            weights own_after = read_weights(model, trained[k]), other_after = read_weights(model, trained[1 - k]);
            CHECK(own.count == 4 && !same(&own, &own_after), "turn %d: %s was not trained", turn, trained[k]);
            CHECK(same(&other, &other_after), "turn %d: training %s changed %s", turn, trained[k], trained[1 - k]);
        }
        grd_program_feed(look, noise, noises);
        CHECK(grd_program_run(look) == GRD_OK && grd_program_read(look, mean, &last) == GRD_OK, "%s",
              grd_program_error(look)->message);
        if (turn == 0) first = last;
        if (failures) break;
    }
    printf("gan: mean of the made numbers went from %.2f to %.2f (real: 3)\n", (double)first, (double)last);
    CHECK(fabsf(last - 3) < fabsf(first - 3) / 2, "the made numbers did not come near the real ones");
    grd_engine_close(engine);
}

static void frozen_backbone(bool by_group)
{
    grd_engine *engine = grd_engine_open("cpu");
    grd_model *model = grd_model_new(engine, 5);
    grd_graph *graph = grd_graph_new(model);
    grd_tensor x = grd_input(graph, "x", GRD_F32, grd_shape(BATCH, 1));
    grd_scope_push(graph, "backbone");
    grd_tensor h = grd_relu(grd_linear(x, "fc", WIDTH));
    grd_tensor gain = grd_parameter(graph, "gain", grd_shape(WIDTH), .init = GRD_INIT_ONES, .frozen = true);
    grd_scope_pop(graph);
    grd_tensor guess = grd_linear(grd_mul(h, gain), "head", 1);
    grd_tensor loss = grd_mean(grd_mse(guess, grd_abs(x)));
    const grd_group frozen[] = {{.match = "backbone/**", .frozen = true}};
    grd_step *step = by_group ? grd_step_new(loss, grd_adamw(1e-2), .groups = frozen, .group_count = 1)
                              : grd_step_new(loss, grd_adamw(1e-2), .train = "head/**");
    CHECK(step, "%s", grd_engine_error(engine)->message);
    if (!step) return;
    weights backbone = read_weights(model, "backbone"), head = read_weights(model, "head");
    grd_metrics start = {0}, end = {0};
    float numbers[BATCH];
    random_numbers(numbers, 0, 1);
    grd_step_feed(step, x, numbers);
    for (int i = 0; i < 200; i++)
        CHECK(grd_step_run(step, i ? &end : &start) == GRD_OK, "%s", grd_step_error(step)->message);
    weights backbone_after = read_weights(model, "backbone"), head_after = read_weights(model, "head");
    printf("frozen backbone (%s): loss %.4f to %.4f\n", by_group ? "by group" : "by pattern", start.loss, end.loss);
    CHECK(backbone.count == 3 && same(&backbone, &backbone_after), "the backbone changed");
    CHECK(head.count == 2 && !same(&head, &head_after), "the head was not trained");
    CHECK(end.loss < start.loss / 2, "the loss does not fall");
    grd_plan_report report;
    CHECK(grd_step_report(step, &report) == GRD_OK && report.gradients_bytes < 1024, "no report");
    grd_engine_close(engine);
}

int main(void)
{
    gan();
    frozen_backbone(false);
    frozen_backbone(true);
    return failures != 0;
}
