// pastur study --slurm under stand-ins for sbatch and scontrol.
#include "tests/support/training_line.h"

namespace pastur::test {
namespace {

class StudySlurm : public TrainingLine {
  protected:
    void SetUp() override {
        // sbatch: says what it was asked, and answers with a job's number, as on a cluster with a name.
        write("sbatch",
              "#!/bin/sh\necho \"$@\" >> sbatch.log\necho \"$((100 + $(wc -l < sbatch.log)));cluster\"\n");
        write("scontrol", "#!/bin/sh\necho \"$@\" >> scontrol.log\n");
        shell("chmod +x sbatch scontrol");
        write("d.toml",
              "[study]\nrecipe = \"r.toml\"\nvariants = [\"mha\", \"mla-nope\"]\n[data_prepare]\n"
              "input = [\"stories.txt\"]\ntokenizer = \"bytes\"\n[set]\nrun.tensorboard = false\n");
    }
    Result submit(const std::string& arguments) const {
        fs::remove(file("sbatch.log"));
        return run("study " + arguments, "PATH=$PWD:$PATH");
    }
    std::vector<std::string> asked() const {
        std::vector<std::string> lines;
        std::ifstream in(file("sbatch.log"));
        for (std::string line; std::getline(in, line);) lines.push_back(line);
        return lines;
    }
    /// Runs the script as Slurm would, in another folder.
    Result job(const std::string& stage, const std::string& environment = "") const {
        return shell("PATH=$PWD:$PATH; cd / && " + environment +
                     " SLURM_JOB_ID=77 SLURM_CPUS_PER_TASK=1 bash '" + file("s/study.sbatch") + "' " + stage);
    }
};

TEST_F(StudySlurm, SubmitsDataThenRunsThenResults) {
    const Result result =
        submit("d.toml --out s --slurm --jobs 2 --slurm-options '--partition=gpu --time=1:00:00'");
    ASSERT_EQ(result.code, 0) << result.err;
    EXPECT_NE(result.out.find("submitted data 101;cluster, 2 runs 102;cluster, results 103;cluster"),
              std::string::npos)
        << result.out;
    const std::string script = file("s/study.sbatch"), options = "--partition=gpu --time=1:00:00";
    EXPECT_EQ(asked(),
              (std::vector<std::string>{
                  "--parsable " + options + " " + script + " data",
                  "--parsable --gpus=1 " + options +
                      " --dependency=afterok:101 --kill-on-invalid-dep=yes --array=0-1%2 " + script + " runs",
                  "--parsable " + options + " --dependency=afterany:102 " + script + " results"}));
    if (std::system("shellcheck --version > /dev/null 2>&1") == 0) {
        const Result checked = shell("shellcheck s/study.sbatch");
        EXPECT_EQ(checked.code, 0) << checked.out;
    }
    EXPECT_FALSE(fs::exists(file("s/data"))) << "the job makes it";
}

TEST_F(StudySlurm, AsksForTheGpusAndSlotsOfEachRun) {
    const auto runs_job = [&](const std::string& options) {
        EXPECT_EQ(submit("d.toml --out s --slurm " + options).code, 0);
        const std::vector<std::string> lines = asked();
        return lines.size() == 3 ? lines[1].substr(0, lines[1].find(" --dependency")) : "";
    };
    EXPECT_EQ(runs_job("--gpus-per-run 4"), "--parsable --nodes=1 --ntasks=4 --gpus-per-node=4");
    EXPECT_NE(read_file(file("s/study.sbatch"), 1 << 16).find("'--gpus-per-run' '4'"), std::string::npos);
    EXPECT_EQ(runs_job("--gpus-per-run 2 --device cpu"), "--parsable --nodes=1 --ntasks=2");
    EXPECT_EQ(runs_job("--gpus-per-run 1"), "--parsable --gpus=1");
    // A task trains its run with the ranks.
    ASSERT_EQ(submit("d.toml --out s --slurm --no-submit --gpus-per-run 3").code, 0);
    write("program", "#!/bin/sh\necho \"$@\"\n");
    shell("chmod +x program");
    const Result task = job("runs", "PASTUR='" + file("program") + "' SLURM_ARRAY_TASK_ID=1");
    EXPECT_NE(task.out.find("--gpus-per-run 3"), std::string::npos) << task.out;
    EXPECT_NE(task.out.find("--stage runs --only mla-nope-s1"), std::string::npos) << task.out;
}

TEST_F(StudySlurm, ItsJobsEndInTheResultsOfOneProcess) {
    const std::string options = " --device cpu --train.lr=2e-3 --title 'It'\\''s a title'";
    ASSERT_EQ(submit("d.toml --out s --slurm --no-submit" + options).code, 0);
    EXPECT_TRUE(asked().empty());
    EXPECT_EQ(read_file(file("s/study.sbatch"), 1 << 16).find("--gpus"), std::string::npos);
    EXPECT_EQ(job("data").code, 0);
    EXPECT_TRUE(fs::exists(file("s/data/prepared.json")));
    for (const char* task : {"0", "1"}) {
        const Result result = job("runs", std::string("SLURM_ARRAY_TASK_ID=") + task);
        EXPECT_EQ(result.code, 0) << result.err << result.out;
    }
    EXPECT_FALSE(fs::exists(file("s/study.json")));
    EXPECT_EQ(job("results").code, 0);
    EXPECT_TRUE(fs::exists(file("s/report.html")));
    ASSERT_EQ(run("study d.toml --out alone" + options, "OMP_NUM_THREADS=1").code, 0);
    nlohmann::json studies[2];
    for (const int i : {0, 1}) {
        studies[i] = nlohmann::json::parse(read_file(file(i ? "alone/study.json" : "s/study.json"), 1 << 24));
        for (const char* list : {"runs", "groups"})
            for (nlohmann::json& item : studies[i].at(list)) item.erase("cost");
    }
    EXPECT_EQ(studies[0], studies[1]);
    EXPECT_EQ(studies[0].at("title"), "It's a title");
    // What is done is not submitted again.
    ASSERT_EQ(submit("d.toml --out s --slurm" + options).code, 0);
    EXPECT_EQ(asked(), (std::vector<std::string>{"--parsable " + file("s/study.sbatch") + " results"}));
}

TEST_F(StudySlurm, HandsUsr1OnAndRequeuesWhatWasCheckpointed) {
    ASSERT_EQ(submit("d.toml --out s --slurm --no-submit").code, 0);
    write("program", "#!/bin/sh\ntrap 'exit 75' USR1\ntouch ready\nwhile true; do sleep 0.1; done\n");
    shell("chmod +x program");
    // On a line of its own, so that $! is the script itself.
    const std::string task =
        "true\nPATH=$PWD:$PATH PASTUR=./program SLURM_ARRAY_TASK_ID=0 SLURM_JOB_ID=77 bash "
        "s/study.sbatch runs & job=$!; until [ -e ready ] || ! kill -0 $job; do sleep 0.1; done; "
        "kill -USR1 $job; wait $job";
    EXPECT_EQ(shell(task).code, 0);
    EXPECT_EQ(read_file(file("scontrol.log"), 4096), "requeue 77\n");
    fs::remove(file("scontrol.log"));
    fs::remove(file("ready"));
    write("s/STOP", "");
    EXPECT_EQ(shell(task).code, 75) << "stopped by a file, which is still there";
    EXPECT_FALSE(fs::exists(file("scontrol.log")));
    write("program", "#!/bin/sh\nexit 2\n");
    EXPECT_EQ(job("runs", "PASTUR=./program SLURM_ARRAY_TASK_ID=0").code, 2) << "what is wrong stays wrong";
    EXPECT_FALSE(fs::exists(file("scontrol.log")));
}

TEST_F(StudySlurm, RefusesWhatSlurmDecidesAndReportsSbatch) {
    expect_failure("study d.toml --out s --slurm --gpus 0", 2, {"--gpus"});
    expect_failure("study d.toml --out s --slurm --max-time 1h", 2, {"--max-time"});
    expect_failure("study d.toml --out s --slurm --stage runs", 2, {"--stage"});
    expect_failure("study d.toml --out s --no-submit", 2, {"--slurm"});
    write("sbatch", "#!/bin/sh\necho 'sbatch: error: invalid partition' >&2\nexit 1\n");
    const Result failed = submit("d.toml --out s --slurm");
    EXPECT_EQ(failed.code, 1);
    EXPECT_NE(failed.err.find("pastur: sbatch failed"), std::string::npos) << failed.err;
    EXPECT_NE(failed.err.find("invalid partition"), std::string::npos) << failed.err;
}

}  // namespace
}  // namespace pastur::test
