#include "engine/bench/bench_probe.h"

#include <chrono>
#include <thread>

#include "engine/io/temp_folder.h"
#include "engine/model/measure.h"
#include "engine/spectra/probe/probe.h"

namespace pastur {
namespace {

constexpr int64_t kMeasurements = 5;

double seconds_of_measurement(Probe& probe, int64_t step) {
    const auto begin = std::chrono::steady_clock::now();
    probe.observe(step);
    while (!probe.idle()) std::this_thread::yield();
    return seconds_since(begin);
}

}  // namespace

std::vector<ScopeCost> measure_probe(Context& ctx, const Model& model, const DiagnosticsConfig& config,
                                     const ReadSequence& read) {
    std::vector<ScopeCost> costs;
    for (const Scope scope : {Scope::kLogits, Scope::kLatents}) {
        if (!measures(config, scope)) continue;
        DiagnosticsConfig alone = config;
        alone.scopes = {scope};
        if (Probe::planned_bytes(ctx, model, alone) > memory_info(ctx).free_bytes) continue;
        const TempFolder folder;
        Probe probe(ctx, model, alone, read, config.probe_sequences, folder.path());
        probe.open(-1);
        synchronize(ctx);
        seconds_of_measurement(probe, 0);  // the first one chooses algorithms and loads code
        std::vector<double> seconds;
        for (int64_t i = 1; i <= kMeasurements; ++i) seconds.push_back(seconds_of_measurement(probe, i));
        costs.push_back({scope, quantile(seconds, 0.5)});
    }
    return costs;
}

}  // namespace pastur
