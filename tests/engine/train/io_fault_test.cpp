// Every file operation of a training run fails once, and the disk becomes full at every one. The run must
// exit with 74 and keep its checkpoints intact, and a resumed run must end with the bits of an unbroken one.
// A preloaded library makes the operations fail (tests/faults).
#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "engine/io/step_name.h"
#include "engine/train/checkpoint/checkpoint_check.h"
#include "engine/train/checkpoint/checkpoint_store.h"
#include "tests/support/training_line.h"

namespace pastur {
namespace {

namespace fs = std::filesystem;
using test::Result;

struct FaultCase {
    const char *name, *kind, *reason;
    bool resumed;
    int operations;  ///< fewest operations of a run
};

/// Whether the preloaded library logged the opening of a folder that is being removed.
bool is_leftover(const std::string& fault) {
    for (const char* prefix : {"/.tmp-step_", "/.old-step_", "/.drop-step_"})
        if (const size_t at = fault.find(prefix); at != std::string::npos)
            return fault.compare(0, 5, "open ") == 0 && fault.find('/', at + 1) == std::string::npos;
    return false;
}

class IoFaults : public test::TrainingLine, public testing::WithParamInterface<FaultCase> {
  protected:
    IoFaults() : TrainingLine(test::folder_in_memory()) {
        write("r.toml", read_file(file("r.toml"), 1 << 20) + "[diagnostics]\nevery = 2\n");
    }

    Result train(const std::string& run_folder, bool resume, int fault_at = 0) const {
        std::string environment = "OMP_NUM_THREADS=1";
        if (fault_at > 0)
            environment += fmt::format(
                " ASAN_OPTIONS=verify_asan_link_order=0 LD_PRELOAD='{}' PASTUR_FAULT_UNDER='{}' "
                "PASTUR_FAULT_AT={} PASTUR_FAULT_KIND={} PASTUR_FAULT_LOG='{}'",
                (binary().parent_path() / "libpastur_faults.so").string(), file(run_folder), fault_at,
                GetParam().kind, file("fault"));
        return run(fmt::format("train r.toml --run {} --device cpu{}", run_folder, resume ? " --resume" : ""),
                   environment);
    }
    /// The state that a kill leaves while step 4 is saved: the log is ahead of the newest checkpoint.
    void make_interrupted_run(const std::string& run_folder) const {
        fs::copy(file("whole"), file(run_folder), fs::copy_options::recursive);
        const fs::path checkpoints = fs::path(file(run_folder)) / "checkpoints";
        fs::rename(checkpoints / "step_00000004", checkpoints / ".tmp-step_00000004");
        fs::remove(checkpoints / ".tmp-step_00000004" / "MANIFEST.json");
        fs::resize_file(checkpoints / ".tmp-step_00000004" / "model.safetensors", 5000);
        write(run_folder + "/checkpoints/latest", "step_00000002\n");
        std::string said = read_file(file(run_folder + "/metrics.jsonl"), 1 << 24);
        said.resize(said.rfind("{\"v\":1,\"event\":\"checkpoint\"") + 20);
        write(run_folder + "/metrics.jsonl", said);
    }
    void expect_failed_cleanly(const Result& result) const {
        EXPECT_EQ(result.code, 74) << result.out;
        EXPECT_EQ(result.err.find('\n'), result.err.size() - 1) << result.err;
        EXPECT_EQ(result.err.compare(0, 8, "pastur: "), 0) << result.err;
        EXPECT_NE(result.err.find(GetParam().reason), std::string::npos) << result.err;
        // Every checkpoint that the run announced, and the one it resumed from, must exist.
        std::vector<int64_t> announced;
        if (GetParam().resumed) announced.push_back(2);
        for (const nlohmann::json& event : metrics("run"))
            if (event["event"] == "checkpoint") announced.push_back(event["step"]);
        for (const int64_t step : announced)
            EXPECT_TRUE(fs::exists(file("run/checkpoints/" + step_name(step)))) << step;
        // Every existing checkpoint must be intact.
        for (const auto& checkpoint : CheckpointStore(file("run/checkpoints"), 0).list())
            EXPECT_NO_THROW(check_checkpoint(checkpoint.path)) << checkpoint.path;
    }
};

TEST_P(IoFaults, EachEndsTheRunAndLosesNothing) {
    const Result whole = train("whole", false);
    ASSERT_EQ(whole.code, 0) << whole.err;
    const auto expected = outcome("whole");
    int at = 1;
    for (; !HasFailure(); ++at) {
        fs::remove_all(file("run"));
        fs::remove(file("fault"));
        if (GetParam().resumed) make_interrupted_run("run");
        const Result result = train("run", GetParam().resumed, at);
        if (!fs::exists(file("fault"))) {
            EXPECT_EQ(result.code, 0) << result.err;
            EXPECT_EQ(outcome("run"), expected) << "without a failure";
            break;
        }
        SCOPED_TRACE(fmt::format("operation {}: {}", at, read_file(file("fault"), 4096)));
        const std::string fault = read_file(file("fault"), 4096);
        // A failed removal is repeated at the next start and must not fail the run. The claim that it could not remove
        // is that of a dead process, which the next owner replaces.
        if (result.code == 0 && (is_leftover(fault) || fault.ends_with("/.owner\n"))) {
            EXPECT_EQ(outcome("run"), expected);
            EXPECT_EQ(train("run", true).code, 0) << "what is left keeps no other run from the folder";
            continue;
        }
        expect_failed_cleanly(result);
        const Result resumed = train("run", true);
        EXPECT_EQ(resumed.code, 0) << resumed.err;
        EXPECT_EQ(outcome("run"), expected);
    }
    EXPECT_GE(at, GetParam().operations);
}

INSTANTIATE_TEST_SUITE_P(Training, IoFaults,
                         testing::Values(FaultCase{"Error", "eio", "Input/output error", false, 180},
                                         FaultCase{"FullDisk", "full", "No space left", false, 60},
                                         FaultCase{"ErrorAfterAKill", "eio", "Input/output error", true, 140},
                                         FaultCase{"FullDiskAfterAKill", "full", "No space left", true, 40}),
                         [](const auto& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace pastur
