#pragma once
// What the ranks of a step tell each other: gradients on the way up, weights on the way down.
//
// A step of M micro-batches on R ranks: rank r computes micro-batches r, R + r, 2 R + r, ... of it.
//
// By default a rank adds up its own gradients and the buckets of the sum leave while its last backward pass
// still runs. train.zero = 0: every rank receives the whole sum. train.zero = 1 (ZeRO, Rajbhandari et al.,
// arXiv 1910.02054, stage 1): every rank receives its parts, updates their weights and sends those. The sums
// are the same bits in both, and so is the rest. On another number of ranks other gradients are added up
// first: sums agree to rounding.
//
// train.deterministic_comm: each gradient is computed on its own, and ((g_0 + g_1) + g_2) + ... is added up
// in the order of the micro-batches, which no number of ranks changes; likewise the loss. Weights and losses
// are then the same bits on any number of ranks that compute with the same micro-batch, on equal devices with
// equal thread counts. It sends every gradient instead of one sum a step (M / R times the bytes), and takes
// memory for a rank's parts of the sum.
#include <optional>

#include "engine/config/config.h"
#include "engine/model/parameters.h"
#include "engine/ranks/comm.h"
#include "engine/train/gradient_buckets.h"

namespace pastur {

class GradientSync {
  public:
    /// Before anything is allocated: makes the flat buffers divide over the ranks.
    static void lay_out(const TrainConfig& config, int ranks, ParamTable& table);
    /// Of a table laid out so: the parts of the flat buffers whose moments a rank keeps; none: all of them.
    static std::vector<FlatRange> owned(const TrainConfig& config, int rank, int ranks,
                                        const ParamTable& table);
    /// params is laid out so and allocated.
    GradientSync(const TrainConfig& config, Context& ctx, Comm& comm, Parameters& params);
    /// Device memory it takes.
    static int64_t planned_bytes(const TrainConfig& config, const ParamTable& table, int ranks);

    /// A single rank that need not keep to an order: nothing below does anything.
    bool idle() const { return comm_.size() == 1 && !ordered_; }
    /// Whether each micro-batch's gradient is to be computed on its own.
    bool ordered() const { return ordered_; }

    /// Before backward passes `frontier`s on; `micro` counts a rank's micro-batches of this step.
    void begin(int64_t micro, bool last);
    /// Whether this micro-batch's gradients leave while its backward pass runs: until end(), the host talks
    /// to other ranks. Where not, neither ready() nor end() does anything.
    bool sends() const { return !idle() && (ordered_ || last_); }
    /// Every matrix gradient at or behind `frontier` of the flat buffer is complete.
    void ready(int64_t frontier);
    /// All gradients of this micro-batch are; after the step's last one the sums are there.
    void end();

    /// total f64 [1] = the squared norm of the summed gradient, the same bits on every rank.
    void sum_of_squares(Tensor total);
    /// After the update: every rank's weights to all (zero = 1).
    void share_weights();
    /// The whole sum on every rank, where ranks have parts of it: to look at a gradient that is not finite.
    void share_gradients();

  private:
    static bool shards(const TrainConfig& config, int ranks) { return config.zero != 0 && ranks > 1; }
    void send(size_t bucket);
    void gather(Tensor flat);
    Tensor slice(const Tensor& flat, const FlatRange& range) const {
        return flat.slice(0, range.begin, range.count);
    }

    Context& ctx_;
    Comm& comm_;
    Parameters& params_;
    bool ordered_, sharded_;
    std::optional<GradientBuckets> buckets_;  ///< none: idle
    Buffer sums_buffer_, squares_buffer_;
    std::vector<Tensor> sums_;  ///< ordered: of each bucket's own part
    Tensor squares_;            ///< f64 [total / kSumPiece]
    int64_t micro_ = 0;
    bool last_ = false;
    size_t sent_ = 0;  ///< buckets, of this micro-batch
};

}  // namespace pastur
