#include "engine/ranks/sockets.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>

#include "engine/io/host_name.h"
#include "kernels/base/error.h"

namespace pastur {
namespace {

using Addresses = std::unique_ptr<addrinfo, decltype(&freeaddrinfo)>;

/// The addresses of a host; none with a reason in `why`. flags: of getaddrinfo(3).
Addresses resolve(const std::string& host, int port, int flags, std::string& why) {
    addrinfo hints{}, *found = nullptr;
    hints.ai_family = AF_UNSPEC;
    hints.ai_socktype = SOCK_STREAM;
    hints.ai_flags = flags;
    const char* const name = host.empty() ? nullptr : host.c_str();
    const int error = getaddrinfo(name, std::to_string(port).c_str(), &hints, &found);
    if (error != 0) why = error == EAI_SYSTEM ? std::strerror(errno) : gai_strerror(error);
    return {error == 0 ? found : nullptr, &freeaddrinfo};
}

std::string text_of(const sockaddr* address) {
    char text[INET6_ADDRSTRLEN] = {};
    if (address->sa_family == AF_INET)
        inet_ntop(AF_INET, &reinterpret_cast<const sockaddr_in*>(address)->sin_addr, text, sizeof text);
    if (address->sa_family == AF_INET6)
        inet_ntop(AF_INET6, &reinterpret_cast<const sockaddr_in6*>(address)->sin6_addr, text, sizeof text);
    const std::string mapped = "::ffff:";
    return std::string(text).starts_with(mapped) ? text + mapped.size() : text;
}

bool is_loopback(const std::string& address) {
    return address == "::1" || address.starts_with("127.");
}

/// Whether the host's name says nothing about an interface.
bool means_every_address(const std::string& host, const addrinfo* found) {
    in6_addr parsed;
    if (host == "localhost" || inet_pton(AF_INET, host.c_str(), &parsed) == 1 ||
        inet_pton(AF_INET6, host.c_str(), &parsed) == 1)
        return false;
    for (; found; found = found->ai_next)
        if (!is_loopback(text_of(found->ai_addr))) return false;
    return true;
}

void set(int socket, int level, int option, int value) {
    setsockopt(socket, level, option, &value, sizeof value);
}

/// A listening socket, or none with errno set.
FileDescriptor listen_at(const addrinfo& at) {
    FileDescriptor made(socket(at.ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (!made) return made;
    set(made.get(), SOL_SOCKET, SO_REUSEADDR, 1);
    if (at.ai_family == AF_INET6) set(made.get(), IPPROTO_IPV6, IPV6_V6ONLY, 0);
    if (bind(made.get(), at.ai_addr, at.ai_addrlen) == 0 && listen(made.get(), SOMAXCONN) == 0) return made;
    const int why = errno;
    made.reset();
    errno = why;
    return made;
}

/// Waits until the socket is ready. False: not before the deadline.
bool wait_for(int socket, short events, Clock::time_point deadline) {
    for (;;) {
        pollfd ready{socket, events, 0};
        const int polled = poll(&ready, 1, milliseconds_to(deadline));
        if (polled < 0 && errno == EINTR) continue;
        return polled > 0;
    }
}

/// On one host, a connection to a port that no process listens on may be given that port as its own.
bool reaches_itself(int socket) {
    sockaddr_storage ends[2] = {};
    socklen_t lengths[2] = {sizeof ends[0], sizeof ends[1]};
    return getsockname(socket, reinterpret_cast<sockaddr*>(&ends[0]), &lengths[0]) == 0 &&
           getpeername(socket, reinterpret_cast<sockaddr*>(&ends[1]), &lengths[1]) == 0 &&
           lengths[0] == lengths[1] && std::memcmp(&ends[0], &ends[1], lengths[0]) == 0;
}

}  // namespace

Clock::time_point deadline_in(double seconds) {
    return Clock::now() + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds));
}
int milliseconds_to(Clock::time_point deadline) {
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(deadline - Clock::now()).count();
    return static_cast<int>(std::clamp<int64_t>(left, 0, 1 << 30));
}

Listener::Listener(const std::string& address, int port) {
    std::string why;
    Addresses found = resolve(address, port, AI_PASSIVE, why);
    if (!found) fail(ExitCode::kUsage, "rank 0 cannot listen at {}: {}", address, why);
    if (address.empty() || means_every_address(address, found.get())) {
        // An IPv6 socket also accepts IPv4. It comes first, and hosts without IPv6 fall back.
        found = resolve("", port, AI_PASSIVE, why);
        for (const addrinfo* at = found.get(); at && !socket_; at = at->ai_next)
            if (at->ai_family == AF_INET6) socket_ = listen_at(*at);
    }
    int error = 0;
    for (const addrinfo* at = found.get(); at && !socket_; at = at->ai_next) {
        socket_ = listen_at(*at);
        if (!socket_) error = errno;
    }
    if (!socket_ && error == EADDRNOTAVAIL)
        fail(ExitCode::kUsage, "rank 0 cannot listen at {}, which is not an address of its host ({}): {}",
             address, own_place(), fmt::join(own_addresses(), ", "));
    if (!socket_)
        fail(ExitCode::kRankLost, "rank 0 cannot listen on port {}{}{}: {}", port,
             address.empty() ? "" : " of ", address, std::strerror(error));
    sockaddr_in6 bound{};
    socklen_t length = sizeof bound;
    getsockname(socket_.get(), reinterpret_cast<sockaddr*>(&bound), &length);
    port_ = ntohs(bound.sin6_port);  // at the same place in an IPv4 address
}

FileDescriptor connect_to(const std::string& address, int port, double seconds, std::string& why) {
    const Addresses found = resolve(address, port, 0, why);
    for (const addrinfo* at = found.get(); at; at = at->ai_next) {
        FileDescriptor made(socket(at->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
        int error = made && connect(made.get(), at->ai_addr, at->ai_addrlen) == 0 ? 0 : errno;
        if (error == EINPROGRESS) {
            socklen_t length = sizeof error;
            if (!wait_for(made.get(), POLLOUT, deadline_in(seconds)))
                error = ETIMEDOUT;
            else
                getsockopt(made.get(), SOL_SOCKET, SO_ERROR, &error, &length);
        }
        if (error == 0 && reaches_itself(made.get())) error = ECONNREFUSED;
        if (error == 0) {
            set(made.get(), IPPROTO_TCP, TCP_NODELAY, 1);
            return made;
        }
        why = std::strerror(error);
    }
    return FileDescriptor();
}

bool send_all(int socket, const void* data, size_t bytes, Clock::time_point deadline) {
    const char* next = static_cast<const char*>(data);
    while (bytes > 0) {
        const ssize_t sent = send(socket, next, bytes, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent < 0 && errno == EINTR) continue;
        if (sent < 0 && errno == EAGAIN && wait_for(socket, POLLOUT, deadline)) continue;
        if (sent <= 0) return false;
        next += sent;
        bytes -= static_cast<size_t>(sent);
    }
    return true;
}

bool wait_for_bytes(int socket, Clock::time_point deadline) {
    return wait_for(socket, POLLIN, deadline);
}

bool receive_all(int socket, void* data, size_t bytes, Clock::time_point deadline) {
    char* next = static_cast<char*>(data);
    while (bytes > 0) {
        if (!wait_for(socket, POLLIN, deadline)) return false;
        const ssize_t got = recv(socket, next, bytes, MSG_DONTWAIT);
        if (got < 0 && (errno == EINTR || errno == EAGAIN)) continue;
        if (got <= 0) return false;
        next += got;
        bytes -= static_cast<size_t>(got);
    }
    return true;
}

std::vector<std::string> own_addresses() {
    std::vector<std::string> addresses;
    ifaddrs* list = nullptr;
    if (getifaddrs(&list) == 0) {
        for (const int family : {AF_INET, AF_INET6})
            for (const ifaddrs* entry = list; entry; entry = entry->ifa_next) {
                if (!entry->ifa_addr || entry->ifa_addr->sa_family != family || !(entry->ifa_flags & IFF_UP))
                    continue;
                const auto* v6 = reinterpret_cast<const sockaddr_in6*>(entry->ifa_addr);
                if (family == AF_INET6 && IN6_IS_ADDR_LINKLOCAL(&v6->sin6_addr)) continue;
                const std::string text = text_of(entry->ifa_addr);
                if (!is_loopback(text)) addresses.push_back(text);
            }
        freeifaddrs(list);
    }
    addresses.emplace_back("127.0.0.1");
    return addresses;
}

std::string peer_address(int socket) {
    sockaddr_storage peer{};
    socklen_t length = sizeof peer;
    if (getpeername(socket, reinterpret_cast<sockaddr*>(&peer), &length) != 0) return "";
    return text_of(reinterpret_cast<const sockaddr*>(&peer));
}

std::string own_place() {
    return fmt::format("host {}, process {}", host_name(), getpid());
}

}  // namespace pastur
