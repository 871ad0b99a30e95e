#pragma once
// Head widths of wgmma-streaming.
#include "kernels/cuda/attention/params.h"

namespace pastur::attention::wgmma_streaming {

/// Calls run.template operator()<kContent, kShared, kValue>() for each supported head until it returns true;
/// returns whether one did.
template <typename Run>
bool any_widths(const Run& run) {
    return run.template operator()<64, 0, 64>() || run.template operator()<32, 32, 64>() ||
           run.template operator()<64, 32, 64>() || run.template operator()<128, 0, 128>() ||
           run.template operator()<64, 64, 128>() || run.template operator()<128, 64, 128>();
}

/// Calls run.template operator()<kContent, kShared, kValue>() for heads of these sizes; false where they are
/// not supported.
template <typename Run>
bool visit_widths(const Sizes& sizes, const Run& run) {
    return any_widths([&]<int kContent, int kShared, int kValue>() {
        if (sizes.content != kContent || sizes.rotary != kShared || sizes.value != kValue) return false;
        run.template operator()<kContent, kShared, kValue>();
        return true;
    });
}

/// Whether heads of these widths have kernels for a stride.
constexpr bool takes_stride(int content, int shared) {
    return content == 32 && shared == 32;
}
inline bool takes_stride(const Sizes& sizes) {
    return takes_stride(sizes.content, sizes.rotary);
}

}  // namespace pastur::attention::wgmma_streaming
