#include "kernels/attention/causal_attention.h"

#include "tests/kernels/attention/attention_case.h"
#include "tests/support/gradcheck.h"

namespace pastur::test {
namespace {

TEST_P(CausalAttention, ForwardMatchesReference) {
    const Inputs all = inputs();
    reserve(0);
    on_forward_paths(all, [&](const AttentionInputs& in) {
        const auto out = output(out_layout_), lse = output(lse_layout_, DType::kF32);
        causal_attention_forward(ctx(), out, lse, in);
        EXPECT_TRUE(close_to(out, want_.out));
        EXPECT_TRUE(close_to(lse, want_.lse));
    });
}

TEST_P(CausalAttention, BackwardIsTheGradient) {
    const Inputs all = inputs();
    const auto loss = [&](const ComplexArguments& a) {
        return ref::dot(dout_, ref::causal_attention(a[0], a[1], a[2], a[3], n_, scale_).out);
    };
    const Arguments arguments{q_, k_, k_shared_, v_};
    on_backward_paths(all, [&](const AttentionInputs& in) {
        const Grads got = grads();
        backward(got, in);
        EXPECT_TRUE(is_gradient(got.dq, loss, arguments, 0, {.terms = terms()}));
        EXPECT_TRUE(is_gradient(got.dk, loss, arguments, 1, {.terms = key_terms() * shape().spread}));
        if (n_.rotary > 0) {
            EXPECT_TRUE(is_gradient(*got.dk_shared, loss, arguments, 2, {.terms = key_terms()}));
        }
        EXPECT_TRUE(is_gradient(got.dv, loss, arguments, 3));
    });
}

TEST_P(CausalAttention, TwoRunsGiveTheSameBits) {
    const Inputs all = inputs();
    const auto forward_twice = [&](const AttentionInputs& first, const AttentionInputs& second) {
        const auto out = output(out_layout_), out_again = output(out_layout_);
        const auto lse = output(lse_layout_, DType::kF32), lse_again = output(lse_layout_, DType::kF32);
        causal_attention_forward(ctx(), out, lse, first);
        causal_attention_forward(ctx(), out_again, lse_again, second);
        EXPECT_TRUE(same_bits(out, out_again));
        EXPECT_TRUE(same_bits(lse, lse_again));
    };
    const auto backward_twice = [&](const AttentionInputs& in, const AttentionInputs& in_again) {
        const Grads first = grads(), second = grads();
        backward(first, in);
        backward(second, in_again);
        EXPECT_TRUE(same_bits(first.dq, second.dq));
        EXPECT_TRUE(same_bits(first.dk, second.dk));
        EXPECT_TRUE(same_bits(first.dv, second.dv));
        if (n_.rotary > 0) {
            EXPECT_TRUE(same_bits(*first.dk_shared, *second.dk_shared));
        }
    };
    on_forward_paths(all, [&](const AttentionInputs& in) { forward_twice(in, in); });
    on_backward_paths(all, [&](const AttentionInputs& in) { backward_twice(in, in); });
    // Without a name the first path runs.
    AttentionInputs first = all;
    first.path = causal_attention_paths(ctx(), all).forward.front();
    forward_twice(all, first);
    first.path = causal_attention_paths(ctx(), all).backward.front();
    backward_twice(all, first);
}

TEST_P(CausalAttention, NoQuerySeesALaterKey) {
    // A changed last token must leave the bits of all earlier rows as they are.
    const Inputs all = inputs();
    const auto changed = [&](std::vector<double> values) {
        const auto row = static_cast<int64_t>(values.size()) / tokens_;
        for (int64_t b = 0; b < n_.batch; ++b)
            for (int64_t i = 0; i < row; ++i) ref::at(values, ((b + 1) * n_.time - 1) * row + i) = 3;
        return values;
    };
    const auto k = input(changed(k_), shape().k()), v = input(changed(v_), shape().v());
    const auto values_of_out = [&](const AttentionInputs& in) {
        const auto out = output(out_layout_), lse = output(lse_layout_, DType::kF32);
        causal_attention_forward(ctx(), out, lse, in);
        return out.values();
    };
    on_forward_paths(all, [&](const AttentionInputs& in) {
        AttentionInputs other = in;
        other.k = k;
        other.v = v;
        const std::vector<double> before = values_of_out(in), after = values_of_out(other);
        const int64_t row = n_.heads * n_.value;
        for (int64_t i = 0; i < tokens_ * row; ++i)
            if (i / row % n_.time != n_.time - 1) {
                ASSERT_EQ(ref::at(before, i), ref::at(after, i)) << "element " << i;
            }
    });
}

TEST_P(CausalAttention, NoQuerySeesAKeyInsideAChunk) {
    // Changed keys and values inside the chunks leave the bits of all rows but their own as they are.
    if (n_.stride == 1) return;  // every key ends a chunk
    const Inputs all = inputs();
    const auto changed = [&](std::vector<double> values) {
        const auto row = static_cast<int64_t>(values.size()) / tokens_;
        for (int64_t i = 0; i < static_cast<int64_t>(values.size()); ++i)
            if (i / row % n_.time % (2 * n_.stride) == 0) ref::at(values, i) = 3;
        return values;
    };
    const auto k = input(changed(k_), shape().k()), v = input(changed(v_), shape().v());
    on_forward_paths(all, [&](const AttentionInputs& in) {
        const auto out = output(out_layout_), lse = output(lse_layout_, DType::kF32);
        const auto other_out = output(out_layout_), other_lse = output(lse_layout_, DType::kF32);
        AttentionInputs other = in;
        other.k = k;
        other.v = v;
        causal_attention_forward(ctx(), out, lse, in);
        causal_attention_forward(ctx(), other_out, other_lse, other);
        const std::vector<double> before = out.values(), after = other_out.values();
        const int64_t row = n_.heads * n_.value;
        for (int64_t i = 0; i < tokens_ * row; ++i)
            if (i / row % n_.time % (2 * n_.stride) != 0) {
                ASSERT_EQ(ref::at(before, i), ref::at(after, i)) << "element " << i;
            }
    });
}

TEST_P(CausalAttention, HugeScoresDoNotOverflow) {
    std::vector<double> huge(q_);
    for (double& x : huge) x = rounded(x * 3e4, dtype());
    const auto q = input(huge, shape().q());
    const Inputs others = inputs();
    AttentionInputs all = others;
    all.q = q;
    const auto want = ref::causal_attention(huge, k_, k_shared_, v_, n_, scale_);
    double largest = 0;
    for (double x : v_) largest = std::max(largest, std::abs(x));
    on_forward_paths(all, [&](const AttentionInputs& in) {
        const auto out = output(out_layout_), lse = output(lse_layout_, DType::kF32);
        causal_attention_forward(ctx(), out, lse, in);
        EXPECT_TRUE(close_to(lse, want.lse));
        for (double x : out.values()) ASSERT_LE(std::abs(x), largest * 1.01) << "a row is a mean of values";
    });
}

TEST_P(CausalAttention, NaNReachesEveryRowThatSeesIt) {
    /// The first row that sees `token` and holds no NaN, or -1.
    const auto first_clean_row = [&](const DeviceTensor& out, int64_t token) {
        const int64_t width = n_.heads * n_.value;
        const std::vector<double> values = out.values();
        for (int64_t t = token; t < n_.time; ++t)
            if (n_.sees(0, t, token) && std::none_of(&values[static_cast<size_t>(t * width)],
                                                     &values[static_cast<size_t>((t + 1) * width - 1)] + 1,
                                                     [](double x) { return std::isnan(x); }))
                return t;
        return int64_t{-1};
    };
    const int64_t token = n_.time / 2;
    for (double nan : kinds_of_nan()) {
        std::vector<double> damaged_k(k_), damaged_v(v_);
        ref::at(damaged_k, token * n_.kv_heads * n_.content) = nan;
        ref::at(damaged_v, token * n_.kv_heads * n_.value) = nan;
        const Inputs in = inputs();
        const auto k = input(damaged_k, shape().k()), v = input(damaged_v, shape().v());
        for (int which : {0, 1}) {
            AttentionInputs damaged = in;
            if (which == 0) damaged.k = k;
            if (which == 1) damaged.v = v;
            on_forward_paths(damaged, [&](const AttentionInputs& path) {
                const auto out = output(out_layout_), lse = output(lse_layout_, DType::kF32);
                causal_attention_forward(ctx(), out, lse, path);
                EXPECT_EQ(first_clean_row(out, token), -1)
                    << "a NaN in " << (which ? "v" : "k") << " at " << token;
            });
        }
    }
}

INSTANTIATE_TEST_SUITE_P(Ops, CausalAttention, every_target(kAttentionShapes), case_name<AttentionShape>);

TEST(CausalAttentionFront, RejectsWhatDoesNotFit) {
    Context& ctx = context(Device::kCpu);
    std::vector<float> storage(4096);
    const auto tensor = [&](Shape shape, DType dtype = DType::kF32) {
        return Tensor(reinterpret_cast<std::byte*>(storage.data()), dtype, shape);
    };
    const Tensor out = tensor({2, 5, 4, 8}), lse = tensor({2, 4, 5});
    const AttentionInputs good{tensor({2, 5, 4, 24}), tensor({2, 5, 2, 16}), tensor({2, 5, 8}),
                               tensor({2, 5, 2, 8}), 1};
    const auto rejects = [&](auto change) {
        AttentionInputs bad = good;
        change(bad);
        EXPECT_THROW(causal_attention_forward(ctx, out, lse, bad), Error);
    };
    rejects([&](AttentionInputs& in) { in.k_shared = {}; });  // query and key widths no longer agree
    rejects([&](AttentionInputs& in) { in.k_shared = tensor({2, 5, 7}); });
    rejects([&](AttentionInputs& in) { in.k = tensor({2, 5, 3, 16}); });  // 4 heads do not group over 3
    rejects([&](AttentionInputs& in) { in.k = tensor({2, 4, 2, 16}); });
    rejects([&](AttentionInputs& in) { in.v = tensor({2, 5, 4, 8}); });
    rejects([&](AttentionInputs& in) { in.v = tensor({2, 5, 2, 16}); });
    rejects([&](AttentionInputs& in) { in.q = tensor({2, 5, 4, 24}, DType::kBF16); });
    rejects([&](AttentionInputs& in) { in.stride = 0; });
    rejects([&](AttentionInputs& in) {
        in.q = Tensor(out.bytes(), DType::kF32, {2, 5, 4, 24}, {960, 192, 48, 2});
    });
    EXPECT_THROW(causal_attention_forward(ctx, out, tensor({2, 5, 4}), good), Error);
    EXPECT_THROW(causal_attention_forward(ctx, out, tensor({2, 4, 5}, DType::kBF16), good), Error);
    EXPECT_THROW(causal_attention_forward(ctx, tensor({2, 5, 4, 16}), lse, good), Error);
    const AttentionGrads short_dk{tensor({2, 5, 4, 24}), tensor({2, 5, 2, 8}), tensor({2, 5, 8}),
                                  tensor({2, 5, 2, 8})};
    EXPECT_THROW(causal_attention_backward(ctx, short_dk, out, out, lse, good), Error);
    const AttentionGrads no_shared{tensor({2, 5, 4, 24}), tensor({2, 5, 2, 16}), {}, tensor({2, 5, 2, 8})};
    EXPECT_THROW(causal_attention_backward(ctx, no_shared, out, out, lse, good), Error);
    const AttentionGrads wide_table{tensor({2, 5, 4, 24}), tensor({2, 5, 2, 16}), tensor({2, 5, 8}),
                                    tensor({2, 5, 2, 8}), tensor({5, 16})};
    EXPECT_THROW(causal_attention_backward(ctx, wide_table, out, out, lse, good), Error);
}

}  // namespace
}  // namespace pastur::test
