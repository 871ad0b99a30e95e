#include "kernels/attention/attention_logits.h"

#include "tests/kernels/attention/attention_case.h"
#include "tests/ref/attention_logits.h"

namespace pastur::test {
namespace {

const std::vector<AttentionShape> kLogitShapes = {
    {1, 1, 1, 1, 8, 0, 8},
    {2, 2, 3, 1, 7, 3, 5},
    {1, 7, 4, 2, 24, 0, 40},
    {2, 33, 4, 2, 24, 8, 40, Packing::kHeadMajor},
    {1, 63, 2, 2, 128, 0, 128},
    {2, 64, 2, 2, 32, 32, 64, Packing::kLatent},
    {1, 65, 3, 3, 32, 32, 64, Packing::kLatent},
    {2, 65, 2, 1, 64, 0, 64, Packing::kFused},
    {1, 70, 2, 2, 64, 0, 64, Packing::kApart, 8},
    {1, 129, 3, 1, 33, 5, 9},
    {1, 130, 1, 1, 128, 64, 128, Packing::kLatent},
    {2, 256, 2, 2, 64, 0, 64, Packing::kFused},
    {.batch = 2, .time = 7, .heads = 2, .kv_heads = 2, .content = 8, .rotary = 0, .value = 8, .stride = 2},
    {.batch = 1,
     .time = 130,
     .heads = 2,
     .kv_heads = 2,
     .content = 32,
     .rotary = 32,
     .value = 64,
     .stride = 3},
    {2, 7, 2, 2, 8, 0, 8, Packing::kApart, 1, 1, {1, 3}},
    {2, 200, 2, 1, 32, 32, 64, Packing::kApart, 1, 1, {64, 1, 70}},
    {1, 130, 2, 2, 32, 32, 64, Packing::kApart, 1, 3, {65, 1}},
};

class AttentionLogits : public CausalAttention {
  protected:
    const int64_t tiles_ = (n_.time + kLogitTile - 1) / kLogitTile;
    const Layout layout_{n_.batch, n_.heads, tiles_, kLogitSums};

