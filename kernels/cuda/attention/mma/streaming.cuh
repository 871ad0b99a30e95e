#pragma once
// Tile widths of mma-streaming.
#include "kernels/cuda/attention/params.h"

namespace pastur::attention::mma_streaming {

/// Calls run.template operator()<kQk, kV>() with the narrowest instantiated tiles that hold the heads.
template <typename Run>
void visit_widths(const Sizes& sizes, const Run& run) {
    const int qk = sizes.query_key(), v = sizes.value;
    if (qk <= 32 && v <= 32) {
        run.template operator()<32, 32>();
    } else if (qk <= 64 && v <= 64) {
        run.template operator()<64, 64>();
    } else if (qk <= 96 && v <= 64) {
        run.template operator()<96, 64>();
    } else if (qk <= 128 && v <= 128) {
        run.template operator()<128, 128>();
    } else if (qk <= 192 && v <= 128) {
        run.template operator()<192, 128>();
    } else {
        run.template operator()<256, 256>();
    }
}

}  // namespace pastur::attention::mma_streaming
