#include "kernels/cross_entropy.h"

#include "kernels/base/op_timer.h"

namespace pastur {
namespace {

void check(const char* op, const ConstTensor& losses, const ConstTensor& logits, const ConstTensor& targets) {
    PASTUR_CHECK(logits.rank() == 2 && logits.contiguous() && logits.size(1) > 0 &&
                     (logits.dtype() == DType::kF32 || logits.dtype() == DType::kBF16),
                 "{}: logits {}", op, describe(logits));
    const Shape rows = {logits.size(0)};
    PASTUR_CHECK(losses.dtype() == DType::kF32 && losses.shape() == rows && losses.contiguous(),
                 "{}: losses {}", op, describe(losses));
    PASTUR_CHECK(targets.dtype() == DType::kI32 && targets.shape() == rows && targets.contiguous(),
                 "{}: targets {}", op, describe(targets));
}

}  // namespace

void cross_entropy_forward(Context& ctx, Tensor losses, ConstTensor logits, ConstTensor targets) {
    check("cross_entropy_forward", losses, logits, targets);
    const OpScope scope(ctx, OpFamily::kCrossEntropy, 0, bytes_of(losses, logits, targets));
    std::visit([&](auto& c) { cross_entropy_forward(c, losses, logits, targets); }, ctx);
}

void cross_entropy_forward_backward(Context& ctx, Tensor losses, Tensor logits, ConstTensor targets,
                                    float scale) {
    check("cross_entropy_forward_backward", losses, logits, targets);
    const OpScope scope(ctx, OpFamily::kCrossEntropy, 0, bytes_of(losses, logits, logits, targets));
    std::visit([&](auto& c) { cross_entropy_forward_backward(c, losses, logits, targets, scale); }, ctx);
}

}  // namespace pastur
