#pragma once
// Runs the built program as scripts do and returns its output and exit code.
#include <gtest/gtest.h>
#include <sys/wait.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <initializer_list>
#include <string>

#include "data/files.h"
#include "tests/support/temp_folder.h"

namespace pastur::test {

namespace fs = std::filesystem;

struct Result {
    int code;
    std::string out, err;
};

class CommandLine : public testing::Test {
  protected:
    explicit CommandLine(const fs::path& parent = fs::temp_directory_path()) : folder_(parent) {}
    static fs::path binary() { return fs::read_symlink("/proc/self/exe").parent_path() / "pastur"; }

    /// Runs `pastur <arguments>` in the test's folder through a shell. environment: "NAME=value ..."
    Result run(const std::string& arguments, const std::string& environment = "") const {
        return shell(environment + " '" + binary().string() + "' " + arguments);
    }
    /// Runs a shell command in the test's folder.
    Result shell(const std::string& line) const {
        const std::string command = "cd '" + folder_.path().string() + "' && " + line;
        const int status =
            std::system(("{ " + command + "; } > '" + file("out") + "' 2> '" + file("err") + "'").c_str());
        return {WIFEXITED(status) ? WEXITSTATUS(status) : -1, read_file(file("out"), 1 << 24),
                read_file(file("err"), 1 << 24)};
    }
    std::string file(const std::string& name) const { return (folder_.path() / name).string(); }
    void write(const std::string& name, const std::string& text) const { std::ofstream(file(name)) << text; }

    /// Expects the command to fail with this code and one line on stderr that contains all `parts`.
    void expect_failure(const std::string& arguments, int code,
                        std::initializer_list<std::string> parts) const {
        SCOPED_TRACE("pastur " + arguments);
        const Result result = run(arguments);
        EXPECT_EQ(result.code, code) << result.err;
        EXPECT_EQ(result.err.compare(0, 8, "pastur: "), 0) << result.err;
        EXPECT_EQ(result.err.find('\n'), result.err.size() - 1) << result.err;
        for (const std::string& part : parts)
            EXPECT_NE(result.err.find(part), std::string::npos) << result.err;
    }

    TempFolder folder_;
};

}  // namespace pastur::test
