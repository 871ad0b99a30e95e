#include "kernels/cuda/attention/paths.h"

namespace pastur::attention {

std::span<const Path> paths() {
    static constexpr Path kPaths[] = {
        {.name = "wgmma-resident",
         .units = Units::kWgmma,
         .forward = {wgmma_resident::takes_forward, true, wgmma_resident::forward},
         .backward = {wgmma_resident::takes_backward, true, wgmma_resident::backward},
         .scratch = mma_resident::scratch},
        {.name = "mma-resident",
         .units = Units::kMma,
         .forward = {mma_resident::takes_forward, true, mma_resident::forward},
         .backward = {mma_resident::takes_backward, true, mma_resident::backward},
         .scratch = mma_resident::scratch},
        {.name = "wgmma-streaming",
         .units = Units::kWgmma,
         .forward = {wgmma_streaming::takes, false, wgmma_streaming::forward},
         .backward = {wgmma_streaming::takes, true, wgmma_streaming::backward},
         .scratch = wgmma_streaming::scratch},
        {.name = "mma-streaming",
         .units = Units::kMma,
         .forward = {mma_streaming::takes, false, mma_streaming::forward},
         .backward = {mma_streaming::takes, false, mma_streaming::backward},
         .scratch = mma_streaming::scratch},
        {.name = "simt",
         .units = Units::kCudaCores,
         .forward = {simt::takes, false, simt::forward<bf16>, simt::forward<float>},
         .backward = {simt::takes, false, simt::backward<bf16>, simt::backward<float>},
         .scratch = simt::scratch},
    };
    return kPaths;
}

}  // namespace pastur::attention
