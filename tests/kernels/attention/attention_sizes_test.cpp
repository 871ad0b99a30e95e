// Attention where a device takes more than one round: more heads than it works on at a time, and sequences of
// many tiles.
#include "kernels/attention/causal_attention.h"
#include "kernels/fp8.h"
#include "tests/kernels/attention/attention_shape.h"
#include "tests/ref/causal_attention.h"

namespace pastur::test {
namespace {

/// Both passes, on any context.
class BothPasses : public OpTest<AttentionShape> {
  protected:
    /// out, lse, dq, dk, dv and, where keys are partly shared, dk_shared of sequences [first, first + count).
    /// dk_shared depends on their number, which decides how many partial sums over heads it has. A pass that
    /// `path` does not take runs on its best path.
    std::vector<std::vector<double>> run(Context& on, DType type, int64_t first, int64_t count,
                                         const std::string& path) const {
        AttentionShape n = shape();
        n.batch = count;
        const auto tensor = [&](const Layout& layout, Role role, const std::vector<double>* all = nullptr) {
            std::vector<double> values;
            if (all) {
                const auto size = static_cast<int64_t>(all->size()) / shape().batch;
                values.assign(all->begin() + first * size, all->begin() + (first + count) * size);
            }
            return DeviceTensor(on, type, layout, role, values);
        };
        const Layout out_layout{count, n.time, n.heads, n.value};
        const auto q = tensor(n.q(), Role::kInput, &q_), k = tensor(n.k(), Role::kInput, &k_);
        const auto v = tensor(n.v(), Role::kInput, &v_), dout = tensor(out_layout, Role::kInput, &dout_);
        const auto out = tensor(out_layout, Role::kOutput), dq = tensor(n.q(), Role::kOutput);
        const auto dk = tensor(n.k(), Role::kOutput), dv = tensor(n.v(), Role::kOutput);
        const DeviceTensor lse(on, DType::kF32, {count, n.heads, n.time}, Role::kOutput, {});
        AttentionInputs in{q, k, {}, v, scale_};
        const DeviceDocuments documents(on, documents_, first, count, n.time);
        in.documents = documents;
        in.stride = n.stride;
        AttentionGrads grads{dq, dk, {}, dv};
        std::unique_ptr<DeviceTensor> k_shared, dk_shared;
        if (n.rotary > 0) {
            k_shared.reset(new DeviceTensor(tensor(n.k_shared(), Role::kInput, &k_shared_)));
            dk_shared.reset(new DeviceTensor(tensor(n.k_shared(), Role::kOutput)));
            in.k_shared = *k_shared;
            grads.dk_shared = *dk_shared;
        }
        const AttentionPaths paths = causal_attention_paths(on, in);
        const auto named = [&](const std::vector<std::string>& all) {
            return std::find(all.begin(), all.end(), path) == all.end() ? std::string() : path;
        };
        AttentionInputs forward_in = in;
        forward_in.path = named(paths.forward);
        in.path = named(paths.backward);
        reserve_scratch(on, causal_attention_backward_scratch_bytes(on, in));
        causal_attention_forward(on, out, lse, forward_in);
        causal_attention_backward(on, grads, dout, out, lse, in);
        std::vector<std::vector<double>> all = {out.values(), lse.values(), dq.values(), dk.values(),
                                                dv.values()};
        if (dk_shared) all.push_back(dk_shared->values());
        return all;
    }

    /// Names of all paths that take a pass of these inputs.
    std::vector<std::string> paths() const {
        AttentionShape one = shape();
        one.batch = 1;
        const AttentionPaths take = paths_of(ctx(), one, dtype());
        std::vector<std::string> names = take.forward;
        for (const std::string& name : take.backward)
            if (std::find(names.begin(), names.end(), name) == names.end()) names.push_back(name);
        return names;
    }

