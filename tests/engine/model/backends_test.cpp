// One recipe on two backends: ten steps of training on the CPU and on CUDA, both in fp32.
#include <cmath>

#include "engine/model/attention/variants.h"
#include "engine/model/recipe.h"
#include "engine/train/optimizer/optimizer.h"
#include "kernels/reduce.h"
#include "tests/support/model_harness.h"

namespace pastur::test {
namespace {

constexpr int64_t kSteps = 10;

struct Trace {
    std::vector<double> losses;
    NamedValues weights;
};

/// Ten steps from the seeded initial weights. The shapes of nano enter every tile of every kernel.
Trace ten_steps(const std::string& variant, Context& ctx) {
    const BatchShape shape{4, 128};
    const Config config = parse_config("[model]\npreset = \"nano\"\n[attention]\nvariant = \"" + variant +
                                           "\"\n[train]\nglobal_batch = 4\n[data]\nseq_len = 128\n",
                                       "backends", {});
    ModelUnderTest model(config, ctx, DType::kF32, shape);
    model.model().params().initialise(ctx, 7);
    Optimizer optimizer(config.train, model.model().params());
    optimizer.allocate(ctx);
    const Buffer buffer = allocate(ctx, size_of(DType::kF64));
    const Tensor squares(buffer.data(), DType::kF64, {1});
    Random random(11);
    Trace trace;
    for (int64_t step = 0; step < kSteps; ++step) {
        trace.losses.push_back(model.forward_backward(random_batch(random, shape, config.model.vocab)));
        sum_of_squares(ctx, squares, model.model().params().flat_grad(), Update::kAssign);
        optimizer.step(ctx, step, config.train.lr, squares);
    }
    trace.weights = model.weights();
    return trace;
}

double relative_distance(const std::vector<double>& got, const std::vector<double>& want) {
    double difference = 0, size = 0;
    for (size_t i = 0; i < want.size(); ++i) {
        difference += (got[i] - want[i]) * (got[i] - want[i]);
        size += want[i] * want[i];
    }
    return std::sqrt(difference / size);
}

class Backends : public testing::TestWithParam<std::string> {};

TEST_P(Backends, TenStepsAgree) {
    if (cuda_device_count() == 0) GTEST_SKIP() << "needs a CUDA device to compare the CPU with";
    const Trace cpu = ten_steps(GetParam(), context(Device::kCpu));
    const Trace cuda = ten_steps(GetParam(), context(Device::kCuda));
    for (int64_t step = 0; step < kSteps; ++step) {
        const auto i = static_cast<size_t>(step);
        EXPECT_NEAR(cuda.losses[i], cpu.losses[i], 1e-4 * cpu.losses[i]) << "step " << step;
    }
    for (const auto& [name, want] : cpu.weights) {
        // Adam turns a gradient below rounding into a step of either sign. That is rare, and at most lr per
        // step.
        EXPECT_LT(relative_distance(cuda.weights.at(name), want), 2e-3) << name;
    }
}

// A layer wide enough for the fused GEMMs of Hopper (linear_rope.h, linear_swiglu.h), in bf16.
TEST_P(Backends, WideLayersAgree) {
    if (cuda_device_count() == 0) GTEST_SKIP() << "needs a CUDA device to compare the CPU with";
    const BatchShape shape{2, 70};
    const Config config = parse_config(std::string("[model]\npreset = \"130m\"\nlayers = 1\nvocab = 61\n") +
                                           "[attention]\nvariant = \"" + GetParam() +
                                           "\"\n[train]\nglobal_batch = 2\n[data]\nseq_len = 70\n",
                                       "wide", {});
    Random random(5);
    const TokenBatch batch = random_batch(random, shape, config.model.vocab);
    ModelUnderTest cpu(config, context(Device::kCpu), DType::kF32, shape);
    ModelUnderTest cuda(config, context(Device::kCuda), DType::kBF16, shape);
    const NamedValues weights = cpu.random_weights(random, DType::kBF16);
    cpu.set_weights(weights);
    cuda.set_weights(weights);
    const double want = cpu.forward_backward(batch);
    EXPECT_NEAR(cuda.forward_backward(batch), want, 0.02 * want);
    const NamedValues got = cuda.gradients();
    // bf16 loses a few per cent; a head that is not rotated, or rotated twice, has an unrelated gradient.
    for (const auto& [name, gradient] : cpu.gradients())
        EXPECT_LT(relative_distance(got.at(name), gradient), 0.1) << name;
}

INSTANTIATE_TEST_SUITE_P(Model, Backends, testing::ValuesIn(variant_names()), [](const auto& info) {
    std::string name = info.param;
    for (char& c : name)
        if (c == '-') c = '_';
    return name;
});

}  // namespace
}  // namespace pastur::test
