#pragma once
// The processes of this job, before they have agreed on how to move tensors.
#include <optional>

#include "engine/ranks/launch.h"
#include "engine/ranks/sideband.h"

namespace pastur {

class World {
  public:
    /// One process by itself.
    World() = default;
    /// As detect_launch() says: initialises MPI, or finds rank 0; then the sideband stands. Once, early in
    /// main: MPI is finalised when the object goes. Throws (kUsage, kRankLost).
    static World from_environment();
    ~World();
    World(World&& other) noexcept;
    World& operator=(World&&) = delete;

    Launch::Kind kind() const { return launch_.kind; }
    int rank() const { return launch_.rank; }
    int size() const { return launch_.size; }
    int local_rank() const { return launch_.local_rank; }  ///< among the ranks of this host
    /// Of several processes.
    Sideband& sideband() { return *sideband_; }
    /// Ends every rank of the job with this exit code, or this process where that cannot be.
    [[noreturn]] void abort(int code);

  private:
    explicit World(Launch launch) : launch_(std::move(launch)) {}
    void join_mpi();
    Launch launch_;
    bool mpi_ = false;  ///< to be finalised
    std::optional<Sideband> sideband_;
};

}  // namespace pastur
