#include "tests/support/compare.h"

#include <algorithm>
#include <cmath>

namespace pastur::test {
namespace {

/// The text "[3, 17]" for a flat index.
std::string position(int64_t flat, const Shape& shape) {
    Shape index = shape;
    for (int i = shape.rank() - 1; i >= 0; --i) {
        index[i] = flat % std::max<int64_t>(shape[i], 1);
        flat /= std::max<int64_t>(shape[i], 1);
    }
    return to_string(index);
}

struct Counts {
    int64_t nan = 0, infinite = 0;
};

Counts count_non_finite(std::span<const double> values) {
    Counts counts;
    for (double x : values) {
        counts.nan += std::isnan(x);
        counts.infinite += std::isinf(x);
    }
    return counts;
}

/// True if both are NaN, both are the same infinity or both are finite.
bool same_kind(double got, double want) {
    if (std::isfinite(got) || std::isfinite(want)) return std::isfinite(got) && std::isfinite(want);
    return std::isnan(got) ? std::isnan(want) : got == want;
}

/// Sums over the elements that are finite in both tensors, and the element with the largest error.
struct Differences {
    double error_squares = 0, got_squares = 0, want_squares = 0, product = 0;
    int64_t beyond = 0;
    int64_t worst = -1;
    double worst_ratio = -1;  ///< error over allowed error

    void add(int64_t i, double got, double want, double allowed) {
        const bool kind = same_kind(got, want);
        double ratio = kind ? 0 : INFINITY;
        if (kind && std::isfinite(got)) {
            const double error = std::abs(got - want);
            ratio = error == 0 ? 0 : error / allowed;
            error_squares += error * error;
            got_squares += got * got;
            want_squares += want * want;
            product += got * want;
        }
        beyond += ratio > 1;
        if (ratio > worst_ratio) {
            worst_ratio = ratio;
            worst = i;
        }
    }
    double cosine() const { return product / std::sqrt(got_squares * want_squares); }
};

std::string report(const Differences& found, std::span<const double> got, std::span<const double> want,
                   const Shape& shape) {
    const Counts g = count_non_finite(got), w = count_non_finite(want);
    const auto i = static_cast<size_t>(found.worst);
    const double error = std::abs(got[i] - want[i]);
    return fmt::format(
        "{}: {} of {} elements differ too much; nan {} (expected {}), inf {} (expected {})\n"
        "  worst at {}: got {:.9g}, expected {:.9g}, abs {:.3g}, rel {:.3g}\n"
        "  norm of the error / norm expected = {:.3g} / {:.3g} = {:.3g}, cosine {:.9f}",
        to_string(shape), found.beyond, got.size(), g.nan, w.nan, g.infinite, w.infinite,
        position(found.worst, shape), got[i], want[i], error, error / std::abs(want[i]),
        std::sqrt(found.error_squares), std::sqrt(found.want_squares),
        std::sqrt(found.error_squares / found.want_squares), found.cosine());
}

}  // namespace

Tolerance tolerance(DType dtype) {
    switch (dtype) {
        case DType::kF32:
            return {1e-4, 1e-5};
        case DType::kBF16:
            return {2e-2, 6e-3};
        case DType::kF64:
            return {1e-12, 1e-12};
        case DType::kI32:
        case DType::kF8E4M3:  // results are never accumulated in fp8
            return {0, 0};
    }
    return {0, 0};
}

double root_mean_square(std::span<const double> values) {
    double squares = 0;
    int64_t count = 0;
    for (double x : values) {
        if (!std::isfinite(x)) continue;
        squares += x * x;
        ++count;
    }
    return count ? std::sqrt(squares / static_cast<double>(count)) : 0;
}

::testing::AssertionResult close_to(std::span<const double> got, std::span<const double> want, DType dtype,
                                    const Shape& shape, double terms) {
    if (got.size() != want.size() || static_cast<int64_t>(got.size()) != shape.numel())
        return ::testing::AssertionFailure()
               << "sizes differ: " << got.size() << " and " << want.size() << " of " << to_string(shape);
    const Tolerance allowed = tolerance(dtype);
    const double scale = std::max(root_mean_square(want), terms);
    Differences found;
    for (size_t i = 0; i < got.size(); ++i)
        found.add(static_cast<int64_t>(i), got[i], want[i],
                  allowed.element * std::max(std::abs(want[i]), scale));
    const double norm = scale * std::sqrt(static_cast<double>(got.size()));
    if (found.beyond == 0 && std::sqrt(found.error_squares) <= allowed.norm * norm)
        return ::testing::AssertionSuccess();
    return ::testing::AssertionFailure() << name_of(dtype) << report(found, got, want, shape);
}

::testing::AssertionResult same_values(std::span<const double> got, std::span<const double> want,
                                       const Shape& shape) {
    if (got.size() != want.size() || static_cast<int64_t>(got.size()) != shape.numel())
        return ::testing::AssertionFailure()
               << "sizes differ: " << got.size() << " and " << want.size() << " of " << to_string(shape);
    Differences found;
    for (size_t i = 0; i < got.size(); ++i) found.add(static_cast<int64_t>(i), got[i], want[i], 0);
    if (found.beyond == 0) return ::testing::AssertionSuccess();
    return ::testing::AssertionFailure() << "expected equal, " << report(found, got, want, shape);
}

}  // namespace pastur::test
