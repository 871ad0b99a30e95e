#include "kernels/optimizer/muon.h"

#include <algorithm>

#include "kernels/base/op_timer.h"
#include "kernels/matmul.h"
#include "kernels/reduce.h"

namespace pastur {
namespace {

constexpr int64_t kMultiple = 8;

/// The shape [S, L] of x.
struct Sides {
    int64_t shorter, longer;
};
Sides sides_of(int64_t rows, int64_t columns) {
    const auto padded = [](int64_t side) { return (side + kMultiple - 1) / kMultiple * kMultiple; };
    return {padded(std::min(rows, columns)), padded(std::max(rows, columns))};
}

void check(const MuonTensors& t, const ConstTensor& sums, const MuonParams& params) {
    const auto is_matrix = [&](const ConstTensor& x, DType dtype) {
        return x.dtype() == dtype && x.rank() == 2 && x.shape() == t.param.shape() &&
               (x.stride(1) == 1 || x.size(1) == 1);
    };
    PASTUR_CHECK(is_matrix(t.param, DType::kF32) || is_matrix(t.param, DType::kBF16), "muon_step: param {}",
                 describe(t.param));
    for (const ConstTensor& x : {ConstTensor(t.momentum), t.grad})
        PASTUR_CHECK(is_matrix(x, DType::kF32) && x.numel() > 0, "muon_step: {}, param {}", describe(x),
                     describe(t.param));
    const DType copy = t.param.dtype() == DType::kF32 ? DType::kBF16 : DType::kF32;
    PASTUR_CHECK(t.compute.empty() || is_matrix(t.compute, copy), "muon_step: compute {}, param {}",
                 describe(t.compute), describe(t.param));
    PASTUR_CHECK(sums.dtype() == DType::kF64 && sums.rank() == 1 && sums.numel() >= 1 && sums.contiguous(),
                 "muon_step: sums {}", describe(sums));
    PASTUR_CHECK(params.gemm_dtype == DType::kF32 || params.gemm_dtype == DType::kBF16,
                 "muon_step: GEMMs in {}", name_of(params.gemm_dtype));
    PASTUR_CHECK(params.momentum >= 0 && params.momentum < 1, "muon_step: momentum {}", params.momentum);
}

/// Five Newton-Schulz steps on x; returns the tensor that holds the result, x or other.
Tensor orthogonalise(Context& ctx, Tensor x, Tensor other, Tensor gram, Tensor squared) {
    for (int step = 0; step < kNewtonSchulzSteps; ++step) {
        linear_forward(ctx, gram, x, x);           // A = x x^T
        linear_forward(ctx, squared, gram, gram);  // A A^T = A A, because A is symmetric
        std::visit([&](auto& c) { muon_polynomial(c, squared, gram); }, ctx);
        linear_backward_input(ctx, other, squared, x, Update::kAssign);  // squared x
        std::swap(x, other);
    }
    return x;
}

}  // namespace

void muon_step(Context& ctx, const MuonTensors& tensors, ConstTensor sums, const MuonParams& params) {
    check(tensors, sums, params);
    const MuonTensors& t = tensors;
    const int64_t rows = t.param.size(0), columns = t.param.size(1);
    const Sides sides = sides_of(rows, columns);
    // grad and momentum are read twice. The GEMMs add their own bytes.
    const OpScope scope(ctx, OpFamily::kMuon, 0,
                        2 * bytes_of(t.param, t.grad) + 3 * bytes_of(t.momentum) + bytes_of(t.compute));
    Arena::Frame frame(std::visit([](auto& c) -> Arena& { return c.scratch(); }, ctx), "muon_step");
    const Tensor x = frame.take(params.gemm_dtype, {sides.shorter, sides.longer});
    const Tensor other = frame.take(params.gemm_dtype, {sides.shorter, sides.longer});
    const Tensor gram = frame.take(params.gemm_dtype, {sides.shorter, sides.shorter});
    const Tensor squared = frame.take(params.gemm_dtype, {sides.shorter, sides.shorter});
    const MuonCall call{t, sums, params, frame.take(DType::kF64, {rows}), frame.take(DType::kF64, {1})};

    std::visit([&](auto& c) { muon_momentum(c, call); }, ctx);
    sum(ctx, call.squares, call.row_squares, Update::kAssign);
    std::visit([&](auto& c) { muon_normalise(c, x, call); }, ctx);
    const Tensor result = orthogonalise(ctx, x, other, gram, squared);
    std::visit([&](auto& c) { muon_update(c, result, call); }, ctx);
}

int64_t muon_scratch_bytes(int64_t rows, int64_t columns, DType gemm_dtype) {
    const Sides sides = sides_of(rows, columns);
    const auto matrix = [&](int64_t width) { return align_up(sides.shorter * width * size_of(gemm_dtype)); };
    return 2 * matrix(sides.longer) + 2 * matrix(sides.shorter) + align_up(rows * size_of(DType::kF64)) +
           align_up(size_of(DType::kF64));
}

}  // namespace pastur
