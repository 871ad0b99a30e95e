#pragma once
// Where a step's time goes: while an OpTimer is attached to a context, every op front reports to it.
//
//     void rope(Context& ctx, ...) {
//         <checks>
//         const OpScope scope(ctx, OpFamily::kRope, 0, bytes_of(in, out));
//         std::visit(...);
//     }
//
// With no timer attached a scope costs a branch.
#include <array>
#include <vector>

#include "kernels/base/interval_clock.h"

namespace pastur {

enum class OpFamily : uint8_t {
    kEmbedding,
    kRmsNorm,
    kRope,
    kMatmulForward,         ///< y = x W^T
    kMatmulBackwardInput,   ///< dx = dy W
    kMatmulBackwardWeight,  ///< dW = dy^T x
    kAttentionForward,
    kAttentionBackward,
    kSwiglu,
    kLmHead,  ///< its three products
    kCrossEntropy,
    kAdamw,
    kReduce,
    kQuantize,  ///< rounding to fp8
    kFill,      ///< fills, casts, copies on the device
    kTransfer,  ///< between host and device
    kCount,
};
inline constexpr size_t kOpFamilies = static_cast<size_t>(OpFamily::kCount);
/// "matmul dgrad", for tables.
const char* name_of(OpFamily family);

/// What a family did between two collections.
struct OpTotal {
    int64_t calls = 0;
    double seconds = 0;
    double flops = 0;  ///< of the formula: a causal half is not counted, nor is what a kernel computes again
    double bytes = 0;  ///< each operand read or written once
};
using OpTotals = std::array<OpTotal, kOpFamilies>;

class OpTimer {
  public:
    /// Attaches to ctx, which must stay where it is; throws (kOther) where another one is attached.
    explicit OpTimer(Context& ctx);
    ~OpTimer();
    OpTimer(const OpTimer&) = delete;
    OpTimer& operator=(const OpTimer&) = delete;

    /// Totals since the last call, after waiting for the device.
    OpTotals collect();

  private:
    friend class OpScope;
    void begin(OpFamily family, double flops, double bytes);
    void end() noexcept;

    struct Call {
        OpFamily family;
        size_t interval;
        double flops, bytes;
    };
    Context& ctx_;
    std::unique_ptr<IntervalClock> clock_;
    std::vector<Call> calls_;
    int depth_ = 0;  ///< of the scopes open now
};

/// One call of an op, from here to the end of the block. A scope within another belongs to it: the outer one
/// gets its work and its time, so that whoever composes ops may give them a family of their own.
class OpScope {
  public:
    explicit OpScope(Context& ctx, OpFamily family, double flops = 0, double bytes = 0)
        : timer_(op_timer(ctx)) {
        if (timer_) timer_->begin(family, flops, bytes);
    }
    ~OpScope() {
        if (timer_) timer_->end();
    }
    OpScope(const OpScope&) = delete;
    OpScope& operator=(const OpScope&) = delete;

  private:
    OpTimer* timer_;
};

/// Bytes of all the tensors together; an empty one has none.
template <typename... Tensors>
double bytes_of(const Tensors&... tensors) {
    return (0.0 + ... + (tensors.empty() ? 0.0 : static_cast<double>(tensors.nbytes())));
}

/// What a += output costs beyond an = one: it is read too.
inline double bytes_read_by(Update update, const ConstTensor& out) {
    return update == Update::kAccumulate ? bytes_of(out) : 0.0;
}

}  // namespace pastur
