// Gradients of every weight of every variant against the complex-step derivative of the reference network.
#include "tests/ref/model.h"
#include "tests/support/gradcheck.h"
#include "tests/support/model_harness.h"

namespace pastur::test {
namespace {

constexpr BatchShape kShape{2, 5};

class ModelGradient : public OpTest<VariantCase> {
  protected:
    Config config() const { return tiny_config(shape().attention, shape().model); }
    /// separator: the token that ends a document, with data.mask_documents.
    /// Tokens are random, or `tokens`.
    void expect_gradients(const Config& recipe, const std::vector<int32_t>& tokens = {},
                          int32_t separator = -1);
};

using ref::Complex;

/// Squared norms of got - want and of want.
std::pair<double, double> distance(const std::vector<double>& got, const std::vector<double>& want) {
    double error = 0, size = 0;
    for (size_t i = 0; i < want.size(); ++i) {
        error += (got[i] - want[i]) * (got[i] - want[i]);
        size += want[i] * want[i];
    }
    return {error, size};
}

Shape param_shape(ModelUnderTest& model, const std::string& name) {
    for (const Param& param : model.model().params().table().params())
        if (param.name == name) return param.shape;
    ADD_FAILURE() << "no parameter " << name;
    return {};
}

void ModelGradient::expect_gradients(const Config& recipe, const std::vector<int32_t>& tokens,
                                     int32_t separator) {
    ModelUnderTest model(recipe, ctx(), dtype(), kShape);
    model.model().set_separator(separator);
    const NamedValues weights = model.random_weights(random_, dtype());
    model.set_weights(weights);
    TokenBatch batch = random_batch(random_, kShape, recipe.model.vocab);
    if (!tokens.empty()) batch.tokens = tokens;
    const double loss = model.forward_backward(batch);
    const NamedValues gradients = model.gradients();

    std::vector<std::string> names;
    Arguments arguments;
    for (const auto& [name, values] : weights) {
        names.push_back(name);
        arguments.push_back(values);
    }
    const auto reference = [&](const ComplexArguments& values) {
        ref::Weights<Complex> named;
        for (size_t i = 0; i < names.size(); ++i) named[names[i]] = values[i];
        return ref::ReferenceModel<Complex>(recipe, named, kShape.batch, kShape.time, separator)
            .loss(batch.tokens, batch.targets);
    };
    EXPECT_NEAR(loss,
                ref::ReferenceModel<double>(recipe, weights, kShape.batch, kShape.time, separator)
                    .loss(batch.tokens, batch.targets),
                dtype() == DType::kBF16 ? 2e-2 : 1e-5);

    double error = 0, size = 0;
    for (size_t i = 0; i < names.size(); ++i) {
        if (dtype() == DType::kBF16) {
            const auto [tensor_error, tensor_size] =
                distance(gradients.at(names[i]), complex_step_gradient(reference, arguments, i));
            EXPECT_LT(std::sqrt(tensor_error / tensor_size), recipe.data.mask_documents ? 0.4 : 0.2)
                << names[i];
            error += tensor_error, size += tensor_size;
        } else {
            EXPECT_TRUE(is_gradient(gradients.at(names[i]), dtype(), param_shape(model, names[i]), reference,
                                    arguments, i, {.roundings = 8}))
                << names[i];
        }
    }
    // A single op is within 2e-2 in bf16. About thirty ops follow one another here, in a network whose random
    // weights amplify errors; in documents of one to four tokens, few terms nearly cancel. A wrong factor or a missing
    // term is far beyond all bounds.
    if (dtype() == DType::kBF16) {
        EXPECT_LT(std::sqrt(error / size), 0.1);
    }
}

TEST_P(ModelGradient, MatchesComplexStepInEveryWeight) {
    expect_gradients(config());
}

TEST_P(ModelGradient, MatchesComplexStepWithMaskedDocuments) {
    // Documents that begin inside chunks of two and three tokens, and documents of one token.
    constexpr int32_t kEnd = 3;
    Config recipe = config();
    recipe.data.mask_documents = true;
    expect_gradients(recipe, {1, kEnd, 7, 18, 5, 2, 11, 4, kEnd, kEnd}, kEnd);
}

TEST_P(ModelGradient, SecondMicroBatchIsAdded) {
    ModelUnderTest model(config(), ctx(), dtype(), kShape);
    model.set_weights(model.random_weights(random_, dtype()));
    const TokenBatch batch = random_batch(random_, kShape, 19);
    model.forward_backward(batch, Update::kAssign);
    const NamedValues once = model.gradients();
    model.forward_backward(batch, Update::kAccumulate);
    for (const auto& [name, values] : model.gradients()) {
        std::vector<double> doubled = once.at(name);
        for (double& value : doubled) value *= 2;
        EXPECT_TRUE(close_to(values, doubled, DType::kF32, Shape{static_cast<int64_t>(values.size())}))
            << name;
    }
}

INSTANTIATE_TEST_SUITE_P(Model, ModelGradient, every_target<VariantCase>(every_attention()),
                         case_name<VariantCase>);

}  // namespace
}  // namespace pastur::test
