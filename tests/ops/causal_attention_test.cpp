#include "kernels/causal_attention.h"

#include "kernels/rope.h"
#include "tests/gradcheck.h"
#include "tests/ops/attention_shape.h"
#include "tests/ref/causal_attention.h"
#include "tests/ref/rope.h"

namespace pastur::test {
namespace {

// Tiles of attention kernels are 64 to 128 rows: lengths stand at, just below and just above their edges.
const std::vector<AttentionShape> kShapes = {
    {1, 1, 1, 1, 8, 0, 8},
    {2, 1, 3, 1, 16, 8, 24},
    {1, 2, 1, 1, 8, 0, 8},
    {2, 7, 2, 2, 8, 0, 8},
    {1, 7, 4, 2, 24, 0, 40},
    {2, 5, 3, 1, 8, 8, 16},
    {1, 9, 2, 2, 40, 8, 24},
    {1, 33, 2, 2, 32, 0, 32},
    {2, 33, 4, 2, 24, 8, 40, Packing::kHeadMajor},
    {1, 64, 2, 2, 64, 0, 64, Packing::kFused},
    {2, 65, 2, 1, 64, 0, 64, Packing::kFused},
    {1, 64, 2, 2, 32, 32, 64, Packing::kLatent},
    {1, 65, 3, 3, 32, 32, 64, Packing::kLatent},
    {1, 63, 2, 2, 128, 0, 128},
    {1, 65, 1, 1, 128, 64, 128, Packing::kLatent},
    {1, 129, 2, 2, 64, 0, 64, Packing::kFused},
    {1, 129, 1, 1, 32, 32, 64, Packing::kLatent},
    {1, 127, 2, 1, 128, 0, 128, Packing::kFused},
    {1, 130, 1, 1, 128, 64, 128, Packing::kLatent},
    {1, 257, 1, 1, 64, 0, 64},
    {1, 257, 2, 2, 32, 32, 64, Packing::kLatent},
    {1, 130, 2, 2, 64, 32, 64, Packing::kLatent},
    {1, 200, 4, 2, 128, 0, 128},
    {1, 70, 2, 2, 64, 0, 64, Packing::kApart, 8},
    // Short sequences of 64 columns have kernels that hold a whole head, 16 tokens a warp, 64 to 256 tokens a
    // block of threads, and walk from head to head where there are more of them than multiprocessors hold.
    {1, 1, 2, 2, 64, 0, 64, Packing::kFused},
    {2, 5, 3, 3, 64, 0, 64, Packing::kFused},
    {50, 5, 12, 12, 64, 0, 64, Packing::kFused},
    {1, 17, 3, 3, 32, 32, 64, Packing::kLatent},
    {120, 3, 6, 6, 32, 32, 64, Packing::kLatent},
    {1050, 2, 2, 2, 32, 32, 64, Packing::kLatent},
    {1, 63, 1, 1, 64, 0, 64, Packing::kHeadMajor},
    {1, 127, 1, 1, 64, 0, 64, Packing::kFused},
    {1, 128, 2, 2, 32, 32, 64, Packing::kLatent},
    {1, 200, 1, 1, 64, 0, 64, Packing::kFused, 8},
    {1, 255, 1, 1, 64, 0, 64, Packing::kFused},
    {1, 256, 1, 1, 64, 0, 64, Packing::kFused},
    {1, 256, 2, 2, 32, 32, 64, Packing::kLatent},
};

class CausalAttention : public OpTest<AttentionShape> {
  protected:
    const ref::AttentionSizes n_{shape().batch,   shape().time,   shape().heads, shape().kv_heads,
                                 shape().content, shape().rotary, shape().value};
    const int64_t tokens_ = n_.batch * n_.time;
    const std::vector<double> q_ = normal(tokens_ * n_.heads * n_.query(), shape().spread);
    const std::vector<double> k_ = normal(tokens_ * n_.kv_heads * n_.content);
    const std::vector<double> k_shared_ = normal(tokens_ * n_.rotary);
    const std::vector<double> v_ = normal(tokens_ * n_.kv_heads * n_.value);
    const std::vector<double> dout_ = normal(tokens_ * n_.heads * n_.value);
    const float scale_ = static_cast<float>(1 / std::sqrt(static_cast<double>(n_.query())));
    const ref::AttentionResult<double> want_ = ref::causal_attention(q_, k_, k_shared_, v_, n_, scale_);
    const Layout out_layout_{n_.batch, n_.time, n_.heads, n_.value};

