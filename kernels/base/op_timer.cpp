#include "kernels/base/op_timer.h"

namespace pastur {

const char* name_of(OpFamily family) {
    switch (family) {
        case OpFamily::kEmbedding:
            return "embedding";
        case OpFamily::kRmsNorm:
            return "rmsnorm";
        case OpFamily::kLayerNorm:
            return "layernorm";
        case OpFamily::kRope:
            return "rope";
        case OpFamily::kMatmulForward:
            return "matmul forward";
        case OpFamily::kMatmulBackwardInput:
            return "matmul dgrad";
        case OpFamily::kMatmulBackwardWeight:
            return "matmul wgrad";
        case OpFamily::kAttentionForward:
            return "attention forward";
        case OpFamily::kAttentionBackward:
            return "attention backward";
        case OpFamily::kTemporalMerge:
            return "temporal merge";
        case OpFamily::kSwiglu:
            return "swiglu";
        case OpFamily::kLmHead:
            return "lm head";
        case OpFamily::kCrossEntropy:
            return "cross entropy";
        case OpFamily::kAdamw:
            return "adamw";
        case OpFamily::kMuon:
            return "muon";
        case OpFamily::kQkClip:
            return "qk clip";
        case OpFamily::kReduce:
            return "reduce";
        case OpFamily::kQuantize:
            return "fp8 quantise";
        case OpFamily::kFill:
            return "fill and copy";
        case OpFamily::kTransfer:
            return "host transfer";
        case OpFamily::kCount:
            break;
    }
    PASTUR_CHECK(false, "no op family {}", static_cast<int>(family));
    return "";
}

OpTimer::OpTimer(Context& ctx) : ctx_(ctx), clock_(make_interval_clock(ctx)) {
    PASTUR_CHECK(!op_timer(ctx), "another OpTimer is attached");
    set_op_timer(ctx, this);
}

OpTimer::~OpTimer() {
    set_op_timer(ctx_, nullptr);
}

void OpTimer::begin(OpFamily family, double flops, double bytes) {
    if (depth_ == 0)
        calls_.push_back({family, clock_->begin(), flops, bytes});
    else {
        calls_.back().flops += flops;
        calls_.back().bytes += bytes;
    }
    ++depth_;
}

void OpTimer::end() noexcept {
    if (--depth_ == 0) clock_->end(calls_.back().interval);
}

OpTotals OpTimer::collect() {
    PASTUR_CHECK(depth_ == 0, "collect() inside an op");
    OpTotals totals;
    for (const Call& call : calls_) {
        OpTotal& total = totals[static_cast<size_t>(call.family)];
        ++total.calls;
        total.seconds += clock_->seconds(call.interval);
        total.flops += call.flops;
        total.bytes += call.bytes;
    }
    calls_.clear();
    clock_->clear();
    return totals;
}

}  // namespace pastur
