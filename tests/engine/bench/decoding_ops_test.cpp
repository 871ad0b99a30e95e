// bench --ops: the ops of decoding, for every variant.
#include <gtest/gtest.h>

#include <map>

#include "engine/bench/bench_ops.h"
#include "engine/model/attention/variants.h"
#include "engine/model/recipe.h"

namespace pastur::test {
namespace {

TEST(BenchOps, TimesDecodingOfEveryVariant) {
    Context ctx = make_context(Device::kCpu);
    const Config base = parse_config(
        "[model]\nvocab = 64\nd_model = 32\nlayers = 1\nheads = 2\nffn = 48\n[data]\nseq_len = 16\n[train]\n"
        "global_batch = 2\n",
        "recipe", {});
    const auto decoding = [&](const Config& config) {
        std::vector<OpBench> ops;
        for (const char* only : {"decode", "head linear", "cache"}) {
            try {
                bench_ops(ctx, config, only, ops);
            } catch (const Error& error) {
                EXPECT_STREQ(only, "head linear") << error.what();
            }
        }
        std::map<std::string, int> counts;
        for (const OpBench& op : ops) ++counts[op.op];
        return std::pair(ops.front().shape, counts);
    };
    using Counts = std::map<std::string, int>;
    const Counts keys = {{"decode attention", 1}, {"cache append", 2}};
    const std::map<std::string, std::pair<std::string, Counts>> want = {
        {"mha", {"B 2 H 2 of 2 S 16 d_qk 16 d_v 16", keys}},
        {"mla-nope",
         {"B 2 H 2 of 1 S 16 d_qk 16 d_v 16",
          {{"decode attention", 1}, {"head linear", 2}, {"cache append", 1}}}},
        // Decompressed, one sequence after the other.
        {"mla-rope", {"B 1 H 2 of 2 S 16 d_qk 16 d_v 16", {{"decode attention", 1}, {"cache append", 1}}}},
        {"mtla",
         {"B 2 H 2 of 1 S 8 d_qk 16 + 8 shared d_v 16",
          {{"decode attention", 1}, {"head linear", 2}, {"cache append", 2}}}},
    };
    for (const std::string& name : variant_names()) {
        const auto [shape, counts] = decoding(with_variant(base, variant_named(name)));
        EXPECT_EQ(counts.at("decode attention"), 1) << name;
        if (const auto found = want.find(name); found != want.end()) {
            EXPECT_EQ(shape, found->second.first) << name;
            EXPECT_EQ(counts, found->second.second) << name;
        }
    }
}

}  // namespace
}  // namespace pastur::test
