// Mixtures: recipes, the schedule's bound and its purity, and loaders over several folders.
#include "data/mixture.h"

#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <numeric>
#include <set>

#include "data/loader.h"
#include "data/meta.h"
#include "data/shards/shard.h"
#include "kernels/base/random.h"
#include "tests/support/data_files.h"
#include "tests/support/expect_error.h"
#include "tests/support/temp_folder.h"

namespace pastur {
namespace {

using test::expect_error;
using test::shard_bytes;
using test::write_bytes;

std::vector<int64_t> weights_of(const std::string& text) {
    std::vector<int64_t> weights;
    for (const WeightedSource& source : parse_mixture(text)) weights.push_back(source.weight);
    return weights;
}

TEST(Mixture, WeightsBecomeWholeNumbers) {
    EXPECT_EQ(weights_of("a=0.7, b=0.3"), (std::vector<int64_t>{7, 3}));
    EXPECT_EQ(weights_of(" a = 1 ,b=2.50"), (std::vector<int64_t>{2, 5}));
    EXPECT_EQ(weights_of("a=50,b=25,c=25.0"), (std::vector<int64_t>{2, 1, 1}));
    EXPECT_EQ(weights_of("a=.001,b=0.999"), (std::vector<int64_t>{1, 999}));
    EXPECT_EQ(weights_of("a=3"), (std::vector<int64_t>{1}));
    EXPECT_EQ(weights_of("a=123000000000,b=1000000000"), (std::vector<int64_t>{123, 1}));
    const std::vector<WeightedSource> odd = parse_mixture("x/{a,b}_*.bin=1, c=d=2");
    ASSERT_EQ(odd.size(), 2u);
    EXPECT_EQ(odd[0].where, "x/{a,b}_*.bin");
    EXPECT_EQ(odd[1].where, "c=d");
}

TEST(Mixture, RefusesWhatIsNoMixture) {
    for (const char* text :
         {"", "a", "a=", "=1", "a=0", "a=0.0", "a=-1", "a=1e3", "a=1,", "a=1,,b=1", "a=x", "a=1.2.3"})
        expect_error(ExitCode::kUsage, {"DIR=WEIGHT"}, [&] { parse_mixture(text); });
    expect_error(ExitCode::kUsage, {"named twice"}, [] { parse_mixture("a=1, a=2"); });
    for (const char* text : {"a=0.33333333, b=0.66666667", "a=1000000, b=1", "a=123456789012345678901, b=1"})
        expect_error(ExitCode::kUsage, {"fewer digits"}, [&] { parse_mixture(text); });
}

TEST(Mixture, ValidationSetsHaveNames) {
    const std::vector<NamedGlob> sets = parse_val_sets("wiki=data/wiki/val_*.bin, code-2 = {a,b}.bin");
    ASSERT_EQ(sets.size(), 2u);
    EXPECT_EQ(sets[0].name, "wiki");
    EXPECT_EQ(sets[1].name, "code-2");
    EXPECT_EQ(sets[1].glob, "{a,b}.bin");
    EXPECT_TRUE(parse_val_sets("").empty());
    for (const char* text : {"wiki", "=x", "a b=x", "a/b=x", "loss=x", "a=", "a=x,"})
        expect_error(ExitCode::kUsage, {"NAME=GLOB"}, [&] { parse_val_sets(text); });
    expect_error(ExitCode::kUsage, {"names two sets"}, [] { parse_val_sets("a=x, a=y"); });
}

TEST(Mixture, PathsCanBeReplaced) {
    const auto upper = [](const std::string& path) { return "/r/" + path; };
    EXPECT_EQ(place_mixture("a=0.70,b = 0.3", upper), "/r/a=0.70, /r/b=0.3");
    EXPECT_EQ(place_val_sets("a=x, b=y", upper), "a=/r/x, b=/r/y");
    EXPECT_EQ(place_val_sets("", upper), "");
}

/// After every n: |count - n w / sum| < 1, exactly, in whole numbers. at() and count() agree.
void expect_within_one(const std::vector<int64_t>& weights) {
    const MixtureSchedule schedule(weights);
    const int64_t sum = std::accumulate(weights.begin(), weights.end(), int64_t{0});
    ASSERT_EQ(schedule.period(), sum);
    std::vector<int64_t> counts(weights.size());
    for (int64_t n = 0; n < 2 * sum + 3; ++n) {
        for (size_t k = 0; k < weights.size(); ++k) {
            ASSERT_LT(std::abs(counts[k] * sum - n * weights[k]), sum) << "source " << k << " after " << n;
            ASSERT_EQ(schedule.count(k, n), counts[k]);
        }
        const auto [source, index] = schedule.at(n);
        ASSERT_EQ(index, counts[source]++);
    }
}

TEST(MixtureSchedule, EverySourceHasItsShareToWithinOneSequence) {
    for (const std::vector<int64_t>& weights : std::vector<std::vector<int64_t>>{{1},
                                                                                 {1, 1},
                                                                                 {7, 3},
                                                                                 {1, 999},
                                                                                 {999, 1},
                                                                                 {1, 1, 1},
                                                                                 {5, 3, 1},
                                                                                 {1, 1, 1, 1, 1, 1, 1, 993},
                                                                                 {96, 2, 1, 1}})
        expect_within_one(weights);
    SplitMix random(3);
    for (int i = 0; i < 300; ++i) {
        std::vector<int64_t> weights(1 + random.below(12));
        for (int64_t& weight : weights)
            weight = static_cast<int64_t>(1 + random.below(random.chance(50) ? 5 : 300));
        SCOPED_TRACE(fmt::format("{}", fmt::join(weights, " ")));
        expect_within_one(weights);
        if (testing::Test::HasFatalFailure()) return;
    }
}

TEST(MixtureSchedule, ALongPeriodIsMadeOnce) {
    const MixtureSchedule schedule({999'983, 17});
    EXPECT_EQ(schedule.count(1, 1'000'000'000'000), 17'000'000);
    int64_t ones = 0;
    for (int64_t n = 0; n < 1'000'000; ++n) ones += schedule.at(n).source == 1;
    EXPECT_EQ(ones, 17);
    const auto far = schedule.at(int64_t{1} << 50);
    EXPECT_EQ(schedule.count(far.source, int64_t{1} << 50), far.index);
}

class MixtureLoader : public testing::Test {
  protected:
    static constexpr int64_t kLength = 4;
    MixtureLoader() {
        // The ids say the source: below 100, from 100, from 200.
        for (int source = 0; source < 3; ++source) {
            std::vector<uint16_t> tokens;
            for (int64_t i = 0; i < 1 + kLength * sizes_[source]; ++i)
                tokens.push_back(static_cast<uint16_t>(100 * source + i / kLength));
            write_bytes(path(source), shard_bytes(tokens));
        }
    }
    std::string path(int source) const { return folder_.path() / fmt::format("{}.bin", source); }
    std::vector<LoaderSource> sources(std::initializer_list<int64_t> weights) const {
        std::vector<LoaderSource> all;
        for (const int64_t weight : weights) {
            const std::string file = path(static_cast<int>(all.size()));
            all.push_back({file, file, weight});
        }
        return all;
    }
    TokenLoader loader(std::initializer_list<int64_t> weights, uint64_t seed = 1) const {
        return TokenLoader(sources(weights), kLength, 300, seed);
    }
    static std::vector<int32_t> sample(const TokenLoader& loader, int64_t i) {
        std::vector<int32_t> out(kLength + 1);
        loader.sample(i, out);
        return out;
    }
    test::TempFolder folder_;
    const int64_t sizes_[3] = {40, 7, 90};
};

TEST_F(MixtureLoader, EverySourceHasEpochsOfItsOwn) {
    const TokenLoader mixture = loader({3, 2, 5});
    std::map<int, std::vector<int32_t>> seen;  // first tokens by source
    for (int64_t i = 0; i < 1000; ++i) {
        const int32_t first = sample(mixture, i)[0];
        seen[first / 100].push_back(first % 100);
    }
    for (int source = 0; source < 3; ++source) {
        const auto size = static_cast<size_t>(sizes_[source]);
        const std::vector<int32_t>& firsts = seen[source];
        EXPECT_EQ(firsts.size(), (std::vector<size_t>{300, 200, 500})[static_cast<size_t>(source)]);
        for (size_t epoch = 0; (epoch + 1) * size <= firsts.size(); ++epoch) {
            const auto begin = firsts.begin() + static_cast<int64_t>(epoch * size);
            EXPECT_EQ(std::set<int32_t>(begin, begin + static_cast<int64_t>(size)).size(), size)
                << "source " << source << ", epoch " << epoch;
        }
        EXPECT_NE(std::vector<int32_t>(firsts.begin(), firsts.begin() + sizes_[source]),
                  std::vector<int32_t>(firsts.begin() + sizes_[source], firsts.begin() + 2 * sizes_[source]));
    }
    EXPECT_EQ(mixture.epochs(1000), (std::vector<double>{300 / 40.0, 200 / 7.0, 500 / 90.0}));
    const std::vector<TokenLoader::Source> sources = mixture.sources();
    ASSERT_EQ(sources.size(), 3u);
    EXPECT_EQ(sources[1].share, 0.2);
    EXPECT_EQ(sources[1].sequences, 7);
    EXPECT_EQ(mixture.tokens(), 3 + kLength * (40 + 7 + 90));
}

TEST_F(MixtureLoader, TheOrderIsAFunctionOfSeedAndIndex) {
    const TokenLoader one = loader({3, 2, 5}), again = loader({3, 2, 5}), other = loader({3, 2, 5}, 2);
    std::vector<std::vector<int32_t>> forward, seeded;
    for (int64_t i = 0; i < 200; ++i) forward.push_back(sample(one, i));
    for (int64_t i = 199; i >= 0; --i) EXPECT_EQ(sample(again, i), forward[static_cast<size_t>(i)]);
    for (int64_t i = 0; i < 200; ++i) seeded.push_back(sample(other, i));
    EXPECT_NE(forward, seeded);
    for (size_t i = 0; i < 200; ++i)
        EXPECT_EQ(forward[i][0] / 100, seeded[i][0] / 100) << "sources follow the weights";
}

TEST_F(MixtureLoader, AMixtureOfOneFolderIsTheFolder) {
    const TokenLoader mixture = loader({1}), plain(path(0), kLength, 300, 1);
    EXPECT_EQ(mixture.fingerprint(), plain.fingerprint());
    EXPECT_EQ(mixture.sequences(), plain.sequences());
    for (int64_t i = 0; i < 100; ++i) EXPECT_EQ(sample(mixture, i), sample(plain, i));
}

// In storage order no source begins again: the weights hold until one of them ends.
TEST_F(MixtureLoader, ValidationReadsEachSequenceAtMostOnce) {
    const TokenLoader mixture = loader({3, 2, 5});
    std::set<int32_t> firsts;
    std::vector<int32_t> out(kLength + 1);
    for (int64_t i = 0; i < mixture.sequences(); ++i) {
        mixture.sequence(i, out);
        EXPECT_TRUE(firsts.insert(out[0]).second) << out[0];
    }
    EXPECT_GE(mixture.sequences(), 7 * 10 / 2 - 5);
    EXPECT_LE(mixture.sequences(), 7 * 10 / 2 + 5);
}

TEST_F(MixtureLoader, AChangedSourceChangesTheFingerprint) {
    const TokenLoader before = loader({1, 1});
    write_bytes(path(1), shard_bytes(std::vector<uint16_t>(30, 101)));
    const TokenLoader after = loader({1, 1});
    EXPECT_NE(before.fingerprint(), after.fingerprint());
    EXPECT_EQ(before.sources()[0].fingerprint, after.sources()[0].fingerprint);
    EXPECT_NE(before.sources()[1].fingerprint, after.sources()[1].fingerprint);
}

TEST(Mixture, FoldersHaveTheSameTokenizerFile) {
    const test::TempFolder folder;
    DataMeta meta;
    meta.tokenizer = "bpe";
    const std::string a = folder.path() / "a", b = folder.path() / "b";
    for (const std::string& one : {a, b}) {
        std::filesystem::create_directory(one);
        test::write_bytes(std::filesystem::path(one) / kMetaFile, to_json(meta));
        test::write_bytes(std::filesystem::path(one) / kTokenizerJsonFile, "{}");
    }
    check_same_tokenizer({a, b});
    test::write_bytes(std::filesystem::path(b) / kTokenizerJsonFile, "{ }");
    test::expect_error(ExitCode::kUsage, {"one tokenizer", "tokenizer files differ"}, [&] {
        check_same_tokenizer({a, b});
    });
}

}  // namespace
}  // namespace pastur
