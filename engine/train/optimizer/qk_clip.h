#pragma once
// train.qk_clip: after an update, every head whose largest attention logit S of the step exceeds tau has its query and key
// weights scaled so that the same inputs would give tau (engine/model/attention/qk_clip.h says which weights).
//
// S is the largest over all micro-batches and ranks. A maximum is the same in every order, so all ranks scale the same
// heads by the same factors. Each rank does so with all weights, which it has after GradientSync::share_weights(), also with
// train.zero = 1; nothing more is exchanged than one number per head and rank.
//
// With data.packing = "pad" or "documents", S covers the queries of padding too. They see all keys of their sequence but
// reach neither loss nor gradients, so a head may be scaled although no logit of its tokens exceeds tau. The attention
// kernels raise S where they compute the softmax, and they are not given the targets that tell padding from tokens.
#include "engine/model/attention/qk_clip.h"
#include "engine/model/model.h"
#include "engine/ranks/comm.h"
#include "kernels/optimizer/stochastic_rounding.h"

namespace pastur {

class QkClip {
  public:
    /// From here on until the end of this object the model's forward passes find the largest logits. model must be
    /// allocated, and outlive it.
    QkClip(const Config& config, Context& ctx, Comm& comm, Model& model);
    ~QkClip() { model_.track_max_logits({}); }
    QkClip(const QkClip&) = delete;
    QkClip& operator=(const QkClip&) = delete;
    /// Device memory of the constructor's buffers; 0 with train.qk_clip = 0.
    static int64_t planned_bytes(const Config& config, int ranks);

    /// Forgets the largest logits; before the first micro-batch of a step.
    void begin_step();
    struct Result {
        double max_logit;      ///< over layers, heads and ranks
        int64_t heads_scaled;  ///< over layers
    };
    /// After the update of step `step`, which counts from 0; scales nothing unless `updated`. Every rank calls it. Returns
    /// when the device has finished.
    Result end_step(int64_t step, bool updated);

  private:
    /// raised_ as [layers heads, 1].
    Tensor own() const { return raised_.slice(1, 0, 1); }
    /// The largest logit of each head over all ranks, [layers, heads].
    std::vector<float> gathered();
    /// factors_ = sqrt(gamma) of each head, then gamma of each head; returns the number of heads below 1.
    int64_t upload_factors(const std::vector<float>& max_logits);
    void scale(int64_t layer, const ClippedRows& clipped, int64_t step);

    Context& ctx_;
    Comm& comm_;
    Model& model_;
    double limit_;
    int64_t layers_, heads_;
    RoundingParams rounding_;
    std::vector<ClippedRows> clipped_;
    Buffer buffer_;
    Tensor max_logits_;  ///< f32 [ranks, layers heads]
    Tensor factors_;     ///< f32 [2, layers heads]
    Tensor raised_;      ///< f32 [layers heads, kMaxLogitStride]: the model raises the first column
};

}  // namespace pastur
