#pragma once
// Communication within an optimizer step: ranks reduce gradients and share updated weights.
//
// In a step of M micro-batches on R ranks, rank r computes micro-batches r, R + r, 2 R + r, ...
//
// By default each rank accumulates its own gradients, and buckets of the sum are sent during its last
// backward pass. With train.zero = 0 every rank receives the whole sum. With train.zero = 1 (ZeRO stage 1,
// Rajbhandari et al., arXiv 1910.02054) every rank receives its parts of the sum, updates the corresponding
// weights and sends those. Both give the same bits. The order of summation depends on the number of ranks, so
// sums on different numbers agree to rounding.
//
// Muon needs the gradient of a whole matrix. With train.zero = 1 every rank then receives the whole sum, as
// with train.zero = 0, updates the matrices that it owns (muon_shares()) and sends those: 1.5 times the bytes
// of AdamW's.
//
// With train.deterministic_comm each micro-batch's gradient is computed separately and the sum ((g_0 + g_1) +
// g_2) + ... is taken in the order of the micro-batches, which does not depend on the number of ranks; so is
// the sum of the losses. Weights and losses are then the same bits on any number of ranks with the same
// micro-batch, equal devices and equal thread counts. This sends every gradient instead of one sum per step
// (M / R times the bytes) and allocates memory for a rank's parts of the sum.
//
// With train.comm_dtype = "bf16" gradients travel in half the bytes. Each rank rounds its gradient once, to nearest,
// after it has accumulated all its micro-batches in fp32; a rank adds up its part of all ranks in fp32, in the
// order of the ranks, and rounds the sum. No partial sum is rounded, so an element of the sum g of the ranks' g_r is
// off by at most u (|g_0| + |g_1| + ...) + u |g| to first order, u = 2^-8, whatever the number of ranks. Stochastic
// rounding would double the largest error and is not needed: weights and moments keep what is rounded, a gradient is
// used once. zero = 1 rounds the sum as well, so zero changes no bit. A single rank exchanges and rounds nothing.
// With deterministic_comm each micro-batch's gradient is rounded, also on a single rank, and the sum is not.
#include <optional>

#include "engine/config/config.h"
#include "engine/model/parameters.h"
#include "engine/ranks/comm.h"
#include "engine/train/optimizer/gradient_buckets.h"
#include "engine/train/optimizer/range_gather.h"

namespace pastur {

class GradientSync {
  public:
    /// Pads the flat buffers so they divide over the ranks. Call before anything is allocated.
    static void lay_out(const TrainConfig& config, int ranks, ParamTable& table);
    /// The parts of the flat buffers whose state a rank keeps; empty: all of them. table: after lay_out().
    static FlatRanges owned(const TrainConfig& config, int rank, int ranks, const ParamTable& table);
    /// params: after lay_out(), allocated.
    GradientSync(const TrainConfig& config, Context& ctx, Comm& comm, Parameters& params);
    /// Bytes of device memory that the sums and the exchange between ranks take. table: after lay_out().
    static int64_t planned_bytes(const TrainConfig& config, const ParamTable& table, int ranks,
                                 Transport transport, bool on_gpu);

    /// True on a single rank without a required order of summation: the functions below then do nothing.
    bool idle() const { return comm_.size() == 1 && !ordered_; }
    /// Whether each micro-batch's gradient must be computed separately (train.deterministic_comm).
    bool ordered() const { return ordered_; }

    /// Call before each backward pass; `micro` counts the rank's micro-batches of this step.
    void begin(int64_t micro, bool last);
    /// Whether this micro-batch's gradients are sent during its backward pass, so the host communicates until
    /// end(). If false, ready() and end() do nothing.
    bool sends() const { return !idle() && (ordered_ || last_); }
    /// Call when every matrix gradient at or behind `frontier` in the flat buffer is complete.
    void ready(int64_t frontier);
    /// Call when all gradients of this micro-batch are complete. After the last micro-batch the sums are
    /// available.
    void end();

    /// total f64 [1] = the squared norm of the summed gradient, the same bits on every rank.
    void sum_of_squares(Tensor total);
    /// After the update with zero = 1: gives every rank the weights of all others.
    void share_weights();
    /// Gives every rank the whole sum, to find a non-finite gradient where ranks have only parts.
    void share_gradients();

  private:
    static bool shards(const TrainConfig& config, int ranks) { return config.zero != 0 && ranks > 1; }
    static bool shards_matrices(const TrainConfig& config, int ranks) {
        return shards(config, ranks) && config.optimizer == OptimizerKind::kMuon;
    }
    void send(size_t bucket);
    void gather(Tensor flat);
    Tensor slice(const Tensor& flat, const FlatRange& range) const {
        return flat.slice(0, range.begin, range.count);
    }

    Context& ctx_;
    Comm& comm_;
    Parameters& params_;
    bool ordered_;
    DType wire_;                              ///< of gradients between ranks
    bool sharded_;                            ///< ranks receive parts of the sum only
    std::optional<GradientBuckets> buckets_;  ///< none: idle
    std::optional<RangeGather> matrices_;     ///< shares the weights of whole matrices
    Buffer sums_buffer_, squares_buffer_;
    std::vector<Tensor> sums_;  ///< ordered: the running sum of this rank's part of each bucket
    Tensor squares_;            ///< f64 [total / kSumPiece]
    int64_t micro_ = 0;
    bool last_ = false;
    size_t sent_ = 0;  ///< buckets of this micro-batch sent so far
};

}  // namespace pastur
