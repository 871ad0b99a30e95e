// tools/plot_spectra.py: the maps of the page's first screen, by matplotlib.
#include <gtest/gtest.h>

#include "tests/support/command_line.h"
#include "tests/support/sample_run.h"

namespace pastur {
namespace {

using test::write_sample_run;

class PlotSpectra : public test::CommandLine {
  protected:
    void SetUp() override {
        if (std::system("python3 -c 'import numpy, matplotlib' > /dev/null 2>&1") != 0)
            GTEST_SKIP() << "python3 lacks NumPy or matplotlib";
        write_sample_run(file("a"), {});
        write_sample_run(file("b"), {.seed = 2});
        write_sample_run(file("c"), {.variant = "mla-decoupled", .ended = false});
    }
    test::Result plot(const std::string& arguments) const {
        return shell("python3 '" + std::string(PASTUR_SOURCE_DIR) + "/tools/plot_spectra.py' " + arguments);
    }
    bool is_png(const std::string& name) const {
        return read_file(file(name), 1 << 24).substr(0, 8) == "\x89PNG\r\n\x1a\n";
    }
};

TEST_F(PlotSpectra, DrawsVariantsAndSeeds) {
    const test::Result averaged = plot("a b c --out averaged.png");
    ASSERT_EQ(averaged.code, 0) << averaged.err;
    EXPECT_TRUE(is_png("averaged.png"));
    const test::Result separate = plot("a b c --separate --null mp --out separate.png");
    ASSERT_EQ(separate.code, 0) << separate.err;
    EXPECT_TRUE(is_png("separate.png"));
}

TEST_F(PlotSpectra, FailsOnARunThatIsMissingOrWithoutSpectra) {
    write_sample_run(file("plain"), {.measured = {}});
    const auto expect_missing = [&](const std::string& arguments, const std::string& what) {
        const test::Result result = plot(arguments + " --out none.png");
        EXPECT_EQ(result.code, 66) << arguments;
        EXPECT_NE(result.err.find(what), std::string::npos) << result.err;
        EXPECT_FALSE(std::filesystem::exists(file("none.png")));
    };
    expect_missing("a nowhere", "nowhere/metrics.jsonl: no such file");
    expect_missing("a plain", "plain/spectra/summary.jsonl: no such file");
    expect_missing("a --null profile",
                   "no query-key form of whole layers against profile; it measured mp, product");
}

}  // namespace
}  // namespace pastur
