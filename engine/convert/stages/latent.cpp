#include "engine/convert/stages/latent.h"

#include <algorithm>
#include <cmath>

namespace pastur::convert {
namespace {

/// Eigenvalues below this share of the largest are zero to rounding.
constexpr double kRounding = 1e-14;

Matrix scaled(Matrix matrix, double factor) {
    for (double& value : matrix.values) value *= factor;
    return matrix;
}

/// `above` over `below`.
Matrix stack(const Matrix& above, const Matrix& below) {
    Matrix stacked = above;
    stacked.values.insert(stacked.values.end(), below.values.begin(), below.values.end());
    stacked.rows += below.rows;
    return stacked;
}

}  // namespace

LowRank compress(const Matrix& w, const Matrix& lower, int64_t rank) {
    const Matrix image = dense::multiply(w, lower);
    Matrix transposed = image;
    transposed.transposed = true;
    const SymmetricEigen eigen = eigen_symmetric(dense::gram(transposed));
    Matrix basis = zeros(rank, w.columns);  // rows: V_r^T
    for (int64_t e = 0; e < rank; ++e)
        for (int64_t i = 0; i < w.columns; ++i) row_of(basis, e)[i] = row_of(eigen.vectors, i)[e];
    Matrix columns = basis;
    columns.transposed = true;
    LowRank result{divide_right(basis, lower), dense::multiply(image, columns)};
    // up = A V / sigma and down = sigma V^T L^-1: whatever sigma is, the product is that of A V and V^T L^-1.
    for (int64_t e = 0; e < rank; ++e) {
        const double sigma =
            std::sqrt(std::max(eigen.values[static_cast<size_t>(e)], kRounding * eigen.values.front()));
        if (!(sigma > 0)) continue;  // W is zero
        for (int64_t i = 0; i < w.columns; ++i) row_of(result.down, e)[i] *= sigma;
        for (int64_t i = 0; i < w.rows; ++i) row_of(result.up, i)[e] /= sigma;
    }
    return result;
}

JointLatent compress_jointly(const Matrix& content_keys, const Matrix& values, const Matrix& moment,
                             const Matrix& lower, int64_t rank) {
    const double key_energy = energy_of(content_keys, moment), value_energy = energy_of(values, moment);
    const double balance = key_energy > 0 && value_energy > 0 ? std::sqrt(key_energy / value_energy) : 1;
    const LowRank joint = compress(stack(scaled(content_keys, 1 / balance), values), lower, rank);
    return {joint.down, scaled(rows_of(joint.up, 0, content_keys.rows), balance),
            rows_of(joint.up, content_keys.rows, values.rows), balance};
}

double kept_energy(const Matrix& w, const Matrix& up, const Matrix& down, const Matrix& moment) {
    const double all = energy_of(w, moment);
    if (!(all > 0)) return 1;
    Matrix lost = dense::multiply(up, down);
    for (size_t i = 0; i < lost.values.size(); ++i) lost.values[i] = w.values[i] - lost.values[i];
    return 1 - energy_of(lost, moment) / all;
}

LatentBasis orthonormal_basis(const Matrix& down, const std::vector<double>& gain, const Matrix& moment) {
    constexpr double kRidge = 1e-12;
    Matrix scaled_down = down;  // acts on x'
    for (int64_t i = 0; i < down.rows; ++i)
        for (int64_t c = 0; c < down.columns; ++c) row_of(scaled_down, i)[c] *= gain[static_cast<size_t>(c)];
    const Matrix root =
        cholesky(dense::gram(scaled_down), kRidge);  // R, with orthonormal rows of R^-1 down diag(gain)
    Matrix basis = divide_left(root, down);
    const SymmetricEigen eigen = eigen_symmetric(moment_of(basis, moment));
    Matrix transposed = eigen.vectors;
    transposed.transposed = true;
    return {dense::multiply(transposed, basis), dense::multiply(root, eigen.vectors)};
}

std::vector<double> levelling_scales(const LatentMoments& moments) {
    constexpr double kFloor = 0.05;
    constexpr int kSweeps = 100;
    const auto rank = static_cast<int64_t>(moments.squares.size());
    const double n = static_cast<double>(rank), tokens = static_cast<double>(moments.tokens);
    double energy = 0;
    for (const double squares : moments.squares) energy += squares / tokens / n;
    const double equal = energy > 0 ? 1 / energy : 1;  // for a mean RMS of about 1
    // Coordinate descent on E[(mean_i m_i c_i^2 - 1)^2], a convex quadratic in m = s^2.
    std::vector<double> m(moments.squares.size(), equal), gradient(m.size());
    const auto product = [&](int64_t i, int64_t j) { return row_of(moments.products, i)[j] / tokens / n; };
    for (int64_t i = 0; i < rank; ++i) {
        double sum = 0;
        for (int64_t j = 0; j < rank; ++j) sum += product(i, j) * equal;
        gradient[static_cast<size_t>(i)] = sum - moments.squares[static_cast<size_t>(i)] / tokens;
    }
    for (int sweep = 0; sweep < kSweeps; ++sweep)
        for (int64_t i = 0; i < rank; ++i) {
            const auto at = static_cast<size_t>(i);
            if (!(product(i, i) > 0)) continue;
            const double next = std::max(kFloor * equal, m[at] - gradient[at] / product(i, i));
            const double change = next - m[at];
            m[at] = next;
            for (int64_t j = 0; j < rank; ++j) gradient[static_cast<size_t>(j)] += change * product(j, i);
        }
    std::vector<double> scales(m.size());
    std::transform(m.begin(), m.end(), scales.begin(), [](double value) { return std::sqrt(value); });
    return scales;
}

}  // namespace pastur::convert
