#include "engine/ranks/launch.h"

#include <charconv>
#include <cstdlib>

#include "kernels/base/error.h"

namespace pastur {
namespace {

std::string variable(const char* name) {
    const char* value = std::getenv(name);
    return value ? value : "";
}

std::string needed(const char* name, const char* because) {
    const std::string value = variable(name);
    if (value.empty()) fail(ExitCode::kUsage, "{} is not set, but {} is", name, because);
    return value;
}

int64_t number(const char* name, const std::string& text, int64_t low, int64_t high) {
    int64_t value = 0;
    const char* const end = text.data() + text.size();
    const auto [stop, error] = std::from_chars(text.data(), end, value);
    if (error != std::errc() || stop != end || value < low || value > high)
        fail(ExitCode::kUsage, "{}={}: expected a number from {} to {}", name, text, low, high);
    return value;
}

int integer(const char* name, const char* because, int64_t low, int64_t high) {
    return static_cast<int>(number(name, needed(name, because), low, high));
}

constexpr int64_t kMostRanks = 1 << 20;

Launch from_variables() {
    Launch launch{.kind = Launch::Kind::kPlain};
    launch.size = integer("WORLD_SIZE", "RANK", 1, kMostRanks);
    launch.rank = integer("RANK", "WORLD_SIZE", 0, launch.size - 1);
    if (launch.size == 1) return {};
    launch.local_rank = integer("LOCAL_RANK", "RANK", 0, launch.rank);
    launch.address = needed("MASTER_ADDR", "RANK");
    launch.port = integer("MASTER_PORT", "RANK", 1, 65535);
    return launch;
}

Launch from_slurm() {
    Launch launch{.kind = Launch::Kind::kPlain};
    launch.size = integer("SLURM_STEP_NUM_TASKS", "SLURM_PROCID", 1, kMostRanks);
    launch.rank = integer("SLURM_PROCID", "SLURM_STEP_NUM_TASKS", 0, launch.size - 1);
    launch.local_rank = integer("SLURM_LOCALID", "SLURM_PROCID", 0, launch.rank);
    launch.address = variable("MASTER_ADDR");
    if (launch.address.empty()) launch.address = first_host(needed("SLURM_STEP_NODELIST", "SLURM_PROCID"));
    const int64_t job = number("SLURM_JOB_ID", needed("SLURM_JOB_ID", "SLURM_PROCID"), 0, INT64_MAX);
    launch.job = static_cast<uint64_t>(job);
    // Each job gets its own port, since jobs may share a host.
    launch.port = variable("MASTER_PORT").empty() ? static_cast<int>(20000 + job % 10000)
                                                  : integer("MASTER_PORT", "SLURM_PROCID", 1, 65535);
    return launch;
}

}  // namespace

std::string first_host(const std::string& nodelist) {
    const size_t bracket = nodelist.find('['), comma = nodelist.find(',');
    if (bracket == std::string::npos || comma < bracket) return nodelist.substr(0, comma);
    const size_t end = nodelist.find_first_of("-,]", bracket);
    return nodelist.substr(0, bracket) + nodelist.substr(bracket + 1, end - bracket - 1);
}

bool launched_by_mpi() {
    for (const char* name : {"OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "PMIX_RANK"})
        if (std::getenv(name)) return true;
    return false;
}

bool has_mpi() {
#if defined(PASTUR_HAVE_MPI)
    return true;
#else
    return false;
#endif
}

int rank_of_merged_output() {
    for (const char* name : {"OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK", "SLURM_PROCID"})
        if (const std::string rank = variable(name); !rank.empty()) return std::atoi(rank.c_str());
    return 0;
}

Launch detect_launch() {
#if defined(PASTUR_HAVE_MPI)
    if (launched_by_mpi()) return {.kind = Launch::Kind::kMpi};
#endif
    if (std::getenv("RANK") || std::getenv("WORLD_SIZE")) return from_variables();
    if (std::getenv("SLURM_PROCID") && !variable("SLURM_STEP_NUM_TASKS").empty() &&
        variable("SLURM_STEP_NUM_TASKS") != "1")
        return from_slurm();
    return {};
}

}  // namespace pastur
