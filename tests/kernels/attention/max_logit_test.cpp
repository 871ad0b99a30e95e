// The largest logit of each head from attention's forward pass, on every path.
#include "tests/kernels/attention/attention_case.h"
#include "tests/ref/attention_logits.h"

namespace pastur::test {
namespace {

class MaxLogit : public CausalAttention {
  protected:
    const Layout layout_ =
        shape().packing == Packing::kFused ? Layout({n_.heads}, {kMaxLogitStride}, 0) : Layout({n_.heads});
    const std::vector<double> start_ = std::vector<double>(static_cast<size_t>(n_.heads), -INFINITY);

    /// The largest logit of each head over all sequences and the queries [0, end), or start_ where that is larger.
    std::vector<double> reference(const std::vector<double>& q, const std::vector<double>& k,
                                  const std::vector<double>& k_shared, int64_t end) const {
        std::vector<double> largest(start_);
        for (int64_t b = 0; b < n_.batch; ++b)
            for (int64_t h = 0; h < n_.heads; ++h)
                ref::at(largest, h) =
                    std::max(ref::at(largest, h),
                             ref::logit_statistics(q, k, k_shared, n_, scale_, b, h, 0, end).largest);
        return largest;
    }
    std::vector<double> reference() const { return reference(q_, k_, k_shared_, n_.time); }

    /// Errors are those of fp32 sums of terms about `spread` in size.
    void expect_close(const DeviceTensor& got, const std::vector<double>& want, double spread) const {
        const std::vector<double> values = got.values();
        for (size_t h = 0; h < want.size(); ++h)
            EXPECT_NEAR(values[h], want[h], 1e-5 * std::max(spread, std::abs(want[h]))) << "head " << h;
    }

