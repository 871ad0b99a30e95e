#include "kernels/attention/decode_attention.h"

#include <cmath>

#include "tests/ref/decode_attention.h"
#include "tests/support/harness.h"
#include "tests/support/host_tensors.h"

namespace pastur::test {
namespace {

struct DecodeShape {
    int64_t batch, entries, heads, kv_heads, content, rotary, value;
    /// Of the sequences in turn; at most `entries`.
    std::vector<int32_t> lengths;
    bool latent = false;  ///< keys and values are one tensor
    int64_t around = 0;   ///< columns around every head, and entries of the cache beyond `entries`
    double spread = 1;    ///< of the queries
    std::string name() const {
        std::string text =
            fmt::format("B{}_S{}_H{}_{}_D{}_{}_V{}", batch, entries, heads, kv_heads, content, rotary, value);
        if (latent) text += "_latent";
        if (around > 0) text += fmt::format("_around{}", around);
        if (spread != 1) text += "_spread";
        return text;
    }
};

// Blocks of the CUDA kernels have 256 entries in tiles of 64, and 1, 2, 4 or 8 heads, or 16 on tensor cores: lengths are at,
// just below and just above their edges. Widths that are no multiple of 8 columns are not read in vectors. Tensor cores read
// keys in blocks of 32 columns and values in blocks of 64, 512 of them per block of threads.
const std::vector<DecodeShape> kShapes = {
    {1, 1, 1, 1, 1, 0, 1, {1}},
    {2, 3, 2, 1, 3, 0, 5, {1, 3}},
    {3, 7, 3, 3, 8, 0, 8, {7, 1, 4}},
    {2, 65, 4, 2, 24, 0, 40, {65, 64}},
    {2, 70, 3, 1, 16, 8, 16, {63, 70}, true},
    {1, 70, 5, 1, 7, 3, 7, {69}, true},
    {3, 257, 2, 2, 64, 0, 64, {257, 256, 1}},
    {2, 300, 12, 12, 64, 0, 64, {300, 255}},
    {2, 300, 12, 1, 384, 32, 384, {300, 257}, true},
    {1, 513, 9, 1, 192, 0, 192, {512}},
    {2, 513, 6, 1, 192, 0, 96, {513, 40}},
    {2, 70, 8, 8, 32, 32, 64, {70, 33}},
    {1, 300, 16, 2, 128, 0, 128, {290}},
    {2, 33, 4, 1, 40, 8, 24, {33, 2}, false, 3},
    {2, 66, 4, 2, 64, 0, 64, {66, 65}, false, 8},
    {1, 65, 2, 1, 1100, 12, 1100, {65}, true},
    {2, 300, 4, 4, 64, 0, 64, {300, 299}, false, 0, 40},
    {1, 70, 20, 1, 384, 32, 384, {70}, true},
    {2, 300, 12, 1, 192, 0, 192, {300, 65}},
    {1, 270, 32, 8, 128, 0, 128, {270}},
    {2, 65, 16, 1, 640, 64, 584, {65, 3}},
    {1, 17, 5, 1, 136, 8, 136, {17}, true},
    {2, 520, 24, 2, 256, 24, 1032, {513, 520}},
    {2, 66, 12, 1, 384, 32, 384, {66, 65}, true, 8},
    {1, 70, 12, 1, 384, 32, 384, {69}, true, 0, 40},
};

class DecodeAttention : public OpTest<DecodeShape> {
  protected:
    const ref::DecodeSizes n_{shape().batch,   shape().entries, shape().heads, shape().kv_heads,
                              shape().content, shape().rotary,  shape().value};
    const float scale_ = static_cast<float>(1 / std::sqrt(static_cast<double>(n_.content + n_.rotary)));
    std::vector<double> q_ = normal(n_.batch * n_.heads * n_.content, shape().spread);
    const std::vector<double> q_shared_ = normal(n_.batch * n_.heads * n_.rotary);
    std::vector<double> k_ = normal(n_.batch * n_.entries * n_.kv_heads * n_.content);
    const std::vector<double> k_shared_ = normal(n_.batch * n_.entries * n_.rotary);
    std::vector<double> v_ = shape().latent ? k_ : normal(n_.batch * n_.entries * n_.kv_heads * n_.value);
    const Layout out_layout_ = heads_of(n_.heads, n_.value);

