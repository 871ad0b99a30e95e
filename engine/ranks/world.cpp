#include "engine/ranks/world.h"

#if defined(PASTUR_HAVE_MPI)
#include <mpi.h>

#include "engine/ranks/mpi_jobs.h"
#endif
#include <unistd.h>

#include <cstring>
#include <map>
#include <utility>

#include "engine/io/console.h"
#include "kernels/base/error.h"

namespace pastur {
namespace {

/// Nodes of one job may start minutes apart.
constexpr double kStartSeconds = 300;

Connections connect(const Launch& launch) {
    const JobKey key{job_secret(), launch.job};
    if (launch.rank == 0)
        return host_rendezvous(Listener(launch.address, launch.port), launch.size, key, kStartSeconds);
    return join_rendezvous(launch.rank, launch.size, {launch.address}, launch.port, key, kStartSeconds);
}

}  // namespace

World World::from_environment() {
    World world(detect_launch());
    if (world.kind() == Launch::Kind::kMpi) world.join_mpi();
    if (world.kind() == Launch::Kind::kPlain) world.take(connect(world.launch_));
    return world;
}

void World::take(Connections made) {
    sideband_.emplace(made.rank, made.size, std::move(made.of(Channel::kSideband)), made.places);
    data_sockets_ = std::move(made.of(Channel::kData));
    watchdog_ = std::make_unique<Watchdog>(made.rank, std::move(made.of(Channel::kWatchdog)), made.places,
                                           *where_, kStartSeconds);
    places_ = std::move(made.places);
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
      sideband_(std::move(other.sideband_)),
      data_sockets_(std::move(other.data_sockets_)),
      places_(std::move(other.places_)),
      where_(std::move(other.where_)),
      watchdog_(std::move(other.watchdog_)) {}

#if defined(PASTUR_HAVE_MPI)
namespace {

/// How the other ranks reach rank 0, and the secret of the job: both go through MPI.
struct Invitation {
    char secret[80] = {};
    int port = 0;
    char addresses[1024] = {};  ///< consecutive, each terminated by a 0
};

Connections connect_over_mpi(int rank, int size, bool one_host) {
    Invitation invitation;
    std::optional<Listener> listener;
    if (rank == 0) {
        listener.emplace(one_host ? "127.0.0.1" : "", 0);
        invitation.port = listener->port();
        random_secret().copy(invitation.secret, sizeof invitation.secret - 1);
        size_t used = 0;
        for (const std::string& address :
             one_host ? std::vector<std::string>{"127.0.0.1"} : own_addresses()) {
            if (used + address.size() + 2 > sizeof invitation.addresses) break;
            std::memcpy(invitation.addresses + used, address.c_str(), address.size() + 1);
            used += address.size() + 1;
        }
    }
    check_mpi(MPI_Bcast(&invitation, sizeof invitation, MPI_BYTE, 0, MPI_COMM_WORLD), "MPI_Bcast");
    const JobKey key{invitation.secret};
    if (rank == 0) return host_rendezvous(*listener, size, key, kStartSeconds);
    std::vector<std::string> addresses;
    for (const char* next = invitation.addresses; *next != 0; next += addresses.back().size() + 1)
        addresses.emplace_back(next);
    return join_rendezvous(rank, size, addresses, invitation.port, key, kStartSeconds);
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
    int ranks_here = 0;
    check_mpi(MPI_Comm_rank(host, &launch_.local_rank), "MPI_Comm_rank");
    check_mpi(MPI_Comm_size(host, &ranks_here), "MPI_Comm_size");
    MPI_Comm_free(&host);
    if (launch_.size > 1) take(connect_over_mpi(launch_.rank, launch_.size, ranks_here == launch_.size));
}

World::~World() {
    if (mpi_) MPI_Finalize();
}

void World::abort(int code) {
    if (watchdog_) watchdog_->end_all(code);
    if (mpi_) MPI_Abort(MPI_COMM_WORLD, code);
    _exit(code);
}
#else
// In a build without MPI detect_launch() never returns kMpi.
void World::join_mpi() {}
World::~World() = default;
void World::abort(int code) {
    if (watchdog_) watchdog_->end_all(code);
    _exit(code);
}
#endif

}  // namespace pastur
