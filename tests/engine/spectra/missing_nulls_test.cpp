// A null that was asked for and has no law for a matrix is said once, before measuring.
#include "engine/spectra/missing_nulls.h"

#include <gtest/gtest.h>

#include "engine/model/model.h"
#include "engine/ranks/comm.h"
#include "engine/spectra/monitor.h"
#include "tests/support/model_harness.h"
#include "tests/support/temp_folder.h"
#include "tests/support/thread_ranks.h"

namespace pastur::test {
namespace {

constexpr const char* kDecoupled =
    "variant = \"mla-decoupled\"\nkv_rank = 5\nnope_dim = 3\nrope_dim = 2\nv_dim = 4";

std::vector<std::string> lines(const std::string& attention, const std::vector<Scope>& scopes,
                               const std::vector<NullKind>& nulls) {
    const Config config = tiny_config(attention);
    Context ctx = CpuContext();
    Model model(config, DType::kF32, {1, 2});
    model.params().allocate(ctx, false);
    const ParamTable& table = model.params().table();
    return missing_nulls(nulls,
                         spectral_matrices(config, scopes, shapes_of(table), [&](const std::string& name) {
                             return ConstTensor(model.params().master(table.named(name)));
                         }));
}

TEST(MissingNulls, AreNamedOnceWithTheReason) {
    const std::vector<NullKind> nulls = {NullKind::kProduct, NullKind::kMp, NullKind::kPermuted};
    EXPECT_TRUE(lines("variant = \"mha\"", {Scope::kHead, Scope::kLayer, Scope::kWeights}, nulls).empty());
    EXPECT_TRUE(
        lines(kDecoupled, {Scope::kHead, Scope::kLayer, Scope::kContent, Scope::kRope}, nulls).empty());
    EXPECT_EQ(
        lines(kDecoupled, {Scope::kHead, Scope::kLayer, Scope::kRope}, nulls),
        std::vector<std::string>{"null product: no law for qk: it needs the variances of qk_content and "
                                 "qk_rope, which diagnostics.scopes leaves out"});
    const std::string neither = "it is neither a product of independent matrices nor a sum of such products";
    EXPECT_EQ(lines(kDecoupled, {Scope::kLiteral, Scope::kContent, Scope::kRope}, nulls),
              std::vector<std::string>{"null product: no law for qk_literal: " + neither});
    EXPECT_EQ(lines(std::string(kDecoupled) + "\nq_rank = 4", {Scope::kLayer, Scope::kContent, Scope::kRope},
                    nulls),
              std::vector<std::string>{"null product: no law for qk: " + neither});
    EXPECT_TRUE(lines(kDecoupled, {Scope::kLayer}, {NullKind::kMp}).empty());
}

TEST(MissingNulls, AreAMessageOfTheMonitorOnOneRank) {
    Config config = tiny_config(kDecoupled);
    config.diagnostics.scopes = {Scope::kLayer};
    const TempFolder folder;
    std::vector<std::vector<std::string>> messages(2);
    const std::vector<std::string> failures = run_ranks(2, [&](Comm& comm) {
        Context ctx = CpuContext();
        Model model(config, DType::kF32, {1, 2});
        model.params().allocate(ctx, false);
        model.params().initialise(ctx, 1);
        Monitor monitor(ctx, comm, config, model.params(), folder.path());
        if (comm.is_root()) monitor.open(-1);
        std::vector<std::string>& mine = messages[static_cast<size_t>(comm.rank())];
        for (const int64_t step : {0, 10}) {
            EXPECT_TRUE(monitor.observe(step, [] { return false; }));
            for (const std::string& message : monitor.drain().changes)
                if (message.find("spectra:") == std::string::npos) mine.push_back(message);
        }
    });
    for (const std::string& failure : failures) EXPECT_EQ(failure, "");
    ASSERT_EQ(messages[0].size(), 1u);
    EXPECT_TRUE(messages[0][0].starts_with("null product: no law for qk")) << messages[0][0];
    EXPECT_TRUE(messages[1].empty());
}

}  // namespace
}  // namespace pastur::test