    /// The four inputs on the device.
    struct Inputs {
        DeviceTensor q, k, v;
        std::unique_ptr<DeviceTensor> k_shared;
        float scale;
        operator AttentionInputs() const {  // NOLINT
            return {q, k, k_shared ? ConstTensor(*k_shared) : ConstTensor(), v, scale};
        }
    };
    Inputs inputs() const {
        return Inputs{input(q_, shape().q()), input(k_, shape().k()), input(v_, shape().v()),
                      shared(Role::kInput), scale_};
    }
    struct Grads {
        DeviceTensor dq, dk, dv;
        std::unique_ptr<DeviceTensor> dk_shared;
        operator AttentionGrads() const {  // NOLINT
            return {dq, dk, dk_shared ? Tensor(*dk_shared) : Tensor(), dv};
        }
    };
    Grads grads() const {
        return Grads{output(shape().q()), output(shape().k()), output(shape().v()), shared(Role::kOutput)};
    }
    std::unique_ptr<DeviceTensor> shared(Role role) const {
        if (n_.rotary == 0) return nullptr;
        return std::make_unique<DeviceTensor>(ctx(), dtype(), shape().k_shared(), role, k_shared_);
    }
    /// Of dq and dk. dS = P (dP - delta), a difference of two sums of d_v products of numbers about 1, which
    /// cancel over one key and nearly so in one-hot rows; P spreads dS over the row's keys unless it is
    /// one-hot.
    double terms() const {
        const auto keys = static_cast<double>(shape().spread > 1 ? 1 : n_.time);
        return scale_ * std::sqrt(static_cast<double>(n_.value) / keys);
    }

    /// Columns that carry positions: d_r, or all of a head without a shared key.
    const int64_t rotary_ = n_.rotary > 0 ? n_.rotary : n_.content;
    static constexpr double kBase = 100;
    DeviceTensor rotation_table() const {
        std::vector<float> angles(static_cast<size_t>(n_.time * rotary_));
        rope_table(as_tensor(std::span(angles)).reshape({n_.time, rotary_}), kBase);
        return input(std::vector<double>(angles.begin(), angles.end()), {n_.time, rotary_}, DType::kF32);
    }
    /// Heads of `width` columns of which the last rotary_ are rotated.
    template <typename S>
    std::vector<S> rotated(std::vector<S> x, int64_t heads, int64_t width, double direction) const {
        const int64_t count = tokens_ * heads * rotary_;
        const auto index = [&](int64_t i) { return (i / rotary_ + 1) * width - rotary_ + i % rotary_; };
        std::vector<S> part;
        for (int64_t i = 0; i < count; ++i) part.push_back(ref::at(x, index(i)));
        part = ref::rope(part, n_.batch, n_.time, heads, rotary_, kBase, direction);
        for (int64_t i = 0; i < count; ++i) ref::at(x, index(i)) = ref::at(part, i);
        return x;
    }

