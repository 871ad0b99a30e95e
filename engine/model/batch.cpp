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
        std::copy_n(sequence.begin(), shape.time, batch.tokens.begin() + b * shape.time);
        std::copy_n(sequence.begin() + 1, shape.time, batch.targets.begin() + b * shape.time);
    }
    return batch;
}

BatchStream::BatchStream(ReadSequence read, int64_t first, const BatchShape& shape)
    : read_(std::move(read)), next_(first), shape_(shape) {
    prefetch();
}

void BatchStream::prefetch() {
    pending_ =
        std::async(std::launch::async, [this, first = next_] { return read_batch(read_, first, shape_); });
    next_ += shape_.batch;
}

TokenBatch BatchStream::next() {
    TokenBatch batch = pending_.get();
    prefetch();
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
