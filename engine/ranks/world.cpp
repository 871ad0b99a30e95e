#include "engine/ranks/world.h"

#if defined(PASTUR_HAVE_MPI)
#include <mpi.h>

#include "engine/ranks/mpi_jobs.h"
#endif
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <cstring>
#include <map>
#include <utility>

#include "engine/io/console.h"
#include "kernels/base/error.h"

namespace pastur {
namespace {

/// Nodes of one job may start minutes apart.
constexpr double kStartSeconds = 300;

Sideband connect(const Launch& launch, const std::vector<std::string>& addresses) {
    if (launch.rank == 0)
        return Sideband::host(Sideband::Listener(launch.port), launch.size, launch.token, kStartSeconds);
    return Sideband::join(launch.rank, launch.size, addresses, launch.port, launch.token, kStartSeconds);
}

}  // namespace

World World::from_environment() {
    World world(detect_launch());
    if (world.kind() == Launch::Kind::kMpi) world.join_mpi();
    if (world.kind() == Launch::Kind::kPlain)
        world.sideband_.emplace(connect(world.launch_, {world.launch_.address}));
    return world;
}

void World::agree_on_failure(const std::string& failure, int code) {
    const std::string mine = failure.empty() ? "" : fmt::format("{} {}", code, failure);
    const std::vector<std::string> all = sideband().all_gather(mine);
    std::map<std::string, std::vector<int>> ranks_of;
    for (int other = 0; other < size(); ++other)
        if (const std::string& text = all[static_cast<size_t>(other)]; !text.empty())
            ranks_of[text].push_back(other);
    if (ranks_of.empty()) return;
    if (rank() == 0)
        for (const auto& [text, ranks] : ranks_of) {
            const std::string reason = text.substr(text.find(' ') + 1);
            const bool everywhere = std::ssize(ranks) == size();
            Console::report_error(everywhere ? reason
                                             : fmt::format("rank{} {}: {}", ranks.size() == 1 ? "" : "s",
                                                           fmt::join(ranks, ", "), reason));
        }
    sideband().all_gather("");  // no rank ends the job before rank 0 has printed
    throw JobFailed{std::stoi(ranks_of.begin()->first)};
}

World::World(World&& other) noexcept
    : launch_(std::move(other.launch_)),
      mpi_(std::exchange(other.mpi_, false)),
      sideband_(std::move(other.sideband_)) {}

#if defined(PASTUR_HAVE_MPI)
namespace {

/// How the other ranks reach rank 0 for the sideband.
struct Invitation {
    uint64_t token = 0;
    int port = 0;
    char addresses[1024] = {};  ///< consecutive, each terminated by a 0
};

Sideband connect_over_mpi(int rank, int size) {
    Invitation invitation;
    std::optional<Sideband::Listener> listener;
    if (rank == 0) {
        listener.emplace(0);
        invitation.port = listener->port();
        invitation.token =
            static_cast<uint64_t>(std::chrono::system_clock::now().time_since_epoch().count()) ^
            static_cast<uint64_t>(getpid()) << 48;
        size_t used = 0;
        for (const std::string& address : own_addresses()) {
            if (used + address.size() + 2 > sizeof invitation.addresses) break;
            std::memcpy(invitation.addresses + used, address.c_str(), address.size() + 1);
            used += address.size() + 1;
        }
    }
    check_mpi(MPI_Bcast(&invitation, sizeof invitation, MPI_BYTE, 0, MPI_COMM_WORLD), "MPI_Bcast");
    if (rank == 0) return Sideband::host(*listener, size, invitation.token, kStartSeconds);
    std::vector<std::string> addresses;
    for (const char* next = invitation.addresses; *next != 0; next += addresses.back().size() + 1)
        addresses.emplace_back(next);
    return Sideband::join(rank, size, addresses, invitation.port, invitation.token, kStartSeconds);
}

}  // namespace

void World::join_mpi() {
    int provided = 0;
    check_mpi(MPI_Init_thread(nullptr, nullptr, MPI_THREAD_FUNNELED, &provided), "MPI_Init_thread");
    mpi_ = true;
    check_thread_support(provided);
    check_mpi(MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN), "MPI_Comm_set_errhandler");
    check_mpi(MPI_Comm_rank(MPI_COMM_WORLD, &launch_.rank), "MPI_Comm_rank");
    check_mpi(MPI_Comm_size(MPI_COMM_WORLD, &launch_.size), "MPI_Comm_size");
    MPI_Comm host;
    check_mpi(MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, launch_.rank, MPI_INFO_NULL, &host),
              "MPI_Comm_split_type");
    check_mpi(MPI_Comm_rank(host, &launch_.local_rank), "MPI_Comm_rank");
    MPI_Comm_free(&host);
    if (launch_.size > 1) sideband_.emplace(connect_over_mpi(launch_.rank, launch_.size));
}

World::~World() {
    if (mpi_) MPI_Finalize();
}

void World::abort(int code) {
    if (mpi_) MPI_Abort(MPI_COMM_WORLD, code);
    _exit(code);
}
#else
// In a build without MPI detect_launch() never returns kMpi.
void World::join_mpi() {}
World::~World() = default;
void World::abort(int code) {
    _exit(code);
}
#endif

}  // namespace pastur