    /// out and lse are the reference's, so that an error of the forward pass is not met again here.
    void backward(const AttentionGrads& to, const AttentionInputs& in) {
        std::vector<double> out(want_.out), lse(want_.lse);
        for (double& x : out) x = rounded(x, dtype());
        for (double& x : lse) x = rounded(x, DType::kF32);
        const auto device_out = input(out, out_layout_), dout = input(dout_, out_layout_);
        const auto device_lse = input(lse, {n_.batch, n_.heads, n_.time}, DType::kF32);
        reserve(causal_attention_backward_scratch_bytes(ctx(), in));
        causal_attention_backward(ctx(), to, dout, device_out, device_lse, in);
    }
};

TEST_P(CausalAttention, ForwardMatchesReference) {
    const Inputs in = inputs();
    const auto out = output(out_layout_), lse = output({n_.batch, n_.heads, n_.time}, DType::kF32);
    reserve(0);
    causal_attention_forward(ctx(), out, lse, in);
    EXPECT_TRUE(close_to(out, want_.out));
    EXPECT_TRUE(close_to(lse, want_.lse));
}

TEST_P(CausalAttention, BackwardIsTheGradient) {
    const Inputs in = inputs();
    const Grads got = grads();
    backward(got, in);
    const auto loss = [&](const ComplexArguments& a) {
        return ref::dot(dout_, ref::causal_attention(a[0], a[1], a[2], a[3], n_, scale_).out);
    };
    const Arguments arguments{q_, k_, k_shared_, v_};
    EXPECT_TRUE(is_gradient(got.dq, loss, arguments, 0, {.terms = terms()}));
    EXPECT_TRUE(is_gradient(got.dk, loss, arguments, 1, {.terms = terms() * shape().spread}));
    if (n_.rotary > 0) {
        EXPECT_TRUE(is_gradient(*got.dk_shared, loss, arguments, 2, {.terms = terms()}));
    }
    EXPECT_TRUE(is_gradient(got.dv, loss, arguments, 3));
}

TEST_P(CausalAttention, ForwardRotates) {
    // In place: q and k, or the shared columns of both.
    const auto q = in_out(q_, shape().q()), k = in_out(k_, shape().k()), v = input(v_, shape().v());
    const auto k_shared = shared(Role::kInOut);
    const int64_t heads = n_.rotary > 0 ? 1 : n_.kv_heads;
    const auto want_q = rotated(q_, n_.heads, n_.query(), 1);
    const auto want_k = n_.rotary > 0 ? k_ : rotated(k_, heads, rotary_, 1);
    const auto want_k_shared = n_.rotary > 0 ? rotated(k_shared_, 1, rotary_, 1) : k_shared_;
    const auto table = rotation_table();
    const AttentionInputs in{q, k, k_shared ? ConstTensor(*k_shared) : ConstTensor(), v, scale_};
    const RotaryColumns rotary{Tensor(q).slice(3, n_.query() - rotary_, rotary_),
                               k_shared ? Tensor(*k_shared).unflatten(2, 1, rotary_) : Tensor(k), table};
    const auto out = output(out_layout_), lse = output({n_.batch, n_.heads, n_.time}, DType::kF32);
    causal_attention_forward(ctx(), out, lse, in, rotary);
    EXPECT_TRUE(close_to(q, want_q));
    EXPECT_TRUE(close_to(k, want_k));
    if (k_shared) {
        EXPECT_TRUE(close_to(*k_shared, want_k_shared));
    }
    // Scores are those of the rotated numbers as they were rounded.
    const auto want = ref::causal_attention(q.values(), k.values(), k_shared ? k_shared->values() : k_shared_,
                                            v_, n_, scale_);
    EXPECT_TRUE(close_to(out, want.out));
    EXPECT_TRUE(close_to(lse, want.lse));
}

TEST_P(CausalAttention, BackwardRotatesBack) {
    // q, k and k_shared are taken as rotated: the gradients are those of what they were before.
    const bool has_shared = n_.rotary > 0;
    const auto loss = [&](const ComplexArguments& a) {
        const auto q = rotated(a[0], n_.heads, n_.query(), 1);
        const auto k = has_shared ? a[1] : rotated(a[1], n_.kv_heads, rotary_, 1);
        const auto k_shared = has_shared ? rotated(a[2], 1, rotary_, 1) : a[2];
        return ref::dot(dout_, ref::causal_attention(q, k, k_shared, a[3], n_, scale_).out);
    };
    const Arguments before{rotated(q_, n_.heads, n_.query(), -1),
                           has_shared ? k_ : rotated(k_, n_.kv_heads, rotary_, -1),
                           has_shared ? rotated(k_shared_, 1, rotary_, -1) : k_shared_, v_};
    const auto table = rotation_table();
    const Inputs in = inputs();
    const Grads got = grads();
    AttentionGrads to = got;
    to.rope_table = table;
    backward(to, in);
    EXPECT_TRUE(is_gradient(got.dq, loss, before, 0, {.terms = terms()}));
    if (has_shared) {
        EXPECT_TRUE(is_gradient(*got.dk_shared, loss, before, 2, {.terms = terms()}));
    } else {
        EXPECT_TRUE(is_gradient(got.dk, loss, before, 1, {.terms = terms() * shape().spread}));
    }
}

TEST_P(CausalAttention, TwoRunsGiveTheSameBits) {
    const Inputs in = inputs();
    const auto out = output(out_layout_), out_again = output(out_layout_);
    const Layout lse_layout{n_.batch, n_.heads, n_.time};
    const auto lse = output(lse_layout, DType::kF32), lse_again = output(lse_layout, DType::kF32);
    causal_attention_forward(ctx(), out, lse, in);
    causal_attention_forward(ctx(), out_again, lse_again, in);
    EXPECT_TRUE(same_bits(out, out_again));
    EXPECT_TRUE(same_bits(lse, lse_again));
    const Grads first = grads(), second = grads();
    backward(first, in);
    backward(second, in);
    EXPECT_TRUE(same_bits(first.dq, second.dq));
    EXPECT_TRUE(same_bits(first.dk, second.dk));
    EXPECT_TRUE(same_bits(first.dv, second.dv));
    if (n_.rotary > 0) {
        EXPECT_TRUE(same_bits(*first.dk_shared, *second.dk_shared));
    }
}

TEST_P(CausalAttention, NoQuerySeesALaterKey) {
    // Changing the last token must leave every earlier row's bits alone.
    const Inputs in = inputs();
    const auto out = output(out_layout_), lse = output({n_.batch, n_.heads, n_.time}, DType::kF32);
    causal_attention_forward(ctx(), out, lse, in);
    const auto changed = [&](std::vector<double> values) {
        const auto row = static_cast<int64_t>(values.size()) / tokens_;
        for (int64_t b = 0; b < n_.batch; ++b)
            for (int64_t i = 0; i < row; ++i) ref::at(values, ((b + 1) * n_.time - 1) * row + i) = 3;
        return values;
    };
    const auto k = input(changed(k_), shape().k()), v = input(changed(v_), shape().v());
    AttentionInputs other = in;
    other.k = k;
    other.v = v;
    const auto out_other = output(out_layout_),
               lse_other = output({n_.batch, n_.heads, n_.time}, DType::kF32);
    causal_attention_forward(ctx(), out_other, lse_other, other);
    const std::vector<double> before = out.values(), after = out_other.values();
    const int64_t row = n_.heads * n_.value;
    for (int64_t i = 0; i < tokens_ * row; ++i)
        if (i / row % n_.time != n_.time - 1) {
            ASSERT_EQ(ref::at(before, i), ref::at(after, i)) << "element " << i;
        }
}

TEST_P(CausalAttention, HugeScoresDoNotOverflow) {
    std::vector<double> huge(q_);
    for (double& x : huge) x = rounded(x * 3e4, dtype());
    const auto q = input(huge, shape().q());
    const Inputs others = inputs();
    AttentionInputs in = others;
    in.q = q;
    const auto out = output(out_layout_), lse = output({n_.batch, n_.heads, n_.time}, DType::kF32);
    causal_attention_forward(ctx(), out, lse, in);
    EXPECT_TRUE(close_to(lse, ref::causal_attention(huge, k_, k_shared_, v_, n_, scale_).lse));
    double largest = 0;
    for (double x : v_) largest = std::max(largest, std::abs(x));
    for (double x : out.values()) ASSERT_LE(std::abs(x), largest * 1.01) << "a row is a mean of values";
}

TEST_P(CausalAttention, NaNReachesEveryRowThatSeesIt) {
    /// The first row from `token` on without a NaN, or -1.
    const auto first_clean_row = [&](const DeviceTensor& out, int64_t token) {
        const int64_t width = n_.heads * n_.value;
        const std::vector<double> values = out.values();
        for (int64_t t = token; t < n_.time; ++t)
            if (std::none_of(&values[static_cast<size_t>(t * width)],
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
            const auto out = output(out_layout_), lse = output({n_.batch, n_.heads, n_.time}, DType::kF32);
            causal_attention_forward(ctx(), out, lse, damaged);
            EXPECT_EQ(first_clean_row(out, token), -1)
                << "a NaN in " << (which ? "v" : "k") << " at " << token;
        }
    }
}

INSTANTIATE_TEST_SUITE_P(Ops, CausalAttention, every_target(kShapes), case_name<AttentionShape>);

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
