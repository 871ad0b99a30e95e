#pragma once
// Messages between every rank of a job and rank 0, next to MPI or NCCL. They carry what those need to start,
// such as NCCL's id.
#include <string>
#include <vector>

#include "data/file_descriptor.h"
#include "engine/ranks/sockets.h"

namespace pastur {

class Sideband {
  public:
    /// sockets: those of Channel::kSideband. places: of the ranks at their other ends (rendezvous.h).
    Sideband(int rank, int size, std::vector<FileDescriptor> sockets, std::vector<std::string> places)
        : rank_(rank), size_(size), sockets_(std::move(sockets)), places_(std::move(places)) {}

    int rank() const { return rank_; }
    int size() const { return size_; }
    /// The `mine` of every rank, by rank. Every rank calls it, within ten minutes of the first. Throws (kRankLost).
    std::vector<std::string> all_gather(const std::string& mine);
    /// Returns once every rank has called it, however long that takes. Throws (kRankLost).
    void wait_for_all();

  private:
    std::vector<std::string> all_gather(const std::string& mine, Clock::time_point deadline);
    void send(int rank, const std::string& message, Clock::time_point deadline) const;
    std::string receive(int rank, Clock::time_point deadline) const;
    [[noreturn]] void fail_lost(int rank) const;

    int rank_, size_;
    std::vector<FileDescriptor> sockets_;
    std::vector<std::string> places_;
};

}  // namespace pastur
