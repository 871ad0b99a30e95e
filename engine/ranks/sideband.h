#pragma once
// TCP connections from every rank of a job to rank 0, next to MPI or NCCL. They carry what those need to start
// (NCCL's id), and they still work when those hang.
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "data/file_descriptor.h"

namespace pastur {

class Sideband {
  public:
    /// The socket on which rank 0 waits for the other ranks.
    class Listener {
      public:
        /// Port 0: any free one. Throws (kRankLost) naming the port.
        explicit Listener(int port);
        int port() const { return port_; }
        int socket() const { return socket_.get(); }

      private:
        FileDescriptor socket_;
        int port_ = 0;
    };

    /// Rank 0: returns once every other rank has connected. `token` distinguishes the job's ranks from
    /// strangers, which are ignored and do not extend the timeout. Throws (kRankLost) naming missing ranks.
    static Sideband host(const Listener& listener, int size, uint64_t token, double timeout_s);
    /// Other ranks: connects to the first address that answers as this job's rank 0. Throws (kRankLost).
    static Sideband join(int rank, int size, const std::vector<std::string>& addresses, int port,
                         uint64_t token, double timeout_s);

    int rank() const { return rank_; }
    int size() const { return size_; }
    /// The `mine` of every rank, by rank. Every rank calls it.
    std::vector<std::string> all_gather(const std::string& mine);
    /// On rank 0: [r] is the connection to rank r, [0] is none. On other ranks: [0] is the one to rank 0.
    const std::vector<FileDescriptor>& sockets() const { return sockets_; }

  private:
    Sideband(int rank, int size) : rank_(rank), size_(size) {}
    [[noreturn]] void fail_missing(int port, double timeout_s) const;
    int rank_, size_;
    std::vector<FileDescriptor> sockets_;
};

/// This host's IPv4 addresses, by which other ranks may reach it; the loopback last.
std::vector<std::string> own_addresses();

}  // namespace pastur
