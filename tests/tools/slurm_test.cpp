// tools/slurm/train.sbatch under stand-ins for srun and scontrol.
#include "tests/support/command_line.h"
#include "tests/support/source_folder.h"

namespace pastur::test {
namespace {

class SlurmScript : public CommandLine {
  protected:
    void SetUp() override {
        fs::create_directories(file("run"));
        // srun: its options, then a program; scontrol: says what it was asked.
        write("srun",
              "#!/bin/sh\nwhile case $1 in --*) true ;; *) false ;; esac; do echo \"$1\" >> srun.log; shift; "
              "done\nexec \"$@\"\n");
        write("scontrol", "#!/bin/sh\necho \"$@\" >> scontrol.log\n");
        shell("chmod +x srun scontrol");
    }
    /// `program`: the shell script that stands for pastur.
    Result submit(const std::string& program, const std::string& around = "") const {
        write("pastur", "#!/bin/sh\n" + program + "\n");
        fs::remove(file("scontrol.log"));
        // Alone before an `&` of `around`, so $! is the script itself.
        return shell(
            "chmod +x pastur\nPATH=$PWD:$PATH PASTUR=./pastur SLURM_JOB_ID=77 SLURM_CPUS_PER_TASK=3 "
            "bash '" +
            source_file("tools/slurm/train.sbatch") + "' r.toml run --train.lr=1" + around);
    }
    std::string asked() const {
        return fs::exists(file("scontrol.log")) ? read_file(file("scontrol.log"), 4096) : "";
    }
};

TEST_F(SlurmScript, StartsARankATaskAndEndsWithIt) {
    const Result result = submit("echo \"$OMP_NUM_THREADS $@\"");
    EXPECT_EQ(result.code, 0) << result.err;
    EXPECT_EQ(result.out, "3 train r.toml --run run --resume --train.lr=1\n");
    EXPECT_EQ(asked(), "");
    EXPECT_NE(read_file(file("srun.log"), 4096).find("--kill-on-bad-exit=1"), std::string::npos);
    EXPECT_EQ(submit("exit 2").code, 2) << "a recipe that is wrong stays wrong";
    EXPECT_EQ(asked(), "");
}

TEST_F(SlurmScript, GivesEachJobASecretOfItsOwn) {
    const std::string program = "echo \"$PASTUR_SECRET\"";
    const std::string first = submit(program).out, second = submit(program).out;
    EXPECT_EQ(first.size(), 65u) << first;
    EXPECT_EQ(first.find_first_not_of("0123456789abcdef"), 64u) << first;
    EXPECT_NE(first, second);
    setenv("PASTUR_SECRET", "a secret of the user's", 1);
    EXPECT_EQ(submit(program).out, "a secret of the user's\n");
    unsetenv("PASTUR_SECRET");
}

TEST_F(SlurmScript, HandsUsr1OnAndRequeuesWhatWasCheckpointed) {
    const Result result =
        submit("trap 'exit 75' USR1; touch ready; while true; do sleep 0.1; done",
               " & job=$!; until [ -e ready ]; do sleep 0.1; done; kill -USR1 $job; wait $job");
    EXPECT_EQ(result.code, 0) << result.err;
    EXPECT_EQ(asked(), "requeue 77\n");
    write("run/STOP", "");
    EXPECT_EQ(submit("exit 75").code, 0);
    EXPECT_EQ(asked(), "") << "stopped by a file, which is still there";
}

TEST_F(SlurmScript, GivesUpOnRanksThatAreLostAgainAndAgain) {
    for (int time = 0; time < 3; ++time) {
        EXPECT_EQ(submit("exit 71").code, 0);
        EXPECT_EQ(asked(), "requeue 77\n");
    }
    EXPECT_EQ(submit("exit 71").code, 71);
    EXPECT_EQ(asked(), "");
    EXPECT_EQ(submit("exit 75").code, 0) << "a step was made: counting starts again";
    EXPECT_EQ(submit("exit 71").code, 0);
}

}  // namespace
}  // namespace pastur::test
