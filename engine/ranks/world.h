#pragma once
// The processes of this job, before they have agreed on how to move tensors.
#include <memory>
#include <optional>

#include "engine/ranks/launch.h"
#include "engine/ranks/rendezvous.h"
#include "engine/ranks/sideband.h"
#include "engine/ranks/watchdog.h"
#include "engine/ranks/whereabouts.h"

namespace pastur {

/// All ranks end with this exit code; the reason has been printed.
struct JobFailed {
    int code;
};

class World {
  public:
    /// A single process.
    World() = default;
    /// The place that `launch` names, without a connection to the other processes.
    explicit World(Launch launch) : launch_(std::move(launch)) {}
    /// Follows detect_launch(): initialises MPI or reads the job's secret, connects to rank 0, and starts the
    /// watchdog: from here on the loss of a rank ends the job. Call it once, early in main: the destructor
    /// finalises MPI. Throws (kUsage, kRankLost, kIo, kOther).
    static World from_environment();
    ~World();
    World(World&& other) noexcept;
    World& operator=(World&&) = delete;

    Launch::Kind kind() const { return launch_.kind; }
    int rank() const { return launch_.rank; }
    int size() const { return launch_.size; }
    int local_rank() const { return launch_.local_rank; }  ///< among the ranks of this host
    /// Only if there are several processes.
    Sideband& sideband() { return *sideband_; }
    /// Those of Channel::kData (rendezvous.h).
    const std::vector<FileDescriptor>& data_sockets() const { return data_sockets_; }
    /// "host n1, process 77" of the ranks at the other ends of the connections.
    const std::vector<std::string>& places() const { return places_; }
    /// Where this rank is, for the watchdog.
    Whereabouts& whereabouts() { return *where_; }
    /// Silence and waits longer than this end the job from here on (watchdog.h). A single process ignores it.
    void set_timeout(double seconds) {
        if (watchdog_) watchdog_->set_timeout(seconds);
    }
    /// Only if there are several processes. Every rank calls it at a point where each has succeeded or failed
    /// by itself: `failure` is the error's text, "" for none. If any failed, rank 0 prints each distinct text
    /// once, with its ranks unless all of them failed alike, and JobFailed is thrown on every rank.
    void agree_on_failure(const std::string& failure, int code);
    /// Returns once every rank has called it, however long that takes: set_timeout() does not bound it, and it uses
    /// no processor meanwhile. A single process returns at once. Throws (kRankLost).
    void wait_for_all() {
        if (sideband_) sideband_->wait_for_all();
    }

    /// Ends every rank of the job with this exit code.
    [[noreturn]] void abort(int code);

  private:
    void join_mpi();
    void take(Connections made);
    Launch launch_;
    bool mpi_ = false;  ///< MPI is to be finalised
    std::optional<Sideband> sideband_;
    std::vector<FileDescriptor> data_sockets_;
    std::vector<std::string> places_;
    std::unique_ptr<Whereabouts> where_ = std::make_unique<Whereabouts>();
    std::unique_ptr<Watchdog> watchdog_;  ///< also watches MPI_Finalize
};

}  // namespace pastur
