#include "diag/spectrum.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace pastur {

FactorRows::FactorRows(const Factor& factor) {
    int64_t units = 0;
    for (int64_t row = 0; row < factor.rows; ++row) {
        const bool is_stored = factor.sources[static_cast<size_t>(row * factor.sources_per_row())] != nullptr;
        if (is_stored) {
            slots.push_back(static_cast<int32_t>(stored.size()));
            stored.push_back(static_cast<int32_t>(row));
        } else {
            slots.push_back(
                static_cast<int32_t>(-1 - factor.weight_columns() - units++ % factor.unit_columns));
        }
    }
}

double profile_normal(const std::array<uint64_t, 2>& words) {
    const double radius = std::sqrt(-2 * std::log(unit_interval(words[0]) + 0x1p-53));
    return radius * std::cos(2 * std::numbers::pi * unit_interval(words[1]));
}

std::vector<int64_t> FactorProduct::dims() const {
    std::vector<int64_t> dims;
    for (const Factor& factor : factors) {
        if (dims.empty()) dims.push_back(factor.transposed ? factor.columns : factor.rows);
        dims.push_back(factor.transposed ? factor.rows : factor.columns);
    }
    return dims;
}

int64_t FactorProduct::count() const {
    return ChainPlan(*this).n;
}

void FactorProduct::check() const {
    PASTUR_CHECK(!factors.empty() && items >= 1 && group >= 1 && items % group == 0,
                 "{} factors, {} items in groups of {}", factors.size(), items, group);
    int64_t inner = 0;
    for (const Factor& factor : factors) {
        const int64_t in = factor.transposed ? factor.columns : factor.rows;
        PASTUR_CHECK(inner == 0 || in == inner, "a factor of {} rows follows one of {} columns", in, inner);
        inner = factor.transposed ? factor.rows : factor.columns;
        const auto expected = static_cast<size_t>(copies(factor) * factor.rows * factor.sources_per_row());
        PASTUR_CHECK(factor.rows >= 1 && factor.weight_columns() >= 1 && factor.terms >= 1 &&
                         factor.sources.size() == expected,
                     "factor [{}, {}] with {} sources for {}", factor.rows, factor.columns,
                     factor.sources.size(), expected);
        PASTUR_CHECK(factor.pieces >= 1 && factor.weight_columns() % factor.pieces == 0,
                     "{} columns of {} pieces", factor.weight_columns(), factor.pieces);
        PASTUR_CHECK(factor.gains.empty() || factor.gains.size() == static_cast<size_t>(copies(factor)),
                     "{} gains for {} copies", factor.gains.size(), copies(factor));
        PASTUR_CHECK(factor.row_gains.empty() ||
                         factor.row_gains.size() == static_cast<size_t>(copies(factor) * factor.rows),
                     "{} row gains for {} copies of {} rows", factor.row_gains.size(), copies(factor),
                     factor.rows);
    }
}

ChainPlan::ChainPlan(const FactorProduct& product) : dims(product.dims()) {
    const auto smallest = std::min_element(dims.begin(), dims.end());
    bottleneck = static_cast<size_t>(smallest - dims.begin());
    n = *smallest;
    widest_left = widest_right = 0;
    for (size_t j = 0; j < dims.size(); ++j) {
        if (j < bottleneck) widest_left = std::max(widest_left, dims[j]);
        if (j > bottleneck) widest_right = std::max(widest_right, dims[j]);
    }
}

std::vector<Spectrum> solve_or_flag(const FactorProduct& product,
                                    const std::function<void(std::vector<Spectrum>&)>& solve) {
    const auto items = static_cast<size_t>(product.items);
    std::vector<Spectrum> spectra(items);
    try {
        solve(spectra);
    } catch (const Error& error) {
        if (error.code() == ExitCode::kNoDevice) throw;
        spectra.assign(
            items,
            {Spectrum::Status::kSolverFailed, {}, error.what(), std::vector<double>(product.factors.size())});
    }
    return spectra;
}

void finish_eigenvalues(std::vector<double>& ascending) {
    std::reverse(ascending.begin(), ascending.end());
    for (double& value : ascending) value = std::max(value, 0.0);
}

double variance_from_sums(double sum, double sum_of_squares, int64_t count) {
    if (count == 0) return 0;
    const double mean = sum / static_cast<double>(count);
    const double variance = sum_of_squares / static_cast<double>(count) - mean * mean;
    return variance < 0 ? 0 : variance;  // passes NaN on
}

std::unique_ptr<SpectrumSolver> make_spectrum_solver(Context& ctx, std::span<const FactorProduct> products,
                                                     const SolverOptions& options) {
    for (const FactorProduct& product : products) product.check();
    return std::visit([&](auto& device) { return make_spectrum_solver(device, products, options); }, ctx);
}

int64_t solver_bytes(Context& ctx, std::span<const FactorProduct> products, const SolverOptions& options) {
    return std::visit([&](auto& device) { return solver_bytes(device, products, options); }, ctx);
}

}  // namespace pastur
