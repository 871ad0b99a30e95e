#pragma once
// The optimizer over the flat parameter buffers: AdamW (matrices with weight decay, norms without), or Muon
// for the matrices of the layers and AdamW for all other tensors (train.optimizer).
#include <span>
#include <utility>
#include <vector>

#include "engine/config/config.h"
#include "engine/model/parameters.h"
#include "engine/train/optimizer/optimizer_state.h"

namespace pastur {

struct AdamwParams;

class Optimizer {
  public:
    Optimizer(const TrainConfig& config, Parameters& params) : config_(config), params_(params) {}

    const TrainConfig& config() const { return config_; }

    /// The ascending ranges of the flat buffers whose state is kept and whose weights are updated; empty, the
    /// default: all. Muon needs whole matrices. Call before allocate().
    void own(FlatRanges ranges) { owned_ = std::move(ranges); }
    bool owns_all() const { return owned_.empty(); }

    /// What is kept, restricted to the owned ranges.
    std::vector<OptimizerState> states() const;
    int64_t state_bytes() const;
    /// Scratch that step() takes from its context.
    int64_t scratch_bytes() const;
    /// Allocates the state and sets it to zero.
    void allocate(Context& ctx);

    /// One update from params.grad; `step` counts from 0. sums f64 [1 ...] on the device: the first is the
    /// squared global norm, which decides the clipping. Nothing changes unless accepts(sums).
    void step(Context& ctx, int64_t step, double lr, ConstTensor sums);
    /// adamw_accepts (kernels/optimizer/adamw.h) of the same sums, on the host.
    bool accepts(std::span<const double> sums) const;

    /// [elements]: the stream of states()[index].ranges, in the state's dtype.
    Tensor values(size_t index) const;
    /// The state of this name for one tensor, in the tensor's shape; only if all state is kept.
    Tensor value(const Param& param, const std::string& name) const;

  private:
    void step_adamw(Context& ctx, const AdamwParams& update, ConstTensor sums);
    void step_muon(Context& ctx, int64_t step, double lr, ConstTensor sums);
    TrainConfig config_;
    Parameters& params_;
    FlatRanges owned_;                    ///< empty: all
    std::vector<OptimizerState> states_;  ///< states() of allocate()
    std::vector<Buffer> buffers_;         ///< by the index in states_
};

}  // namespace pastur
