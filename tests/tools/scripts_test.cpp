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

}  // namespace
}  // namespace pastur::test
