#include "engine/train/evaluate.h"

#include <algorithm>
#include <cmath>
#include <exception>

#include "engine/train/data_failure.h"

namespace pastur {

double Evaluation::perplexity() const {
    return std::exp(loss);
}

std::optional<Evaluation> evaluate(Context& ctx, Comm& comm, Model& model, DeviceBatch& batch,
                                   const TokenLoader& data, int64_t max_tokens,
                                   const std::function<bool()>& give_up) {
    int64_t sequences = data.sequences();
    if (max_tokens > 0) sequences = std::clamp<int64_t>(max_tokens / model.shape().time, 1, sequences);
    const ReadSequence read = [&](int64_t i, std::span<int32_t> out) { data.sequence(i, out); };
    return evaluate(ctx, comm, model, batch, read, sequences, give_up);
}

std::optional<Evaluation> evaluate(Context& ctx, Comm& comm, Model& model, DeviceBatch& batch,
                                   const ReadSequence& read_one, int64_t sequences,
                                   const std::function<bool()>& give_up) {
    const BatchShape& shape = model.shape();
    std::vector<float> losses(static_cast<size_t>(shape.tokens()));
    double total = 0;
    // The last batch is filled with copies of the last sequence, which are not counted.
    const ReadSequence read = [&](int64_t i, std::span<int32_t> out) {
        read_one(std::min(i, sequences - 1), out);
    };
    for (int64_t round = 0; round < sequences; round += comm.size() * shape.batch) {
        const int64_t first = round + comm.rank() * shape.batch;
        TokenBatch tokens;
        std::exception_ptr failure;
        try {
            if (first < sequences) tokens = read_batch(read, first, shape);
        } catch (...) {
            failure = std::current_exception();
        }
        const int status = comm.all_reduce_max(failure ? failure_status(failure) : give_up());
        if (status > 1) fail_data(status, failure);
        if (status == 1) return std::nullopt;
        if (first >= sequences) continue;
        batch.upload(ctx, tokens);
        model.forward(ctx, batch.losses(), batch.tokens(), batch.targets());
        download(ctx, as_tensor(std::span(losses)), batch.losses());
        const int64_t counted = std::min(shape.batch, sequences - first) * shape.time;
        for (int64_t i = 0; i < counted; ++i) total += losses[static_cast<size_t>(i)];
    }
    const Buffer buffer = allocate(ctx, size_of(DType::kF64));
    const Tensor sum(buffer.data(), DType::kF64, {1});
    upload(ctx, sum, as_tensor(std::span(&total, 1)));
    comm.all_reduce_sum(ctx, sum);
    download(ctx, as_tensor(std::span(&total, 1)), sum);
    const int64_t tokens = data.sequence_targets(0, sequences);
    return Evaluation{total / static_cast<double>(tokens), tokens};
}

}  // namespace pastur
