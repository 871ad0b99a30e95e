#pragma once
// A model on the device for forward passes: losses, and the inputs of every layer's attention.
#include "engine/convert/stages/latent.h"
#include "engine/convert/token_sequences.h"
#include "engine/train/training_setup.h"

namespace pastur::convert {

/// A model's weights by name, wherever they are.
struct WeightSet {
    Config config;
    ReadTensor read;
};

class ForwardModel {
  public:
    /// Computes in fp32, so that a stage's change is not lost in rounding. Throws (kNoDevice) if the model does not fit.
    ForwardModel(Context& ctx, const WeightSet& weights, int64_t seq_len);

    /// Mean cross-entropy in nats.
    double loss(const TokenSequences& text);

    /// Called with the normalised inputs x of a layer's attention, a batch of rows [tokens, C].
    using VisitInputs = std::function<void(int64_t layer, const Matrix& x)>;
    void visit_inputs(const TokenSequences& text, const VisitInputs& visit);

  private:
    void normalise(Matrix& rows, int64_t layer) const;

    Context& ctx_;
    std::unique_ptr<TrainingSetup> setup_;
    std::unique_ptr<DeviceBatch> batch_;
    std::vector<std::vector<float>> gains_;  ///< of the norm before each attention
};

/// E[x x^T] [C, C] of the inputs of each layer's attention. Holds layers C^2 doubles, whatever the text.
std::vector<Matrix> input_moments(ForwardModel& model, const Config& config, const TokenSequences& text);

/// The moments of latents c = down x of each layer, and the sum over tokens of the RMS of c.
struct LatentSums {
    LatentMoments moments;
    double rms = 0, rms_squares = 0;
};
std::vector<LatentSums> latent_sums(ForwardModel& model, const std::vector<Matrix>& downs,
                                    const TokenSequences& text);

}  // namespace pastur::convert
