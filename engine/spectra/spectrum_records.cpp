#include "engine/spectra/spectrum_records.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "engine/spectra/position_means.h"

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

bool is_drawn(NullKind null) {
    return null == NullKind::kPermuted || null == NullKind::kProfile;
}
FactorDraw::Kind draw_of(NullKind null) {
    return null == NullKind::kProfile ? FactorDraw::Kind::kProfile : FactorDraw::Kind::kShuffled;
}

/// The draws of one matrix for a null; empty where one of them could not be solved.
std::vector<std::vector<double>> drawn_spectra(const MeasuredSpectra& measured, NullKind null, size_t matrix,
                                               size_t item) {
    std::vector<std::vector<double>> draws;
    if (!is_drawn(null)) return draws;
    for (const MeasuredSpectra::Drawn& draw : measured.drawn) {
        if (draw.kind != draw_of(null)) continue;
        const Spectrum& spectrum = draw.spectra[matrix][item];
        if (spectrum.status != Spectrum::Status::kOk) return {};
        draws.push_back(spectrum.eigenvalues);
    }
    return draws;
}

}  // namespace

std::vector<FactorDraw> draws_of(const DiagnosticsConfig& config, uint64_t seed) {
    std::vector<FactorDraw> draws;
    for (const NullKind null : {NullKind::kPermuted, NullKind::kProfile})
        if (std::find(config.nulls.begin(), config.nulls.end(), null) != config.nulls.end())
            for (int64_t draw = 0; draw < config.permutations; ++draw)
                draws.push_back({draw_of(null), {seed, static_cast<uint64_t>(draw)}});
    return draws;
}

MeasuredSpectra solve_spectra(SpectrumSolver& solver, const std::vector<SpectralMatrix>& matrices,
                              const DiagnosticsConfig& config, uint64_t seed,
                              const std::function<bool()>& give_up) {
    const std::vector<FactorProduct> products = products_of(matrices);
    MeasuredSpectra measured{solver.solve(products)};
    for (const FactorDraw& draw : draws_of(config, seed)) {
        if (give_up && give_up()) break;
        measured.drawn.push_back({draw.kind, solver.solve(products, draw)});
    }
    return measured;
}

SpectrumJudge::SpectrumJudge(const DiagnosticsConfig& settings)
    : nulls_(settings.nulls), tw_quantile_(settings.tw_quantile), mp_variance_(settings.mp_variance) {}

Null SpectrumJudge::null_of(const SpectrumRecord& record, const Spectrum& spectrum,
                            const std::vector<std::vector<double>>& drawn) {
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
    if (!drawn.empty())
        return drawn_null(
            record.null.c_str(), drawn, tw_quantile_,
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
                const Null judged_by = null_of(record, spectrum, drawn_spectra(measured, null, m, i));
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
    append_position_means(records);
    return records;
}

}  // namespace pastur
