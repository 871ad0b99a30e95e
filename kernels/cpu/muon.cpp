#include "kernels/optimizer/muon.h"

#include <algorithm>
#include <cmath>

#include "kernels/cpu/bf16_rounder.h"
#include "kernels/cpu/parallel.h"

namespace pastur {
namespace {

/// n of row `row`: mu m + (1 - mu) g, where m is already updated.
struct Nesterov {
    const float *momentum, *grad;
    float mu, clip;
    float operator[](int64_t column) const {
        return mu * momentum[column] + (1.0f - mu) * (grad[column] * clip);
    }
};

Nesterov nesterov_row(const MuonCall& call, int64_t row, float clip) {
    const MuonTensors& t = call.tensors;
    return {t.momentum.data<float>() + row * t.momentum.stride(0),
            t.grad.data<float>() + row * t.grad.stride(0), call.params.momentum, clip};
}

bool accepts(const MuonCall& call) {
    return adamw_accepts(call.sums.data<double>(), call.sums.numel(), call.params.max_norm);
}

float clip_of(const MuonCall& call) {
    return clip_factor(call.sums.data<double>()[0], call.params.max_norm);
}

}  // namespace

void muon_momentum(CpuContext& ctx, const MuonCall& call) {
    auto* sums = call.row_squares.data<double>();
    const int64_t rows = call.tensors.param.size(0), columns = call.tensors.param.size(1);
    if (!accepts(call)) {
        std::fill_n(sums, rows, 0.0);
        return;
    }
    const float clip = clip_of(call), mu = call.params.momentum;
    parallel_for(ctx, rows, 6 * columns, [&](int64_t row) {
        const Nesterov n = nesterov_row(call, row, clip);
        float* momentum = call.tensors.momentum.data<float>() + row * call.tensors.momentum.stride(0);
        double sum = 0;
        for (int64_t i = 0; i < columns; ++i) {
            momentum[i] = mu * momentum[i] + (1.0f - mu) * (n.grad[i] * clip);
            const double direction = n[i];
            sum += direction * direction;
        }
        sums[row] = sum;
    });
}

void muon_normalise(CpuContext& ctx, Tensor x, const MuonCall& call) {
    const int64_t rows = call.tensors.param.size(0), columns = call.tensors.param.size(1);
    const bool transposed = call.transposed();
    const float scale = reciprocal_norm(call.squares.data<double>()[0]);
    const float filler_scale = 1.0f / std::sqrt(static_cast<float>(rows * columns));
    const float clip = clip_of(call);
    auto* out = x.data<float>();
    parallel_for(ctx, x.size(0), 6 * x.size(1), [&](int64_t i) {
        for (int64_t j = 0; j < x.size(1); ++j) {
            const int64_t row = transposed ? j : i, column = transposed ? i : j;
            float value = 0;
            if (row < rows && column < columns)
                value = scale == 0 ? muon_filler(row, column) * filler_scale
                                   : nesterov_row(call, row, clip)[column] * scale;
            out[i * x.size(1) + j] = value;
        }
    });
}

void muon_polynomial(CpuContext& ctx, Tensor squared, ConstTensor gram) {
    const int64_t side = gram.size(0);
    const auto* a = gram.data<float>();
    auto* out = squared.data<float>();
    parallel_for(ctx, side, 4 * side, [&](int64_t row) {
        for (int64_t i = row * side; i < (row + 1) * side; ++i)
            out[i] = kNewtonSchulzB * a[i] + kNewtonSchulzC * out[i];
        out[row * side + row] += kNewtonSchulzA;
    });
}

void muon_update(CpuContext& ctx, ConstTensor x, const MuonCall& call) {
    if (!accepts(call)) return;
    const MuonTensors& t = call.tensors;
    const MuonParams& params = call.params;
    const int64_t columns = t.param.size(1), width = x.size(1);
    const bool is_zero = reciprocal_norm(call.squares.data<double>()[0]) == 0;
    const float size = is_zero ? 0.0f : muon_update_size(t.param);
    const auto* update = x.data<float>();
    const auto run = [&]<typename Weight, typename Compute>() {
        parallel_for(ctx, t.param.size(0), 6 * columns, [&](int64_t row) {
            const int64_t first = row * t.param.stride(0);
            Weight* param = t.param.data<Weight>() + first;
            Compute* compute =
                t.compute.empty() ? nullptr : t.compute.data<Compute>() + row * t.compute.stride(0);
            Bf16Rounder rounder(params.rounding.param, params.rounding.seed, params.step,
                                RoundedNumber::kParam);
            for (int64_t i = 0; i < columns; ++i) {
                const float direction = call.transposed() ? update[i * width + row] : update[row * width + i];
                const float before = as_float(param[i]);
                rounder.store(param[i],
                              before - params.lr * (size * direction + params.weight_decay * before),
                              params.rounding.first_element + first + i);
                if (!compute) continue;
                if constexpr (std::is_same_v<Compute, float>)
                    compute[i] = as_float(param[i]);
                else
                    compute[i] = to_bf16(param[i]);
            }
        });
    };
    t.param.dtype() == DType::kF32 ? run.operator()<float, Bf16>() : run.operator()<Bf16, float>();
}

}  // namespace pastur
