// bench --ops: what it counts, and the ops of decoding for every variant.
#include <gtest/gtest.h>

#include <map>

#include "engine/bench/bench_ops.h"
#include "engine/model/attention/variants.h"
#include "engine/model/recipe.h"

namespace pastur::test {
namespace {

/// A small recipe; `attention`: its section [attention], or empty.
Config small_recipe(const std::string& attention) {
    return parse_config("[model]\nvocab = 64\nd_model = 32\nlayers = 1\nheads = 2\nffn = 48\n" + attention +
                            "[data]\nseq_len = 16\n[train]\nglobal_batch = 2\n",
                        "recipe", {});
}

TEST(BenchOps, CountsWhatEachOpDoes) {
    Context ctx = make_context(Device::kCpu);
    const Config config = small_recipe("[attention]\nvariant = \"mla-decoupled\"\n");
    std::vector<OpBench> ops, in_order;
    bench_ops(ctx, config, "", ops, [&](const OpBench& op) { in_order.push_back(op); });
    EXPECT_EQ(in_order.size(), ops.size());
    const size_t count = ops.size();
    for (const char* only : {"", "attention"}) {
        bench_ops(ctx, config, only, ops);
        EXPECT_EQ(ops.size(), count) << "an op was measured again";
    }
    std::vector<OpBench> some;
    bench_ops(ctx, config, "rmsnorm", some);
    EXPECT_FALSE(some.empty());
    for (const OpBench& op : some) EXPECT_TRUE(op.op.starts_with("rmsnorm")) << op.op;
    const auto find = [&](const std::string& op, const std::string& shape) -> OpBench {
        for (const OpBench& result : ops)
            if (result.op == op && result.shape == shape) return result;
        ADD_FAILURE() << op << " " << shape;
        return {};
    };
    for (const OpBench& op : ops) {
        EXPECT_GT(op.seconds, 0) << op.op;
        EXPECT_GT(op.bytes, 0) << op.op;
    }
    EXPECT_EQ(find("matmul wgrad", "gate_proj+up_proj [96, 32] x 32").flops, 2.0 * 96 * 32 * 32);
    EXPECT_EQ(find("attention forward", "B 2 H 2 T 16 d_qk 8 + 8 shared d_v 16").flops,
              2.0 * 2 * 16 * 16 * (16 + 16));
    EXPECT_EQ(find("attention backward", "B 2 H 4 T 256 d_qk 64 d_v 64").flops, 2.0 * 4 * 256 * 256 * 5 * 64);
    const Model model(config, DType::kF32, {2, 16});
    const int64_t parameters = model.params().table().total_elements();
    EXPECT_EQ(find("adamw", fmt::format("[{}]", parameters)).bytes, 28.0 * static_cast<double>(parameters));
    // The latent [2, 16, 16] and the rotary key [2, 16, 8] are read once; queries and outputs are [2, 2, 16 or 8].
    EXPECT_EQ(find("decode attention", "B 2 H 2 of 1 S 16 d_qk 16 + 8 shared d_v 16").bytes,
              4.0 * (2 * 16 * (16 + 8) + 2 * 2 * (16 + 8 + 16)));
    EXPECT_EQ(find("head linear", "queries [2, 8, 16] x 2").bytes, 4.0 * (2 * 8 * 16 + 2 * 2 * (8 + 16)));
    EXPECT_EQ(find("head linear", "outputs [2, 16, 16] x 2").flops, 2.0 * 2 * 2 * 16 * 16);
    EXPECT_EQ(find("cache append", "rotary key [2, 8]").bytes, 4.0 * 2 * 2 * 8);
    EXPECT_EQ(find("row argmax", "[2, 64]").bytes, 4.0 * (2 + 2 * 64));
}

TEST(BenchOps, TimesDecodingOfEveryVariant) {
    Context ctx = make_context(Device::kCpu);
    const Config base = small_recipe("");
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
