// Signals and limits of the process that runs the program: closed descriptors, early signals, lost readers, file
// sizes, threads and address space.
#include <csignal>

#include "tests/support/training_line.h"

namespace pastur {
namespace {

namespace fs = std::filesystem;
using test::Result;

class Limits : public test::TrainingLine {
  protected:
    std::string preloaded(const std::string& settings) const {
        return fmt::format("ASAN_OPTIONS=verify_asan_link_order=0 LD_PRELOAD='{}' {}",
                           (binary().parent_path() / "libpastur_faults.so").string(), settings);
    }
    std::string quoted() const { return "'" + binary().string() + "'"; }
    /// A shell line that starts a long run in the background, does `then` after 5 steps, and exits as the run does.
    Result interrupt(const std::string& then, const std::string& before = "") const {
        return shell(
            "{ " + before + quoted() +
            " train r.toml --device cpu --run run --train.steps=1000000 --diagnostics.every=0 "
            "--checkpoint.every=0 --run.tensorboard=false & p=$!; lines() { grep -c '\"train\"' $1/metrics.jsonl "
            "2> none; }; wait_for() { for i in $(seq 600); do [ \"$(lines $1)\" -gt $2 ] 2> none && break; "
            "sleep 0.05; done; }; wait_for run 5; " +
            then + "; wait $p; }");
    }
    void expect_one_line(const Result& result, int code, const std::string& part) const {
        EXPECT_EQ(result.code, code) << result.err;
        EXPECT_EQ(result.err.compare(0, 8, "pastur: "), 0) << result.err;
        EXPECT_EQ(result.err.find('\n'), result.err.size() - 1) << result.err;
        EXPECT_NE(result.err.find(part), std::string::npos) << result.err;
    }
};

TEST_F(Limits, ASignalBeforeMainEndsARunWithACheckpoint) {
    for (const int number : {SIGINT, SIGTERM, SIGUSR1, SIGHUP}) {
        fs::remove_all(file("run"));
        const Result result = run("train r.toml --run run --device cpu",
                                  preloaded(fmt::format("PASTUR_FAULT_SIGNAL={}", number)));
        EXPECT_EQ(result.code, 75) << number << ": " << result.err;
        EXPECT_TRUE(fs::exists(file("run/checkpoints/latest"))) << number;
    }
    const Result other = shell(preloaded(fmt::format("PASTUR_FAULT_SIGNAL={} ", SIGTERM)) + quoted() +
                               " data synth --docs 1 --out s; exit $?");
    EXPECT_EQ(other.code, 128 + SIGTERM) << "only training has something to save";
}

TEST_F(Limits, AHangupEndsARunWithACheckpointUnlessIgnored) {
    EXPECT_EQ(interrupt("kill -HUP $p").code, 75);
    EXPECT_EQ(metrics("run").back()["reason"], "SIGHUP");
    fs::remove_all(file("run"));
    EXPECT_EQ(
        interrupt("kill -HUP $p; n=$(lines run); wait_for run $((n + 5)); kill -TERM $p", "trap '' HUP; ")
            .code,
        75);
    EXPECT_EQ(metrics("run").back()["reason"], "SIGTERM") << "as under nohup";
}

TEST_F(Limits, ARunOutlivesTheReaderOfItsOutput) {
    const Result result =
        shell("{ " + quoted() + " train r.toml --run run --device cpu; echo $? > code; } | true; cat code");
    EXPECT_EQ(result.out, "0\n") << result.err;
    EXPECT_EQ(metrics("run").back()["status"], "done");
}

TEST_F(Limits, LosingTheRunFolderIsAnIoError) {
    for (const char* loss : {"mv run gone", "rm -r run 2> none", "mv run gone; mkdir run"}) {
        const Result result = interrupt(loss);
        expect_one_line(result, 74, "run/metrics.jsonl");
        fs::remove_all(file("run"));
        fs::remove_all(file("gone"));
    }
}

TEST_F(Limits, LosingACheckpointWhileItIsWrittenIsAnIoError) {
    expect_one_line(
        run("train r.toml --run run --device cpu", preloaded("PASTUR_FAULT_MISSING=/model.safetensors")), 74,
        "/model.safetensors: No such file");
}

TEST_F(Limits, AFileSizeLimitIsAnIoError) {
    expect_one_line(shell("ulimit -f 8; " + quoted() + " train r.toml --run run --device cpu"), 74,
                    "File too large");
    expect_one_line(shell("ulimit -f 8; " + quoted() + " data synth --docs 100 --out s"), 74,
                    "File too large");
    EXPECT_FALSE(fs::exists(file("s")));
}

TEST_F(Limits, ClosedDescriptorsAreNotReused) {
    EXPECT_EQ(shell(quoted() + " train r.toml --run run --device cpu <&- >&- 2>&-").code, 0);
    for (const nlohmann::json& event : metrics("run")) EXPECT_TRUE(event.contains("event"));
    EXPECT_EQ(metrics("run").back()["status"], "done");
    for (const char* name : {"run/metrics.jsonl", "run/config.toml", "run/spectra/summary.jsonl"}) {
        const std::string text = read_file(file(name), 1 << 24);
        EXPECT_EQ(text.find("tok/s  "), std::string::npos) << name << " holds console output";
        EXPECT_FALSE(text.empty()) << name;
    }
}

TEST_F(Limits, StandardOutputAndPipesAreNotReplaced) {
    const Result whole = shell(quoted() + " data synth --docs 3 --seed 1 --out s; cat s");
    const std::string story = read_file(file("s"), 1 << 20);
    ASSERT_FALSE(story.empty());
    EXPECT_EQ(shell(quoted() + " data synth --docs 3 --seed 1 --out /dev/stdout")
                  .out.compare(0, story.size(), story),
              0);
    EXPECT_EQ(
        shell("mkfifo p; cat p > got & " + quoted() + " data synth --docs 3 --seed 1 --out p; wait").code, 0);
    EXPECT_EQ(read_file(file("got"), 1 << 20), story);
    EXPECT_TRUE(fs::is_fifo(file("p")));
}

TEST_F(Limits, AThreadThatCannotStartIsOneLine) {
    for (int threads = 0;; ++threads) {
        ASSERT_LT(threads, 20);
        fs::remove_all(file("run"));
        const Result result =
            run("train r.toml --run run --device cpu",
                preloaded(fmt::format("OMP_NUM_THREADS=3 PASTUR_FAULT_THREADS={}", threads)));
        if (result.code == 0 && threads > 3) break;
        SCOPED_TRACE(fmt::format("{} threads", threads));
        expect_one_line(result, 69, "ulimit -u");
        if (HasFailure()) break;
    }
}

TEST_F(Limits, TooLittleAddressSpaceIsOneLine) {
#if defined(PASTUR_HAVE_CUDA)
    GTEST_SKIP() << "CUDA's libraries do not load within these limits";
#endif
    const std::string line =
        "OMP_NUM_THREADS=2 " + quoted() + " train r.toml --run run --device cpu --train.recompute=none";
    expect_one_line(shell("ulimit -v 300000; " + line), 69, "ulimit -v");
    const Result fits = shell("ulimit -v 1500000; " + line);
    EXPECT_EQ(fits.code, 0) << fits.err;
    const size_t of = fits.out.find(" MiB of ");
    ASSERT_NE(of, std::string::npos) << fits.out;
    const double free_mib = std::atof(fits.out.c_str() + of + 8);
    EXPECT_GT(free_mib, 100);
    EXPECT_LT(free_mib, 1200) << "of 1464 MiB, two buffers of OpenBLAS take 256";
    expect_one_line(shell("ulimit -v 1500000; " + line + " --model.d_model=2048 --model.ffn=8192 --resume"),
                    69, "not enough memory");
}

TEST_F(Limits, NoFileSteersTheTerminal) {
    ASSERT_EQ(run("train r.toml --run run --device cpu").code, 0);
    const std::string attack =
        "\x1b[2J\xc2\x9b"
        "31m\x07";
    std::ofstream(file("run/metrics.jsonl"), std::ios::app)
        << nlohmann::json{{"event", "start"}, {"variant", attack}}.dump() << "\n"
        << nlohmann::json{{"event", "end"}, {"status", attack + "\nforged"}}.dump() << "\n";
    fs::rename(file("run"), file("run" + attack));
    const auto expect_safe = [&](const std::string& arguments, const std::string& part) {
        SCOPED_TRACE(arguments);
        const Result result = run(arguments);
        const std::string all = result.out + result.err;
        EXPECT_NE(all.find(part), std::string::npos) << all;
        for (const char c : {'\x1b', '\x07', '\xc2', '\x9b'})
            EXPECT_EQ(all.find(c), std::string::npos) << all;
    };
    const std::string folder = "'run" + attack + "'";
    expect_safe("compare " + folder, "\\u001b[2J\\u009b31m\\u0007\\nforged");
    expect_safe("compare r.toml " + folder + " '" + attack + "'",
                "\\u001b[2J\\u009b31m\\u0007 is passed over");
    expect_safe("report " + folder, "\\u001b[2J");
    expect_safe("verify " + folder, "\\u001b[2J");
    expect_safe("spectra --text --device cpu " + folder, "\\u001b[2J");
    expect_safe("eval --device cpu --checkpoint " + folder + " --data corpus", "\\u001b[2J");
    expect_safe("train " + folder + " --resume --device cpu", "\\u001b[2J");
    expect_safe("train '" + attack + "'", "\\u001b[2J");
    expect_safe("data info '" + attack + "'", "\\u001b[2J");
}

}  // namespace
}  // namespace pastur
