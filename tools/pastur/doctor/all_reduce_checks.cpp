// The all-reduce between two processes that doctor starts with mpirun.
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <sstream>

#include "kernels/base/error.h"
#include "tools/pastur/doctor/all_reduce.h"
#include "tools/pastur/doctor/checks.h"
#include "tools/pastur/doctor/child_process.h"

namespace pastur {
namespace {

using State = CheckOutcome::State;

ChildResult run_two(const std::string& mpirun, const std::string& device, std::vector<std::string> variables,
                    double timeout_s) {
    const std::string self = std::filesystem::read_symlink("/proc/self/exe").string();
    variables.emplace_back("OMP_NUM_THREADS=1");
    // Open MPI refuses more ranks than cores; versions 4 and 5 have different names for it.
    for (const auto& [name, value] : {std::pair("OMPI_MCA_rmaps_base_oversubscribe", "1"),
                                      {"PRTE_MCA_rmaps_default_mapping_policy", ":oversubscribe"}})
        if (!std::getenv(name)) variables.push_back(fmt::format("{}={}", name, value));
    return run_child(mpirun, {"mpirun", "-np", "2", self, "doctor", "--all-reduce", "--device", device},
                     variables, timeout_s);
}

bool refuses_root(const ChildResult& result) {
    return ::geteuid() == 0 && result.code != 0 && result.err.find("as root") != std::string::npos;
}

/// The line of an output that says most: pastur's own, else the first one that is not a frame.
std::string telling_line(const std::string& output) {
    std::istringstream lines(output);
    std::string first;
    for (std::string line; std::getline(lines, line);) {
        if (line.starts_with("pastur: ")) return line;
        if (first.empty() && line.find_first_not_of("- =\t*") != line.npos) first = line;
    }
    return first.empty() ? "it printed nothing" : first.substr(0, 200);
}

CheckOutcome outcome_of(const std::string& what, const ChildResult& result, double timeout_s) {
    const std::string network =
        "name the network that connects the ranks, such as OMPI_MCA_btl_tcp_if_include=eth0 and NCCL_SOCKET_IFNAME=eth0, and "
        "let them open TCP ports";
    if (result.timed_out)
        return {what, State::kWarning,
                fmt::format("two processes did not finish within {:.0f} s and were ended: {}", timeout_s,
                            telling_line(result.err)),
                network};
    if (result.code != 0)
        return {what, State::kWarning,
                fmt::format("mpirun -np 2 exited with {}: {}", result.code, telling_line(result.err)),
                network};
    AllReduceSpeed speed;
    if (!parse_speed(result.out, speed))
        return {what, State::kWarning,
                "two processes printed no result: " + telling_line(result.out + result.err),
                "start `mpirun -np 2 pastur --version` by hand"};
    if (speed.ranks != 2)
        return {
            what, State::kWarning, "mpirun started two processes that do not know of each other",
            "use the mpirun of the MPI that pastur was built with (`pastur --version`), or build with MPI"};
    return outcome_of(what, speed);
}

CheckOutcome check_pair(const std::string& what, const std::string& mpirun, const std::string& device,
                        double timeout_s) {
    const ChildResult result = run_two(mpirun, device, {}, timeout_s);
    if (!refuses_root(result)) return outcome_of(what, result, timeout_s);
    CheckOutcome outcome = outcome_of(
        what,
        run_two(mpirun, device, {"OMPI_ALLOW_RUN_AS_ROOT=1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1"}, timeout_s),
        timeout_s);
    if (outcome.state != State::kGood) return outcome;
    outcome.state = State::kWarning;
    outcome.text += "; mpirun refuses to run as root otherwise";
    outcome.advice =
        "export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1, or train as another user";
    return outcome;
}

}  // namespace

CheckOutcome outcome_of(const std::string& what, const AllReduceSpeed& speed) {
    CheckOutcome outcome = {what, State::kGood,
                            fmt::format("{} between {} ranks: 8 B in {:.1f} us, 64 MiB at {:.2f} GB/s",
                                        speed.transport, speed.ranks, speed.latency_us, speed.gbytes_per_s)};
    outcome.numbers = {
        {"ranks", speed.ranks}, {"latency_us", speed.latency_us}, {"gbytes_per_s", speed.gbytes_per_s}};
    if (speed.exact) return outcome;
    outcome.state = State::kBad;
    outcome.text += "; the sum is wrong";
    outcome.advice = "reinstall MPI or NCCL, or choose another transport (`pastur train --comm`)";
    return outcome;
}

std::vector<CheckOutcome> check_all_reduce(Device device, double timeout_s) {
    const std::string mpirun = on_path("mpirun");
    if (mpirun.empty()) return {{"all-reduce", State::kGood, "not measured: there is no mpirun on PATH"}};
    std::vector<CheckOutcome> outcomes = {check_pair("all-reduce", mpirun, "cpu", timeout_s)};
    if (device == Device::kCpu) return outcomes;
    if (const int gpus = cuda_device_count(); gpus < 2)
        outcomes.push_back({"all-reduce of GPUs", State::kGood,
                            fmt::format("not measured: it takes two GPUs, this process can use {}", gpus)});
    else
        outcomes.push_back(check_pair("all-reduce of GPUs", mpirun, "cuda", timeout_s));
    return outcomes;
}

}  // namespace pastur
