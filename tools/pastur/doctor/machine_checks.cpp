// Checks of the host: cores, memory, shared memory, clock, launchers and sockets.
#include <fmt/chrono.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <omp.h>
#include <sys/socket.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <sstream>

#include "engine/train/environment.h"
#include "tools/pastur/doctor/checks.h"

namespace pastur {
namespace {

using State = CheckOutcome::State;
constexpr double kMib = 1024.0 * 1024;

CheckOutcome check_cpu() {
    CpuContext cpu;
    const int cores = omp_get_num_procs();
    const std::string text =
        fmt::format("{}, {} threads on {} cores", device_name(cpu), cpu.threads(), cores);
    if (cpu.threads() <= cores) return {"cpu", State::kGood, text};
    return {"cpu", State::kWarning, text,
            fmt::format("set OMP_NUM_THREADS to {} divided by the ranks of this host", cores)};
}

CheckOutcome check_memory() {
    const MemoryInfo memory = host_memory_info();
    const std::string text = free_gib(memory) + " are free";
    if (memory.free_bytes >= int64_t{2} << 30) return {"memory", State::kGood, text};
    return {"memory", State::kWarning, text, "`pastur plan RECIPE` prints what a model takes"};
}

CheckOutcome check_shared_memory() {
    constexpr const char* kFolder = "/dev/shm";
    const std::string advice =
        "start the container with --shm-size=1g: ranks of one host exchange data there";
    struct statvfs at = {};
    if (statvfs(kFolder, &at) != 0)
        return {"shared memory", State::kWarning, fmt::format("{}: {}", kFolder, std::strerror(errno)),
                advice};
    const double free = static_cast<double>(at.f_bavail) * static_cast<double>(at.f_frsize);
    const std::string text = fmt::format("{:.0f} MiB are free in {}", free / kMib, kFolder);
    // 64 MiB are what containers get by default; NCCL takes some 10 MiB for a pair of ranks.
    if (free > 64 * kMib) return {"shared memory", State::kGood, text};
    return {"shared memory", State::kWarning, text, advice};
}

CheckOutcome check_clock() {
    constexpr std::time_t kYear2025 = 1735689600;
    const std::time_t now = std::time(nullptr);
    const std::string text = fmt::format("{:%Y-%m-%d %H:%M:%S} UTC", fmt::gmtime(now));
    if (now >= kYear2025) return {"clock", State::kGood, text};
    return {"clock", State::kWarning, text, "set the clock: logs and TensorBoard order runs by it"};
}

CheckOutcome check_launcher() {
    std::string found;
    for (const char* name : {"mpirun", "srun"})
        if (const std::string file = on_path(name); !file.empty())
            found += (found.empty() ? "" : ", ") + file;
    if (!found.empty()) return {"launcher", State::kGood, found};
    return {
        "launcher", State::kWarning, "neither mpirun nor srun is on PATH",
        "install openmpi-bin, or start ranks with RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR and MASTER_PORT"};
}

/// Ranks that MPI does not connect meet at a port of rank 0.
CheckOutcome check_sockets() {
    const int socket = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in address = {};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_ANY);
    socklen_t size = sizeof address;
    const bool listens = socket >= 0 && bind(socket, reinterpret_cast<sockaddr*>(&address), size) == 0 &&
                         listen(socket, 1) == 0 &&
                         getsockname(socket, reinterpret_cast<sockaddr*>(&address), &size) == 0;
    const int error = errno;
    if (socket >= 0) close(socket);
    if (listens)
        return {"sockets", State::kGood,
                fmt::format("can listen, at port {} for one", ntohs(address.sin_port))};
    return {"sockets", State::kWarning, fmt::format("cannot listen: {}", std::strerror(error)),
            "let processes open TCP ports: ranks that MPI does not connect meet at one"};
}

}  // namespace

std::string on_path(const std::string& name) {
    const char* path = std::getenv("PATH");
    std::istringstream folders(path ? path : "");
    for (std::string folder; std::getline(folders, folder, ':');)
        if (const std::string file = folder + "/" + name; access(file.c_str(), X_OK) == 0) return file;
    return "";
}

const char* name_of(State state) {
    switch (state) {
        case State::kGood:
            return "good";
        case State::kWarning:
            return "warning";
        case State::kBad:
            return "bad";
    }
    return "";
}

std::string free_gib(const MemoryInfo& memory) {
    constexpr double kGib = 1024 * kMib;
    return fmt::format("{:.1f} of {:.1f} GiB", static_cast<double>(memory.free_bytes) / kGib,
                       static_cast<double>(memory.total_bytes) / kGib);
}

std::vector<CheckOutcome> check_machine() {
    const std::string version = describe_version();
    return {{"program", State::kGood, version.substr(0, version.find('\n'))},
            check_cpu(),
            check_memory(),
            check_shared_memory(),
            check_clock(),
            check_launcher(),
            check_sockets()};
}

}  // namespace pastur
