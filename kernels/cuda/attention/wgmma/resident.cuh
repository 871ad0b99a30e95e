#pragma once
// Warpgroups of the wgmma-resident CTAs.
#include "kernels/cuda/attention/resident.cuh"
#include "kernels/cuda/attention/ring.cuh"
#include "kernels/cuda/attention/tensor_maps.cuh"
#include "kernels/cuda/attention/wgmma/tiles.cuh"

namespace pastur::attention::wgmma_resident {

inline constexpr int kConsumers = 2;  ///< consumer warpgroups of a CTA
inline constexpr int kConsumerThreads = kConsumers * kWarpgroup, kThreads = kConsumerThreads + kWarpgroup;

}  // namespace pastur::attention::wgmma_resident
