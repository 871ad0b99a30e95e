#pragma once
// TCP between the hosts of a job: addresses, connections with deadlines.
#include <chrono>
#include <string>
#include <vector>

#include "data/file_descriptor.h"

namespace pastur {

using Clock = std::chrono::steady_clock;

Clock::time_point deadline_in(double seconds);
/// Milliseconds left, at least 0, as poll(2) takes them.
int milliseconds_to(Clock::time_point deadline);

/// A socket on which rank 0 waits for the other ranks.
class Listener {
  public:
    /// `address`: the name or number of an address of this host, to which the socket is bound; connections to
    /// other addresses do not reach it. A host name that means the loopback interface here, as /etc/hosts
    /// often says of a host's own name, means every address, and so does "". Port 0: any free one. Throws
    /// (kUsage) if this host has no such address, (kRankLost) naming the port if it is in use.
    Listener(const std::string& address, int port);
    int port() const { return port_; }
    int socket() const { return socket_.get(); }

  private:
    FileDescriptor socket_;
    int port_ = 0;
};

/// A connected, non-blocking socket, from the first address of the host `address` that accepts; empty with a
/// reason in `why` if none does. Waits up to `seconds` for each address.
FileDescriptor connect_to(const std::string& address, int port, double seconds, std::string& why);

/// Sends all bytes over a socket of either kind. False: the connection is lost, or full until the deadline.
bool send_all(int socket, const void* data, size_t bytes, Clock::time_point deadline);
/// Waits until there is something to read, or the other side closed. False: not before the deadline.
bool wait_for_bytes(int socket, Clock::time_point deadline);
/// False: the other side closed, or the bytes did not arrive in time.
bool receive_all(int socket, void* data, size_t bytes, Clock::time_point deadline);

/// This host's addresses, by which other hosts may reach it; the loopback last. No link-local addresses.
std::vector<std::string> own_addresses();
/// The address of the other side, "" if it is not connected.
std::string peer_address(int socket);
/// "host n1, process 77"
std::string own_place();

}  // namespace pastur
