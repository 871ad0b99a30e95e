#include "engine/model/decoding/decoder.h"

#include <algorithm>

#include "kernels/fill.h"
#include "kernels/row_argmax.h"

namespace pastur {
namespace {

/// Tokens of a pass that reads prompts, unless one prompt has more: enough for GEMMs at full rate.
constexpr int64_t kPrefillTokens = 8192;

/// The same model for passes that are not trained: activations of one layer at a time.
Config config_of(const Model& weights) {
    Config config = weights.config();
    config.train.recompute = Recompute::kBlock;
    config.data.mask_documents = false;  // a prompt and what follows it are one document
    return config;
}

BatchShape prefill_shape(const DecoderShape& shape) {
    return {std::clamp<int64_t>(kPrefillTokens / shape.prompt, 1, shape.sequences), shape.prompt};
}

double to_mib(int64_t bytes) {
    return static_cast<double>(bytes) / (1 << 20);
}

}  // namespace

Decoder::Decoder(Context& ctx, const Model& weights, const DecoderShape& shape)
    : ctx_(ctx),
      shape_(shape),
      layout_(variant_of(weights.config()).cache(weights.config())),
      prefill_(config_of(weights), weights.params().compute_dtype(), prefill_shape(shape)),
      step_(config_of(weights), weights.params().compute_dtype(), {1, shape.sequences}),
      lengths_(static_cast<size_t>(shape.sequences)),
      host_(static_cast<size_t>(4 * shape.sequences)) {
    PASTUR_CHECK(shape.sequences >= 1 && shape.prompt >= 1 && shape.tokens >= shape.prompt,
                 "decoder of {} sequences of {} tokens, prompts of {}", shape.sequences, shape.tokens,
                 shape.prompt);
    const DType dtype = weights.params().compute_dtype();
    Planner cache;
    plan_caches(cache);
    const Planner prefill = prefill_.measure_layers(ctx), step = step_.measure_decoding(ctx, caches_);
    const int64_t sequences = shape.sequences,
                  scratch = std::max(prefill.scratch_bytes(), step.scratch_bytes());
    const auto plan = [&](Planner& planner) {
        prompt_tokens_ = planner.keep(DType::kI32, {prefill_.shape().tokens()});
        const Tensor steps = planner.keep(DType::kI32, {4, sequences});
        const auto row = [&](int64_t i) {
            return Tensor(steps.bytes() + i * sequences * size_of(DType::kI32), DType::kI32, {sequences});
        };
        tokens_ = row(0), positions_ = row(1), slots_ = row(2), counts_ = row(3);
        best_ = planner.keep(DType::kI32, {sequences});
        logits_ = planner.keep(dtype, {sequences, vocab()});
        if (dtype != DType::kF32) wide_ = planner.keep(DType::kF32, {sequences, vocab()});
    };
    Planner other;
    plan(other);
    working_bytes_ = prefill.bytes() + step.bytes() + scratch + other.bytes();
    const MemoryInfo memory = memory_info(ctx);
    if (cache.bytes() + working_bytes_ > memory.free_bytes)
        fail(
            ExitCode::kNoDevice,
            "not enough memory: {:.0f} MiB needed ({:.0f} of them for the cache of {} sequences of {} tokens), "
            "{:.0f} MiB free; lower the number or the length of the sequences",
            to_mib(cache.bytes() + working_bytes_), to_mib(cache.bytes()), sequences, shape.tokens,
            to_mib(memory.free_bytes));
    reserve_scratch(ctx, scratch);
    cache_buffer_ = allocate(ctx, cache.bytes());
    Planner carving_cache(cache_buffer_, cache);
    plan_caches(carving_cache);
    // Latents that are decompressed in whole blocks include slots that hold no token yet.
    fill(ctx, Tensor(cache_buffer_.data(), dtype, {cache_buffer_.bytes() / size_of(dtype)}), 0.0f);
    buffer_ = allocate(ctx, other.bytes());
    Planner carving(buffer_, other);
    plan(carving);
    prefill_.allocate_layers(ctx, weights);
    step_.allocate_decoding(ctx, weights, caches_, shape.tokens);
    if (weights.config().train.cuda_graph) captured_ = make_captured_work(ctx);
}

void Decoder::plan_caches(Planner& planner) {
    const Config& config = step_.config();
    caches_.clear();
    for (int64_t layer = 0; layer < config.model.layers; ++layer) {
        LayerCache& cache = caches_.emplace_back();
        for (const CachePart& part : layout_.parts)
            cache.parts.push_back(
                planner.keep(step_.params().compute_dtype(),
                             {shape_.sequences, layout_.slots(shape_.tokens), part.heads, part.width}));
    }
}

void Decoder::prefill(std::span<const std::vector<int32_t>> prompts) {
    PASTUR_CHECK(static_cast<int64_t>(prompts.size()) == shape_.sequences, "{} prompts, expected {}",
                 prompts.size(), shape_.sequences);
    for (int64_t first = 0; first < shape_.sequences; first += prefill_.shape().batch)
        prefill_batch(prompts, first);
    finished_.assign(lengths_.size(), false);
    step_.decode_logits(ctx_, logits_);
}

/// Prompts are padded at their ends, where causal attention lets no token of them see the padding.
void Decoder::prefill_batch(std::span<const std::vector<int32_t>> prompts, int64_t first) {
    const auto [batch, time] = prefill_.shape();
    const int64_t count = std::min(batch, shape_.sequences - first);
    std::vector<int32_t> tokens(static_cast<size_t>(batch * time));
    for (int64_t i = 0; i < count; ++i) {
        const std::vector<int32_t>& prompt = prompts[static_cast<size_t>(first + i)];
        const auto length = static_cast<int64_t>(prompt.size());
        PASTUR_CHECK(length >= 1 && length <= time, "a prompt of {} tokens, expected 1 to {}", length, time);
        std::copy(prompt.begin(), prompt.end(), tokens.begin() + i * time);
        lengths_[static_cast<size_t>(first + i)] = length;
    }
    upload(ctx_, prompt_tokens_, as_tensor(std::span(tokens)));
    prefill_.forward_layers(ctx_, prompt_tokens_, [&](int64_t layer, const Block& block) {
        for (int64_t i = 0; i < count; ++i)
            store(block.attention(), caches_[static_cast<size_t>(layer)], i, first + i, length(first + i));
    });
    for (int64_t i = 0; i < count; ++i)
        copy(ctx_, step_.output().slice(0, first + i, 1),
             prefill_.output().slice(0, i * time + length(first + i) - 1, 1));
}

void Decoder::store(const Attention& attention, LayerCache& cache, int64_t from, int64_t to, int64_t length) {
    const int64_t stride = layout_.stride, full = length / stride, time = prefill_.shape().time;
    const std::vector<ConstTensor> parts = attention.cached();
    for (size_t i = 0; i < parts.size(); ++i) {
        const ConstTensor rows = parts[i].slice(0, from * time, length);
        const Tensor part = cache.parts[i];
        const Tensor slots = part.slice(0, to, 1).reshape({part.size(1), part.size(2) * part.size(3)});
        if (full > 0) {
            const ConstTensor last = rows.slice(0, stride - 1, 1);  // of the first slot
            copy(ctx_, slots.slice(0, 0, full),
                 ConstTensor(last.bytes(), rows.dtype(), {full, rows.size(1)}, {stride * rows.stride(0), 1}));
        }
        if (length % stride != 0) copy(ctx_, slots.slice(0, full, 1), rows.slice(0, length - 1, 1));
    }
}

void Decoder::step(std::span<const int32_t> tokens) {
    const int64_t sequences = shape_.sequences;
    PASTUR_CHECK(static_cast<int64_t>(tokens.size()) == sequences, "{} tokens, expected {}", tokens.size(),
                 sequences);
    const std::span<int32_t> rows = host_;
    const auto row = [&](int64_t i) {
        return rows.subspan(static_cast<size_t>(i * sequences), static_cast<size_t>(sequences));
    };
    for (size_t b = 0; b < tokens.size(); ++b) {
        PASTUR_CHECK(!finished_[b] || tokens[b] == kFinished, "sequence {} is finished", b);
        // A finished sequence spoils its last slot again and again, so its passes stay within its part of the cache.
        const bool finished = finished_[b] = tokens[b] == kFinished;
        const int64_t position = finished ? lengths_[b] - 1 : lengths_[b]++;
        PASTUR_CHECK(position < shape_.tokens, "sequence {} has {} tokens and no room for another", b,
                     position);
        row(0)[b] = finished ? 0 : tokens[b];
        row(1)[b] = static_cast<int32_t>(position);
        row(2)[b] = static_cast<int32_t>(position / layout_.stride);
        row(3)[b] = row(2)[b] + 1;
    }
    upload(ctx_, Tensor(tokens_.bytes(), DType::kI32, {4 * sequences}),
           as_tensor(std::span<const int32_t>(host_)));
    bound(row(3));
    const auto pass = [&] {
        step_.decode(ctx_, tokens_,
                     {.positions = positions_,
                      .slots = slots_,
                      .lengths = counts_,
                      .bounds = bounds_,
                      .longest = *std::max_element(bounds_.begin(), bounds_.end())},
                     caches_);
        step_.decode_logits(ctx_, logits_);
    };
    if (captured_)
        captured_->run(0, pass);
    else
        pass();
}

/// Bounds are whole splits of CUDA's attention, so a pass has the same shapes as the one before except once in
/// kDecodeSplit slots, and the unused part of the last split costs nothing.
void Decoder::bound(std::span<const int32_t> lengths) {
    const int64_t slots = layout_.slots(shape_.tokens);
    std::vector<int32_t> bounds;
    for (const int32_t length : lengths) {
        const int64_t whole = (length + kDecodeSplit - 1) / kDecodeSplit * kDecodeSplit;
        bounds.push_back(static_cast<int32_t>(std::min(whole, slots)));
    }
    // Where only the longest counts, the others must not change the shapes of a captured pass.
    if (!step_.layers().front().attention().decompresses())
        std::fill(bounds.begin(), bounds.end(), *std::max_element(bounds.begin(), bounds.end()));
    if (bounds == bounds_) return;
    bounds_ = std::move(bounds);
    if (captured_) captured_->forget();
}

std::span<const float> Decoder::read_logits() {
    if (wide_.empty() && !is_cuda(ctx_)) return {logits_.data<float>(), static_cast<size_t>(logits_.numel())};
    host_logits_.resize(static_cast<size_t>(logits_.numel()));
    if (!wide_.empty()) cast(ctx_, wide_, logits_);
    download(ctx_, as_tensor(std::span(host_logits_)).reshape(logits_.shape()),
             wide_.empty() ? logits_ : wide_);
    return host_logits_;
}

std::span<const int32_t> Decoder::most_probable(int64_t vocab) {
    row_argmax(ctx_, best_, logits_.slice(1, 0, vocab));
    host_best_.resize(static_cast<size_t>(shape_.sequences));
    download(ctx_, as_tensor(std::span(host_best_)), best_);
    return host_best_;
}

CacheUse Decoder::cache_use() const {
    CacheUse use{.allocated = cache_buffer_.bytes(), .room = shape_.sequences * shape_.tokens};
    for (const int64_t length : lengths_) {
        use.tokens += length;
        for (const LayerCache& cache : caches_)
            for (const Tensor& part : cache.parts)
                use.used += layout_.slots(length) * part.stride(1) * size_of(part.dtype());
    }
    return use;
}

}  // namespace pastur