    std::vector<double> run(const AttentionInputs& in, const std::vector<double>& before) const {
        const auto out = output(out_layout_), lse = output(lse_layout_, DType::kF32);
        const auto largest = in_out(before, layout_, DType::kF32);
        causal_attention_forward(ctx(), out, lse, in, {}, largest);
        return largest.values();
    }
    /// on_forward_paths() with other queries and keys.
    template <typename Test>
    void on_forward_paths_with(const std::vector<double>& queries, const std::vector<double>& keys,
                               const Test& test) const {
        const auto q = input(queries, shape().q()), k = input(keys, shape().k());
        const Inputs others = inputs();
        AttentionInputs all = others;
        all.q = q;
        all.k = k;
        on_forward_paths(all, test);
    }
};

TEST_P(MaxLogit, MatchesFloat64AndChangesNoOtherBit) {
    const Inputs all = inputs();
    const std::vector<double> want = reference();
    on_forward_paths(all, [&](const AttentionInputs& in) {
        const auto out = output(out_layout_), lse = output(lse_layout_, DType::kF32);
        const auto plain_out = output(out_layout_), plain_lse = output(lse_layout_, DType::kF32);
        const auto largest = in_out(start_, layout_, DType::kF32);
        causal_attention_forward(ctx(), out, lse, in, {}, largest);
        causal_attention_forward(ctx(), plain_out, plain_lse, in);
        expect_close(largest, want, shape().spread);
        EXPECT_TRUE(same_bits(out, plain_out));
        EXPECT_TRUE(same_bits(lse, plain_lse));
    });
}

TEST_P(MaxLogit, IsRaisedAndNeverLowered) {
    const Inputs all = inputs();
    on_forward_paths(all, [&](const AttentionInputs& in) {
        const std::vector<double> alone = run(in, start_);
        std::vector<double> before(alone), want(alone);
        for (size_t h = 0; h < before.size(); ++h) {
            before[h] = rounded(h % 2 == 0 ? alone[h] + 1 : alone[h] - 1, DType::kF32);
            want[h] = h % 2 == 0 ? before[h] : alone[h];
        }
        EXPECT_EQ(run(in, before), want);
        EXPECT_EQ(run(in, alone), alone) << "a second pass over the same scores";
    });
}

TEST_P(MaxLogit, MayBeNegative) {
    // Every score of head h is -(h + 1) scale: keys after the query and rows after the last token, whose scores would be
    // 0, do not count.
    std::vector<double> queries(q_.size()), keys(k_.size());
    for (int64_t i = 0; i < tokens_ * n_.heads; ++i)
        ref::at(queries, i * n_.query()) = static_cast<double>(i % n_.heads + 1);
    for (int64_t i = 0; i < tokens_ * n_.kv_heads; ++i) ref::at(keys, i * n_.content) = -1;
    on_forward_paths_with(queries, keys, [&](const AttentionInputs& in) {
        const std::vector<double> got = run(in, start_);
        for (size_t h = 0; h < got.size(); ++h) {
            const double want = -static_cast<double>(h + 1) * static_cast<double>(scale_);
            EXPECT_NEAR(got[h], want, 1e-6 * std::abs(want)) << "head " << h;
        }
        EXPECT_EQ(run(in, std::vector<double>(start_.size(), -1e-30)),
                  std::vector<double>(start_.size(), rounded(-1e-30, DType::kF32)));
        EXPECT_EQ(run(in, std::vector<double>(start_.size(), 0)), std::vector<double>(start_.size(), 0));
    });
}

TEST_P(MaxLogit, CountsNoKeyThatAQueryDoesNotSee) {
    // The keys inside chunks and of the last token are the largest by far, and only their own queries, which are 0, see
    // them.
    std::vector<double> queries(q_.size()), keys(k_.size());
    const auto is_hidden = [&](int64_t row) {
        return row % n_.time + 1 == n_.time || (row % n_.time + 1) % n_.stride != 0;
    };
    for (int64_t i = 0; i < tokens_ * n_.heads; ++i)
        ref::at(queries, i * n_.query()) = is_hidden(i / n_.heads) ? 0 : 1;
    for (int64_t i = 0; i < tokens_ * n_.kv_heads; ++i)
        ref::at(keys, i * n_.content) = is_hidden(i / n_.kv_heads) ? 512 : 1;
    const double want = n_.time > n_.stride ? static_cast<double>(scale_) : 0;
    on_forward_paths_with(queries, keys, [&](const AttentionInputs& in) {
        for (const double largest : run(in, start_)) EXPECT_NEAR(largest, want, 1e-6);
    });
}

TEST_P(MaxLogit, IsNeverNaN) {
    const int64_t token = n_.time / 2;
    if (token == 0) return;  // no row is free of the NaN
    for (const double nan : kinds_of_nan()) {
        std::vector<double> damaged(k_);
        for (int64_t b = 0; b < n_.batch; ++b)
            for (int64_t h = 0; h < n_.kv_heads; ++h)
                ref::at(damaged, ((b * n_.time + token) * n_.kv_heads + h) * n_.content) = nan;
        const auto k = input(damaged, shape().k());
        const Inputs others = inputs();
        AttentionInputs all = others;
        all.k = k;
        // Rows before the token hold no NaN; rows after it may count with their other scores.
        const std::vector<double> least = reference(q_, k_, k_shared_, token), most = reference();
        on_forward_paths(all, [&](const AttentionInputs& in) {
            const std::vector<double> got = run(in, start_);
            for (size_t h = 0; h < got.size(); ++h) {
                EXPECT_GE(got[h], least[h] - 1e-5 * std::max(shape().spread, std::abs(least[h])));
                EXPECT_LE(got[h], most[h] + 1e-5 * std::max(shape().spread, std::abs(most[h])));
            }
        });
    }
}

INSTANTIATE_TEST_SUITE_P(Ops, MaxLogit, every_target(kAttentionShapes), case_name<AttentionShape>);

TEST(MaxLogitFront, RejectsWhatDoesNotFit) {
    Context& ctx = context(Device::kCpu);
    std::vector<float> storage(4096);
    const auto tensor = [&](Shape shape, DType dtype = DType::kF32) {
        return Tensor(reinterpret_cast<std::byte*>(storage.data()), dtype, shape);
    };
    const Tensor out = tensor({2, 5, 4, 8}), lse = tensor({2, 4, 5});
    const AttentionInputs in{tensor({2, 5, 4, 16}), tensor({2, 5, 2, 16}), {}, tensor({2, 5, 2, 8}), 1};
    for (const Tensor& bad : {tensor({2}), tensor({5}), tensor({1, 4}), tensor({4}, DType::kBF16),
                              Tensor(out.bytes(), DType::kF32, {4}, {0})})
        EXPECT_THROW(causal_attention_forward(ctx, out, lse, in, {}, bad), Error);
    EXPECT_NO_THROW(causal_attention_forward(ctx, out, lse, in, {}, tensor({4})));
}

}  // namespace
}  // namespace pastur::test
