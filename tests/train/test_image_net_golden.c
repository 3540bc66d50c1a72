/* test_image_net_golden.c - networks for images trained for 30 steps from the
 * weights and batches of a formula: losses, running statistics and what the
 * trained networks say, against golden/make_image_net_goldens.py. */
#include <gradus/gradus.h>

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Losses relative to PyTorch's in double precision: what rounding of 30 steps
 * in f32 leaves. */
#define LOSS_TOLERANCE 1e-4
/* The same for bottlenecks on small images, at the low rate that they are
 * trained with. */
#define DEEP_TOLERANCE 3e-5
/* Of running statistics and logits relative to the largest of them. */
#define STATE_TOLERANCE 1e-3

typedef grd_tensor (*builder)(grd_tensor x, bool training);

static grd_tensor mlp(grd_tensor x, bool training) {
  (void)training;
  return grd_mlp(grd_flatten(x, 1, -1), (int64_t[]){24, 10}, 2);
}

static grd_tensor lenet(grd_tensor x, bool training) {
  (void)training;
  return grd_lenet(x, 10, 2);
}

static grd_tensor resnet(grd_tensor x, grd_resnet_depth depth, bool imagenet_stem, bool training) {
  int64_t width = depth == GRD_RESNET50 ? 4 : 2;
  return grd_resnet_logits(x, &(grd_resnet){.depth = depth,
                                            .classes = 10,
                                            .width = width,
                                            .imagenet_stem = imagenet_stem,
                                            .training = training});
}

static grd_tensor resnet18(grd_tensor x, bool training) {
  return resnet(x, GRD_RESNET18, false, training);
}

static grd_tensor resnet18_imagenet(grd_tensor x, bool training) {
  return resnet(x, GRD_RESNET18, true, training);
}

static grd_tensor resnet34(grd_tensor x, bool training) {
  return resnet(x, GRD_RESNET34, false, training);
}

static grd_tensor resnet34_imagenet(grd_tensor x, bool training) {
  return resnet(x, GRD_RESNET34, true, training);
}

static grd_tensor resnet50(grd_tensor x, bool training) {
  return resnet(x, GRD_RESNET50, false, training);
}

static grd_tensor resnet50_imagenet(grd_tensor x, bool training) {
  return resnet(x, GRD_RESNET50, true, training);
}

static grd_tensor transformer(grd_tensor x, bool mean_pool) {
  grd_vit net = {.layers = 2,
                 .heads = 3,
                 .width = 12,
                 .patch = 4,
                 .classes = 10,
                 .mean_pool = mean_pool};
  grd_error error = {GRD_OK, ""};
  cr_assert(grd_vit_resolve(&net, grd_dim(x, 1), grd_dim(x, 2), &error) ==
                GRD_OK,
            "%s", error.message);
  return grd_vit_logits(x, &net, (grd_tensor){NULL, 0});
}

static grd_tensor vit(grd_tensor x, bool training) {
  (void)training;
  return transformer(x, false);
}

static grd_tensor vit_mean(grd_tensor x, bool training) {
  (void)training;
  return transformer(x, true);
}

/* ---- the formula of weights and batches ---- */

/* 32 random bits for element `index` of what is called `name`: FNV-1a of the
 * name, then MurmurHash3's finaliser. */
static uint32_t bits(const char *name, uint32_t seed, int64_t index) {
  uint32_t h = 2166136261u;
  for (; *name; name++)
    h = (h ^ (unsigned char)*name) * 16777619u;
  h = (h ^ seed) + (uint32_t)index * 0x9E3779B9u;
  h = (h ^ h >> 16) * 0x85EBCA6Bu;
  h = (h ^ h >> 13) * 0xC2B2AE35u;
  return h ^ h >> 16;
}

static double unit(const char *name, uint32_t seed, int64_t index) {
  return (bits(name, seed, index) >> 8) * 0x1p-24;
}

static bool ends_with(const char *text, const char *end) {
  size_t a = strlen(text), b = strlen(end);
  return a >= b && strcmp(text + a - b, end) == 0;
}

/* ---- one network while it is trained ---- */

typedef struct net {
  const char *name;
  grd_safetensors *file;
  grd_model *model;
  uint32_t seed;
  grd_dims dims; /* of a batch */
  int64_t classes, batches;
  const char *last; /* gains that end residual branches, and how large they are */
  double last_gain;
} net;

