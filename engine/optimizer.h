#pragma once
// AdamW over the flat parameter buffers: matrices with weight decay, norms without.
#include "engine/config.h"
#include "engine/parameters.h"

namespace pastur {

class AdamW {
  public:
    AdamW(const TrainConfig& config, Parameters& params) : config_(config), params_(params) {}

    int64_t state_bytes() const { return 2 * params_.master_bytes(); }
    /// Takes the memory of both moments, zeroed.
    void allocate(Context& ctx);

    /// One update from params.grad; `step` counts from 0. grad_sum_squares f64 [1] on the device is the
    /// squared global norm: it decides the clipping, and where it is not finite nothing changes.
    void step(Context& ctx, int64_t step, double lr, ConstTensor grad_sum_squares);

    /// fp32 moments of one named tensor, for checkpoints.
    Tensor first_moment(const Param& param) const;
    Tensor second_moment(const Param& param) const;

  private:
    Tensor flat(const Buffer& buffer) const;
    TrainConfig config_;
    Parameters& params_;
    Buffer first_, second_;
};

}  // namespace pastur
