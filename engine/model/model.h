#pragma once
// The whole network: embedding, layers, final norm, LM head.
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/model/block.h"
#include "engine/model/lm_head.h"

namespace pastur {

/// Called during a forward pass after layer `layer`, while its activations are those of this pass.
using LayerObserver = std::function<void(int64_t layer, const Block& block)>;

/// Called during backward: every matrix gradient from element `frontier` of the flat buffer on is complete.
using GradientsReady = std::function<void(int64_t frontier)>;

class Model {
  public:
    /// Builds the parameter table and takes no memory. shape: of the micro-batch of every pass.
    Model(const Config& config, DType compute_dtype, const BatchShape& shape);
    Model(const Model&) = delete;  // its parts refer to its parameters
    Model& operator=(const Model&) = delete;

    const Config& config() const { return config_; }
    const BatchShape& shape() const { return shape_; }
    const std::vector<Block>& layers() const { return blocks_; }
    Parameters& params() { return params_; }
    const Parameters& params() const { return params_; }

    /// The level of train.recompute; for "auto" kNone, until set_recompute() before allocate().
    Recompute recompute() const { return recompute_; }
    void set_recompute(Recompute level) { recompute_ = level; }

    /// Scratch of ops that run between passes on the same context; before measure() and allocate().
    void set_further_scratch(int64_t bytes) { further_scratch_ = bytes; }
    int64_t further_scratch() const { return further_scratch_; }

    /// What allocate() will take for activations, and the scratch that its ops need from ctx.
    Planner measure(Context& ctx);
    /// After measure(): a line on fp8 where it is used, one of the attention paths that run, and one for each
    /// op that runs on slower kernels than other widths would.
    std::string describe_kernels() const;
    /// Bytes of activations and temporaries, after allocate().
    int64_t allocated_bytes() const { return activations_.bytes(); }
    /// Takes the memory (parameters, activations, the context's scratch) and fills the rotary table.
    void allocate(Context& ctx, bool with_gradients);
    /// Takes memory for passes of this model's shape, and reads the weights of `owner`, a model of the same configuration
    /// that is allocated and outlives this one. There are no gradients.
    void allocate_sharing(Context& ctx, const Model& owner);

    /// For passes through the layers of another model of the same configuration, on batches of this model's shape,
    /// without its final norm and LM head: what allocate_layers() will take, and the scratch that its ops need.
    Planner measure_layers(Context& ctx);
    /// Takes the memory, and reads the weights of `owner`, which is allocated and outlives this model. The scratch of
    /// ctx must suffice.
    void allocate_layers(Context& ctx, const Model& owner);
    /// A forward pass through the layers alone. tokens i32 [N] = [B, T], on ctx's device.
    void forward_layers(Context& ctx, ConstTensor tokens, const LayerObserver& observer = {});

    /// The last layer's output [N, C], after a pass through the layers.
    Tensor output() const { return x_final_; }

    /// With data.mask_documents: the token that ends a document, before the first pass. Every pass reads from its tokens
    /// where documents begin (find_documents). A model that reads another one's weights takes the separator from it.
    void set_separator(int32_t separator) { separator_ = separator; }

    // Decoding, by a model of shape {1, B}: a token of each of B sequences. `caches`: one of each layer.
    /// What allocate_decoding() will take, and the scratch that its ops need.
    Planner measure_decoding(Context& ctx, std::span<const LayerCache> caches);
    /// Takes the memory, and reads the weights of `owner`, of the same configuration, whose values are set and which
    /// outlives this model. The scratch of ctx must suffice. Sequences have up to `time` tokens.
    void allocate_decoding(Context& ctx, const Model& owner, std::span<const LayerCache> caches,
                           int64_t time);
    /// The pass of one token of each sequence; it appends them to the caches. tokens i32 [B]. The rotary tables of
    /// `step` are this model's.
    void decode(Context& ctx, ConstTensor tokens, DecodeStep step, std::span<const LayerCache> caches);
    /// logits [B, V], in the compute dtype, of output().
    void decode_logits(Context& ctx, Tensor logits);

    /// losses f32 [N] = cross-entropy of each position. tokens, targets i32 [N] = [B, T], on ctx's device.
    void forward(Context& ctx, Tensor losses, ConstTensor tokens, ConstTensor targets);
    /// forward(), and params().grad = or += scale * gradient of sum(losses). `ready` is called after every
    /// layer's backward.
    void forward_backward(Context& ctx, Tensor losses, ConstTensor tokens, ConstTensor targets, float scale,
                          Update update, const GradientsReady& ready = {});
    /// Every forward pass from here on, recomputations included, also raises max_logits f32 [layers, heads], any
    /// strides, to the largest attention logit of each head (causal_attention_forward). Empty: none does.
    void track_max_logits(Tensor max_logits);
    /// logits [N, V] of the last forward pass, in the compute dtype.
    void logits(Context& ctx, Tensor logits);

  private:
    void plan_layers(Context& ctx, Planner& planner);
    void plan(Context& ctx, Planner& planner);
    void plan_decoding(Context& ctx, Planner& planner, std::span<const LayerCache> caches);
    void allocate_activations(Context& ctx);
    /// A table of `time` positions.
    void make_rope_table(Context& ctx, int64_t time);
    void normalise_output(Context& ctx);
    void mask_documents(Context& ctx, ConstTensor tokens);
    void forward_body(Context& ctx, ConstTensor tokens);
    /// dx [N, C]: gradient of the final norm's output.
    void backward_body(Context& ctx, Tensor dx, ConstTensor tokens, Update update,
                       const GradientsReady& ready);

    Config config_;
    BatchShape shape_;
    Recompute recompute_;
    int64_t further_scratch_ = 0;
    Parameters params_;
    GroupId embedding_{}, final_norm_{}, head_weight_{};
    std::vector<Block> blocks_;
    std::unique_ptr<LmHead> head_;

    Buffer activations_, rope_buffer_;
    Tensor rope_table_;  ///< f32 [T, rope_width]; for decoding with a row of every position
    Tensor rope_rows_;   ///< f32 [B, rope_width], within one decode()
    Tensor x_final_;     ///< [N, C]: the last layer's output
    Tensor xn_final_;    ///< [N, C]: normalised
    Tensor rstd_final_;  ///< f32 [N]
    Tensor dx_;          ///< [N, C]: gradient of the residual stream
    std::optional<int32_t> separator_;
    Tensor first_key_, query_end_;  ///< i32 [B, T] (DocumentBounds), with data.mask_documents
    SharedActivations shared_;
};

/// Trained numbers, and FLOPs of forward plus backward per token: 6 x parameters of GEMMs (with the LM head,
/// without the embedding) + causal attention 3 L H (d_qk + d_v) T. TFLOP/s and MFU count these model FLOPs
/// only; recomputation is excluded.
struct ModelSize {
    int64_t parameters;
    double flops_per_token;
    int64_t cache_bytes_per_token;  ///< of an inference cache in bf16, all layers
};
ModelSize size_of_model(const Config& config, const ParamTable& table);

/// bf16 on CUDA unless train.precision is fp32; fp32 on the CPU. Throws (kUsage) for bf16 on the CPU and
/// (kNoDevice) for fp8 on a device without GEMMs in fp8.
DType compute_dtype(const TrainConfig& config, Context& ctx);

}  // namespace pastur
