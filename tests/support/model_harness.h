#pragma once
// A small model on any target, with its named tensors as numbers on the host.
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

/// A recipe for tests with two layers and awkward sizes. `attention` is the text of the [attention] section,
/// `model` is appended to [model].
Config tiny_config(const std::string& attention, const std::string& model = "");

/// Arguments of tiny_config: an [attention] section, and the keys of [model] that it needs.
struct VariantCase {
    std::string label, attention, model;
    std::string name() const { return label; }
};
/// Every variant with every setting that changes its operations, in awkward sizes.
const std::vector<VariantCase>& every_attention();
/// Every variant of the table with its default sizes, then `more`.
std::vector<VariantCase> every_variant(std::vector<VariantCase> more = {});

/// A tensor of any float dtype on ctx's device, as doubles.
std::vector<double> values_of(Context& ctx, ConstTensor tensor);
void set_values(Context& ctx, Tensor tensor, const std::vector<double>& values);

class ModelUnderTest {
  public:
    ModelUnderTest(const Config& config, Context& ctx, DType dtype, const BatchShape& shape);

    Model& model() { return model_; }
    /// Sets the master weights and the copies that kernels read.
    void set_weights(const NamedValues& weights);
    NamedValues weights();
    NamedValues gradients();
    /// Weights that give activations of unit scale, so every part of the network affects the loss; they are
    /// already rounded to `dtype`.
    NamedValues random_weights(Random& random, DType dtype) const;

    /// Returns the mean loss; losses() then returns those of all positions.
    double forward(const TokenBatch& batch);
    /// Returns the mean loss and computes its gradients.
    double forward_backward(const TokenBatch& batch, Update update = Update::kAssign);
    std::vector<double> losses() { return values_of(ctx_, device_batch_.losses()); }
    /// The logits [N, V] of the last forward pass.
    std::vector<double> logits();

  private:
    double mean_loss();
    Context& ctx_;
    Model model_;
    DeviceBatch device_batch_;
};

TokenBatch random_batch(Random& random, const BatchShape& shape, int64_t vocab);

}  // namespace pastur::test
