#include "engine/train/optimizer/gradient_sync.h"

#include <algorithm>

#include "engine/train/optimizer/optimizer_state.h"
#include "kernels/base/trace.h"
#include "kernels/fill.h"
#include "kernels/reduce.h"

namespace pastur {

void GradientSync::lay_out(const TrainConfig& config, int ranks, ParamTable& table) {
    // On a single rank without a required order the table stays unpadded, which keeps the bits of its norms.
    if (ranks > 1 || config.deterministic_comm) table.pad(GradientBuckets::quantum(ranks));
}

FlatRanges GradientSync::owned(const TrainConfig& config, int rank, int ranks, const ParamTable& table) {
    if (shards_matrices(config, ranks)) return muon_shares(table, ranks)[static_cast<size_t>(rank)];
    return shards(config, ranks) ? GradientBuckets(table, ranks).parts(rank) : FlatRanges();
}

GradientSync::GradientSync(const TrainConfig& config, Context& ctx, Comm& comm, Parameters& params)
    : ctx_(ctx),
      comm_(comm),
      params_(params),
      ordered_(config.deterministic_comm),
      wire_(dtype_of(config.comm_dtype)),
      sharded_(shards(config, comm.size()) && !shards_matrices(config, comm.size())) {
    if (idle()) return;
    buckets_.emplace(params.table(), comm.size());
    if (shards_matrices(config, comm.size()))
        matrices_.emplace(ctx, params.master_dtype(), muon_shares(params.table(), comm.size()));
    const int64_t total = params.table().total_elements();
    squares_buffer_ = allocate(ctx, total / kSumPiece * size_of(DType::kF64));
    squares_ = Tensor(squares_buffer_.data(), DType::kF64, {total / kSumPiece});
    if (!ordered_) return;
    sums_buffer_ = allocate(ctx, total / comm.size() * size_of(DType::kF32));
    int64_t offset = 0;
    for (size_t bucket = 0; bucket < buckets_->ranges().size(); ++bucket) {
        const int64_t count = buckets_->part(bucket, comm.rank()).count;
        sums_.push_back(Tensor(sums_buffer_.data() + offset, DType::kF32, {count}));
        offset += count * size_of(DType::kF32);
    }
}

int64_t GradientSync::planned_bytes(const TrainConfig& config, const ParamTable& table, int ranks,
                                    Transport transport, bool on_gpu) {
    if (ranks == 1 && !config.deterministic_comm) return 0;
    const int64_t squares = table.total_elements() / kSumPiece * size_of(DType::kF64);
    const int64_t sums =
        config.deterministic_comm ? table.total_elements() / ranks * size_of(DType::kF32) : 0;
    const int64_t copies =
        shards_matrices(config, ranks)
            ? RangeGather::planned_bytes(dtype_of(config.weights), muon_shares(table, ranks))
            : 0;
    const GradientBuckets buckets(table, ranks);
    int64_t longest = copies;
    for (const FlatRange& bucket : buckets.ranges())
        longest = std::max(longest, bucket.count * size_of(DType::kF32));
    return squares + sums + copies +
           exchange_bytes(transport, on_gpu, longest, config.deterministic_comm, dtype_of(config.comm_dtype));
}

void GradientSync::begin(int64_t micro, bool last) {
    micro_ = micro;
    last_ = last;
    sent_ = 0;
}

void GradientSync::ready(int64_t frontier) {
    if (!sends()) return;
    while (buckets_->complete(sent_, frontier)) send(sent_++);
    comm_.progress(ctx_);
}

void GradientSync::send(size_t bucket) {
    const TraceRange range("comm: send gradients");
    const Tensor gradients = slice(params_.flat_grad(), buckets_->ranges()[bucket]);
    if (ordered_)
        comm_.begin_ordered_sum(ctx_, sums_[bucket], gradients,
                                micro_ == 0 ? Update::kAssign : Update::kAccumulate, wire_);
    else if (sharded_)
        comm_.begin_reduce_scatter(ctx_, gradients, wire_);
    else
        comm_.begin_all_reduce(ctx_, gradients, wire_);
}

void GradientSync::end() {
    if (!sends()) return;
    const TraceRange range("comm: finish gradients");
    while (sent_ < buckets_->ranges().size()) send(sent_++);
    comm_.finish(ctx_);
    if (!ordered_ || !last_) return;
    for (size_t bucket = 0; bucket < sums_.size(); ++bucket)
        copy(ctx_, slice(params_.flat_grad(), buckets_->part(bucket, comm_.rank())), sums_[bucket]);
    if (!sharded_) gather(params_.flat_grad());
}

void GradientSync::gather(Tensor flat) {
    for (const FlatRange& range : buckets_->ranges())
        comm_.begin_all_gather(ctx_, as_words(slice(flat, range)));
    comm_.finish(ctx_);
}

void GradientSync::sum_of_squares(Tensor total) {
    if (idle()) return pastur::sum_of_squares(ctx_, total, params_.flat_grad(), Update::kAssign);
    const auto pieces = [&](const FlatRange& range) {
        piece_sums_of_squares(ctx_, squares_.slice(0, range.begin / kSumPiece, range.count / kSumPiece),
                              slice(params_.flat_grad(), range));
    };
    if (sharded_) {
        // Each value is nonzero on one rank only, so the sum is exact.
        fill(ctx_, squares_, 0.0f);
        for (const FlatRange& part : buckets_->parts(comm_.rank())) pieces(part);
        comm_.all_reduce_sum(ctx_, squares_);
    } else {
        pieces({0, params_.table().total_elements()});
    }
    sum(ctx_, total, squares_, Update::kAssign);
}

void GradientSync::share_weights() {
    if (!matrices_ && !sharded_) return;
    const TraceRange range("comm: share weights");
    if (matrices_)
        matrices_->run(ctx_, comm_, params_.flat_master());
    else
        gather(params_.flat_master());
    params_.refresh_compute(ctx_);
}

void GradientSync::share_gradients() {
    if (sharded_) gather(params_.flat_grad());
}

}  // namespace pastur
