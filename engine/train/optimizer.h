#pragma once
// AdamW over the flat parameter buffers: matrices with weight decay, norms without.
#include <span>
#include <utility>
#include <vector>

#include "engine/config/config.h"
#include "engine/model/parameters.h"
#include "engine/train/gradient_buckets.h"

namespace pastur {

class AdamW {
  public:
    AdamW(const TrainConfig& config, Parameters& params) : config_(config), params_(params) {}

    /// The ascending ranges of the flat buffers whose moments are kept and whose weights are updated; empty,
    /// the default: all. Call before allocate().
    void own(std::vector<FlatRange> ranges) { owned_ = std::move(ranges); }
    std::vector<FlatRange> owned() const;
    bool owns_all() const { return owned_.empty(); }

    int64_t state_bytes() const;
    /// Allocates both moments and sets them to zero.
    void allocate(Context& ctx);

    /// One update from params.grad; `step` counts from 0. sums f64 [1 ...] on the device: the first is the
    /// squared global norm, which decides the clipping. Nothing changes unless accepts(sums).
    void step(Context& ctx, int64_t step, double lr, ConstTensor sums);
    /// adamw_accepts (kernels/adamw.h) of the same sums, on the host.
    bool accepts(std::span<const double> sums) const;

    /// f32 moments of one named tensor; only if all moments are kept.
    Tensor first_moment(const Param& param) const;
    Tensor second_moment(const Param& param) const;
    /// f32, the owned ranges in sequence.
    Tensor first_moments() const { return flat(first_); }
    Tensor second_moments() const { return flat(second_); }

  private:
    int64_t owned_elements() const;
    Tensor flat(const Buffer& buffer) const;
    TrainConfig config_;
    Parameters& params_;
    std::vector<FlatRange> owned_;  ///< empty: all
    Buffer first_, second_;
};

}  // namespace pastur
