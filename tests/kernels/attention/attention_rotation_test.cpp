// The rotary embedding of attention: of queries and keys, of the rotary columns next to a shared key, and of
// queries alone.
#include "kernels/attention/rope.h"
#include "tests/kernels/attention/attention_case.h"
#include "tests/ref/attention_logits.h"
#include "tests/ref/rope.h"
#include "tests/support/gradcheck.h"

namespace pastur::test {
namespace {

class AttentionRotation : public CausalAttention {
  protected:
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
    void forward_rotates() {
        const Inputs any = inputs();
        on_forward_paths(any, [&](const AttentionInputs& in) { forward_rotates(in.path, in.documents); });
    }
    void forward_rotates(const std::string& path, const DocumentBounds& documents) {
        // In place: q and k, or the shared columns of both.
        const auto q = in_out(q_, shape().q()), k = in_out(k_, shape().k()), v = input(v_, shape().v());
        const auto k_shared = shared(Role::kInOut);
        const int64_t heads = n_.rotary > 0 ? 1 : n_.kv_heads;
        const auto want_q = rotated(q_, n_.heads, n_.query(), 1);
        const auto want_k = n_.rotary > 0 ? k_ : rotated(k_, heads, rotary_, 1);
        const auto want_k_shared = n_.rotary > 0 ? rotated(k_shared_, 1, rotary_, 1) : k_shared_;
        const auto table = rotation_table();
        const AttentionInputs in{
            q, k, k_shared ? ConstTensor(*k_shared) : ConstTensor(), v, scale_, path, n_.stride, documents};
        const RotaryColumns rotary{Tensor(q).slice(3, n_.query() - rotary_, rotary_),
                                   k_shared ? Tensor(*k_shared).unflatten(2, 1, rotary_) : Tensor(k), table};
        const auto out = output(out_layout_), lse = output(lse_layout_, DType::kF32);
        const auto largest =
            in_out(std::vector<double>(static_cast<size_t>(n_.heads), -INFINITY), {n_.heads}, DType::kF32);
        causal_attention_forward(ctx(), out, lse, in, rotary, largest);
        EXPECT_TRUE(close_to(q, want_q));
        EXPECT_TRUE(close_to(k, want_k));
        if (k_shared) {
            EXPECT_TRUE(close_to(*k_shared, want_k_shared));
        }
        // Scores are those of the rotated numbers after rounding.
        const auto want = ref::causal_attention(q.values(), k.values(),
                                                k_shared ? k_shared->values() : k_shared_, v_, n_, scale_);
        EXPECT_TRUE(close_to(out, want.out));
        EXPECT_TRUE(close_to(lse, want.lse));
        const std::vector<double> rotated_q = q.values(), rotated_k = k.values(),
                                  rotated_shared = k_shared ? k_shared->values() : k_shared_;
        const std::vector<double> got = largest.values();
        for (int64_t h = 0; h < n_.heads; ++h) {
            double expected = -INFINITY;
            for (int64_t b = 0; b < n_.batch; ++b)
                expected = std::max(expected, ref::logit_statistics(rotated_q, rotated_k, rotated_shared, n_,
                                                                    scale_, b, h, 0, n_.time)
                                                  .largest);
            EXPECT_NEAR(ref::at(got, h), expected, 1e-5 * std::max(shape().spread, std::abs(expected)));
        }
    }
};

TEST_P(AttentionRotation, ForwardRotates) {
    forward_rotates();
}

TEST_P(AttentionRotation, BackwardRotatesBack) {
    // q, k and k_shared are rotated inputs; the gradients are those of the numbers before the rotation.
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
    const Inputs all = inputs();
    on_backward_paths(all, [&](const AttentionInputs& in) {
        const Grads got = grads();
        AttentionGrads to = got;
        to.rope_table = table;
        backward(to, in);
        // A path that does not rotate in its kernels rounds a gradient twice: before and after its rotation.
        constexpr double kRoundings = 2;
        EXPECT_TRUE(is_gradient(got.dq, loss, before, 0, {.terms = terms(), .roundings = kRoundings}));
        if (has_shared) {
            EXPECT_TRUE(is_gradient(*got.dk_shared, loss, before, 2,
                                    {.terms = key_terms(), .roundings = kRoundings}));
        } else {
            EXPECT_TRUE(is_gradient(got.dk, loss, before, 1,
                                    {.terms = key_terms() * shape().spread, .roundings = kRoundings}));
        }
    });
}

TEST_P(AttentionRotation, RotatesQueriesAlone) {
    if (n_.rotary > 0) return;  // a shared key is rotated with its queries
    const auto k = in_out(k_, shape().k()), v = input(v_, shape().v());
    const auto table = rotation_table();
    const Inputs any = inputs();
    on_forward_paths(any, [&](const AttentionInputs& path) {
        const auto q = in_out(q_, shape().q());
        const auto out = output(out_layout_), lse = output(lse_layout_, DType::kF32);
        const AttentionInputs in{q, k, {}, v, scale_, path.path, path.stride, path.documents};
        causal_attention_forward(ctx(), out, lse, in, {q, {}, table});
        EXPECT_TRUE(close_to(q, rotated(q_, n_.heads, n_.query(), 1)));
        EXPECT_TRUE(same_values(k, k_));
        const auto want = ref::causal_attention(q.values(), k_, k_shared_, v_, n_, scale_);
        EXPECT_TRUE(close_to(out, want.out));
        EXPECT_TRUE(close_to(lse, want.lse));
    });
}

TEST_P(AttentionRotation, RotatesTheGradientOfQueriesAloneBack) {
    if (n_.rotary > 0) return;
    const auto loss = [&](const ComplexArguments& a) {
        const auto q = rotated(a[0], n_.heads, n_.query(), 1);
        return ref::dot(dout_, ref::causal_attention(q, a[1], a[2], a[3], n_, scale_).out);
    };
    const Arguments before{rotated(q_, n_.heads, n_.query(), -1), k_, k_shared_, v_};
    const auto table = rotation_table();
    const Inputs all = inputs();
    on_backward_paths(all, [&](const AttentionInputs& in) {
        const Grads plain = grads(), got = grads();
        AttentionGrads to = got;
        to.rope_table = table;
        to.rotated_keys = false;
        backward(plain, in);
        backward(to, in);
        EXPECT_TRUE(is_gradient(got.dq, loss, before, 0, {.terms = terms()}));
        EXPECT_TRUE(same_bits(got.dk, plain.dk));
        EXPECT_TRUE(same_bits(got.dv, plain.dv));
    });
}

/// More heads than a device works on at a time, of more than one tile.
class RotationOfManyHeads : public AttentionRotation {};

TEST_P(RotationOfManyHeads, ForwardRotates) {
    forward_rotates();
}

const std::vector<AttentionShape> kRotatedHeads = {
    {45, 66, 6, 6, 64, 0, 64, Packing::kFused},
    {134, 66, 2, 2, 32, 32, 64, Packing::kLatent},
    {45, 250, 6, 6, 64, 0, 64, Packing::kFused},
    {134, 193, 2, 2, 32, 32, 64, Packing::kLatent},
    {45, 250, 6, 6, 64, 0, 64, Packing::kFused, 1, 1, {90, 7}},
};
INSTANTIATE_TEST_SUITE_P(Ops, RotationOfManyHeads, every_target(kRotatedHeads), case_name<AttentionShape>);
INSTANTIATE_TEST_SUITE_P(Ops, AttentionRotation, every_target(kAttentionShapes), case_name<AttentionShape>);

}  // namespace
}  // namespace pastur::test
