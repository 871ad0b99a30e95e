#include "engine/model/batch.h"

#include <algorithm>

namespace pastur {

TokenBatch read_batch(const ReadSequence& read, int64_t first, const BatchShape& shape) {
    TokenBatch batch;
    batch.tokens.resize(static_cast<size_t>(shape.tokens()));
    batch.targets.resize(batch.tokens.size());
    std::vector<int32_t> sequence(static_cast<size_t>(shape.time + 1));
    for (int64_t b = 0; b < shape.batch; ++b) {
        read(first + b, sequence);
        std::transform(sequence.begin(), sequence.end() - 1, batch.tokens.begin() + b * shape.time,
                       [](int32_t id) { return std::max(id, 0); });
        std::copy_n(sequence.begin() + 1, shape.time, batch.targets.begin() + b * shape.time);
    }
    return batch;
}

BatchStream::BatchStream(ReadSequence read, int64_t first, int64_t batches, const BatchShape& shape)
    : read_(std::move(read)), next_(first), batches_(batches), shape_(shape) {
    prefetch();
}

BatchStream::Step BatchStream::read_step(int64_t first) const {
    Step step;
    try {
        for (int64_t i = 0; i < batches_; ++i)
            step.batches.push_back(read_batch(read_, first + i * shape_.batch, shape_));
        std::reverse(step.batches.begin(), step.batches.end());
    } catch (...) {
        step.failure = std::current_exception();
    }
    return step;
}

void BatchStream::prefetch() {
    pending_ = std::async(std::launch::async, [this, first = next_] { return read_step(first); });
    next_ += batches_ * shape_.batch;
}

std::exception_ptr BatchStream::failure() {
    if (!next_step_) next_step_ = pending_.get();
    return next_step_->failure;
}

TokenBatch BatchStream::next() {
    if (step_.empty()) {
        if (const std::exception_ptr failed = failure()) std::rethrow_exception(failed);
        step_ = std::move(next_step_->batches);
        next_step_.reset();
        prefetch();
    }
    TokenBatch batch = std::move(step_.back());
    step_.pop_back();
    return batch;
}

DeviceBatch::DeviceBatch(Context& ctx, const BatchShape& shape) : buffer_(allocate(ctx, bytes(shape))) {
    std::byte* data = buffer_.data();
    for (Tensor* ids : {&tokens_, &targets_}) {
        *ids = Tensor(data, DType::kI32, {shape.tokens()});
        data += align_up(ids->nbytes());
    }
    losses_ = Tensor(data, DType::kF32, {shape.tokens()});
}

void DeviceBatch::upload(Context& ctx, const TokenBatch& batch) {
    pastur::upload(ctx, tokens_, as_tensor(std::span(batch.tokens)));
    pastur::upload(ctx, targets_, as_tensor(std::span(batch.targets)));
}

}  // namespace pastur
