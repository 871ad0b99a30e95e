#pragma once
// A small model on any target, its named tensors as host numbers.
#include <map>
#include <string>
#include <vector>

#include "engine/config/config.h"
#include "engine/model/batch.h"
#include "engine/model/model.h"
#include "tests/support/harness.h"

namespace pastur::test {

/// Named arrays, float64 on the host.
using NamedValues = std::map<std::string, std::vector<double>>;

/// A recipe for tests: two layers, awkward sizes. `attention` is the [attention] section's text, `model` is
/// appended to [model].
Config tiny_config(const std::string& attention, const std::string& model = "");

/// An [attention] section, and what it needs of [model]: for tiny_config.
struct VariantCase {
    std::string label, attention, model;
    std::string name() const { return label; }
};
/// Every variant with everything that changes its operations.
const std::vector<VariantCase>& every_attention();

/// A tensor of any float dtype on ctx's device, as doubles.
std::vector<double> values_of(Context& ctx, ConstTensor tensor);
void set_values(Context& ctx, Tensor tensor, const std::vector<double>& values);

class ModelUnderTest {
  public:
    ModelUnderTest(const Config& config, Context& ctx, DType dtype, const BatchShape& shape);

    Model& model() { return model_; }
    /// Master weights, and the copies computed with.
    void set_weights(const NamedValues& weights);
    NamedValues weights();
    NamedValues gradients();
    /// Weights of unit-scale activations, so that no part of the network is invisible; already rounded to
    /// `dtype`.
    NamedValues random_weights(Random& random, DType dtype) const;

    /// Mean loss; losses of each position are kept in losses().
    double forward(const TokenBatch& batch);
    /// Mean loss and its gradients.
    double forward_backward(const TokenBatch& batch, Update update = Update::kAssign);
    std::vector<double> losses() { return values_of(ctx_, device_batch_.losses()); }
    /// [N, V] of the last forward pass.
    std::vector<double> logits();

  private:
    double mean_loss();
    Context& ctx_;
    Model model_;
    DeviceBatch device_batch_;
};

TokenBatch random_batch(Random& random, const BatchShape& shape, int64_t vocab);

}  // namespace pastur::test
