#pragma once
// Losses of chosen tokens of sequences of many lengths.
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "engine/model/batch.h"
#include "engine/model/model.h"
#include "engine/train/checkpoint/model_folder.h"

namespace pastur {

struct ScoredSequence {
    std::vector<int32_t>
        tokens;      ///< n + 1, n >= 1: all but the last are inputs, all but the first are targets
    int64_t scored;  ///< the number of targets to score, 1 to n: the last ones
};

/// A model that is evaluated on sequences of up to `longest` inputs. Sequences of similar lengths share a forward pass:
/// they are padded at the end, which causal attention never reads. The order of the passes depends on the lengths alone,
/// so the same sequences give the same bits.
class SequenceScorer {
  public:
    /// Reads the weights of `folder`, on ctx's device. Throws (kCorruptData) for a model that Pastur cannot compute and
    /// (kNoDevice) if it does not fit. ctx outlives the scorer.
    SequenceScorer(Context& ctx, const ModelFolder& folder, Precision precision, int64_t longest);

    /// The token that ends a document, for a model of data.mask_documents; other models ignore it. Before score() and
    /// model_for(). Throws (kUsage) where such a model gets -1.
    void set_separator(int32_t separator);

    /// losses: cross-entropy of each scored target of sequence i in nats, in its order.
    using Visit = std::function<void(size_t i, std::span<const float> losses)>;
    /// Calls visit for every sequence, by falling length. Throws (kNoDevice) if one sequence alone does not fit.
    void score(std::span<const ScoredSequence> sequences, const Visit& visit);

    /// Sequences of `time` inputs that one forward pass takes, at most.
    int64_t batch_of(int64_t time) const;
    /// The model for passes of this shape; until the next call and score().
    Model& model_for(const BatchShape& shape);
    Context& ctx() { return ctx_; }

  private:
    int64_t padded(int64_t time) const;
    void score_equal(std::span<const ScoredSequence> sequences, std::span<const size_t> order, int64_t time,
                     const Visit& visit);
    BatchShape fitting_shape(int64_t batch, int64_t time);

    Context& ctx_;
    Config config_;
    DType dtype_;
    int64_t longest_;
    std::unique_ptr<Model> weights_;  ///< owns the weights
    std::unique_ptr<Model> model_;    ///< of the last shape, reads them
    std::optional<DeviceBatch> batch_;
    int64_t held_bytes_ = 0;  ///< by model_ and batch_, without weights
};

}  // namespace pastur
