#pragma once
// The processes of this job, before they have agreed on how to move tensors.
#include <optional>

#include "engine/ranks/launch.h"
#include "engine/ranks/sideband.h"

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
    /// Follows detect_launch(): initialises MPI or connects to rank 0, then sets up the sideband. Call it once,
    /// early in main: the destructor finalises MPI. Throws (kUsage, kRankLost, kOther).
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
    /// Of several processes, every rank calls it at a point where each has succeeded or failed by itself: `failure` is the error's text,
    /// "" for none. If any failed, rank 0 prints each distinct text once, with its ranks unless all of them
    /// failed alike, and JobFailed is thrown on every rank.
    void agree_on_failure(const std::string& failure, int code);

    /// Ends every rank of the job with this exit code, or only this process if it was started without MPI.
    [[noreturn]] void abort(int code);

  private:
    void join_mpi();
    Launch launch_;
    bool mpi_ = false;  ///< MPI is to be finalised
    std::optional<Sideband> sideband_;
};

}  // namespace pastur
