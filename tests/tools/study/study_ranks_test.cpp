// pastur study --gpus-per-run: the ranks of a run are started by mpirun, each run with GPUs of its own.
#include <chrono>
#include <set>
#include <thread>

#include "tests/support/training_line.h"
#include "tools/pastur/study/cell_slots.h"

namespace pastur::test {
namespace {

TEST(GroupsOfGpus, AreAsLargeAsARunNeeds) {
    using Names = std::vector<std::string>;
    EXPECT_EQ(groups_of_gpus({"0", "1", "2", "3"}, 2), (Names{"0,1", "2,3"}));
    EXPECT_EQ(groups_of_gpus({"4", "GPU-5", "6"}, 1), (Names{"4", "GPU-5", "6"}));
    EXPECT_EQ(groups_of_gpus({"0", "1", "2", "3", "4"}, 4), Names{"0,1,2,3"});
    EXPECT_EQ(groups_of_gpus({"0"}, 2), Names());
    EXPECT_EQ(groups_of_gpus({}, 1), Names());
}

#if defined(PASTUR_HAVE_MPI)
class StudyRanks : public TrainingLine {
  protected:
    static constexpr const char* kLine =
        "r.toml --variants mha,mla-nope --device cpu --run.tensorboard=false --out ";
    Result study(const std::string& arguments, const std::string& environment = "") const {
        return run("study " + arguments,
                   "OMP_NUM_THREADS=1 OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 "
                   "OMPI_MCA_rmaps_base_oversubscribe=1 TMPDIR=\"$PWD\" " +
                       environment);
    }
    /// Files with which a killed or ended study would litter the folder for temporary files.
    int sessions() const {
        int count = 0;
        for (const auto& entry : fs::directory_iterator(folder_.path()))
            count += entry.path().filename().string().starts_with("pastur-study-");
        return count;
    }
};

// A stand-in for mpirun says what it was asked, and starts one rank.
TEST_F(StudyRanks, EachRunHasGpusAndSessionFilesOfItsOwn) {
    fs::create_directory(file("bin"));
    write("bin/mpirun",
          "#!/bin/bash\necho \"$CUDA_VISIBLE_DEVICES|${*:1:5}|$OMPI_MCA_orte_tmpdir_base\" >> mpirun.log\n"
          "shift 5; exec \"$@\"\n");
    shell("chmod +x bin/mpirun");
    const Result result =
        study(kLine + std::string("s --gpus 4,5,6,7 --gpus-per-run 2"), "PATH=\"$PWD/bin:$PATH\"");
    ASSERT_EQ(result.code, 0) << result.err;
    EXPECT_NE(result.out.find("2 of 2 runs done"), std::string::npos) << result.out;
    std::set<std::string> asked, folders;
    std::ifstream log(file("mpirun.log"));
    for (std::string line; std::getline(log, line);) {
        asked.insert(line.substr(0, line.rfind('|')));
        folders.insert(line.substr(line.rfind('|') + 1));
    }
    EXPECT_EQ(asked, (std::set<std::string>{"4,5|-q --bind-to none -np 2", "6,7|-q --bind-to none -np 2"}));
    EXPECT_EQ(folders.size(), 2u);
    EXPECT_EQ(sessions(), 0);
}

TEST_F(StudyRanks, TrainOnMoreRanksWhatOneTrains) {
    if (std::system("mpirun --version > /dev/null 2>&1") != 0) GTEST_SKIP() << "no mpirun";
    ASSERT_EQ(study(kLine + std::string("one")).code, 0);
    const Result result = study(kLine + std::string("two --gpus-per-run 2 --jobs 2"));
    ASSERT_EQ(result.code, 0) << result.err;
    for (const std::string name : {"mha-s1", "mla-nope-s1"}) {
        double last[2] = {0, 0};
        for (const int i : {0, 1})
            for (const nlohmann::json& event : metrics((i ? "two/runs/" : "one/runs/") + name)) {
                if (event.at("event") == "start") {
                    EXPECT_EQ(event.at("ranks"), i + 1);
                }
                if (event.at("event") == "val") last[i] = event.at("loss");
            }
        EXPECT_NEAR(last[0], last[1], 1e-5 * last[0]) << name;
        EXPECT_GT(last[0], 0);
    }
    // A rank that fails is a run that fails, with its own error rather than mpirun's.
    const Result failed = study(
        "r.toml --variants mha --device cpu --train.lr=1e30 --train.warmup_steps=0 --gpus-per-run 2 --out s");
    EXPECT_EQ(failed.code, 1) << failed.err;
    EXPECT_NE(failed.out.find("mha-s1: failed with exit code 72: pastur: "), std::string::npos) << failed.out;
    EXPECT_EQ(sessions(), 0);
}

TEST_F(StudyRanks, StopWithACheckpointAndEndWithAKilledStudy) {
    if (std::system("mpirun --version > /dev/null 2>&1") != 0) GTEST_SKIP() << "no mpirun";
    const std::string line =
        "r.toml --variants mha --device cpu --run.tensorboard=false --train.steps=100000 "
        "--diagnostics.every=0 --gpus-per-run 2 --out '" +
        file("s") + "'";
    // The study asks the ranks themselves, whatever mpirun does with signals.
    const std::string program = "'" + binary().string() + "' study " + line;
    const std::string environment =
        "export OMP_NUM_THREADS=1 OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 "
        "OMPI_MCA_rmaps_base_oversubscribe=1 TMPDIR=\"$PWD\"\n";
    const std::string begun = "until grep -qs '\"train\"' s/runs/mha-s1/metrics.jsonl; do sleep 0.05; done\n";
    const Result stopped =
        shell(environment + program + " & study=$!\n" + begun + "kill -USR1 $study; wait $study");
    EXPECT_EQ(stopped.code, 75) << stopped.err << stopped.out;
    EXPECT_TRUE(fs::exists(file("s/runs/mha-s1/checkpoints/latest")));
    EXPECT_EQ(metrics("s/runs/mha-s1").back().at("status"), "requeue");
    shell(environment + "rm s/runs/mha-s1/metrics.jsonl\n" + program + " & study=$!\n" + begun +
          "kill -KILL $study; wait $study");
    const std::string ranks = "pgrep -f '[t]rain r.toml --run " + file("s") + "'";
    Result left = shell(ranks);
    for (int i = 0; i < 100 && left.code == 0; ++i) {
        std::this_thread::sleep_for(std::chrono::milliseconds(100));
        left = shell(ranks);
    }
    EXPECT_EQ(left.out, "") << "ranks outlive the study";
}

TEST_F(StudyRanks, RefuseWhatCannotBeStarted) {
    const auto refused = [&](const std::string& arguments, int code, std::initializer_list<std::string> parts,
                             const std::string& environment = "") {
        const Result result = study(kLine + std::string("s ") + arguments, environment);
        EXPECT_EQ(result.code, code) << result.err;
        for (const std::string& part : parts)
            EXPECT_NE(result.err.find(part), std::string::npos) << part << " is not in: " << result.err;
        EXPECT_FALSE(fs::exists(file("s/runs")));
    };
    refused("--gpus 0,1,2 --gpus-per-run 2", 2, {"--gpus names 3 GPUs", "a multiple of --gpus-per-run 2"});
    refused("--gpus-per-run 0", 2, {"--gpus-per-run"});
    refused("--gpus-per-run 2", 66, {"no mpirun on PATH"}, "PATH=/nowhere");
}
#endif

}  // namespace
}  // namespace pastur::test
