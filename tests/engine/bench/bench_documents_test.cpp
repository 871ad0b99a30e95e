// The benchmark with data.mask_documents: where documents in random tokens end, and what is said of it.
#include <gtest/gtest.h>

#include "data/meta.h"
#include "data/output.h"
#include "engine/bench/bench.h"
#include "engine/bench/bench_ops.h"
#include "engine/model/recipe.h"
#include "tests/support/temp_folder.h"
#include "tools/pastur/bench/bench_report.h"

namespace pastur::test {
namespace {

Config recipe(bool mask) {
    return parse_config(
        fmt::format("[model]\nvocab = 97\nd_model = 32\nlayers = 1\nheads = 2\nffn = 48\n[data]\n"
                    "seq_len = 48\nmask_documents = {}\n[train]\nglobal_batch = 4\n",
                    mask),
        "recipe", {});
}

TEST(BenchDocuments, HaveTheMeanLengthOfTheDataOrADefault) {
    Context ctx = make_context(Device::kCpu);
    const auto bench = [&](const Config& config) {
        return bench_variant(ctx, config, {.steps = 2, .warmup = 1, .apart = 0});
    };
    const VariantBench whole = bench(recipe(false)), masked = bench(recipe(true));
    EXPECT_EQ(whole.document_tokens, 0);
    EXPECT_EQ(masked.document_tokens, kBenchDocument);
    EXPECT_EQ(whole.size.flops_per_token, masked.size.flops_per_token);

    const TempFolder folder;
    Config config = recipe(true);
    config.data.dir = folder.path().string();
    EXPECT_EQ(bench_document_tokens(config), kBenchDocument) << "a folder without meta.json";
    DataMeta meta;
    meta.tokenizer = "bytes";
    meta.vocab_size = 257;
    meta.eos_id = 256;
    meta.train.mean = 5.4;
    write_file_atomically(folder.path() / kMetaFile, to_json(meta));
    const VariantBench of_data = bench(config);
    EXPECT_EQ(of_data.document_tokens, 5);
    EXPECT_NE(of_data.losses, masked.losses);

    const Ceilings ceilings{1, 0, 1, "", ""};
    EXPECT_NE(variant_text(of_data, ceilings).find("data.mask_documents: documents of 5 tokens on average"),
              std::string::npos);
    EXPECT_EQ(variant_text(whole, ceilings).find("documents"), std::string::npos);
}

TEST(BenchDocuments, AreMaskedInSingleOpsToo) {
    Context ctx = make_context(Device::kCpu);
    std::vector<OpBench> ops;
    bench_ops(ctx, recipe(true), "attention", ops);
    ASSERT_FALSE(ops.empty());
    int64_t masked = 0;
    for (const OpBench& op : ops)
        if (op.op.starts_with("attention forward") || op.op.starts_with("attention backward"))
            masked += op.shape.ends_with(" documents 512") ? 1 : -1000;
    EXPECT_GT(masked, 0);
}

}  // namespace
}  // namespace pastur::test
