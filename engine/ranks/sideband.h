#pragma once
// A line between the ranks of a job beside MPI or NCCL: TCP, from every rank to rank 0. It carries what those
// need to begin (NCCL's id), and what is to be heard when they are stuck.
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace pastur {

/// A file descriptor, closed with the object.
class Socket {
  public:
    explicit Socket(int descriptor = -1) : descriptor_(descriptor) {}
    ~Socket();
    Socket(Socket&& other) noexcept;
    Socket& operator=(Socket&& other) noexcept;
    int get() const { return descriptor_; }

  private:
    int descriptor_;
};

class Sideband {
  public:
    /// Where rank 0 waits for the others.
    class Listener {
      public:
        /// Port 0: any free one. Throws (kRankLost) naming the port.
        explicit Listener(int port);
        int port() const { return port_; }
        int socket() const { return socket_.get(); }

      private:
        Socket socket_;
        int port_ = 0;
    };

    /// Rank 0: returns when all others are there. `token` tells the job's ranks from strangers. Throws
    /// (kRankLost) naming the ranks that did not come.
    static Sideband host(const Listener& listener, int size, uint64_t token, double timeout_s);
    /// The others. The first address that answers as this job's is taken. Throws (kRankLost).
    static Sideband join(int rank, int size, const std::vector<std::string>& addresses, int port,
                         uint64_t token, double timeout_s);

    int rank() const { return rank_; }
    int size() const { return size_; }
    /// What every rank gave, by rank. Every rank calls it.
    std::vector<std::string> all_gather(const std::string& mine);
    /// Rank 0: to rank r at [r], none at [0]. Others: to rank 0 at [0].
    const std::vector<Socket>& sockets() const { return sockets_; }

  private:
    Sideband(int rank, int size) : rank_(rank), size_(size) {}
    int rank_, size_;
    std::vector<Socket> sockets_;
};

/// This host's IPv4 addresses, the loopback last: where its rank 0 may be reached.
std::vector<std::string> own_addresses();

}  // namespace pastur
