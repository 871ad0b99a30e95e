#include "tools/pastur/study/cell_slots.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <sstream>
#include <thread>

#include "engine/ranks/launch.h"
#include "kernels/base/context.h"
#include "kernels/base/error.h"
#include "tools/pastur/doctor/checks.h"

namespace pastur {
namespace {

/// The GPUs that this process may use, under the names by which its children may be given some of them.
std::vector<std::string> visible_gpus() {
    std::vector<std::string> gpus;
    std::istringstream names(std::getenv("CUDA_VISIBLE_DEVICES") ? std::getenv("CUDA_VISIBLE_DEVICES") : "");
    for (int i = 0; i < cuda_device_count(); ++i) {
        std::string name;
        gpus.push_back(std::getline(names, name, ',') ? name : std::to_string(i));
    }
    return gpus;
}

std::vector<std::string> groups_of_arguments(const StudyArguments& arguments) {
    const int64_t each = arguments.gpus_per_run;
    if (!arguments.gpus.empty()) {
        if (std::ssize(arguments.gpus) % each != 0)
            fail(ExitCode::kUsage, "--gpus names {} GPUs: expected a multiple of --gpus-per-run {}",
                 arguments.gpus.size(), each);
        return groups_of_gpus(arguments.gpus, each);
    }
    if (parse_device(arguments.device) == Device::kCpu || (arguments.jobs <= 1 && each == 1)) return {};
    const std::vector<std::string> visible = visible_gpus();
    if (!visible.empty() && std::ssize(visible) < each)
        fail(ExitCode::kNoDevice,
             "--gpus-per-run {}: this host has {} visible GPU{}; expected as many as a run has ranks", each,
             visible.size(), visible.size() == 1 ? "" : "s");
    return groups_of_gpus(visible, each);
}

}  // namespace

std::vector<std::string> groups_of_gpus(const std::vector<std::string>& gpus, int64_t each) {
    std::vector<std::string> groups;
    for (size_t i = 0; i < gpus.size() / static_cast<size_t>(each) * static_cast<size_t>(each); ++i)
        if (i % static_cast<size_t>(each) == 0)
            groups.push_back(gpus[i]);
        else
            groups.back() += "," + gpus[i];
    return groups;
}

CellSlots cell_slots(const StudyArguments& arguments) {
    CellSlots slots;
    slots.ranks = arguments.gpus_per_run;
    slots.gpus = groups_of_arguments(arguments);
    const size_t by_default = arguments.gpus.empty() ? 1 : slots.gpus.size();
    slots.count = arguments.jobs > 0 ? static_cast<size_t>(arguments.jobs) : by_default;
    if (slots.ranks == 1) return slots;
    if (!has_mpi())
        fail(
            ExitCode::kUsage,
            "--gpus-per-run {}: this build has no MPI, with which the ranks of a run are started; expected 1",
            slots.ranks);
    slots.mpirun = on_path("mpirun");
    if (slots.mpirun.empty())
        fail(ExitCode::kMissingInput,
             "--gpus-per-run {}: there is no mpirun on PATH, which starts the ranks of a run", slots.ranks);
    const auto processes = static_cast<int64_t>(slots.count) * slots.ranks;
    if (!std::getenv("OMP_NUM_THREADS"))
        slots.threads = std::max<int64_t>(1, std::thread::hardware_concurrency() / processes);
    return slots;
}

}  // namespace pastur
