#include "engine/spectrum_records.h"

#include <algorithm>
#include <limits>
#include <nlohmann/json.hpp>

namespace pastur {
namespace {

std::vector<FactorProduct> products_of(const std::vector<SpectralMatrix>& matrices) {
    std::vector<FactorProduct> products;
    for (const SpectralMatrix& matrix : matrices) products.push_back(matrix.product);
    return products;
}

double product_of(const std::vector<double>& variances) {
    double product = 1;
    for (const double variance : variances) product *= variance;
    return product;
}

/// The draws of one matrix; empty where one of them could not be solved.
std::vector<std::vector<double>> draws_of(const MeasuredSpectra& measured, size_t matrix, size_t item) {
    std::vector<std::vector<double>> draws;
    for (const auto& draw : measured.shuffled) {
        const Spectrum& spectrum = draw[matrix][item];
        if (spectrum.status != Spectrum::Status::kOk) return {};
        draws.push_back(spectrum.eigenvalues);
    }
    return draws;
}

}  // namespace

nlohmann::ordered_json to_json(const SpectrumRecord& record, std::optional<int64_t> step) {
    nlohmann::ordered_json json = nlohmann::ordered_json::object();
    if (step) json["step"] = *step;
    json.update({{"layer", record.layer},
                 {"head", record.head},
                 {"matrix", record.matrix},
                 {"null", record.null},
                 {"n", record.n}});
    if (record.null == "mp") {
        json["rows"] = record.dims.front();
        json["cols"] = record.dims.back();
    } else {
        json["dims"] = record.dims;
        json["variance_product"] = record.variance_product;
    }
    json["flags"] = record.flags;
    for (const MetricField& field : kMetricFields)
        json[std::string(field.name)] = record.metrics.*field.value;
    return json;
}

MeasuredSpectra solve_spectra(SpectrumSolver& solver, const std::vector<SpectralMatrix>& matrices,
                              const DiagnosticsConfig& config, uint64_t seed) {
    const std::vector<FactorProduct> products = products_of(matrices);
    MeasuredSpectra measured{solver.solve(products), {}};
    if (std::find(config.nulls.begin(), config.nulls.end(), "permuted") != config.nulls.end())
        for (int64_t draw = 0; draw < config.permutations; ++draw)
            measured.shuffled.push_back(
                solver.solve(products, ShuffleKey{seed, static_cast<uint64_t>(draw)}));
    return measured;
}

SpectrumJudge::SpectrumJudge(std::vector<std::string> nulls, double tw_quantile)
    : nulls_(std::move(nulls)), tw_quantile_(tw_quantile) {}

Null SpectrumJudge::null_of(const std::string& name, const SpectralMatrix& matrix, const Spectrum& spectrum,
                            const std::vector<std::vector<double>>& shuffled, double variance_product) {
    const std::vector<int64_t> dims = matrix.product.dims();
    if (name == "product") {
        auto law = laws_.find(dims);
        if (law == laws_.end()) law = laws_.emplace(dims, ProductLaw(dims, 1.0)).first;
        return product_null(law->second.rescaled(variance_product), tw_quantile_);
    }
    const double variance =
        estimate_variance(VarianceEstimate::kEntries, spectrum.eigenvalues, dims.front(), dims.back());
    if (name == "permuted" && !shuffled.empty()) return permuted_null(shuffled, tw_quantile_, variance);
    Null null = mp_null(MarchenkoPastur(dims.front(), dims.back(),
                                        name == "mp" ? variance : std::numeric_limits<double>::quiet_NaN()),
                        tw_quantile_);
    null.name = name;
    return null;
}

std::vector<SpectrumRecord> SpectrumJudge::judge(const std::vector<SpectralMatrix>& matrices,
                                                 const MeasuredSpectra& measured) {
    std::vector<SpectrumRecord> records;
    for (size_t m = 0; m < matrices.size(); ++m) {
        const SpectralMatrix& matrix = matrices[m];
        for (size_t i = 0; i < matrix.items.size(); ++i) {
            const Spectrum& spectrum = measured.spectra[m][i];
            std::vector<double> eigenvalues = spectrum.eigenvalues;
            if (spectrum.status != Spectrum::Status::kOk)
                eigenvalues.assign(static_cast<size_t>(matrix.product.count()),
                                   std::numeric_limits<double>::quiet_NaN());
            const double variance_product = product_of(spectrum.variances);
            for (const std::string& name : nulls_) {
                if (name == "product" && !matrix.gaussian_chain) continue;
                const Null null = null_of(name, matrix, spectrum, draws_of(measured, m, i), variance_product);
                SpectrumRecord record;
                record.layer = matrix.items[i].layer;
                record.head = matrix.items[i].head;
                record.matrix = matrix.name;
                record.null = name;
                record.dims = matrix.product.dims();
                record.variance_product = variance_product;
                record.n = matrix.product.count();
                record.metrics = measure(eigenvalues, null);
                record.flags = record.metrics.flags;
                if (spectrum.status == Spectrum::Status::kSolverFailed) record.flags = {"solver_failed"};
                records.push_back(std::move(record));
            }
        }
    }
    return records;
}

}  // namespace pastur