  private:
    const float scale_ = 1 / std::sqrt(static_cast<float>(shape().content + shape().rotary));
    const int64_t tokens_ = shape().batch * shape().time;
    const TestDocuments documents_{shape().documents, shape().batch, shape().time};
    const std::vector<double> q_ = normal(tokens_ * shape().heads * (shape().content + shape().rotary));
    const std::vector<double> k_ = normal(tokens_ * shape().kv_heads * shape().content);
    const std::vector<double> k_shared_ = normal(tokens_ * shape().rotary);
    const std::vector<double> v_ = normal(tokens_ * shape().kv_heads * shape().value);
    const std::vector<double> dout_ = normal(tokens_ * shape().heads * shape().value);
};

/// More heads than a device works on at a time.
class ManyHeads : public BothPasses {};

TEST_P(ManyHeads, EachComesOutAsIfAlone) {
    for (const std::string& path : paths()) {
        const auto all = run(ctx(), dtype(), 0, shape().batch, path);
        for (int64_t sequence : {int64_t{0}, shape().batch / 2, shape().batch - 1}) {
            const auto alone = run(ctx(), dtype(), sequence, 1, path);
            for (size_t i = 0; i < 5; ++i)
                ASSERT_TRUE(std::equal(alone[i].begin(), alone[i].end(),
                                       all[i].begin() + sequence * static_cast<int64_t>(alone[i].size())))
                    << "path " << path << ", result " << i << " of sequence " << sequence;
        }
    }
}

const std::vector<AttentionShape> kManyHeads = {
    {150, 130, 1, 1, 64, 0, 64, Packing::kFused},
    {70, 140, 2, 2, 32, 32, 64, Packing::kLatent},
    {75, 66, 4, 4, 64, 0, 64},
    {150, 200, 1, 1, 64, 0, 64, Packing::kFused},
    {70, 256, 4, 4, 32, 32, 64, Packing::kLatent},
    {70, 140, 2, 2, 64, 32, 64, Packing::kLatent},
    {100, 270, 3, 3, 64, 0, 64, Packing::kFused},
    {90, 300, 4, 2, 64, 0, 64},
    {100, 330, 2, 2, 32, 32, 64, Packing::kLatent},
    {100, 330, 2, 2, 64, 32, 64, Packing::kLatent},
    {20, 520, 4, 2, 128, 0, 128},
    {40, 300, 2, 2, 128, 64, 128, Packing::kLatent},
    {40, 300, 2, 2, 64, 64, 128, Packing::kLatent},
    {75, 66, 4, 4, 64, 0, 64, Packing::kApart, 1, 1, {50, 1}},
    {70, 256, 4, 4, 32, 32, 64, Packing::kLatent, 1, 1, {100, 33, 1}},
    {100, 270, 3, 3, 64, 0, 64, Packing::kFused, 1, 1, {130, 60}},
    {90, 300, 4, 2, 64, 0, 64, Packing::kApart, 1, 1, {64, 256, 7}},
    {40, 300, 2, 2, 128, 64, 128, Packing::kLatent, 1, 1, {1, 1, 120}},
};
INSTANTIATE_TEST_SUITE_P(Ops, ManyHeads, every_target(kManyHeads), case_name<AttentionShape>);

/// Sequences too long for the gradient check, where kernels choose other tiles.
class LongSequences : public OpTest<AttentionShape> {};

TEST_P(LongSequences, ForwardMatchesReference) {
    const AttentionShape& n = shape();
    const int64_t rows = n.batch * n.time, width = n.content + n.rotary;
    const auto q = normal(rows * n.heads * width), k = normal(rows * n.kv_heads * n.content);
    const auto k_shared = normal(rows * n.rotary), v = normal(rows * n.kv_heads * n.value);
    const float scale = 1 / std::sqrt(static_cast<float>(width));
    const Layout out_layout{n.batch, n.time, n.heads, n.value};
    const auto q_in = input(q, n.q()), k_in = input(k, n.k()), v_in = input(v, n.v());
    const auto shared_in = input(k_shared, n.k_shared());
    AttentionInputs in{q_in, k_in, {}, v_in, scale};
    if (n.rotary > 0) in.k_shared = shared_in;
    const ref::AttentionSizes size{n.batch, n.time, n.heads, n.kv_heads, n.content, n.rotary, n.value};
    const auto want = ref::causal_attention(q, k, k_shared, v, size, scale);
    for (const std::string& path : causal_attention_paths(ctx(), in).forward) {
        SCOPED_TRACE("path " + path);
        const auto out = output(out_layout), lse = output({n.batch, n.heads, n.time}, DType::kF32);
        in.path = path;
        causal_attention_forward(ctx(), out, lse, in);
        EXPECT_TRUE(close_to(out, want.out, 0.25));  // the first rows, means of few values, differ from most
        EXPECT_TRUE(close_to(lse, want.lse));
    }
}

const std::vector<AttentionShape> kLongSequences = {
    {1, 2100, 2, 2, 64, 0, 64, Packing::kFused},
    {1, 2048, 2, 2, 32, 32, 64, Packing::kLatent},
    {1, 1111, 2, 1, 128, 0, 128},
};
INSTANTIATE_TEST_SUITE_P(Ops, LongSequences, every_target(kLongSequences), case_name<AttentionShape>);

/// On a GPU the gradients of long sequences come from other kernels than those of short ones, which the
/// gradient check covers.
class LongGradients : public BothPasses {};

TEST_P(LongGradients, AreThoseOfTheCpu) {
    const auto want = run(context(Device::kCpu), DType::kF32, 0, shape().batch, "");
    for (const std::string& path : paths()) {
        const auto got = run(ctx(), dtype(), 0, shape().batch, path);
        for (size_t i = 2; i < want.size(); ++i) {
            const Shape all{static_cast<int64_t>(want[i].size())};
            // Gradients of the first rows, of a sequence or a document, are sums over few keys, larger than most.
            EXPECT_TRUE(close_to(got[i], want[i], dtype(), all, shape().documents.empty() ? 0.5 : 1))
                << "path " << path << ", gradient " << i - 2;
        }
    }
}

const std::vector<AttentionShape> kLongGradients = {
    {2, 2100, 6, 6, 64, 0, 64, Packing::kFused},
    {1, 2200, 4, 4, 32, 32, 64, Packing::kLatent},
    {1, 2049, 4, 2, 64, 0, 64},
    {1, 1111, 4, 2, 128, 0, 128, Packing::kFused},
    {1, 1111, 2, 2, 64, 32, 64, Packing::kLatent},
    {1, 1111, 2, 2, 128, 64, 128, Packing::kLatent},
    {1, 1111, 2, 2, 64, 64, 128, Packing::kLatent},
    {2, 2100, 6, 6, 64, 0, 64, Packing::kFused, 1, 1, {700, 3, 250}},
    {1, 2200, 4, 4, 32, 32, 64, Packing::kLatent, 1, 1, {128, 1024, 65}},
    {1, 2200, 4, 4, 32, 32, 64, Packing::kLatent, 1, 2, {700, 3}},
    {1, 2049, 4, 2, 64, 0, 64, Packing::kApart, 1, 1, {5}},
    {1, 1111, 4, 2, 128, 0, 128, Packing::kFused, 1, 1, {300, 400}},
    {1, 1111, 2, 2, 128, 64, 128, Packing::kLatent, 1, 1, {129, 500}},
    {1, 1111, 2, 2, 64, 64, 128, Packing::kLatent, 1, 1, {1, 300}},
};
INSTANTIATE_TEST_SUITE_P(Ops, LongGradients, every_target(kLongGradients), case_name<AttentionShape>);

/// The message on heads that run on slower kernels; other tests check their numbers.
class AttentionFallback : public OpTest<AttentionShape> {};

TEST_P(AttentionFallback, IsNamedWhereThereAreFasterKernels) {
    const AttentionShape& n = shape();
    const auto numbers = [](const Layout& layout) {
        return std::vector<double>(static_cast<size_t>(layout.shape.numel()));
    };
    const auto q = input(numbers(n.q()), n.q()), k = input(numbers(n.k()), n.k());
    const auto k_shared = input(numbers(n.k_shared()), n.k_shared()), v = input(numbers(n.v()), n.v());
    AttentionInputs in{q, k, {}, v, 1};
    if (n.rotary > 0) in.k_shared = k_shared;
    in.stride = n.stride;
    const std::string text = causal_attention_fallback(ctx(), in);
    const auto says = [&](const char* part) { return text.find(part) != std::string::npos; };
    if (n.stride > 1) {  // Hopper's kernels take one for heads of 32+32/64
        const bool slower = dtype() == DType::kBF16 && n.rotary != 32 && has_fp8(ctx());
        EXPECT_EQ(says("with a stride of 2"), slower) << text;
        EXPECT_EQ(text.empty(), !slower) << text;
    } else if (dtype() != DType::kBF16 || (n.content == 64 && n.rotary != 8) || n.content == 128) {
        EXPECT_EQ(text, "");
    } else if (n.content % 8 != 0) {
        EXPECT_TRUE(says("without tensor cores")) << text;
    } else {
        const std::string heads = n.rotary > 0 ? fmt::format("{}+{}/{}", n.content, n.rotary, n.value)
                                               : fmt::format("{}/{}", n.content, n.value);
        EXPECT_EQ(says(("heads of " + heads).c_str()) && says("64+64/128"), has_fp8(ctx())) << text;
    }
}

const std::vector<AttentionShape> kFallbacks = {
    {1, 40, 2, 2, 64, 0, 64, Packing::kFused},          {1, 300, 2, 2, 64, 0, 64, Packing::kFused},
    {1, 300, 2, 2, 64, 64, 128, Packing::kLatent},      {1, 300, 2, 1, 128, 0, 128, Packing::kFused},
    {1, 300, 2, 2, 80, 0, 80, Packing::kFused},         {1, 300, 2, 2, 64, 8, 64, Packing::kLatent},
    {1, 30, 2, 2, 20, 0, 20, Packing::kFused},          {1, 300, 2, 2, 64, 0, 64, Packing::kFused, 1, 2},
    {1, 300, 2, 2, 32, 32, 64, Packing::kLatent, 1, 2},
};
INSTANTIATE_TEST_SUITE_P(Ops, AttentionFallback, every_target(kFallbacks), case_name<AttentionShape>);

}  // namespace
}  // namespace pastur::test
