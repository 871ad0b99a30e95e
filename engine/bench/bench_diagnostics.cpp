#include "engine/bench/bench_diagnostics.h"

#include <algorithm>
#include <chrono>
#include <vector>

#include "engine/io/temp_folder.h"
#include "engine/model/measure.h"
#include "engine/model/probe_scopes.h"
#include "engine/spectra/monitor.h"

namespace pastur {
namespace {

constexpr int64_t kMeasurements = 3;
constexpr double kEnoughSeconds = 5;

}  // namespace

DiagnosticsCost measure_diagnostics(Context& ctx, Comm& comm, const Config& config, const Parameters& params,
                                    double step_seconds, const std::function<void()>& step) {
    DiagnosticsCost cost;
    cost.every = config.diagnostics.every;
    if (!measures_weights(config.diagnostics) ||
        Monitor::planned_bytes(ctx, config, params.table(), 0, 1) > memory_info(ctx).free_bytes)
        return cost;
    const TempFolder folder;
    Monitor monitor(ctx, comm, config, params, folder.path());
    monitor.open(-1);
    std::vector<double> seconds, steps;
    double total = 0;
    for (int64_t i = 0; i < kMeasurements && total < kEnoughSeconds; ++i) {
        const auto begin = std::chrono::steady_clock::now();
        monitor.observe(i, [] { return false; });
        int64_t beside = 0;
        do {
            step();
            ++beside;
        } while (!monitor.idle());
        const double took = seconds_since(begin);
        for (const std::string& message : monitor.poll().messages) fail(ExitCode::kOther, "{}", message);
        total += took;
        seconds.push_back(took - static_cast<double>(beside) * step_seconds);
        steps.push_back(static_cast<double>(beside));
    }
    cost.measurements = static_cast<int64_t>(seconds.size());
    cost.seconds = std::max(quantile(seconds, 0.5), 0.0);
    cost.steps_beside = quantile(steps, 0.5);
    return cost;
}

std::vector<ScopeCost> measure_further_scopes(Context& ctx, Comm& comm, const Config& config,
                                              const Parameters& params, double step_seconds,
                                              const std::function<void()>& step) {
    std::vector<ScopeCost> costs;
    for (const Scope scope : {Scope::kPositions, Scope::kOv, Scope::kOverlap}) {
        if (!measures(config.diagnostics, scope)) continue;
        Config alone = config;
        alone.diagnostics.scopes = {scope};
        const DiagnosticsCost cost = measure_diagnostics(ctx, comm, alone, params, step_seconds, step);
        if (cost.measurements > 0) costs.push_back({scope, cost.seconds});
    }
    return costs;
}

}  // namespace pastur
