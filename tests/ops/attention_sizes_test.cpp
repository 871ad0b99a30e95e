// Attention where a device takes more than one round: more heads than it works on at a time, and sequences of
// many tiles.
#include "kernels/causal_attention.h"
#include "tests/ops/attention_shape.h"
#include "tests/ref/causal_attention.h"

namespace pastur::test {
namespace {

/// More heads than a device works on at a time.
class ManyHeads : public OpTest<AttentionShape> {
  protected:
    /// Everything that does not sum over heads, forward and backward, of sequences [first, first + count).
    std::vector<std::vector<double>> run(int64_t first, int64_t count) const {
        AttentionShape n = shape();
        n.batch = count;
        const auto part = [&](const std::vector<double>& all) {
            const auto size = static_cast<int64_t>(all.size()) / shape().batch;
            return std::vector<double>(all.begin() + first * size, all.begin() + (first + count) * size);
        };
        const Layout out_layout{count, n.time, n.heads, n.value}, lse_layout{count, n.heads, n.time};
        const auto q = input(part(q_), n.q()), k = input(part(k_), n.k()), v = input(part(v_), n.v());
        const auto dout = input(part(dout_), out_layout), out = output(out_layout);
        const auto dq = output(n.q()), dk = output(n.k()), dv = output(n.v());
        const auto lse = output(lse_layout, DType::kF32);
        AttentionInputs in{q, k, {}, v, 0.125f};
        AttentionGrads grads{dq, dk, {}, dv};
        std::unique_ptr<DeviceTensor> k_shared, dk_shared;
        if (n.rotary > 0) {
            const auto make = [&](Role role) {
                return std::make_unique<DeviceTensor>(ctx(), dtype(), n.k_shared(), role, part(k_shared_));
            };
            k_shared = make(Role::kInput);
            dk_shared = make(Role::kOutput);
            in.k_shared = *k_shared;
            grads.dk_shared = *dk_shared;
        }
        reserve(causal_attention_backward_scratch_bytes(ctx(), in));
        causal_attention_forward(ctx(), out, lse, in);
        causal_attention_backward(ctx(), grads, dout, out, lse, in);
        return {out.values(), lse.values(), dq.values(), dk.values(), dv.values()};
    }

  private:
    const int64_t tokens_ = shape().batch * shape().time;
    const std::vector<double> q_ = normal(tokens_ * shape().heads * (shape().content + shape().rotary));
    const std::vector<double> k_ = normal(tokens_ * shape().kv_heads * shape().content);
    const std::vector<double> k_shared_ = normal(tokens_ * shape().rotary);
    const std::vector<double> v_ = normal(tokens_ * shape().kv_heads * shape().value);
    const std::vector<double> dout_ = normal(tokens_ * shape().heads * shape().value);
};

TEST_P(ManyHeads, EachComesOutAsIfAlone) {
    const auto all = run(0, shape().batch);
    for (int64_t sequence : {int64_t{0}, shape().batch / 2, shape().batch - 1}) {
        const auto alone = run(sequence, 1);
        for (size_t i = 0; i < alone.size(); ++i)
            ASSERT_TRUE(std::equal(alone[i].begin(), alone[i].end(),
                                   all[i].begin() + sequence * static_cast<int64_t>(alone[i].size())))
                << "result " << i << " of sequence " << sequence;
    }
}

const std::vector<AttentionShape> kManyHeads = {
    {150, 130, 1, 1, 64, 0, 64, Packing::kFused},
    {70, 140, 2, 2, 32, 32, 64, Packing::kLatent},
    {75, 66, 4, 4, 64, 0, 64},
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
    const auto out = output(out_layout), lse = output({n.batch, n.heads, n.time}, DType::kF32);
    causal_attention_forward(ctx(), out, lse, in);
    const ref::AttentionSizes size{n.batch, n.time, n.heads, n.kv_heads, n.content, n.rotary, n.value};
    const auto want = ref::causal_attention(q, k, k_shared, v, size, scale);
    EXPECT_TRUE(close_to(out, want.out, 0.25));  // the first rows are means of few values, unlike most
    EXPECT_TRUE(close_to(lse, want.lse));
}

const std::vector<AttentionShape> kLongSequences = {
    {1, 2100, 2, 2, 64, 0, 64, Packing::kFused},
    {1, 2048, 2, 2, 32, 32, 64, Packing::kLatent},
    {1, 1111, 2, 1, 128, 0, 128},
};
INSTANTIATE_TEST_SUITE_P(Ops, LongSequences, every_target(kLongSequences), case_name<AttentionShape>);

}  // namespace
}  // namespace pastur::test
