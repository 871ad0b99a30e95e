// tools/quickstart.sh checks its input before it builds anything.
#include "tests/support/command_line.h"
#include "tests/support/data_files.h"
#include "tests/support/source_folder.h"

namespace pastur {
namespace {

class Quickstart : public test::CommandLine {
  protected:
    void expect_refused(const std::string& arguments, const std::string& part) const {
        SCOPED_TRACE(arguments);
        const test::Result result = shell("'" + test::source_file("tools/quickstart.sh") + "' " + arguments);
        EXPECT_EQ(result.code, 1);
        EXPECT_EQ(result.out, "") << "a step has begun";
        EXPECT_TRUE(result.err.starts_with("quickstart.sh: ")) << result.err;
        EXPECT_NE(result.err.find(part), std::string::npos) << result.err;
    }
};

TEST_F(Quickstart, ChecksItsInputBeforeBuilding) {
    test::write_bytes(file("empty.txt"), "");
    test::write_bytes(file("corpus.txt"), "PAR1\x15\x04");
    test::write_bytes(file("wide.txt"), "\xff\xfeh");
    test::write_bytes(file("short.txt"), std::string(5000, 'a'));
    expect_refused("--input nowhere.txt", "nowhere.txt: no such file");
    expect_refused("--input short.txt 'nowhere/*.jsonl'", "nowhere/*.jsonl: no such file");
    expect_refused("--input empty.txt", "empty.txt: the file is empty");
    expect_refused("--input corpus.txt", "Parquet");
    expect_refused("--input wide.txt", "UTF-16");
    expect_refused("--input short.txt", "at least 20 kB");
    expect_refused("--input /dev/null", "regular file");
}

}  // namespace
}  // namespace pastur
