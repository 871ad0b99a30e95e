#include "kernels/layer_norm.h"

#include "kernels/base/op_timer.h"

namespace pastur {
namespace {

/// Whether x is [N, C] with unit stride in C, of the shape and dtype of `like`.
bool is_rows(const ConstTensor& x, const ConstTensor& like) {
    return x.rank() == 2 && x.stride(1) == 1 && x.shape() == like.shape() && x.dtype() == like.dtype();
}

void check_vector(const char* op, const char* name, const ConstTensor& vector, int64_t size) {
    PASTUR_CHECK(vector.dtype() == DType::kF32 && vector.contiguous() && vector.shape() == Shape{size},
                 "{}: {} {}, expected f32 [{}]", op, name, describe(vector), size);
}

void check(const char* op, const ConstTensor& x, const ConstTensor& mean, const ConstTensor& rstd,
           const ConstTensor& weight) {
    PASTUR_CHECK(is_rows(x, x) && (x.dtype() == DType::kF32 || x.dtype() == DType::kBF16), "{}: x {}", op,
                 describe(x));
    check_vector(op, "mean", mean, x.size(0));
    check_vector(op, "rstd", rstd, x.size(0));
    check_vector(op, "weight", weight, x.size(1));
}

}  // namespace

void layer_norm_forward(Context& ctx, Tensor out, Tensor mean, Tensor rstd, ConstTensor x, ConstTensor weight,
                        ConstTensor bias, float eps) {
    check("layer_norm_forward", x, mean, rstd, weight);
    check_vector("layer_norm_forward", "bias", bias, x.size(1));
    PASTUR_CHECK(is_rows(out, x), "layer_norm_forward: out {}, x {}", describe(out), describe(x));
    const OpScope scope(ctx, OpFamily::kLayerNorm, 0, bytes_of(out, mean, rstd, x, weight, bias));
    std::visit([&](auto& c) { layer_norm_forward(c, out, mean, rstd, x, weight, bias, eps); }, ctx);
}

void layer_norm_backward(Context& ctx, const LayerNormBackward& p) {
    constexpr const char* kOp = "layer_norm_backward";
    check(kOp, p.x, p.mean, p.rstd, p.weight);
    check_vector(kOp, "dweight", p.dweight, p.x.size(1));
    check_vector(kOp, "dbias", p.dbias, p.x.size(1));
    PASTUR_CHECK(is_rows(p.dx, p.x) && is_rows(p.dy, p.x), "{}: dx {}, dy {}, x {}", kOp, describe(p.dx),
                 describe(p.dy), describe(p.x));
    const OpScope scope(ctx, OpFamily::kLayerNorm, 0,
                        bytes_of(p.dx, p.dweight, p.dbias, p.dy, p.x, p.mean, p.rstd, p.weight));
    std::visit([&](auto& c) { layer_norm_backward(c, p); }, ctx);
}

int64_t layer_norm_backward_scratch_bytes(Context& ctx, int64_t rows, int64_t width) {
    return std::visit([&](auto& c) { return layer_norm_backward_scratch_bytes(c, rows, width); }, ctx);
}

}  // namespace pastur
