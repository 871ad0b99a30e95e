#include "engine/spectra/calibration.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <tuple>

#include "engine/model/attention/variants.h"
#include "engine/model/model.h"
#include "engine/spectra/missing_nulls.h"

namespace pastur {
namespace {

/// One layer in fp32, with a vocabulary only if a scope measures the matrices that have it.
Config one_layer(Config config) {
    config.model.layers = 1;
    config.train.weights = StateFormat::kFp32;
    DiagnosticsConfig& settings = config.diagnostics;
    if (settings.scopes.empty()) settings.scopes = variant_of(config).default_scopes;
    const std::vector<Scope>& scopes = settings.scopes;
    if (std::find(scopes.begin(), scopes.end(), Scope::kWeights) == scopes.end()) config.model.vocab = 2;
    return config;
}

void add(NullCalibration& line, const SpectrumRecord& record) {
    const SpectrumMetrics& m = record.metrics;
    ++line.matrices;
    line.n = record.n;
    line.outliers += m.outlier_count;
    line.most_outliers = std::max(line.most_outliers, m.outlier_count);
    line.with_any += m.outlier_count > 0;
    line.energy += m.outlier_energy;
}

}  // namespace

nlohmann::ordered_json to_json(const NullCalibration& line) {
    return {{"matrix", line.matrix},
            {"scope", line.per_head ? "head" : "layer"},
            {"null", line.null},
            {"n", line.n},
            {"matrices", line.matrices},
            {"outliers", line.outliers},
            {"most_outliers", line.most_outliers},
            {"with_any", line.with_any},
            {"energy", line.energy}};
}

Calibration calibrate_nulls(Context& ctx, Config config, int64_t draws,
                            const std::function<void(int64_t)>& progress) {
    config = one_layer(std::move(config));
    Model model(config, DType::kF32, {1, 1});
    Parameters& params = model.params();
    params.allocate(ctx, false);
    const std::vector<SpectralMatrix> matrices = spectral_matrices(
        config, config.diagnostics.scopes, shapes_of(params.table()),
        [&](const std::string& name) { return ConstTensor(params.master(params.table().named(name))); });
    const auto solver = make_spectrum_solver(ctx, products_of(matrices));
    SpectrumJudge judge(config.diagnostics);

    std::map<std::tuple<std::string, bool, std::string>, NullCalibration> lines;
    for (int64_t draw = 0; draw < draws; ++draw) {
        const uint64_t seed = config.train.seed + static_cast<uint64_t>(draw);
        params.initialise(ctx, seed);
        solver->follow(ctx);
        for (const SpectrumRecord& record :
             judge.judge(matrices, solve_spectra(*solver, matrices, config.diagnostics, seed)))
            add(lines[{record.matrix, record.head >= 0, record.null}], record);
        if (progress) progress(draw + 1);
    }
    Calibration result{{}, missing_nulls(config.diagnostics.nulls, matrices)};
    for (auto& [key, line] : lines) {
        std::tie(line.matrix, line.per_head, line.null) = key;
        for (double* mean : {&line.outliers, &line.with_any, &line.energy})
            *mean /= static_cast<double>(line.matrices);
        result.lines.push_back(std::move(line));
    }
    return result;
}

}  // namespace pastur
