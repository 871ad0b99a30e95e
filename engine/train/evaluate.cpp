#include "engine/train/evaluate.h"

#include <algorithm>
#include <array>
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
    std::array<double, 2> sums = {0, 0};  // of the losses, and the number of targets
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
        for (size_t i = 0; i < static_cast<size_t>(counted); ++i) {
            sums[0] += losses[i];
            sums[1] += tokens.targets[i] >= 0 ? 1 : 0;
        }
    }
    const Buffer buffer = allocate(ctx, 2 * size_of(DType::kF64));
    const Tensor reduced(buffer.data(), DType::kF64, {2});
    upload(ctx, reduced, as_tensor(std::span<double>(sums)));
    comm.all_reduce_sum(ctx, reduced);
    download(ctx, as_tensor(std::span<double>(sums)), reduced);
    return Evaluation{sums[0] / sums[1], static_cast<int64_t>(sums[1])};
}

}  // namespace pastur
