// pastur doctor: what it finds, what it calls bad, and that it leaves nothing behind.
#include <gtest/gtest.h>
#include <omp.h>

#include <chrono>
#include <csignal>
#include <nlohmann/json.hpp>
#include <set>

#include "kernels/base/context.h"
#include "tests/support/ranks.h"
#include "tools/pastur/doctor/all_reduce.h"
#include "tools/pastur/doctor/checks.h"
#include "tools/pastur/doctor/host_report.h"

namespace pastur::test {
namespace {

class Doctor : public CommandLine {
  protected:
    nlohmann::json examined(const std::string& arguments, const std::string& environment, int code) const {
        const Result result = run("doctor --json d.json " + arguments, environment);
        EXPECT_EQ(result.code, code) << result.err;
        const nlohmann::json all = nlohmann::json::parse(read_file(file("d.json"), 1 << 20));
        for (const nlohmann::json& check : all.at("checks")) {
            EXPECT_NE(result.out.find(check.at("text").get<std::string>()), std::string::npos) << check;
            EXPECT_EQ(check.contains("advice"), check.at("state") != "good") << check;
        }
        return all;
    }
    static nlohmann::json finding(const nlohmann::json& all, const std::string& what) {
        for (const nlohmann::json& check : all.at("checks"))
            if (check.at("check") == what) return check;
        ADD_FAILURE() << what << " in " << all;
        return {};
    }
    /// What is found of the all-reduce if mpirun is this script.
    nlohmann::json with_mpirun(const std::string& script, const std::string& more = "") const {
        fs::create_directories(file("fake"));
        write("fake/mpirun", "#!/bin/sh\n" + script);
        fs::permissions(file("fake/mpirun"), fs::perms::owner_all);
        const std::string path = "PATH=" + file("fake") + ":/usr/bin:/bin";
        const nlohmann::json found = finding(examined("--device cpu " + more, path, 0), "all-reduce");
        EXPECT_EQ(found.at("state"), "warning") << found;
        return found;
    }
    static void expect_text(const nlohmann::json& check, const std::string& part) {
        EXPECT_NE(check.at("text").get<std::string>().find(part), std::string::npos) << check;
    }
    /// Without an mpirun that takes seconds.
    static constexpr const char* kNoLauncher = "PATH=/nowhere";
};

TEST_F(Doctor, LooksAtHostDeviceAndDisk) {
    fs::create_directory(file("runs"));
    const nlohmann::json all = examined("--device cpu --dir runs", "OMP_NUM_THREADS=1 PATH=/nowhere", 0);
    EXPECT_NE(all.at("state"), "bad");
    std::set<std::string> names;
    for (const nlohmann::json& check : all.at("checks")) names.insert(check.at("check"));
    for (const char* name :
         {"program", "cpu", "memory", "shared memory", "clock", "launcher", "sockets", "LAPACK", "disk space",
          "disk speed", "fsync", "clock of the disk", "all-reduce"})
        EXPECT_TRUE(names.contains(name)) << name;
    EXPECT_EQ(finding(all, "cpu").at("state"), "good");
    EXPECT_EQ(finding(all, "LAPACK").at("state"), "good");
    EXPECT_TRUE(fs::is_empty(file("runs")));
}

TEST_F(Doctor, WarnsOfMoreThreadsThanCores) {
    const nlohmann::json cpu =
        finding(examined("--device cpu", "OMP_NUM_THREADS=4000 PATH=/nowhere", 0), "cpu");
    EXPECT_EQ(cpu.at("state"), "warning");
    EXPECT_NE(cpu.at("advice").get<std::string>().find("OMP_NUM_THREADS"), std::string::npos) << cpu;
}

TEST_F(Doctor, WarnsWithoutALauncher) {
    const nlohmann::json all = examined("--device cpu", kNoLauncher, 0);
    EXPECT_EQ(finding(all, "launcher").at("state"), "warning");
    expect_text(finding(all, "all-reduce"), "not measured: there is no mpirun on PATH");
    EXPECT_EQ(all.at("facts").at("cores"), std::to_string(omp_get_num_procs()));
}

TEST_F(Doctor, RefusesAFolderThatCannotBeWritten) {
    const nlohmann::json disk = finding(examined("--device cpu --dir missing", kNoLauncher, 69), "disk");
    EXPECT_EQ(disk.at("state"), "bad");
    EXPECT_NE(disk.at("text").get<std::string>().find("missing: No such file"), std::string::npos) << disk;
    expect_failure("doctor --device gpu", 2, {"gpu", "auto", "cuda"});
}

TEST_F(Doctor, RefusesAMissingGpuThatIsAskedFor) {
    if (cuda_device_count() > 0) GTEST_SKIP() << "this machine has a GPU";
    EXPECT_EQ(finding(examined("--device cuda", kNoLauncher, 69), "gpu").at("state"), "bad");
    EXPECT_NE(finding(examined("--device auto", kNoLauncher, 0), "gpu").at("state"), "bad");
}

TEST_F(Doctor, EndsAnMpirunThatHangs) {
    const auto begin = std::chrono::steady_clock::now();
    const nlohmann::json found =
        with_mpirun("echo $$ > pid; echo 'waiting for n2' >&2; sleep 60\n", "--timeout 1");
    EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(30));
    expect_text(found, "two processes did not finish within 1 s and were ended: waiting for n2");
    const pid_t pid = std::stoi(read_file(file("pid"), 100));
    EXPECT_EQ(::kill(pid, 0), -1);
}

TEST_F(Doctor, SaysWhyAnMpirunFails) {
    expect_text(with_mpirun("echo '-----' >&2; echo 'There are not enough slots' >&2; exit 3\n"),
                "mpirun -np 2 exited with 3: There are not enough slots");
    expect_text(with_mpirun("exit 0\n"), "two processes printed no result: it printed nothing");
    // As an mpirun of another MPI does: each process believes that it is alone.
    expect_text(with_mpirun("shift 2; \"$@\"; exec \"$@\"\n"),
                "mpirun started two processes that do not know of each other");
}

#if defined(PASTUR_HAVE_MPI)
TEST_F(Doctor, MeasuresAnAllReduceBetweenTwoProcesses) {
    const std::string as_root =
        "OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 "
        "OMPI_MCA_orte_tmpdir_base=\"$PWD\"";
    const nlohmann::json found = finding(examined("--device cpu", as_root, 0), "all-reduce");
    EXPECT_EQ(found.at("state"), "good") << found;
    EXPECT_EQ(found.at("ranks"), 2);
    EXPECT_GT(found.at("latency_us"), 0);
    EXPECT_GT(found.at("gbytes_per_s"), 0);
    expect_text(found, "MPI between 2 ranks");
}

TEST_F(Doctor, ExaminesEveryHostOfAJob) {
    const std::string doctor =
        test::Ranks::launcher(2) + "'" + binary().string() + "' doctor --device cpu --json d.json ";
    const Result result = shell(doctor);
    EXPECT_EQ(result.code, 0) << result.err;
    const nlohmann::json all = nlohmann::json::parse(read_file(file("d.json"), 1 << 20));
    EXPECT_EQ(all.at("ranks"), 2);
    ASSERT_EQ(all.at("hosts").size(), 1u);
    EXPECT_EQ(all.at("hosts")[0].at("ranks"), 2);
    EXPECT_EQ(finding(all.at("hosts")[0], "LAPACK").at("state"), "good");
    const nlohmann::json speed = finding(all, "all-reduce");
    EXPECT_EQ(speed.at("ranks"), 2);
    EXPECT_EQ(speed.at("state"), "good") << speed;
    EXPECT_NE(result.out.find(", 2 ranks\n"), std::string::npos) << result.out;
    EXPECT_NE(result.out.find(speed.at("text").get<std::string>()), std::string::npos) << result.out;

    const Result bad = shell(doctor + "--dir missing");
    EXPECT_EQ(bad.code, 69) << bad.err;
    const size_t line = bad.err.find("pastur: ");
    EXPECT_NE(bad.err.find("training cannot start on these hosts", line), std::string::npos) << bad.err;
    EXPECT_EQ(bad.err.find("pastur: ", line + 1), std::string::npos) << bad.err;
    EXPECT_NE(bad.out.find("not measured: see what is bad above"), std::string::npos) << bad.out;
}
#endif

std::vector<HostReport> three_hosts() {
    std::vector<HostReport> hosts(3);
    for (size_t i = 0; i < hosts.size(); ++i) {
        hosts[i].host = "n" + std::to_string(i + 1);
        hosts[i].facts = {{"program", "pastur 1"}, {"cores", "64"}, {"gpus", "8 x A"}};
        hosts[i].clock = 1000;
    }
    return hosts;
}

TEST(DoctorHosts, DifferencesNameTheHosts) {
    std::vector<HostReport> hosts = three_hosts();
    std::vector<CheckOutcome> alike = compare_hosts(hosts);
    ASSERT_EQ(alike.size(), 2u);
    EXPECT_EQ(alike[0].text, "3, equal in program, cores, gpus");
    EXPECT_EQ(alike[1].state, CheckOutcome::State::kGood);

    hosts[1].facts[0].second = "pastur 2";
    hosts[2].facts.pop_back();
    hosts[2].clock = 1003.5;
    const std::vector<CheckOutcome> found = compare_hosts(hosts);
    ASSERT_EQ(found.size(), 4u);
    EXPECT_EQ(found[0].text, "3, equal in cores");
    EXPECT_EQ(found[1].what, "program");
    EXPECT_EQ(found[1].text, "pastur 1 on n1, n3; pastur 2 on n2");
    EXPECT_EQ(found[2].text, "8 x A on n1, n2; unknown on n3");
    EXPECT_EQ(found[3].text, "3.50 s apart at most: n1 is behind, n3 is ahead");
    for (size_t i = 1; i < found.size(); ++i) {
        EXPECT_EQ(found[i].state, CheckOutcome::State::kWarning);
        EXPECT_FALSE(found[i].advice.empty());
    }
    EXPECT_TRUE(compare_hosts({hosts[0]}).empty());
}

TEST(DoctorHosts, ReportsTravelAsText) {
    HostReport sent = three_hosts()[1];
    sent.gpus = 8;
    sent.outcomes = {{"disk", CheckOutcome::State::kBad, "cannot write in \xff", "name a folder"}};
    const HostReport got = unpack(pack(sent));
    EXPECT_EQ(got.host, "n2");
    EXPECT_EQ(got.gpus, 8);
    EXPECT_EQ(got.clock, 1000);
    EXPECT_EQ(got.facts, sent.facts);
    ASSERT_EQ(got.outcomes.size(), 1u);
    EXPECT_EQ(got.outcomes[0].state, CheckOutcome::State::kBad);
    EXPECT_EQ(got.outcomes[0].text, "cannot write in \xef\xbf\xbd");
    EXPECT_EQ(got.outcomes[0].advice, "name a folder");
}

TEST(DoctorHosts, AWrongSumIsBad) {
    AllReduceSpeed speed = {"MPI", 2, 1.5, 3.25, true}, read;
    ASSERT_TRUE(parse_speed("mpirun says hello\n" + to_json_line(speed) + "\n", read));
    EXPECT_EQ(outcome_of("all-reduce", read).text, "MPI between 2 ranks: 8 B in 1.5 us, 64 MiB at 3.25 GB/s");
    EXPECT_EQ(outcome_of("all-reduce", read).state, CheckOutcome::State::kGood);
    speed.exact = false;
    EXPECT_EQ(outcome_of("all-reduce", speed).state, CheckOutcome::State::kBad);
    EXPECT_FALSE(parse_speed("{\"transport\": \"MPI\", ", read));
    EXPECT_FALSE(parse_speed("{\"transport\": 1}", read));
    EXPECT_FALSE(parse_speed("", read));
}

TEST(DoctorChecks, ComparesCusolverWithLapack) {
    if (cuda_device_count() == 0) GTEST_SKIP() << "needs a GPU";
    const std::vector<CheckOutcome> findings = check_devices(Device::kAuto);
    EXPECT_EQ(findings.back().what, "cuSOLVER");
    EXPECT_EQ(findings.back().state, CheckOutcome::State::kGood) << findings.back().text;
}

}  // namespace
}  // namespace pastur::test
