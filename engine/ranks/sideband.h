#pragma once
// Messages between every rank of a job and rank 0, next to MPI or NCCL. They carry what those need to start, such as
// NCCL's id.
#include <string>
#include <vector>

#include "data/file_descriptor.h"

namespace pastur {

class Sideband {
  public:
    /// sockets: those of Channel::kSideband.
    Sideband(int rank, int size, std::vector<FileDescriptor> sockets)
        : rank_(rank), size_(size), sockets_(std::move(sockets)) {}

    int rank() const { return rank_; }
    int size() const { return size_; }
    /// The `mine` of every rank, by rank. Every rank calls it. Throws (kRankLost).
    std::vector<std::string> all_gather(const std::string& mine);

  private:
    int rank_, size_;
    std::vector<FileDescriptor> sockets_;
};

}  // namespace pastur
