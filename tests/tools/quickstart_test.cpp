// tools/quickstart.sh checks its input before it builds anything, and is a study that continues where it was stopped.
#include "tests/support/command_line.h"
#include "tests/support/data_files.h"
#include "tests/support/source_folder.h"

namespace pastur {
namespace {

class Quickstart : public test::CommandLine {
  protected:
    /// A program that the script uses instead of building one.
    void stand_in(const std::string& line) const {
        write("program", "#!/bin/sh\n" + line + "\n");
        shell("chmod +x program");
    }
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

TEST_F(Quickstart, IsAStudyThatContinues) {
    ASSERT_EQ(run("data synth --docs 200 --seed 1 --out 'my text.txt'").code, 0);
    stand_in("exec '" + binary().string() +
             "' \"$@\" --model.layers=1 --train.global_batch=2 --train.val_tokens=256 "
             "--diagnostics.nulls=product");
    const auto script = [&](const std::string& before, const std::string& arguments) {
        return shell("PASTUR=$PWD/program OMP_NUM_THREADS=1 " + before + "'" +
                     test::source_file("tools/quickstart.sh") + "' --steps 4 --out quick " + arguments);
    };
    // Ctrl-C reaches the script and the study.
    script("timeout -s INT 3 ", "--input 'my text.txt'");
    const test::Result result = script("", "--input 'my text.txt'");
    ASSERT_EQ(result.code, 0) << result.err << result.out;
    EXPECT_NE(result.out.find("6 of 6 runs"), std::string::npos) << result.out;
    EXPECT_NE(result.out.find("/quick/report.html "), std::string::npos) << result.out;
    EXPECT_TRUE(test::fs::exists(file("quick/report.html")));
    EXPECT_TRUE(test::fs::exists(file("quick/runs/mla-decoupled-s2/metrics.jsonl")));
    const test::Result again = script("", "--input 'my text.txt'");
    EXPECT_EQ(again.code, 0) << again.err;
    EXPECT_EQ(again.out.find("data: making"), std::string::npos) << again.out;
    EXPECT_EQ(again.out.find("starts at step"), std::string::npos) << again.out;
    const test::Result other = script("", "");
    EXPECT_EQ(other.code, 2);
    EXPECT_NE(other.err.find("was made with other settings"), std::string::npos) << other.err;
}

TEST_F(Quickstart, TakesBytesOfATextThatIsTooUniform) {
    std::string text;
    for (int i = 0; i < 3000; ++i) text += "abc abd\n<|doc|>\n";
    test::write_bytes(file("uniform.txt"), text);
    stand_in("case \"$*\" in *'--stage data'*) exec '" + binary().string() + "' \"$@\" ;; esac");
    const std::string line = "PASTUR=$PWD/program '" + test::source_file("tools/quickstart.sh") +
                             "' --steps 1 --out quick --input uniform.txt";
    for (int time = 0; time < 2; ++time) {
        const test::Result result = shell(line);
        EXPECT_EQ(result.code, 0) << result.err;
        EXPECT_EQ(result.out.find("too uniform for 2048 pieces") != std::string::npos, time == 0);
    }
}

}  // namespace
}  // namespace pastur
