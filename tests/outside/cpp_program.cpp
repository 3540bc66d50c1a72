// cpp_program.cpp - the public headers from C++17: options through the _with functions.
#include <gradus/gradus.h>

#include <cmath>
#include <cstdio>
#include <vector>

int main()
{
    grd_engine_options open{};
    open.size = sizeof(open);
    open.threads = 1;
    grd_engine *engine = grd_engine_open_with("cpu", &open);
    grd_graph *graph = grd_graph_new(grd_model_new(engine, 1));
    grd_tensor x = grd_input(graph, "x", GRD_F32, grd_shape(16, 3));
    grd_tensor y = grd_input(graph, "y", GRD_F32, grd_shape(16, 1));
    grd_linear_options linear{};
    linear.size = sizeof(linear);
    linear.no_bias = true;
    grd_tensor loss = grd_mean(grd_mse(grd_linear_with(x, "fc", 1, &linear), y));
    grd_step_options options{};
    options.size = sizeof(options);
    options.clip_norm = 1;
    grd_step *step = grd_step_new_with(loss, grd_adam(0.05), &options);

    std::vector<float> points(16 * 3), sums(16);
    for (int i = 0; i < 16 * 3; i++) sums[i / 3] += points[i] = static_cast<float>((i * 7) % 11) / 11;
    grd_metrics metrics{};
    grd_step_feed(step, x, points.data());
    grd_step_feed(step, y, sums.data());
    for (int i = 0; i < 300 && grd_step_run(step, &metrics) == GRD_OK; i++) {}
    std::printf("loss after %lld steps: %s\n", static_cast<long long>(metrics.step),
                metrics.loss < 1e-3 ? "below 0.001" : "too high");
    grd_engine_report(engine, stderr);
    bool failed = grd_engine_error(engine)->status != GRD_OK || metrics.step != 300 || !(metrics.loss < 1e-3);
    grd_engine_close(engine);
    return failed;
}
