// What the READMEs quote from the program. tools/dev.sh readme runs the commands that they give.
#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <regex>
#include <sstream>

#include "tests/support/source_folder.h"

namespace pastur::test {
namespace {

namespace fs = std::filesystem;

std::string text_of(const fs::path& file) {
    std::ostringstream text;
    text << std::ifstream(file).rdbuf();
    return text.str();
}

/// All sources of the program; a text that is written in several literals is one.
std::string all_sources() {
    std::string text;
    for (const char* folder : {"kernels", "diag", "data", "engine", "tools/pastur"})
        for (const fs::directory_entry& entry : fs::recursive_directory_iterator(source_file(folder)))
            if (entry.path().extension() == ".cpp") text += text_of(entry.path());
    return std::regex_replace(text, std::regex("\"\\s*\\n\\s*\""), "");
}

TEST(Readme, QuotesMessagesThatTheProgramPrints) {
    if (!fs::exists(source_file("engine"))) GTEST_SKIP() << "no sources";
    const std::string readme = text_of(source_file("tools/README.md"));
    const size_t section = readme.find("## Troubleshooting");
    ASSERT_NE(section, std::string::npos);
    const std::string sources = all_sources();
    std::istringstream lines(readme.substr(section));
    int messages = 0;
    for (std::string line; std::getline(lines, line);) {
        if (!line.starts_with("| `")) continue;
        std::string message = line.substr(3, line.find('`', 3) - 3);
        EXPECT_NE(sources.find(message), std::string::npos) << message;
        ++messages;
    }
    EXPECT_GE(messages, 10);
}

TEST(Readme, OfTheTopFitsIntoItsLines) {
    if (!fs::exists(source_file("README.md"))) GTEST_SKIP() << "no README";
    const std::string readme = text_of(source_file("README.md"));
    EXPECT_LE(std::count(readme.begin(), readme.end(), '\n'), 170);
}

}  // namespace
}  // namespace pastur::test
