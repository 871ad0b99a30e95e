#include "kernels/attention/cache_append.h"

#include "tests/ref/vector.h"
#include "tests/support/harness.h"
#include "tests/support/host_tensors.h"

namespace pastur::test {
namespace {

struct AppendShape {
    int64_t batch, slots, width, stride;
    bool summed;
    int64_t around = 0;  ///< columns around the rows of x
    std::string name() const {
        return fmt::format("B{}_S{}_W{}_s{}{}{}", batch, slots, width, stride, summed ? "_summed" : "",
                           around ? "_around" : "");
    }
};

const std::vector<AppendShape> kShapes = {
    {1, 1, 1, 1, false},  {3, 5, 7, 1, false},  {2, 4, 64, 1, false, 8}, {4, 3, 33, 3, true, 5},
    {4, 3, 16, 3, false}, {3, 2, 520, 2, true}, {5, 2, 1024, 4, true},   {70, 2, 3, 2, true},
};

class CacheAppend : public OpTest<AppendShape> {
  protected:
    const int64_t batch_ = shape().batch, slots_ = shape().slots, width_ = shape().width;
    const std::vector<double> cache_ = normal(batch_ * slots_ * width_), x_ = normal(batch_ * width_);
};

TEST_P(CacheAppend, WritesOrAddsTheRowOfThePosition) {
    // Every position once per sequence, each sequence at another one.
    for (int64_t step = 0; step < slots_ * shape().stride; ++step) {
        std::vector<int32_t> positions;
        std::vector<double> want(cache_);
        for (int64_t b = 0; b < batch_; ++b) {
            const int64_t position = (step + b) % (slots_ * shape().stride);
            positions.push_back(static_cast<int32_t>(position));
            for (int64_t i = 0; i < width_; ++i) {
                double& to = ref::at(want, (b * slots_ + position / shape().stride) * width_ + i);
                const bool adds = shape().summed && position % shape().stride != 0;
                to = rounded((adds ? to : 0) + ref::at(x_, b * width_ + i), dtype());
            }
        }
        const auto cache = in_out(cache_, Layout{batch_, slots_, width_});
        const auto x = input(x_, columns({batch_, width_}, shape().around, shape().around));
        const auto device_positions = input(positions);
        cache_append(ctx(), cache, x, device_positions, shape().stride, shape().summed);
        EXPECT_TRUE(same_values(cache, want)) << "step " << step;
    }
}

INSTANTIATE_TEST_SUITE_P(Ops, CacheAppend, every_target(kShapes), case_name<AppendShape>);

TEST(CacheAppendFront, RejectsWhatDoesNotFit) {
    Context& ctx = context(Device::kCpu);
    HostTensors tensor;
    const Tensor cache = tensor({2, 3, 4}), x = tensor({2, 4}), positions = tensor({2}, DType::kI32);
    EXPECT_THROW(cache_append(ctx, cache, tensor({2, 5}), positions, 1, false), Error);
    EXPECT_THROW(cache_append(ctx, cache, tensor({1, 4}), positions, 1, false), Error);
    EXPECT_THROW(cache_append(ctx, cache, x, tensor({2}), 1, false), Error);
    EXPECT_THROW(cache_append(ctx, cache, x, tensor({3}, DType::kI32), 1, false), Error);
    EXPECT_THROW(cache_append(ctx, cache, x, positions, 0, false), Error);
    EXPECT_THROW(cache_append(ctx, tensor({2, 3, 4}, DType::kBF16), x, positions, 1, false), Error);
}

}  // namespace
}  // namespace pastur::test