    std::vector<LogitSums> run(const AttentionInputs& in) const {
        const auto sums = output(layout_, DType::kF64);
        attention_logits(ctx(), sums, in);
        const std::vector<double> numbers = sums.values();
        std::vector<LogitSums> tiles(numbers.size() / kLogitSums);
        for (size_t i = 0; i < tiles.size(); ++i)
            std::copy_n(&numbers[i * kLogitSums], kLogitSums, reinterpret_cast<double*>(&tiles[i]));
        return tiles;
    }
};

/// Errors are those of fp32 scores: `size` is the scale of the terms that a number is summed from.
void expect_near(double got, double want, double size, const char* what) {
    EXPECT_NEAR(got, want, 1e-5 * std::max(size, std::abs(want))) << what;
}

TEST_P(AttentionLogits, MatchFloat64) {
    const Inputs all = inputs();
    const std::vector<LogitSums> tiles = run(all);
    for (size_t i = 0; i < tiles.size(); ++i) {
        const auto index = static_cast<int64_t>(i);
        const int64_t tile = index % tiles_, h = index / tiles_ % n_.heads, b = index / tiles_ / n_.heads;
        SCOPED_TRACE(fmt::format("sequence {}, head {}, tile {}", b, h, tile));
        const auto want = ref::logit_statistics(q_, k_, k_shared_, n_, scale_, b, h, tile * kLogitTile,
                                                std::min((tile + 1) * kLogitTile, n_.time));
        const LogitSums& got = tiles[i];
        EXPECT_EQ(got.pairs, want.pairs);
        EXPECT_EQ(got.choices, want.choices);
        const double content = std::sqrt(want.content_squares * want.pairs),
                     rope = std::sqrt(want.rope_squares * want.pairs);
        expect_near(got.largest, want.largest, shape().spread, "largest");
        expect_near(got.content, want.content, content, "content");
        expect_near(got.rope, want.rope, rope, "rope");
        expect_near(got.content_squares, want.content_squares, 0, "content_squares");
        expect_near(got.rope_squares, want.rope_squares, 0, "rope_squares");
        expect_near(got.products, want.products, content * rope / want.pairs, "products");
        expect_near(got.entropy, want.entropy, 1, "entropy");
        expect_near(got.entropy_ratio, want.entropy_ratio, 1, "entropy_ratio");
    }
}

TEST_P(AttentionLogits, TwoRunsGiveTheSameBits) {
    const Inputs in = inputs();
    const auto first = output(layout_, DType::kF64), second = output(layout_, DType::kF64);
    attention_logits(ctx(), first, in);
    attention_logits(ctx(), second, in);
    EXPECT_TRUE(same_bits(first, second));
}

TEST_P(AttentionLogits, HugeScoresKeepTheirEntropy) {
    // A constant added to every score of a query changes no probability, so an entropy from exp(S - lse) with a
    // rounded lse would be wrong here.
    std::vector<double> queries(q_), keys(k_);
    for (int64_t i = 0; i < tokens_ * n_.heads; ++i) {
        for (int64_t d = 0; d < n_.query(); ++d) ref::at(queries, i * n_.query() + d) = d == 0 ? 1024 : 0;
    }
    for (int64_t i = 0; i < tokens_ * n_.kv_heads; ++i) ref::at(keys, i * n_.content) = 512;
    const auto q = input(queries, shape().q()), k = input(keys, shape().k());
    const Inputs others = inputs();
    AttentionInputs in = others;
    in.q = q;
    in.k = k;
    for (const LogitSums& sums : run(in)) {
        expect_near(sums.largest, 1024 * 512 * static_cast<double>(scale_), 0, "largest");
        expect_near(sums.entropy_ratio, sums.choices, 1, "every key has the same share");
    }
}

TEST_P(AttentionLogits, NaNReachesExactlyTheTilesThatSeeIt) {
    const int64_t token = n_.time / 2;
    for (const double nan : kinds_of_nan()) {
        std::vector<double> damaged(k_);
        ref::at(damaged, token * n_.kv_heads * n_.content) = nan;  // of sequence 0, head 0
        const auto k = input(damaged, shape().k());
        const Inputs others = inputs();
        AttentionInputs in = others;
        in.k = k;
        const std::vector<LogitSums> tiles = run(in);
        for (int64_t tile = 0; tile < tiles_; ++tile) {
            const LogitSums& sums = tiles[static_cast<size_t>(tile)];
            bool sees_it = false;
            for (int64_t t = tile * kLogitTile; t < std::min((tile + 1) * kLogitTile, n_.time); ++t)
                sees_it = sees_it || n_.sees(0, t, token);
            for (const double number : {sums.largest, sums.content, sums.content_squares, sums.entropy})
                EXPECT_EQ(std::isnan(number), sees_it) << "tile " << tile;
        }
    }
}

INSTANTIATE_TEST_SUITE_P(Ops, AttentionLogits, every_target(kLogitShapes), case_name<AttentionShape>);

TEST(AttentionLogitsFront, RejectsWhatDoesNotFit) {
    Context& ctx = context(Device::kCpu);
    std::vector<float> storage(4096);
    const auto tensor = [&](Shape shape, DType dtype = DType::kF32) {
        return Tensor(reinterpret_cast<std::byte*>(storage.data()), dtype, shape);
    };
    const AttentionInputs good{tensor({2, 65, 4, 3}), tensor({2, 65, 2, 2}), tensor({2, 65, 1}), {}, 1};
    const Tensor sums = tensor({2, 4, 2, kLogitSums}, DType::kF64);
    const auto rejects = [&](Tensor out, auto change) {
        AttentionInputs bad = good;
        change(bad);
        EXPECT_THROW(attention_logits(ctx, out, bad), Error);
    };
    const auto keep = [](AttentionInputs&) {};
    rejects(tensor({2, 4, 1, kLogitSums}, DType::kF64), keep);
    rejects(tensor({2, 4, 2, kLogitSums}), keep);
    rejects(sums, [&](AttentionInputs& in) { in.k_shared = {}; });
    rejects(sums, [&](AttentionInputs& in) { in.k = tensor({2, 65, 3, 2}); });
    rejects(sums, [&](AttentionInputs& in) { in.k = tensor({2, 64, 2, 2}); });
    rejects(sums, [&](AttentionInputs& in) { in.q = tensor({2, 65, 4, 3}, DType::kBF16); });
    EXPECT_NO_THROW(attention_logits(ctx, sums, good));
}

}  // namespace
}  // namespace pastur::test
