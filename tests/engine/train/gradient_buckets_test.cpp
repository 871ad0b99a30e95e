// Gradients that may be sent during the backward pass, and how ranks divide them.
#include "engine/train/optimizer/gradient_buckets.h"

#include <algorithm>

#include "engine/model/recipe.h"
#include "tests/support/model_harness.h"

namespace pastur::test {
namespace {

class GradientsAsTheyFinish : public OpTest<VariantCase> {};

TEST_P(GradientsAsTheyFinish, DoNotChangeAnyMore) {
    const BatchShape batch_shape{2, 8};
    const Config config = tiny_config(shape().attention, shape().model);
    ModelUnderTest subject(config, ctx(), dtype(), batch_shape);
    Model& model = subject.model();
    model.params().initialise(ctx(), 1);
    const TokenBatch tokens = random_batch(random_, batch_shape, config.model.vocab);
    DeviceBatch batch(ctx(), batch_shape);
    batch.upload(ctx(), tokens);
    const int64_t matrices = model.params().table().matrix_elements();
    const auto gradients_from = [&](int64_t frontier) {
        return values_of(ctx(), model.params().flat_grad().slice(0, frontier, matrices - frontier));
    };
    std::vector<std::pair<int64_t, std::vector<double>>> seen;
    model.forward_backward(ctx(), batch.losses(), batch.tokens(), batch.targets(), 1.0f, Update::kAssign,
                           [&](int64_t frontier) { seen.emplace_back(frontier, gradients_from(frontier)); });
    const size_t heads = config.model.tie_embeddings ? 0 : 1;
    ASSERT_EQ(seen.size(), static_cast<size_t>(config.model.layers) + heads);
    for (size_t i = 0; i < seen.size(); ++i) {
        EXPECT_TRUE(i == 0 || seen[i].first < seen[i - 1].first) << "no gradient was added";
        EXPECT_EQ(seen[i].second, gradients_from(seen[i].first)) << "from " << seen[i].first;
    }
}

INSTANTIATE_TEST_SUITE_P(Models, GradientsAsTheyFinish, every_target(every_attention()),
                         case_name<VariantCase>);

TEST(GradientBuckets, TileTheFlatBufferForAnyNumberOfRanks) {
    for (const char* preset : {"nano", "130m"}) {
        const Config config = parse_config(fmt::format("[model]\npreset = \"{}\"\n", preset), "recipe", {});
        for (const int ranks : {1, 2, 3, 8, 1000}) {
            Model model(config, DType::kF32, {1, 8});
            ParamTable& table = model.params().table();
            table.pad(GradientBuckets::quantum(ranks));
            const GradientBuckets buckets(table, ranks);
            int64_t next = table.matrix_elements(), elements = 0;
            for (size_t i = 0; i < buckets.ranges().size(); ++i) {
                const FlatRange& range = buckets.ranges()[i];
                EXPECT_EQ(range.count % GradientBuckets::quantum(ranks), 0);
                elements += range.count;
                if (i + 1 == buckets.ranges().size()) {
                    EXPECT_EQ(range.end(), table.total_elements()) << "the norms are not in the last bucket";
                    EXPECT_FALSE(buckets.complete(i, 0));
                } else {
                    EXPECT_LE(range.end(), next) << "not from the back to the front";
                    EXPECT_FALSE(buckets.complete(i, range.begin + 1));
                    EXPECT_TRUE(buckets.complete(i, range.begin));
                    next = range.begin;
                }
            }
            EXPECT_EQ(elements, table.total_elements());
            EXPECT_EQ(next, buckets.ranges().size() > 1 ? 0 : next);
            EXPECT_GE(buckets.ranges().size(), ranks < 100 ? 8u : 1u) << preset << ", " << ranks;

            std::vector<FlatRange> all;
            for (int rank = 0; rank < ranks; ++rank)
                for (const FlatRange& part : buckets.parts(rank)) all.push_back(part);
            std::sort(all.begin(), all.end(),
                      [](const FlatRange& a, const FlatRange& b) { return a.begin < b.begin; });
            int64_t end = 0;
            for (const FlatRange& part : all) {
                ASSERT_EQ(part.begin, end) << "a gap or an overlap";
                end = part.end();
            }
            EXPECT_EQ(end, table.total_elements());
        }
    }
}

}  // namespace
}  // namespace pastur::test
