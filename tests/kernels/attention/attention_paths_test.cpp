// Which path runs: the table of kernels/cuda/attention/paths.cu. Other tests run every path on every shape
// that it takes.
#include <set>

#include "kernels/fp8.h"
#include "tests/kernels/attention/attention_case.h"

namespace pastur::test {
namespace {

using Names = std::vector<std::string>;

TEST(AttentionPaths, ACpuHasOne) {
    const AttentionShape shape{1, 5, 2, 2, 64, 0, 64};
    const AttentionPaths paths = paths_of(context(Device::kCpu), shape, DType::kF32);
    EXPECT_EQ(paths.forward, Names{"cpu"});
    EXPECT_EQ(paths.backward, Names{"cpu"});
}

/// The table as Hopper sees it: other GPUs lack wgmma, or the shared memory for a whole head.
class HopperAttentionPaths : public ::testing::Test {
  protected:
    void SetUp() override {
        if (cuda_device_count() == 0) GTEST_SKIP() << "no CUDA device";
        if (!has_fp8(context(Device::kCuda))) GTEST_SKIP() << "not a Hopper GPU";
    }
    AttentionPaths of(const AttentionShape& shape, DType dtype = DType::kBF16) const {
        return paths_of(context(Device::kCuda), shape, dtype);
    }
};

TEST_F(HopperAttentionPaths, TheBestComesFirst) {
    const Names all = {"wgmma-resident", "mma-resident", "wgmma-streaming", "mma-streaming", "simt"};
    const Names streaming = {"wgmma-streaming", "mma-streaming", "simt"};
    const auto expect = [&](const AttentionShape& shape, const Names& forward, const Names& backward) {
        EXPECT_EQ(of(shape).forward, forward) << shape.name();
        EXPECT_EQ(of(shape).backward, backward) << shape.name();
    };
    expect({2, 256, 4, 4, 32, 32, 64, Packing::kLatent}, all, all);
    expect({2, 193, 4, 4, 64, 0, 64, Packing::kFused}, all, all);
    expect({2, 192, 4, 4, 64, 0, 64, Packing::kFused}, all,
           {"mma-resident", "wgmma-streaming", "mma-streaming", "simt"});
    expect({2, 128, 4, 4, 64, 0, 64}, {"wgmma-resident", "wgmma-streaming", "mma-streaming", "simt"},
           {"mma-resident", "wgmma-streaming", "mma-streaming", "simt"});
    expect({2, 256, 4, 2, 64, 0, 64}, all, streaming);  // grouped queries
    expect({2, 257, 4, 4, 64, 0, 64}, streaming, streaming);
    expect({2, 257, 4, 4, 128, 64, 128}, streaming, streaming);
    expect({2, 100, 4, 4, 80, 0, 80}, {"mma-streaming", "simt"}, {"mma-streaming", "simt"});
    expect({2, 100, 4, 4, 20, 0, 20}, {"simt"}, {"simt"});
    expect({2, 100, 4, 4, 320, 0, 64}, {"simt"}, {"simt"});
    EXPECT_EQ(of({2, 256, 4, 4, 64, 0, 64}, DType::kF32).forward, Names{"simt"});
    // Strides: the kernels of Hopper have them for heads of 32+32/64.
    const Names slower = {"mma-streaming", "simt"};
    expect({2, 256, 4, 4, 32, 32, 64, Packing::kLatent, 1, 2}, all, all);
    expect({2, 257, 4, 4, 32, 32, 64, Packing::kLatent, 1, 2}, streaming, streaming);
    expect({2, 256, 4, 4, 64, 0, 64, Packing::kFused, 1, 2}, slower, slower);
    expect({2, 257, 4, 4, 64, 32, 64, Packing::kLatent, 1, 2}, slower, slower);
    // Documents: all paths, with strides where a path takes one.
    expect({2, 256, 4, 4, 64, 0, 64, Packing::kFused, 1, 1, {100}}, all, all);
    expect({2, 257, 4, 4, 128, 64, 128, Packing::kLatent, 1, 1, {100}}, streaming, streaming);
    expect({2, 257, 4, 4, 32, 32, 64, Packing::kLatent, 1, 2, {100}}, streaming, streaming);
    expect({2, 257, 4, 4, 64, 32, 64, Packing::kLatent, 1, 2, {100}}, slower, slower);
}

TEST_F(HopperAttentionPaths, TestsEnterEveryOne) {
    std::set<std::string> forward, backward;
    for (const AttentionShape& shape : kAttentionShapes) {
        const AttentionPaths paths = of(shape);
        forward.insert(paths.forward.begin(), paths.forward.end());
        backward.insert(paths.backward.begin(), paths.backward.end());
    }
    const Names names = {"mma-resident", "mma-streaming", "simt", "wgmma-resident", "wgmma-streaming"};
    EXPECT_EQ(Names(forward.begin(), forward.end()), names);
    EXPECT_EQ(Names(backward.begin(), backward.end()), names);
}

/// Names that are unknown, or of a path that does not take the inputs.
class NamedPath : public OpTest<AttentionShape> {};

TEST_P(NamedPath, IsRejectedWhereItDoesNotTakeTheInputs) {
    const AttentionShape& n = shape();
    const auto numbers = [](const Layout& layout) {
        return std::vector<double>(static_cast<size_t>(layout.shape.numel()));
    };
    const auto q = input(numbers(n.q()), n.q()), k = input(numbers(n.k()), n.k());
    const auto v = input(numbers(n.v()), n.v());
    const auto out = output({n.batch, n.time, n.heads, n.value});
    const auto lse = output({n.batch, n.heads, n.time}, DType::kF32);
    AttentionInputs in{q, k, {}, v, 1};
    const AttentionPaths paths = causal_attention_paths(ctx(), in);
    EXPECT_EQ(causal_attention_kernels(ctx(), in), "attention: " + paths.forward.front());
    for (const char* name : {"wgmma-resident", "nothing"}) {
        in.path = name;
        EXPECT_THROW(causal_attention_forward(ctx(), out, lse, in), Error);
        EXPECT_THROW(causal_attention_backward(ctx(), {q, k, {}, v}, out, out, lse, in), Error);
    }
    in.path = paths.forward.back();
    EXPECT_NO_THROW(causal_attention_forward(ctx(), out, lse, in));
}

const std::vector<AttentionShape> kNamed = {{1, 300, 2, 2, 64, 0, 64}, {1, 9, 2, 2, 20, 0, 20}};
INSTANTIATE_TEST_SUITE_P(Ops, NamedPath, every_target(kNamed), case_name<AttentionShape>);

}  // namespace
}  // namespace pastur::test
