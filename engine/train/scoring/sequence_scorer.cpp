#include "engine/train/scoring/sequence_scorer.h"

#include <algorithm>
#include <bit>
#include <numeric>

#include "engine/train/memory_plan.h"

namespace pastur {
namespace {

/// Tokens of a forward pass: enough for GEMMs to run at their rate.
constexpr int64_t kTokensOfPass[] = {4096, 32768};  // CPU, GPU
constexpr int64_t kShortest = 16;

/// Of a model that is not allocated: measuring moves a model's tensors.
int64_t bytes_of_passes(Context& ctx, Model& model) {
    const Planner planner = model.measure(ctx);
    return planner.bytes() + planner.scratch_bytes() + DeviceBatch::bytes(model.shape());
}

}  // namespace

SequenceScorer::SequenceScorer(Context& ctx, const ModelFolder& folder, Precision precision, int64_t longest)
    : ctx_(ctx), config_(folder.config()), longest_(longest) {
    folder.check_computable();
    config_.train.precision = precision;
    config_.train.recompute = Recompute::kBlock;  // needs the least memory; there is no backward pass
    dtype_ = compute_dtype(config_.train, ctx);
    weights_ = std::make_unique<Model>(config_, dtype_, BatchShape{1, 1});
    plan_memory(ctx, *weights_, nullptr).check_fits(memory_info(ctx), ctx, *weights_);
    weights_->allocate(ctx, /*with_gradients=*/false);
    folder.read_weights(ctx, weights_->params());
}

void SequenceScorer::set_separator(int32_t separator) {
    if (!config_.data.mask_documents) return;
    if (separator < 0)
        fail(
            ExitCode::kUsage,
            "the model was trained with data.mask_documents = true: give the tokenizer of the data (--tokenizer), "
            "whose EOS ends documents");
    weights_->set_separator(separator);
}

int64_t SequenceScorer::batch_of(int64_t time) const {
    return std::max<int64_t>(1, kTokensOfPass[is_cuda(ctx_)] / time);
}

/// Few different lengths, because each takes a model of its own: powers of two, and one in the middle between two.
int64_t SequenceScorer::padded(int64_t time) const {
    const auto power = static_cast<int64_t>(std::bit_ceil(static_cast<uint64_t>(std::max(time, kShortest))));
    const int64_t middle = power / 4 * 3;
    const int64_t length = time <= middle && middle > kShortest ? middle : power;
    return std::min(length, std::max(longest_, time));
}

Model& SequenceScorer::model_for(const BatchShape& shape) {
    if (model_ && model_->shape().batch == shape.batch && model_->shape().time == shape.time) return *model_;
    batch_.reset();
    model_.reset();  // frees its memory first
    held_bytes_ = 0;
    auto model = std::make_unique<Model>(config_, dtype_, shape);
    const int64_t needed = bytes_of_passes(ctx_, *model), free = memory_info(ctx_).free_bytes;
    if (needed > free)
        fail(ExitCode::kNoDevice,
             "not enough memory: {} MiB needed for {} tokens, {} MiB free; lower --seq-len", needed >> 20,
             shape.tokens(), free >> 20);
    model->allocate_sharing(ctx_, *weights_);
    batch_.emplace(ctx_, shape);
    model_ = std::move(model);
    held_bytes_ = needed;
    return *model_;
}

BatchShape SequenceScorer::fitting_shape(int64_t batch, int64_t time) {
    if (model_ && model_->shape().time == time && model_->shape().batch == batch) return {batch, time};
    // The present model's memory is freed before another one is allocated.
    const int64_t free = memory_info(ctx_).free_bytes + held_bytes_;
    for (; batch > 1; batch = (batch + 1) / 2) {
        Model model(config_, dtype_, {batch, time});
        if (bytes_of_passes(ctx_, model) <= free / 10 * 9) break;
    }
    return {batch, time};
}

void SequenceScorer::score(std::span<const ScoredSequence> sequences, const Visit& visit) {
    const auto time_of = [&](size_t i) { return padded(std::ssize(sequences[i].tokens) - 1); };
    std::vector<size_t> order(sequences.size());
    std::iota(order.begin(), order.end(), size_t{0});
    std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) {
        return sequences[a].tokens.size() > sequences[b].tokens.size();
    });
    for (size_t begin = 0, end = 0; begin < order.size(); begin = end) {
        const int64_t time = time_of(order[begin]);
        while (end < order.size() && time_of(order[end]) == time) ++end;
        score_equal(sequences, std::span(order).subspan(begin, end - begin), time, visit);
    }
}

void SequenceScorer::score_equal(std::span<const ScoredSequence> sequences, std::span<const size_t> order,
                                 int64_t time, const Visit& visit) {
    const BatchShape shape = fitting_shape(std::min(batch_of(time), std::ssize(order)), time);
    Model& model = model_for(shape);
    std::vector<float> losses(static_cast<size_t>(shape.tokens()));
    TokenBatch tokens;
    for (int64_t first = 0; first < std::ssize(order); first += shape.batch) {
        tokens.tokens.assign(losses.size(), 0);
        tokens.targets.assign(losses.size(), 0);
        const int64_t count = std::min(shape.batch, std::ssize(order) - first);
        for (int64_t b = 0; b < count; ++b) {
            const std::vector<int32_t>& from = sequences[order[static_cast<size_t>(first + b)]].tokens;
            std::copy(from.begin(), from.end() - 1, tokens.tokens.begin() + b * time);
            std::copy(from.begin() + 1, from.end(), tokens.targets.begin() + b * time);
        }
        batch_->upload(ctx_, tokens);
        model.forward(ctx_, batch_->losses(), batch_->tokens(), batch_->targets());
        download(ctx_, as_tensor(std::span(losses)), batch_->losses());
        for (int64_t b = 0; b < count; ++b) {
            const size_t i = order[static_cast<size_t>(first + b)];
            const int64_t inputs = std::ssize(sequences[i].tokens) - 1, scored = sequences[i].scored;
            visit(i, std::span(losses).subspan(static_cast<size_t>(b * time + inputs - scored),
                                               static_cast<size_t>(scored)));
        }
    }
}

}  // namespace pastur
