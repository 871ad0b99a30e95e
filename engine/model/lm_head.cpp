#include "engine/model/lm_head.h"

#include <algorithm>

#include "kernels/base/op_timer.h"
#include "kernels/cross_entropy.h"
#include "kernels/matmul.h"

namespace pastur {
namespace {

/// Bytes of a slice's logits: enough for GEMMs to run at full rate, little compared with the activations.
constexpr int64_t kSliceBytes = int64_t{704} << 20;
/// Slices are equal and a multiple of the GEMM's tiles: at 130m, slices of 16,384 rows take 6 to 9 % less
/// time than slices of 8,388 (H200).
constexpr int64_t kSliceMultiple = 256;

/// Calls visit(begin, count) for each slice of tokens.
template <typename Visit>
void for_each_slice(int64_t tokens, int64_t slice_tokens, Visit visit) {
    for (int64_t begin = 0; begin < tokens; begin += slice_tokens)
        visit(begin, std::min(slice_tokens, tokens - begin));
}

}  // namespace

LmHead::LmHead(const Config& config, Parameters& params, GroupId weight)
    : params_(params), vocab_(config.model.vocab), weight_(weight) {}

int64_t LmHead::slice_tokens(int64_t vocab, DType dtype, int64_t tokens) {
    const int64_t most = std::clamp<int64_t>(kSliceBytes / (vocab * size_of(dtype)), 1, tokens);
    const int64_t slices = (tokens + most - 1) / most, equal = (tokens + slices - 1) / slices;
    return std::min((equal + kSliceMultiple - 1) / kSliceMultiple * kSliceMultiple, most);
}

void LmHead::plan(Planner& planner, int64_t tokens) {
    const DType dtype = params_.compute_dtype();
    slice_tokens_ = slice_tokens(vocab_, dtype, tokens);
    Planner::Temporaries temporaries(planner);
    logits_ = temporaries.take(dtype, {slice_tokens_, vocab_});
}

void LmHead::forward(Context& ctx, Tensor losses, ConstTensor x, ConstTensor targets) {
    for_each_slice(x.size(0), slice_tokens_, [&](int64_t begin, int64_t count) {
        const Tensor logits = logits_.slice(0, 0, count);
        this->logits(ctx, logits, x.slice(0, begin, count));
        cross_entropy_forward(ctx, losses.slice(0, begin, count), logits, targets.slice(0, begin, count));
    });
}

void LmHead::forward_backward(Context& ctx, Tensor losses, Tensor dx, ConstTensor x, ConstTensor targets,
                              float scale, Update update) {
    for_each_slice(x.size(0), slice_tokens_, [&](int64_t begin, int64_t count) {
        const Tensor logits = logits_.slice(0, 0, count);
        const ConstTensor x_slice = x.slice(0, begin, count);
        this->logits(ctx, logits, x_slice);
        cross_entropy_forward_backward(ctx, losses.slice(0, begin, count), logits,
                                       targets.slice(0, begin, count), scale);
        const OpScope scope(ctx, OpFamily::kLmHead);
        linear_backward_weight(ctx, params_.grad(weight_), logits, x_slice,
                               begin == 0 ? update : Update::kAccumulate);
        linear_backward_input(ctx, dx.slice(0, begin, count), logits, params_.value(weight_),
                              Update::kAssign);
    });
}

void LmHead::logits(Context& ctx, Tensor logits, ConstTensor x) {
    const OpScope scope(ctx, OpFamily::kLmHead);
    linear_forward(ctx, logits, x, params_.value(weight_));
}

}  // namespace pastur
