// Stops at every point at which a run checks for one: between steps, between batches of a validation, before
// and during a measurement of spectra, and while waiting for data. Each stop saves a checkpoint and exits
// with 75, and the resumed run does what the stop skipped.
#include <set>
#include <thread>

#include "engine/io/step_name.h"
#include "engine/model/batch.h"
#include "tests/support/ranks.h"
#include "tests/support/training_line.h"

namespace pastur {
namespace {

namespace fs = std::filesystem;
using test::Result;

class Stops : public test::TrainingLine {
  protected:
    Stops() : TrainingLine(test::folder_in_memory()) {
        // 96 sequences are 24 batches: 24 rounds on one rank, 12 on two.
        write("r.toml",
              read_file(file("r.toml"), 1 << 20) +
                  "[diagnostics]\nevery = 2\nnulls = [\"product\", \"permuted\"]\npermutations = 3\n"
                  "scopes = [\"layer\"]\n");
    }
    static constexpr const char* kLine =
        "train r.toml --device cpu --train.micro_batch=2 --train.val_every=2 --train.val_tokens=128 --run ";

    /// The last of `ranks` ranks finds a file STOP at its at-th check; 0: never.
    Result train(int ranks, const std::string& run_folder, bool resume, int at = 0) const {
        const std::string line =
            "'" + binary().string() + "' " + kLine + run_folder + (resume ? " --resume" : "");
        const std::string shim = fmt::format(
            "env ASAN_OPTIONS=verify_asan_link_order=0 LD_PRELOAD='{}' PASTUR_FAULT_UNDER='{}' "
            "PASTUR_FAULT_AT={} "
            "PASTUR_FAULT_KIND=stop PASTUR_FAULT_LOG='{}' ",
            (binary().parent_path() / "libpastur_faults.so").string(), file(run_folder), at, file("fault"));
        if (ranks == 1) return shell("OMP_NUM_THREADS=1 " + (at > 0 ? shim : "") + line);
        return shell(test::Ranks::launcher(1) + line + " : -np 1 " + (at > 0 ? shim : "") + line);
    }
    /// Stops a run at its at-th check and resumes it; false if the run ended before.
    bool stop_at(int ranks, int at, const std::map<std::string, std::string>& expected) const {
        fs::remove_all(file("run"));
        fs::remove(file("fault"));
        const Result stopped = train(ranks, "run", false, at);
        if (!fs::exists(file("fault"))) {
            EXPECT_EQ(stopped.code, 0) << stopped.err;
            return false;
        }
        EXPECT_EQ(stopped.code, 75) << stopped.err;
        const nlohmann::json end = metrics("run").back();
        EXPECT_EQ(end["event"], "end");
        EXPECT_EQ(end["status"], "requeue");
        EXPECT_EQ(read_file(file("run/checkpoints/latest"), 100),
                  step_name(end["step"].get<int64_t>()) + "\n");
        const Result resumed = train(ranks, "run", true);
        EXPECT_EQ(resumed.code, 0) << resumed.err;
        EXPECT_TRUE(outcome("run") == expected);
        std::set<std::string> said;
        for (const nlohmann::json& event : metrics("run"))
            if (event.contains("loss")) {
                EXPECT_TRUE(
                    said.insert(fmt::format("{} {}", event["event"].dump(), event["step"].dump())).second);
            }
        return true;
    }
    void stop_at_each(int ranks, int stride, int at_least) const {
        const Result whole = train(ranks, "whole", false);
        ASSERT_EQ(whole.code, 0) << whole.err;
        const auto expected = outcome("whole");
        ASSERT_EQ(expected.count("\"val\" 2"), 1u);
        int at = 1;
        while (!HasFailure()) {
            SCOPED_TRACE(fmt::format("look {}", at));
            if (!stop_at(ranks, at, expected)) break;
            at += stride;
        }
        EXPECT_GE(at, at_least);
    }
};

TEST_F(Stops, EachMomentSavesAndNothingIsLostOrSaidTwice) {
    // Three validations of four rounds, three measurements with four checks and four steps.
    stop_at_each(1, 1, 28);
}

#if defined(PASTUR_HAVE_MPI)
TEST_F(Stops, OneOfTwoRanksIsEnough) {
    stop_at_each(2, 3, 22);
}
#endif

TEST_F(Stops, ATimeIsOneToo) {
    const Result stopped = run(std::string(kLine) + "run --train.steps=1000000 --max-time 0.02min");
    EXPECT_EQ(stopped.code, 75) << stopped.err;
    EXPECT_EQ(metrics("run").back()["status"], "requeue");
    EXPECT_EQ(run("train r.toml --run other --max-time 3days").code, 2);
}

TEST(BatchStream, SaysWhetherTheNextBatchIsThere) {
    std::promise<void> release;
    const std::shared_future<void> released = release.get_future().share();
    BatchStream batches([&](int64_t, std::span<int32_t>) { released.wait(); }, 0, 1, {1, 4});
    EXPECT_FALSE(batches.ready_within(std::chrono::milliseconds(10)));
    release.set_value();
    EXPECT_TRUE(batches.ready_within(std::chrono::seconds(10)));
    EXPECT_EQ(batches.next().tokens.size(), 4u);
}

}  // namespace
}  // namespace pastur
