#include "engine/spectra/spectrum_records.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

#include "engine/io/json_text.h"

namespace pastur {
namespace {

double product_of(const std::vector<double>& variances) {
    double product = 1;
    for (const double variance : variances) product *= variance;
    return product;
}

/// The terms of a sum of products for one of its items; empty when one was not measured.
std::vector<std::pair<std::string, GaussianChain>> terms_of(const SpectralMatrix& matrix, size_t item,
                                                            const std::vector<SpectralMatrix>& matrices,
                                                            const MeasuredSpectra& measured) {
    std::vector<std::pair<std::string, GaussianChain>> terms;
    for (const std::string& name : matrix.terms)
        for (size_t m = 0; m < matrices.size(); ++m) {
            const SpectralMatrix& term = matrices[m];
            if (term.name != name || term.items.size() != matrix.items.size() ||
                term.items[item].head != matrix.items[item].head)
                continue;
            terms.emplace_back(
                name, GaussianChain{term.product.dims(), product_of(measured.spectra[m][item].variances)});
        }
    if (terms.size() != matrix.terms.size()) terms.clear();
    return terms;
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

std::vector<int64_t> integers_of(const nlohmann::ordered_json& list) {
    std::vector<int64_t> integers;
    for (const auto& value : list)
        if (value.is_number_integer()) integers.push_back(value.get<int64_t>());
    return integers;
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
        if (record.terms.empty()) json["variance_product"] = record.variance_product;
        for (const auto& [matrix, chain] : record.terms)
            json["terms"].push_back(
                {{"matrix", matrix}, {"dims", chain.dims}, {"variance_product", chain.variance_product}});
    }
    json["flags"] = record.flags;
    for (const std::string& flag : record.flags) json["flag_meanings"].push_back(flag_meaning(flag));
    for (const MetricField& field : kMetricFields)
        json[std::string(field.name)] = record.metrics.*field.value;
    if (record.kept_step0) json["kept_step0"] = *record.kept_step0;
    if (record.kept_null) json["kept_null"] = *record.kept_null;
    return json;
}

std::optional<LoggedRecord> read_record(const nlohmann::ordered_json& line) {
    const auto has = [&](const char* key, auto is) {
        const auto found = line.find(key);
        return found != line.end() && is(*found);
    };
    const auto text = [](const auto& value) { return value.is_string(); };
    const auto integer = [](const auto& value) { return value.is_number_integer(); };
    const auto list = [](const auto& value) { return value.is_array(); };
    if (!line.is_object() || !has("step", integer) || !has("layer", integer) || !has("head", integer) ||
        !has("matrix", text) || !has("null", text))
        return {};
    LoggedRecord logged{line["step"].get<int64_t>(), {}};
    SpectrumRecord& record = logged.record;
    record.layer = line["layer"].get<int64_t>();
    record.head = line["head"].get<int64_t>();
    record.matrix = line["matrix"].get<std::string>();
    record.null = line["null"].get<std::string>();
    record.n = integer_or_minus_one(line, "n");
    if (has("dims", list))
        record.dims = integers_of(line["dims"]);
    else
        record.dims = {integer_or_minus_one(line, "rows"), integer_or_minus_one(line, "cols")};
    record.variance_product = number_or_nan(line, "variance_product");
    if (has("terms", list))
        for (const auto& term : line["terms"])
            if (term.is_object() && term.contains("matrix") && term["matrix"].is_string() &&
                term.contains("dims"))
                record.terms.emplace_back(
                    term["matrix"].get<std::string>(),
                    GaussianChain{integers_of(term["dims"]), number_or_nan(term, "variance_product")});
    if (has("flags", list))
        for (const auto& flag : line["flags"])
            if (flag.is_string()) record.flags.push_back(flag.get<std::string>());
    record.metrics.flags = record.flags;
    for (const MetricField& field : kMetricFields)
        record.metrics.*field.value = number_or_nan(line, field.name);
    const auto kept = [&](const char* key) {
        const double value = number_or_nan(line, key);
        return std::isfinite(value) ? std::optional(value) : std::nullopt;
    };
    record.kept_step0 = kept("kept_step0");
    record.kept_null = kept("kept_null");
    return logged;
}

MeasuredSpectra solve_spectra(SpectrumSolver& solver, const std::vector<SpectralMatrix>& matrices,
                              const DiagnosticsConfig& config, uint64_t seed,
                              const std::function<bool()>& give_up) {
    const std::vector<FactorProduct> products = products_of(matrices);
    MeasuredSpectra measured{solver.solve(products), {}};
    if (std::find(config.nulls.begin(), config.nulls.end(), NullKind::kPermuted) != config.nulls.end())
        for (int64_t draw = 0; draw < config.permutations && !(give_up && give_up()); ++draw)
            measured.shuffled.push_back(
                solver.solve(products, ShuffleKey{seed, static_cast<uint64_t>(draw)}));
    return measured;
}

SpectrumJudge::SpectrumJudge(const DiagnosticsConfig& settings)
    : nulls_(settings.nulls), tw_quantile_(settings.tw_quantile), mp_variance_(settings.mp_variance) {}

Null SpectrumJudge::null_of(const SpectrumRecord& record, const Spectrum& spectrum,
                            const std::vector<std::vector<double>>& shuffled) {
    const std::vector<int64_t>& dims = record.dims;
    if (record.null == "product" && !record.terms.empty()) {
        std::vector<GaussianChain> chains;
        for (const auto& [matrix, chain] : record.terms) chains.push_back(chain);
        return product_null(ProductSumLaw(chains), tw_quantile_);
    }
    if (record.null == "product") {
        auto law = laws_.find(dims);
        if (law == laws_.end()) law = laws_.emplace(dims, ProductLaw(dims, 1.0)).first;
        return product_null(law->second.rescaled(record.variance_product), tw_quantile_);
    }
    if (record.null == "mp")
        return mp_null(spectrum.eigenvalues, dims.front(), dims.back(), mp_variance_, tw_quantile_);
    if (!shuffled.empty())
        return permuted_null(
            shuffled, tw_quantile_,
            estimate_variance(VarianceEstimate::kEntries, spectrum.eigenvalues, dims.front(), dims.back()));
    // A draw could not be solved.
    return mp_null(MarchenkoPastur(dims.front(), dims.back(), std::numeric_limits<double>::quiet_NaN()),
                   tw_quantile_);
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
            const auto terms = terms_of(matrix, i, matrices, measured);
            for (const NullKind null : nulls_) {
                if (null == NullKind::kProduct && matrix.form != SpectralMatrix::Form::kProduct &&
                    terms.empty())
                    continue;
                SpectrumRecord record;
                record.layer = matrix.items[i].layer;
                record.head = matrix.items[i].head;
                record.matrix = matrix.name;
                record.null = name_of(null);
                record.dims = matrix.product.dims();
                record.variance_product = product_of(spectrum.variances);
                if (null == NullKind::kProduct) record.terms = terms;
                record.n = matrix.product.count();
                const Null judged_by = null_of(record, spectrum, draws_of(measured, m, i));
                record.metrics = measure(eigenvalues, judged_by);
                if (const double kept = record.metrics.stable_rank / judged_by.stable_rank;
                    std::isfinite(kept))
                    record.kept_null = kept;
                record.flags = record.metrics.flags;
                if (spectrum.status == Spectrum::Status::kSolverFailed) record.flags = {"solver_failed"};
                records.push_back(std::move(record));
            }
        }
    }
    return records;
}

}  // namespace pastur
