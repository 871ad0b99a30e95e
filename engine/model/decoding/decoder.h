#pragma once
// Generation with a cache: prompts are read by the ordinary forward pass, then every sequence grows by a token at a
// time, whose pass reads the cache instead of the tokens before.
#include <span>
#include <vector>

#include "engine/model/model.h"
#include "kernels/base/captured_work.h"

namespace pastur {

struct DecoderShape {
    int64_t sequences;  ///< B
    int64_t prompt;     ///< most tokens of a prompt
    int64_t tokens;     ///< most tokens of a sequence, with its prompt; at least `prompt`
};

/// Bytes of the cache.
struct CacheUse {
    int64_t allocated = 0;         ///< one buffer, for `tokens` tokens of every sequence
    int64_t used = 0;              ///< in slots that hold tokens
    int64_t tokens = 0, room = 0;  ///< in the cache, of all sequences; that it has memory for
    double used_per_token() const { return static_cast<double>(used) / static_cast<double>(tokens); }
    double allocated_per_token() const { return static_cast<double>(allocated) / static_cast<double>(room); }
};

class Decoder {
  public:
    /// For step(): the sequence gets no token, in this and all further steps.
    static constexpr int32_t kFinished = -1;

    /// Plans all memory, throws (kNoDevice) with the numbers if it does not fit, and takes it. weights: the values are
    /// set; it outlives this object.
    Decoder(Context& ctx, const Model& weights, const DecoderShape& shape);
    Decoder(const Decoder&) = delete;
    Decoder& operator=(const Decoder&) = delete;

    /// Begins B sequences anew with these prompts, of 1 to shape().prompt tokens each. logits() are then those of the
    /// tokens that follow the prompts.
    void prefill(std::span<const std::vector<int32_t>> prompts);
    /// Appends tokens[b] to sequence b, which has room for it, unless it is kFinished. logits() are then those of the
    /// tokens that follow; of a finished sequence they mean nothing.
    void step(std::span<const int32_t> tokens);

    const DecoderShape& shape() const { return shape_; }
    int64_t vocab() const { return step_.config().model.vocab; }
    /// Tokens of sequence b so far.
    int64_t length(int64_t b) const { return lengths_[static_cast<size_t>(b)]; }
    /// [B, V] in the compute dtype, on the device.
    ConstTensor logits() const { return logits_; }
    /// The logits as fp32 in host memory, [B, V] row by row, valid until the next call of any function.
    std::span<const float> read_logits();
    /// The most probable id of each sequence, below `vocab`; the lowest of equal ones. -1 for a sequence whose logits are
    /// not finite. Valid until the next call of any function.
    std::span<const int32_t> most_probable(int64_t vocab);
    /// Waits for the device.
    void synchronize() { pastur::synchronize(ctx_); }
    CacheUse cache_use() const;
    /// step()s that replayed a CUDA graph, which happens unless train.cuda_graph = false.
    int64_t replays() const { return captured_ ? captured_->replays() : 0; }
    /// Bytes of parameters that a pass reads in the compute dtype, and of everything else that the decoder took.
    int64_t working_bytes() const { return working_bytes_; }

  private:
    void plan_caches(Planner& planner);
    void prefill_batch(std::span<const std::vector<int32_t>> prompts, int64_t first);
    /// Sets bounds_ for these lengths in slots.
    void bound(std::span<const int32_t> lengths);
    /// Copies what the cache holds of one sequence of the last prefill pass.
    void store(const Attention& attention, LayerCache& cache, int64_t from, int64_t to, int64_t length);

    Context& ctx_;
    DecoderShape shape_;
    CacheLayout layout_;
    Model prefill_, step_;
    std::vector<LayerCache> caches_;
    std::vector<int64_t> lengths_;
    std::vector<bool> finished_;
    Buffer cache_buffer_, buffer_;
    int64_t working_bytes_ = 0;
    Tensor prompt_tokens_;                        ///< i32 [prefill's N]
    Tensor tokens_, positions_, slots_, counts_;  ///< i32 [B] each, one block of memory
    Tensor logits_;                               ///< [B, V]
    Tensor wide_;                                 ///< f32 [B, V] if the compute dtype is another; else empty
    Tensor best_;                                 ///< i32 [B]
    std::vector<float> host_logits_;
    std::vector<int32_t> host_best_;
    std::vector<int32_t> host_;    ///< [4, B]: tokens, positions, slots, counts
    std::vector<int32_t> bounds_;  ///< [B]: DecodeStep::bounds
    /// Declared last, so graphs are destroyed before the buffers they use; null: train.cuda_graph = false.
    std::unique_ptr<CapturedWork> captured_;
};

}  // namespace pastur