static const grd_file_tensor *stored(const net *n, const char *what) {
  char name[160];
  snprintf(name, sizeof name, "%s/%s", n->name, what);
  const grd_file_tensor *t = grd_safetensors_find(n->file, name);
  cr_assert(t, "image_nets.safetensors lacks %s", name);
  return t;
}

static void set_weights(const net *n) {
  grd_error error = {GRD_OK, ""};
  grd_variable v;
  for (int64_t i = 0; grd_model_variable_at(n->model, i, &v); i++) {
    if (v.kind != GRD_VARIABLE_PARAMETER)
      continue;
    int64_t count = grd_dims_count(v.dims);
    double gain = ends_with(v.path, n->last)
                      ? n->last_gain
                      : ends_with(v.path, "weight"); /* 0: none */
    float *values = malloc(v.size_bytes);
    for (int64_t k = 0; k < count; k++) {
      double u = unit(v.path, n->seed, k) * 2 - 1;
      if (v.dims.rank > 1)
        values[k] = (float)(u / sqrt((double)(count / v.dims.dim[0])));
      else
        values[k] = (float)(gain > 0 ? (u * 0.3 + 1) * gain : u * 0.1);
    }
    cr_assert(grd_model_write(n->model, v.path, values, &error) == GRD_OK, "%s",
              error.message);
    free(values);
  }
}

/* Labels, and pixels that are brighter the larger the label. */
static void fill_batch(const net *n, int64_t batch, float *x, int32_t *y) {
  int64_t count = grd_dims_count(n->dims), each = count / n->dims.dim[0];
  for (int64_t i = 0; i < count; i++) {
    int64_t image = batch * n->dims.dim[0] + i / each;
    int32_t label = (int32_t)(bits("y", n->seed, image) % (uint32_t)n->classes);
    if (i % each == 0)
      y[i / each] = label;
    x[i] = (float)(unit("x", n->seed, batch * count + i) + 0.1 * label);
  }
}

static void close_to(const net *n, const char *what, const float *got,
                     double tolerance) {
  const grd_file_tensor *t = stored(n, what);
  const double *want = t->data;
  double largest = 0;
  for (int64_t i = 0; i < grd_dims_count(t->dims); i++)
    largest = fmax(largest, fabs(want[i]));
  for (int64_t i = 0; i < grd_dims_count(t->dims); i++)
    cr_expect(fabs(got[i] - want[i]) <= tolerance * largest,
              "%s, %s[%lld] is %.8g, should be %.8g", n->name, what,
              (long long)i, (double)got[i], want[i]);
}

static void compare_states(const net *n) {
  grd_error error = {GRD_OK, ""};
  grd_variable v;
  char what[128];
  for (int64_t i = 0; grd_model_variable_at(n->model, i, &v); i++) {
    if (v.kind != GRD_VARIABLE_STATE)
      continue;
    float *got = malloc(v.size_bytes);
    snprintf(what, sizeof what, "s/%s", v.path);
    cr_assert(grd_model_read(n->model, v.path, got, &error) == GRD_OK, "%s",
              error.message);
    close_to(n, what, got, STATE_TOLERANCE);
    free(got);
  }
}

/* What the trained network says of the first batch, by a graph of its own. */
static void compare_logits(const net *n, builder build, float *pixels,
                           int32_t *labels) {
  grd_graph *graph = grd_graph_new(n->model);
  grd_tensor x = grd_input(graph, "x", GRD_F32, n->dims), y = build(x, false);
  grd_program *program = grd_program_new(&y, 1);
  cr_assert(program, "%s", grd_graph_error(graph)->message);
  float *got =
      malloc((size_t)grd_dims_count(grd_tensor_dims(y)) * sizeof(float));
  fill_batch(n, 0, pixels, labels);
  grd_program_feed(program, x, pixels);
  cr_assert(grd_program_run(program) == GRD_OK &&
            grd_program_read(program, y, got) == GRD_OK);
  close_to(n, "logits", got, STATE_TOLERANCE);
  free(got);
}

