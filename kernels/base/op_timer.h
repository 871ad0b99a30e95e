#pragma once
// Time per op family: while an OpTimer is attached to a context, every op reports to it.
//
//     void rope(Context& ctx, ...) {
//         <checks>
//         const OpScope scope(ctx, OpFamily::kRope, 0, bytes_of(in, out));
//         std::visit(...);
//     }
//
// Without a timer a scope costs one branch.
#include <array>
#include <vector>

#include "kernels/base/interval_clock.h"

namespace pastur {

enum class OpFamily : uint8_t {
    kEmbedding,
    kRmsNorm,
    kLayerNorm,
    kRope,
    kMatmulForward,         ///< y = x W^T
    kMatmulBackwardInput,   ///< dx = dy W
    kMatmulBackwardWeight,  ///< dW = dy^T x
    kAttentionForward,
    kAttentionBackward,
    kTemporalMerge,
    kSwiglu,
    kLmHead,  ///< its three GEMMs
    kCrossEntropy,
    kAdamw,
    kMuon,  ///< with its Newton-Schulz GEMMs
    kQkClip,
    kReduce,
    kQuantize,  ///< to fp8
    kFill,      ///< fills, casts, copies on the device
    kTransfer,  ///< between host and device
    kCount,
};
inline constexpr size_t kOpFamilies = static_cast<size_t>(OpFamily::kCount);
/// "matmul dgrad", for tables.
const char* name_of(OpFamily family);

/// Totals of one family between two calls of OpTimer::collect().
struct OpTotal {
    int64_t calls = 0;
    double seconds = 0;
    double flops = 0;  ///< of the formula; excludes recomputation and the masked half of causal attention
    double bytes = 0;  ///< each operand counted once per read or write
};
using OpTotals = std::array<OpTotal, kOpFamilies>;

class OpTimer {
  public:
    /// Attaches to ctx, which must not move while attached. Throws (kOther) if another timer is attached.
    explicit OpTimer(Context& ctx);
    ~OpTimer();
    OpTimer(const OpTimer&) = delete;
    OpTimer& operator=(const OpTimer&) = delete;

    /// Waits for the device and returns the totals since the last call.
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
    int depth_ = 0;  ///< number of open scopes
};

/// One call of an op, from construction to destruction. The work and time of a nested scope count towards the
/// outermost one, so a composed op has a family of its own.
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

/// Total bytes of the tensors; an empty tensor has none.
template <typename... Tensors>
double bytes_of(const Tensors&... tensors) {
    return (0.0 + ... + (tensors.empty() ? 0.0 : static_cast<double>(tensors.nbytes())));
}

/// Bytes that a += output costs in addition to an = output: those of reading it.
inline double bytes_read_by(Update update, const ConstTensor& out) {
    return update == Update::kAccumulate ? bytes_of(out) : 0.0;
}

}  // namespace pastur
