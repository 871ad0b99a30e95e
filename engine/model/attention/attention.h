#pragma once
// Attention between the normalised input of a layer and the residual stream: what a variant implements.
#include <memory>
#include <string>
#include <vector>

#include "engine/config/config.h"
#include "engine/model/attention/layer_cache.h"
#include "engine/model/attention/variants.h"
#include "engine/model/batch_shape.h"
#include "engine/model/linear.h"
#include "kernels/attention/causal_attention.h"
#include "kernels/attention/decode_attention.h"
#include "kernels/base/context.h"

namespace pastur {

/// One layer's attention. A variant adds its tensors to the parameter table when built, describes their
/// memory in plan(), keeps in forward() what backward() needs, and never allocates. It makes queries, keys
/// and values; the core and the output projection, with their gradients, are in this class.
class Attention {
  public:
    virtual ~Attention() = default;
    /// Scratch is planned for xn and dout quantised as reads_quantized() says.
    virtual void plan(Context& ctx, Planner& planner, const BatchShape& shape) = 0;
    /// Whether GEMMs read xn (as x) and dout (as dy) quantised.
    LinearInputs reads_quantized() const {
        return {.x = in_proj_.reads_quantized().x, .dy = o_proj_.reads_quantized().dy};
    }
    /// out = residual + Attention(xn) [N, C]. xn [N, C] is the RMS-normalised input; rope_table as in rope.h,
    /// of VariantInfo::rope_width.
    virtual void forward(Context& ctx, Tensor out, const LinearInput& xn, ConstTensor residual,
                         ConstTensor rope_table) = 0;
    /// dxn = gradient of xn given dout [N, C] of out; the caller adds the residual's share. Weight gradients
    /// are = or += as `update` says, for all matrices but those that read xn.
    virtual void backward(Context& ctx, Tensor dxn, const LinearInput& dout, ConstTensor rope_table,
                          Update update) = 0;
    /// Gradients of the matrices that read xn, after backward(). xn must hold what forward() saw: a separate
    /// call, because the norm's backward in between may have to recompute xn.
    virtual void backward_input_weights(Context& ctx, ConstTensor xn, ConstTensor rope_table,
                                        Update update) = 0;
    /// After plan(): a line of the paths that the core runs on, then causal_attention_fallback and
    /// linear_rope_fallback where they have something to say.
    const std::string& kernels() const { return kernels_; }

    /// Every forward() from here on also raises max_logit f32 [H] (causal_attention_forward); empty: none does.
    void track_max_logit(Tensor max_logit) { max_logit_ = max_logit; }

    /// Passes from here on mask the keys of other documents; before plan(), which plans kernels for it. `documents` are
    /// filled before every pass.
    void mask_documents(const DocumentBounds& documents) { documents_ = documents; }

    /// The core's operands, as the last forward() left them: queries and keys rotated.
    AttentionInputs inputs() const {
        AttentionInputs in = core_inputs();
        in.documents = documents_;
        return in;
    }
    /// What the up-projections of keys and values read, as the last forward() left it.
    struct NamedLatent {
        const char* name;   ///< "c_kv", "c_k", "c_v"
        ConstTensor value;  ///< [N, rank]; rows may be strided
    };
    virtual std::vector<NamedLatent> latents() const { return {}; }

    // Decoding: passes of shape {1, B}, one token of each of B sequences, against a cache of the tokens before.
    /// Plans what decode() needs beyond plan(). cache: its shapes and dtype.
    virtual void plan_decode(Context& ctx, Planner& planner, const LayerCache& cache) = 0;
    /// Computes what decode() needs of the weights alone; after they are set.
    virtual void prepare_decode(Context&) {}
    /// Whether decode() decompresses the cache of one sequence after the other, up to its bound; else attention reads
    /// the cache as it is, up to the longest bound.
    virtual bool decompresses() const { return false; }
    /// forward() of one token of each sequence, which it appends to the cache. xn [B, C].
    virtual void decode(Context& ctx, Tensor out, const LinearInput& xn, ConstTensor residual,
                        const DecodeStep& step, const LayerCache& cache) = 0;
    /// Of every token of the last forward(): the numbers of each part of CacheLayout, [N, heads x width]; rows may be
    /// strided. Of a token at the end of a slot, or of a sequence, they are the numbers of the slot.
    virtual std::vector<ConstTensor> cached() const = 0;

  protected:
    /// inputs() without documents.
    virtual AttentionInputs core_inputs() const = 0;
    const DocumentBounds& documents() const { return documents_; }
    Attention(const Config& config, Parameters& params);
    /// Adds the output projection to the parameter table.
    void add_o_proj(const std::string& prefix);
    /// Plans o, its gradient and scratch, after the memory of the core's operands is planned.
    void plan_core(Context& ctx, Planner& planner, Planner::Temporaries& temporaries,
                   const BatchShape& shape);
    /// Adds to fallback() what Linear::forward_rotating() of in_proj_ has no kernel for.
    void plan_rotation(Context& ctx);
    /// out = residual + o_proj(core(inputs())). rotary: columns that the core rotates in place first.
    void forward_core(Context& ctx, Tensor out, ConstTensor residual, const RotaryColumns& rotary);
    /// Gradients of o_proj (= or +=) and of the core's operands (grads).
    void backward_core(Context& ctx, const AttentionGrads& grads, const LinearInput& dout, Update update);

    /// Operands of decode_attention: queries q [B, H, d_n + d_r], and parts of the cache: keys k and values v, and k_shared
    /// [B, S, 1, d_r], the last columns of every head's key, or empty (d_r = 0). step is {} while sizes are planned.
    DecodeInputs decode_operands(const DecodeStep& step, const Tensor& q, const Tensor& k, const Tensor& v,
                                 const Tensor& k_shared = {}) const;
    /// Writes cached() of a pass of decode() into the cache.
    void append(Context& ctx, const DecodeStep& step, const LayerCache& cache);
    /// The core's output [N, H, d_v], for decode() to write.
    Tensor core_output() const { return o_.unflatten(1, heads_, core_.v); }
    /// out = residual + o_proj(core_output()).
    void project_output(Context& ctx, Tensor out, ConstTensor residual) {
        o_proj_.forward(ctx, out, o_, residual);
    }

    /// x [N, w] as [B, T, w]; x [N, count w] as [B, T, count, w]: views.
    Tensor by_time(Tensor x) const { return x.unflatten(0, shape_.batch, shape_.time); }
    Tensor heads_of(Tensor x, int64_t count, int64_t width) const {
        return by_time(x).unflatten(2, count, width);
    }

    Parameters& params_;
    int64_t width_, heads_;  ///< C, H
    CoreWidths core_;
    float scale_;     ///< of the scores: 1 / sqrt(core_.qk)
    Linear in_proj_;  ///< reads xn
    BatchShape shape_{};
    CacheLayout cache_layout_;

  private:
    void add_kernels_line(const std::string& text);
    Linear o_proj_;
    Tensor o_;    ///< [N, H d_v]
    Tensor lse_;  ///< f32 [B, H, T]
    Tensor max_logit_;
    DocumentBounds documents_;
    Tensor do_;  ///< within one backward()
    std::string kernels_;
};

/// For VariantInfo::make.
template <typename T>
std::unique_ptr<Attention> make_attention(const Config& config, Parameters& params,
                                          const std::string& prefix) {
    return std::make_unique<T>(config, params, prefix);
}

}  // namespace pastur
