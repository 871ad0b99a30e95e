#pragma once
#include <algorithm>
#include <cmath>

#include "tests/ref/vector.h"

namespace pastur::ref {

struct MuonSettings {
    double lr, momentum, weight_decay, max_norm;
};

struct MuonState {
    int64_t rows, columns;
    std::vector<double> param, momentum;
};

/// Muon's polynomial of a singular value, applied five times.
inline double newton_schulz(double x) {
    for (int step = 0; step < 5; ++step) x = x * (3.4445 + x * x * (-4.7750 + x * x * 2.0315));
    return x;
}

/// a b^T; a [rows, inner], b [columns, inner].
inline std::vector<double> times_transposed(const std::vector<double>& a, const std::vector<double>& b,
                                            int64_t rows, int64_t columns, int64_t inner) {
    std::vector<double> c = zeros<double>(rows * columns);
    for (int64_t i = 0; i < rows; ++i)
        for (int64_t j = 0; j < columns; ++j)
            for (int64_t k = 0; k < inner; ++k)
                at(c, i * columns + j) += at(a, i * inner + k) * at(b, j * inner + k);
    return c;
}

inline std::vector<double> transposed(const std::vector<double>& x, int64_t rows, int64_t columns) {
    std::vector<double> y = zeros<double>(rows * columns);
    for (int64_t i = 0; i < rows; ++i)
        for (int64_t j = 0; j < columns; ++j) at(y, j * rows + i) = at(x, i * columns + j);
    return y;
}

/// Five steps x = a x + (b A + c A^2) x, A = x x^T, from x / |x|; 0 for 0. Never transposed, so A may be the
/// larger of the two Gram matrices.
inline std::vector<double> orthogonalised(std::vector<double> x, int64_t rows, int64_t columns) {
    double norm = 0;
    for (const double value : x) norm += value * value;
    if (norm == 0) return x;
    for (double& value : x) value /= std::sqrt(norm);
    for (int step = 0; step < 5; ++step) {
        const std::vector<double> gram = times_transposed(x, x, rows, rows, columns);
        std::vector<double> factor = times_transposed(gram, gram, rows, rows, rows);
        for (size_t i = 0; i < factor.size(); ++i) factor[i] = -4.7750 * gram[i] + 2.0315 * factor[i];
        const std::vector<double> more =
            times_transposed(factor, transposed(x, rows, columns), rows, columns, rows);
        for (size_t i = 0; i < x.size(); ++i) x[i] = 3.4445 * x[i] + more[i];
    }
    return x;
}

/// The direction that is orthogonalised, after updating the momentum.
inline std::vector<double> muon_direction(MuonState& state, const std::vector<double>& grad,
                                          double sum_squares, const MuonSettings& use) {
    double clip = 1.0;
    if (use.max_norm > 0 && sum_squares > 0) clip = std::min(1.0, use.max_norm / std::sqrt(sum_squares));
    std::vector<double> direction(grad.size());
    for (size_t i = 0; i < grad.size(); ++i) {
        const double g = (1 - use.momentum) * grad[i] * clip;
        state.momentum[i] = use.momentum * state.momentum[i] + g;
        direction[i] = use.momentum * state.momentum[i] + g;
    }
    return direction;
}

/// One Muon step, in place. sum_squares is the squared norm of all gradients.
inline void muon(MuonState& state, const std::vector<double>& grad, double sum_squares,
                 const MuonSettings& use) {
    const std::vector<double> update =
        orthogonalised(muon_direction(state, grad, sum_squares, use), state.rows, state.columns);
    const double size = 0.2 * std::sqrt(static_cast<double>(std::max(state.rows, state.columns)));
    for (size_t i = 0; i < grad.size(); ++i)
        state.param[i] -= use.lr * (size * update[i] + use.weight_decay * state.param[i]);
}

}  // namespace pastur::ref
