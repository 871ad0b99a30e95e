// The shell functions that the scripts in tools/ share.
#include "tests/support/command_line.h"

namespace pastur::test {
namespace {

class Scripts : public CommandLine {
  protected:
    void SetUp() override {
        write("say.sh", ". '" + std::string(PASTUR_SOURCE_DIR) + "/tools/lib.sh'; say a heading\n");
    }
};

TEST_F(Scripts, PrintHeadingsWithoutEscapesToAFile) {
    EXPECT_EQ(shell("bash say.sh").out, "\na heading\n");
}

TEST_F(Scripts, PrintBoldHeadingsOnATerminalUnlessNoColorIsSet) {
    if (std::system("script --version > /dev/null 2>&1") != 0) GTEST_SKIP() << "no script(1)";
    const std::string on_a_terminal = "script -qec 'bash say.sh' /dev/null";
    EXPECT_NE(shell(on_a_terminal).out.find("\033[1ma heading\033[0m"), std::string::npos);
    EXPECT_EQ(shell("NO_COLOR=1 " + on_a_terminal).out.find('\033'), std::string::npos);
}

TEST_F(Scripts, RefuseRanksThatScalingCannotMeasure) {
    const std::string script = "PASTUR='" + binary().string() + "' DEVICE=cpu bash '" +
                               std::string(PASTUR_SOURCE_DIR) + "/tools/peers/scaling.sh'";
    const Result odd = shell("RANKS='2 3' " + script);
    EXPECT_EQ(odd.code, 1);
    EXPECT_NE(odd.err.find("RANKS: expected 2, 4 or 8 ranks, not 3"), std::string::npos) << odd.err;
    EXPECT_FALSE(fs::exists(file("scaling-out")));
    fs::create_directory(file("scaling-out"));
    const Result present = shell("RANKS=2 " + script);
    EXPECT_EQ(present.code, 1);
    EXPECT_NE(present.err.find("scaling-out exists: remove it or set OUT"), std::string::npos) << present.err;
}

}  // namespace
}  // namespace pastur::test