static void open_net(net *n, const char *name) {
  grd_error error = {GRD_OK, ""};
  *n = (net){.name = name};
  const char *path = GRADUS_SOURCE_DIR "/tests/golden/image_nets.safetensors";
  cr_assert(grd_safetensors_open(path, &n->file, &error) == GRD_OK, "%s",
            error.message);
  const grd_file_tensor *run =
      stored(n, "run"); /* seed, classes, batches, B, H, W, C */
  const int32_t *r = run->data;
  cr_assert(grd_dims_count(run->dims) == 7);
  n->seed = (uint32_t)r[0], n->classes = r[1], n->batches = r[2];
  n->dims = grd_shape(r[3], r[4], r[5], r[6]);
  bool bottleneck = strncmp(name, "resnet50", 8) == 0;
  n->last = bottleneck ? "norm3/weight" : "norm2/weight";
  n->last_gain = bottleneck ? 0.1 : 0.2;
}

static void check(const char *name, builder build, grd_optimizer optimizer,
                  int32_t threads) {
  net n;
  open_net(&n, name);
  grd_engine *engine = grd_engine_open("cpu", .threads = threads);
  n.model = grd_model_new(engine, 1);
  grd_graph *graph = grd_graph_new(n.model);
  grd_tensor x = grd_input(graph, "x", GRD_F32, n.dims),
             y = grd_input(graph, "y", GRD_I32, grd_shape(n.dims.dim[0]));
  grd_step *step =
      grd_step_new(grd_cross_entropy_mean(build(x, true), y), optimizer);
  cr_assert(step, "%s", grd_graph_error(graph)->message);
  set_weights(&n);
  const grd_file_tensor *losses = stored(&n, "loss");
  float *pixels = malloc((size_t)grd_dims_count(n.dims) * sizeof(float));
  int32_t *labels = malloc((size_t)n.dims.dim[0] * sizeof(int32_t));
  bool deep = strcmp(name, "resnet50") == 0;
  cr_assert(grd_dims_count(losses->dims) == 30);
  for (int64_t i = 0; i < 30; i++) {
    grd_metrics metrics;
    double want = ((const double *)losses->data)[i];
    fill_batch(&n, i % n.batches, pixels, labels);
    grd_step_feed(step, x, pixels);
    grd_step_feed(step, y, labels);
    cr_assert(grd_step_run(step, &metrics) == GRD_OK, "%s",
              grd_step_error(step)->message);
    if (getenv("SHOW"))
      fprintf(stderr, "%s %lld %.1e\n", name, (long long)i,
              fabs(metrics.loss - want) / want);
    cr_expect(fabs(metrics.loss - want) <=
                  (deep ? DEEP_TOLERANCE : LOSS_TOLERANCE) * want,
              "%s, step %lld: loss %.8g, should be %.8g", name, (long long)i,
              metrics.loss, want);
  }
  compare_states(&n);
  compare_logits(&n, build, pixels, labels);
  free(pixels);
  free(labels);
  grd_engine_close(engine);
  grd_safetensors_close(n.file);
}

static grd_optimizer sgd(double lr) {
  grd_optimizer o = grd_sgd(lr);
  o.momentum = 0.9;
  return o;
}

static grd_optimizer adamw(void) {
  grd_optimizer o = grd_adamw(3e-3);
  o.beta2 = 0.95;
  o.weight_decay = 0.1;
  return o;
}

Test(image_net_golden, mlp) { check("mlp", mlp, sgd(0.02), 1); }

Test(image_net_golden, lenet) { check("lenet", lenet, sgd(0.02), 2); }

Test(image_net_golden, lenet_without_library) {
  setenv("GRADUS_CONVOLUTION", "own", 1);
  check("lenet", lenet, sgd(0.02), 1);
}

Test(image_net_golden, resnet18) { check("resnet18", resnet18, sgd(0.003), 2); }

Test(image_net_golden, resnet18_without_library) {
  setenv("GRADUS_CONVOLUTION", "own", 1);
  check("resnet18", resnet18, sgd(0.003), 1);
}

Test(image_net_golden, resnet34) { check("resnet34", resnet34, sgd(0.003), 1); }

Test(image_net_golden, resnet18_imagenet) {
  check("resnet18_imagenet", resnet18_imagenet, sgd(0.003), 1);
}

Test(image_net_golden, resnet34_imagenet) {
  check("resnet34_imagenet", resnet34_imagenet, sgd(3e-4), 2);
}

Test(image_net_golden, resnet50_imagenet) {
  check("resnet50_imagenet", resnet50_imagenet, sgd(2e-5), 1);
}

Test(image_net_golden, resnet50) { check("resnet50", resnet50, sgd(2e-5), 2); }

Test(image_net_golden, vit) { check("vit", vit, adamw(), 2); }

Test(image_net_golden, vit_mean) { check("vit_mean", vit_mean, adamw(), 1); }