    /// [B, heads, width] inside wider rows.
    Layout heads_of(int64_t heads, int64_t width) const {
        const int64_t head = width + 2 * shape().around;
        return Layout({n_.batch, heads, width}, {heads * head, head, 1}, shape().around);
    }
    /// A cache [B, S, heads, width] of more entries than S.
    Layout cache_of(int64_t heads, int64_t width) const {
        const int64_t head = width + 2 * shape().around;
        return Layout({n_.batch, n_.entries, heads, width},
                      {(n_.entries + shape().around) * heads * head, heads * head, head, 1}, shape().around);
    }
    Layout shared_of(int64_t width) const { return Layout({n_.batch, n_.entries, width}); }

    struct Inputs {
        DeviceTensor q, k, lengths;
        std::unique_ptr<DeviceTensor> v, q_shared, k_shared;
        float scale;
        int64_t longest;
        operator DecodeInputs() const {  // NOLINT
            return {q,
                    q_shared ? ConstTensor(*q_shared) : ConstTensor(),
                    k,
                    k_shared ? ConstTensor(*k_shared) : ConstTensor(),
                    v ? ConstTensor(*v) : ConstTensor(k),
                    lengths,
                    longest,
                    scale};
        }
    };
    std::unique_ptr<DeviceTensor> make(const std::vector<double>& values, const Layout& layout) const {
        return std::make_unique<DeviceTensor>(ctx(), dtype(), layout, Role::kInput, values);
    }
    Inputs inputs() const {
        const bool shares = n_.rotary > 0;
        return {input(q_, heads_of(n_.heads, n_.content)),
                input(k_, cache_of(n_.kv_heads, n_.content)),
                input(shape().lengths),
                shape().latent ? nullptr : make(v_, cache_of(n_.kv_heads, n_.value)),
                shares ? make(q_shared_, heads_of(n_.heads, n_.rotary)) : nullptr,
                shares ? make(k_shared_, shared_of(n_.rotary)) : nullptr,
                scale_,
                *std::max_element(shape().lengths.begin(), shape().lengths.end())};
    }
    void run(Tensor out, const DecodeInputs& in) {
        reserve(decode_attention_scratch_bytes(ctx(), in));
        decode_attention(ctx(), out, in);
    }
    std::vector<double> want() const {
        return ref::decode_attention(q_, q_shared_, k_, k_shared_, v_, shape().lengths, n_, scale_);
    }
};

TEST_P(DecodeAttention, MatchesReference) {
    const Inputs in = inputs();
    const auto out = output(out_layout_);
    run(out, in);
    EXPECT_TRUE(close_to(out, want()));
}

TEST_P(DecodeAttention, EntriesBeyondALengthAreNotRead) {
    for (int64_t b = 0; b < n_.batch; ++b)
        for (int64_t j = ref::at(shape().lengths, b); j < n_.entries; ++j) {
            const int64_t k_row = n_.kv_heads * n_.content, v_row = n_.kv_heads * n_.value;
            for (int64_t i = 0; i < k_row; ++i) ref::at(k_, (b * n_.entries + j) * k_row + i) = NAN;
            for (int64_t i = 0; i < v_row; ++i) ref::at(v_, (b * n_.entries + j) * v_row + i) = NAN;
        }
    const Inputs in = inputs();
    const auto out = output(out_layout_);
    run(out, in);
    for (const double x : out.values()) ASSERT_TRUE(std::isfinite(x));
}

TEST_P(DecodeAttention, BitsDoNotDependOnTheBatch) {
    const Inputs in = inputs();
    const auto all = output(out_layout_), again = output(out_layout_), alone = output(out_layout_);
    run(all, in);
    run(again, in);
    EXPECT_TRUE(same_bits(all, again));
    const DecodeInputs whole = in;
    for (int64_t b = 0; b < n_.batch; ++b) {
        DecodeInputs one = whole;
        for (ConstTensor* x : {&one.q, &one.q_shared, &one.k, &one.k_shared, &one.v, &one.lengths})
            if (!x->empty()) *x = x->slice(0, b, 1);
        one.longest = ref::at(shape().lengths, b);
        run(alone.view().slice(0, b, 1), one);
    }
    EXPECT_TRUE(same_bits(all, alone));
}

TEST_P(DecodeAttention, ScratchIsEnoughForEveryLength) {
    DecodeInputs in = inputs();
    const int64_t bytes = decode_attention_scratch_bytes(ctx(), in);
    in.longest = 1;
    EXPECT_EQ(decode_attention_scratch_bytes(ctx(), in), bytes);
}

TEST_P(DecodeAttention, NaNReachesTheOutput) {
    for (const double nan : kinds_of_nan()) {
        const std::vector<double> k(k_), v(v_);
        const int64_t entry = ref::at(shape().lengths, 0) - 1;
        for (const bool key : {true, false}) {
            if (shape().latent && !key) continue;
            std::vector<double>& damaged = key ? k_ : v_;
            const int64_t width = key ? n_.content : n_.value;
            for (int64_t kv = 0; kv < n_.kv_heads; ++kv)
                ref::at(damaged, (entry * n_.kv_heads + kv) * width) = nan;
            const Inputs in = inputs();
            const auto out = output(out_layout_);
            run(out, in);
            const std::vector<double> values = out.values();
            for (int64_t h = 0; h < n_.heads; ++h)
                EXPECT_TRUE(std::isnan(ref::at(values, h * n_.value)))
                    << (key ? "key" : "value") << ", head " << h;
            k_ = k;
            v_ = v;
        }
    }
}

INSTANTIATE_TEST_SUITE_P(Ops, DecodeAttention, every_target(kShapes), case_name<DecodeShape>);

TEST(DecodeAttentionFront, RejectsWhatDoesNotFit) {
    Context& ctx = context(Device::kCpu);
    HostTensors tensor;
    const Tensor out = tensor({2, 4, 8});
    const DecodeInputs good{tensor({2, 4, 16}),
                            tensor({2, 4, 6}),
                            tensor({2, 5, 2, 16}),
                            tensor({2, 5, 6}),
                            tensor({2, 5, 2, 8}),
                            tensor({2}, DType::kI32),
                            5,
                            1};
    const auto rejects = [&](auto change) {
        DecodeInputs bad = good;
        change(bad);
        EXPECT_THROW(decode_attention(ctx, out, bad), Error);
    };
    rejects([&](DecodeInputs& in) { in.q = tensor({2, 4, 15}); });
    rejects([&](DecodeInputs& in) { in.k = tensor({2, 5, 3, 16}); });
    rejects([&](DecodeInputs& in) { in.k_shared = {}; });
    rejects([&](DecodeInputs& in) { in.k_shared = tensor({2, 4, 6}); });
    rejects([&](DecodeInputs& in) { in.q_shared = tensor({2, 3, 6}); });
    rejects([&](DecodeInputs& in) { in.v = tensor({2, 5, 4, 8}); });
    rejects([&](DecodeInputs& in) { in.v = tensor({2, 5, 2, 8}, DType::kBF16); });
    rejects([&](DecodeInputs& in) { in.lengths = tensor({2}); });
    rejects([&](DecodeInputs& in) { in.lengths = tensor({3}, DType::kI32); });
    rejects([&](DecodeInputs& in) { in.longest = 0; });
    rejects([&](DecodeInputs& in) { in.longest = 6; });
}

}  // namespace
}  // namespace pastur::test
