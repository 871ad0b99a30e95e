#include "engine/convert/stages/rotation.h"

#include <algorithm>

#include "kernels/base/error.h"

namespace pastur::convert {
namespace {

/// The row of W_K, or of W_Q with `heads` heads, that holds the real part of frequency f of a head.
int64_t real_row(int64_t head, int64_t f, const HeadSizes& sizes) {
    return head * sizes.head_dim + f;
}

/// How many of [first, first + count) are multiples of `step`.
int64_t multiples_in(int64_t first, int64_t count, int64_t step) {
    const auto below = [&](int64_t n) { return (n + step - 1) / step; };
    return below(first + count) - below(first);
}

/// E[z z^*] of the components of frequencies [first, first + count), from E[k k^T] of the stacked keys.
ComplexMatrix covariance_of(const Matrix& keys_moment, int64_t first, int64_t count, const HeadSizes& sizes) {
    const int64_t n = count * sizes.kv_heads, half = sizes.frequencies();
    ComplexMatrix covariance{std::vector<std::complex<double>>(static_cast<size_t>(n * n)), n, n};
    const auto row = [&](int64_t i) {
        return real_row(i % sizes.kv_heads, first + i / sizes.kv_heads, sizes);
    };
    for (int64_t a = 0; a < n; ++a)
        for (int64_t b = 0; b < n; ++b) {
            const double* const re = row_of(keys_moment, row(a));
            const double* const im = row_of(keys_moment, row(a) + half);
            covariance.at(a, b) = {re[row(b)] + im[row(b) + half], im[row(b)] - re[row(b) + half]};
        }
    return covariance;
}

HermitianEigen components_of(ComplexMatrix covariance, RotationKind rotation) {
    if (rotation == RotationKind::kComplex) return eigen_hermitian(std::move(covariance));
    Matrix real = zeros(covariance.rows, covariance.columns);
    std::transform(covariance.values.begin(), covariance.values.end(), real.values.begin(),
                   [](const std::complex<double>& value) { return value.real(); });
    const SymmetricEigen eigen = eigen_symmetric(std::move(real));
    HermitianEigen components{eigen.values, std::move(covariance)};
    std::copy(eigen.vectors.values.begin(), eigen.vectors.values.end(), components.vectors.values.begin());
    return components;
}

/// Adds conj(u) (re + i im) to the rows out_re, out_im.
void add_projection(double* out_re, double* out_im, std::complex<double> u, const double* re,
                    const double* im, int64_t width) {
    for (int64_t c = 0; c < width; ++c) {
        out_re[c] += u.real() * re[c] + u.imag() * im[c];
        out_im[c] += u.real() * im[c] - u.imag() * re[c];
    }
}

}  // namespace

std::vector<FrequencyGroup> rotate_frequencies(const Matrix& keys, const Matrix& moment,
                                               const HeadSizes& sizes, const RopePlan& plan,
                                               RotationKind rotation) {
    const int64_t step = sizes.head_dim / plan.rope_dim;
    PASTUR_CHECK(sizes.head_dim % plan.rope_dim == 0 && sizes.frequencies() % plan.fold == 0,
                 "rope_dim {}, fold {}, head_dim {}", plan.rope_dim, plan.fold, sizes.head_dim);
    const Matrix keys_moment = moment_of(keys, moment);
    std::vector<FrequencyGroup> groups;
    for (int64_t first = 0; first < sizes.frequencies(); first += plan.fold) {
        HermitianEigen components =
            components_of(covariance_of(keys_moment, first, plan.fold, sizes), rotation);
        for (double& energy : components.values) energy = std::max(energy, 0.0);
        groups.push_back({first, plan.fold, multiples_in(first, plan.fold, step),
                          std::move(components.values), std::move(components.vectors)});
    }
    return groups;
}

Matrix component_keys(const Matrix& keys, const FrequencyGroup& group, int64_t e, const HeadSizes& sizes) {
    Matrix rows = zeros(2, keys.columns);
    for (int64_t i = 0; i < group.vectors.rows; ++i) {
        const int64_t row = real_row(i % sizes.kv_heads, group.first + i / sizes.kv_heads, sizes);
        add_projection(row_of(rows, 0), row_of(rows, 1), group.vectors.at(i, e), row_of(keys, row),
                       row_of(keys, row + sizes.frequencies()), keys.columns);
    }
    return rows;
}

Matrix component_queries(const Matrix& queries, const FrequencyGroup& group, int64_t e, int64_t head,
                         const HeadSizes& sizes) {
    Matrix rows = zeros(2, queries.columns);
    for (int64_t f = 0; f < group.count; ++f) {
        const int64_t row = real_row(head, group.first + f, sizes);
        add_projection(row_of(rows, 0), row_of(rows, 1),
                       group.vectors.at(f * sizes.kv_heads + head / sizes.group(), e), row_of(queries, row),
                       row_of(queries, row + sizes.frequencies()), queries.columns);
    }
    return rows;
}

namespace {

/// content -= u (re + i im): what component e holds of the keys.
void subtract_component(Matrix& content, const FrequencyGroup& group, int64_t e, const Matrix& component,
                        const HeadSizes& sizes) {
    const double* const re = row_of(component, 0);
    const double* const im = row_of(component, 1);
    for (int64_t i = 0; i < group.vectors.rows; ++i) {
        const int64_t row = real_row(i % sizes.kv_heads, group.first + i / sizes.kv_heads, sizes);
        double* const out_re = row_of(content, row);
        double* const out_im = row_of(content, row + sizes.frequencies());
        const std::complex<double> u = group.vectors.at(i, e);
        for (int64_t c = 0; c < content.columns; ++c) {
            out_re[c] -= u.real() * re[c] - u.imag() * im[c];
            out_im[c] -= u.real() * im[c] + u.imag() * re[c];
        }
    }
}

/// Copies the two rows of a component to rows (i, i + d_R/2) of `to`, from row `base` on.
void place_pair(Matrix& to, int64_t base, int64_t i, int64_t rope_dim, const Matrix& component) {
    std::copy_n(row_of(component, 0), to.columns, row_of(to, base + i));
    std::copy_n(row_of(component, 1), to.columns, row_of(to, base + i + rope_dim / 2));
}

}  // namespace

PartialRope split_rope(const Matrix& queries, const Matrix& keys, const std::vector<FrequencyGroup>& groups,
                       const HeadSizes& sizes, const RopePlan& plan) {
    PartialRope split{zeros(plan.rope_dim, sizes.width), zeros(sizes.heads * plan.rope_dim, sizes.width),
                      keys};
    int64_t pair = 0;
    for (const FrequencyGroup& group : groups)
        for (int64_t e = 0; e < group.kept; ++e, ++pair) {
            const Matrix component = component_keys(keys, group, e, sizes);
            place_pair(split.rope_keys, 0, pair, plan.rope_dim, component);
            subtract_component(split.content_keys, group, e, component, sizes);
            for (int64_t head = 0; head < sizes.heads; ++head)
                place_pair(split.rope_queries, head * plan.rope_dim, pair, plan.rope_dim,
                           component_queries(queries, group, e, head, sizes));
        }
    return split;
}

double rope_share(const std::vector<FrequencyGroup>& groups) {
    double kept = 0, all = 0;
    for (const FrequencyGroup& group : groups)
        for (size_t e = 0; e < group.energies.size(); ++e) {
            all += group.energies[e];
            if (static_cast<int64_t>(e) < group.kept) kept += group.energies[e];
        }
    return all > 0 ? kept / all : 0;
}

}  // namespace pastur::convert
