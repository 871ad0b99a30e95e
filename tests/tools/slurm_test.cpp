// tools/slurm/train.sbatch under stand-ins for srun and scontrol.
#include <regex>

#include "tests/support/command_line.h"
#include "tests/support/source_folder.h"

namespace pastur::test {
namespace {

class SlurmScript : public CommandLine {
  protected:
    void SetUp() override {
        fs::create_directories(file("run"));
        // srun: its options, then a program, whose lines it labels as those of rank 0; scontrol: says what it was
        // asked and expands n[1-3].
        write("srun",
              "#!/bin/bash\nwhile [[ $1 == --* ]]; do echo \"$1\" >> srun.log; shift; done\n"
              "exec \"$@\" > >(sed -u 's/^/0: /') 2>&1\n");
        write(
            "scontrol",
            "#!/bin/sh\nif [ \"$1\" = show ]; then printf 'n1\\nn2\\nn3\\n'; else echo \"$@\" >> scontrol.log; fi\n");
        shell("chmod +x srun scontrol");
    }
    /// `program`: the shell script that stands for pastur.
    Result submit(const std::string& program, const std::string& around = "",
                  const std::string& arguments = "r.toml run --train.lr=1",
                  const std::string& environment = "SLURM_CPUS_PER_TASK=3") const {
        write("pastur", "#!/bin/sh\n" + program + "\n");
        fs::remove(file("scontrol.log"));
        fs::remove(file("srun.log"));
        // Alone before an `&` of `around`, so $! is the script itself.
        return shell(
            "chmod +x pastur\nPATH=$PWD:$PATH PASTUR=./pastur SLURM_JOB_ID=77 SLURM_JOB_NODELIST='n[1-3]' " +
            environment + " bash '" + source_file("tools/slurm/train.sbatch") + "' " + arguments + around);
    }
    std::string asked() const {
        return fs::exists(file("scontrol.log")) ? read_file(file("scontrol.log"), 4096) : "";
    }
    std::string srun_options() const { return read_file(file("srun.log"), 4096); }
    /// Lines without the time and what follows it up to a blank.
    static std::string without_time(const std::string& text) {
        return std::regex_replace(text, std::regex("(^|\n)[0-9]{4}-[0-9T:-]+ "), "$1");
    }
};

TEST_F(SlurmScript, StartsARankATaskAndEndsWithIt) {
    const Result result = submit("echo \"$OMP_NUM_THREADS $@\"");
    EXPECT_EQ(result.code, 0) << result.err;
    EXPECT_EQ(without_time(result.out), "0: 3 train r.toml --run run --resume --train.lr=1\n");
    EXPECT_EQ(asked(), "");
    EXPECT_NE(srun_options().find("--kill-on-bad-exit=0"), std::string::npos);
    EXPECT_EQ(submit("exit 2").code, 2) << "a recipe that is wrong stays wrong";
    EXPECT_EQ(asked(), "");
}

TEST_F(SlurmScript, StartsAsManyRanksAsThereAreGpus) {
    submit("true", "", "r.toml run", "SLURM_GPUS_ON_NODE=4 SLURM_JOB_NUM_NODES=2 SLURM_CPUS_ON_NODE=64");
    EXPECT_EQ(srun_options().substr(0, 52), "--ntasks=8\n--ntasks-per-node=4\n--cpus-per-task=16\n--")
        << srun_options();
    submit("true", "", "r.toml run", "SLURM_NTASKS_PER_NODE=2 SLURM_CPUS_ON_NODE=8");
    EXPECT_EQ(srun_options().substr(0, 50), "--ntasks=2\n--ntasks-per-node=2\n--cpus-per-task=4\n-")
        << srun_options();
    submit("true", "", "r.toml run", "PASTUR_RANKS_PER_NODE=3 SLURM_GPUS_ON_NODE=4 SLURM_CPUS_ON_NODE=2");
    EXPECT_EQ(srun_options().substr(0, 50), "--ntasks=3\n--ntasks-per-node=3\n--cpus-per-task=1\n-")
        << srun_options();
}

TEST_F(SlurmScript, KeepsALogOfEachRankWithTimes) {
    const Result result = submit("echo step 1; echo bad >&2; printf 'no line feed'");
    EXPECT_EQ(without_time(read_file(file("run/logs/rank-0.log"), 4096)), "step 1\nbad\nno line feed\n");
    EXPECT_EQ(without_time(result.out), "0: step 1\n0: bad\n0: no line feed\n");
    EXPECT_TRUE(
        std::regex_search(result.out, std::regex("^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:]{8} 0: step 1\n")));
}

TEST_F(SlurmScript, RequeuesWithoutTheNodeOfALostRank) {
    const std::string lost =
        "echo 'pastur: rank 3 (host n2.cluster, process 77) is lost: no sign of life for 300.0 s' >&2; exit 71";
    const std::string held = "requeuehold 77\nupdate JobId=77 ExcNodeList=";
    EXPECT_EQ(submit(lost).code, 0);
    EXPECT_EQ(asked(), held + "n2\nrelease 77\n");
    EXPECT_EQ(
        submit("echo 'rank 0: the connection to rank 1 (host n1, process 5) is lost, in step 3'; exit 71")
            .code,
        0);
    EXPECT_EQ(asked(), held + "n1,n2\nrelease 77\n");
    EXPECT_EQ(submit("exit 75").code, 0) << "a step was made: nodes are excluded anew";
    EXPECT_EQ(submit("echo 'rank 1 (host elsewhere, process 5) is lost'; exit 71").code, 0);
    EXPECT_EQ(asked(), "requeue 77\n") << "it is no node of the job";
    EXPECT_EQ(submit(lost, "", "r.toml run", "PASTUR_EXCLUDE_LOST=0").code, 0);
    EXPECT_EQ(asked(), "requeue 77\n");
}

TEST_F(SlurmScript, TakesTheCodeOfTheRankThatEndedTheStep) {
    // srun itself exits with the highest code, which is that of ranks that were killed.
    write("srun",
          "#!/bin/bash\nwhile [[ $1 == --* ]]; do shift; done\n\"$@\" 2>&1 | sed 's/^/0: /'\n"
          "echo \"srun: error: n1: tasks 0,2-3: Exited with exit code $(cat own)\" >&2\n"
          "echo 'srun: error: n2: task 1: Terminated' >&2\nexit 143\n");
    write("own", "71");
    EXPECT_EQ(submit("true").code, 0);
    EXPECT_EQ(asked(), "requeue 77\n");
    write("own", "74");
    EXPECT_EQ(submit("true").code, 74);
    EXPECT_EQ(asked(), "");
    write("own", "75");
    EXPECT_EQ(submit("echo 'srun: error: n1: task 0: Exited with exit code 90'").code, 0)
        << "a rank's own line";
    EXPECT_EQ(asked(), "requeue 77\n");
}

TEST_F(SlurmScript, EndsTheRanksThatWaitForOneThatFailed) {
    write("srun",
          "#!/bin/bash\necho 'srun: error: n1: task 0: Exited with exit code 2' >&2\n"
          "for ((i = 0; i < 100; ++i)); do sleep 0.1; [[ ! -e killed ]] || exit 137; done\n");
    write("scancel", "#!/bin/sh\necho \"$@\" > killed\n");
    shell("chmod +x scancel");
    const Result result = submit("true", "", "r.toml run", "PASTUR_GRACE=1");
    EXPECT_EQ(result.code, 2) << result.out;
    EXPECT_EQ(read_file(file("killed"), 4096), "--signal=KILL 77.0\n");
    EXPECT_EQ(asked(), "");
}

TEST_F(SlurmScript, TrainsALineOfAListPerTaskOfAnArray) {
    write("runs.txt", "# recipe, run folder, settings\na.toml runs/a\n\n  b.toml runs/b --train.lr=2e-3\n");
    const auto task = [&](const char* number) {
        return submit("echo \"$@\"", "", "--list runs.txt --data.dir=tokens",
                      std::string("SLURM_ARRAY_TASK_ID=") + number);
    };
    EXPECT_EQ(without_time(task("2").out),
              "0: train b.toml --run runs/b --resume --train.lr=2e-3 --data.dir=tokens\n");
    EXPECT_EQ(without_time(task("1").out), "0: train a.toml --run runs/a --resume --data.dir=tokens\n");
    for (const char* number : {"0", "3"}) {
        const Result result = task(number);
        EXPECT_EQ(result.code, 2);
        EXPECT_NE(result.err.find("runs.txt: expected at least"), std::string::npos) << result.err;
    }
    EXPECT_EQ(submit("true", "", "--list runs.txt").code, 2) << "no array";
}

TEST_F(SlurmScript, GivesEachJobASecretOfItsOwn) {
    const std::string program = "echo \"$PASTUR_SECRET\" > secret";
    const auto secret = [&] { return submit(program), read_file(file("secret"), 4096); };
    const std::string first = secret(), second = secret();
    EXPECT_EQ(first.size(), 65u) << first;
    EXPECT_EQ(first.find_first_not_of("0123456789abcdef"), 64u) << first;
    EXPECT_NE(first, second);
    setenv("PASTUR_SECRET", "a secret of the user's", 1);
    EXPECT_EQ(secret(), "a secret of the user's\n");
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

/// tools/slurm/mpirun.sh and train.pbs under stand-ins for mpirun and qsub.
class ClusterScripts : public CommandLine {
  protected:
    void SetUp() override {
        write("mpirun", "#!/bin/sh\necho \"$@\" >> mpirun.log\nexit $(head -1 codes; sed -i 1d codes)\n");
        write("qsub", "#!/bin/sh\necho \"$@\" >> qsub.log\n");
        write("hosts", "n1 slots=2\n");
        shell("chmod +x mpirun qsub");
    }
    std::string log(const std::string& name) const {
        return fs::exists(file(name)) ? read_file(file(name), 1 << 16) : "";
    }
    /// Runs a script of tools/slurm; mpirun ends with these codes in turn.
    Result script(const std::string& line, const std::string& codes,
                  const std::string& environment = "") const {
        write("codes", codes);
        for (const char* name : {"mpirun.log", "qsub.log"}) fs::remove(file(name));
        return shell("PATH=$PWD:$PATH PASTUR=./pastur " + environment + " bash '" +
                     source_file("tools/slurm/") + line);
    }
};

TEST_F(ClusterScripts, MpirunStartsAgainAfterALostRank) {
    EXPECT_EQ(script("mpirun.sh' hosts r.toml run --train.lr=1", "71\n137\n0\n").code, 0);
    const std::string line =
        "--hostfile hosts --bind-to none ./pastur train r.toml --run run --resume --train.lr=1\n";
    EXPECT_EQ(log("mpirun.log"), line + line + line);
    EXPECT_EQ(script("mpirun.sh' hosts r.toml run", "71\n71\n", "PASTUR_LOST_RANKS=1").code, 71);
    EXPECT_EQ(script("mpirun.sh' hosts r.toml run", "2\n").code, 2);
    EXPECT_EQ(script("mpirun.sh' nowhere r.toml run", "0\n").code, 66);
    EXPECT_EQ(script("mpirun.sh' hosts r.toml", "0\n").code, 2);
}

TEST_F(ClusterScripts, PbsSubmitsItselfAgainAfterACheckpoint) {
    const std::string environment = "PBS_O_WORKDIR=$PWD PBS_NODEFILE=hosts PASTUR_TOOLS='" +
                                    source_file("tools/slurm") +
                                    "' PASTUR_ARGUMENTS='r.toml run --train.lr=1'";
    EXPECT_EQ(script("train.pbs'", "75\n", environment).code, 0);
    EXPECT_NE(log("mpirun.log").find("train r.toml --run run --resume --train.lr=1 --max-time=3h50m\n"),
              std::string::npos);
    EXPECT_NE(log("qsub.log").find("PASTUR_ARGUMENTS=r.toml run --train.lr=1,"), std::string::npos)
        << log("qsub.log");
    fs::create_directories(file("run"));
    write("run/STOP", "");
    EXPECT_EQ(script("train.pbs'", "75\n", environment).code, 75);
    EXPECT_EQ(log("qsub.log"), "") << "stopped by a file, which is still there";
    fs::remove(file("run/STOP"));
    EXPECT_EQ(script("train.pbs'", "0\n", environment).code, 0);
    EXPECT_EQ(log("qsub.log"), "");
}

TEST_F(ClusterScripts, PassShellcheck) {
    if (std::system("shellcheck --version > /dev/null 2>&1") != 0) GTEST_SKIP() << "no shellcheck";
    const std::string folder = source_file("tools/slurm/");
    const Result result = shell("cd '" + folder + "' && shellcheck train.sbatch train.pbs mpirun.sh");
    EXPECT_EQ(result.code, 0) << result.out;
}

}  // namespace
}  // namespace pastur::test
