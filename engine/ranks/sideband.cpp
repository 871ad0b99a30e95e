#include "engine/ranks/sideband.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <ifaddrs.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <thread>
#include <utility>

#include "kernels/base/error.h"

namespace pastur {
namespace {

using Clock = std::chrono::steady_clock;

/// The first bytes of every connection.
struct Hello {
    uint64_t magic = 0x7261'7374'7572'0001, token = 0;
    int32_t rank = 0, size = 0;
};
constexpr uint32_t kLongest = 1 << 20;  ///< bytes of a message

Clock::time_point deadline_in(double seconds) {
    return Clock::now() + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds));
}
int milliseconds_to(Clock::time_point deadline) {
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(deadline - Clock::now()).count();
    return static_cast<int>(std::max<int64_t>(left, 0));
}

void disable_delay(int socket) {
    const int one = 1;
    setsockopt(socket, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
}

void send_all(int socket, const void* data, size_t bytes) {
    const char* next = static_cast<const char*>(data);
    while (bytes > 0) {
        const ssize_t sent = send(socket, next, bytes, MSG_NOSIGNAL);
        if (sent < 0 && errno == EINTR) continue;
        if (sent <= 0)
            fail(ExitCode::kRankLost, "the connection to a rank is lost: send: {}", std::strerror(errno));
        next += sent;
        bytes -= static_cast<size_t>(sent);
    }
}

/// False: the other side closed, or the bytes did not arrive in time.
bool receive_all(int socket, void* data, size_t bytes, Clock::time_point deadline) {
    char* next = static_cast<char*>(data);
    while (bytes > 0) {
        pollfd ready{socket, POLLIN, 0};
        const int polled = poll(&ready, 1, milliseconds_to(deadline));
        if (polled < 0 && errno == EINTR) continue;
        if (polled <= 0) return false;
        const ssize_t got = recv(socket, next, bytes, 0);
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) return false;
        next += got;
        bytes -= static_cast<size_t>(got);
    }
    return true;
}

/// A message: its length, then its bytes.
std::string framed(const std::string& text) {
    const auto length = static_cast<uint32_t>(text.size());
    return std::string(reinterpret_cast<const char*>(&length), sizeof length) + text;
}

std::string receive_text(int socket, int from) {
    const Clock::time_point deadline = deadline_in(600);
    uint32_t length = 0;
    std::string text;
    bool good = receive_all(socket, &length, sizeof length, deadline) && length <= kLongest;
    if (good) {
        text.resize(length);
        good = receive_all(socket, text.data(), length, deadline);
    }
    if (!good) fail(ExitCode::kRankLost, "rank {} was lost before training began", from);
    return text;
}

/// A connected socket, or none.
FileDescriptor connect_to(const std::string& address, int port, Clock::time_point deadline) {
    addrinfo hints{}, *found = nullptr;
    hints.ai_family = AF_INET;
    hints.ai_socktype = SOCK_STREAM;
    if (getaddrinfo(address.c_str(), std::to_string(port).c_str(), &hints, &found) != 0)
        return FileDescriptor();
    FileDescriptor made(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    int error = connect(made.get(), found->ai_addr, found->ai_addrlen) == 0 ? 0 : errno;
    freeaddrinfo(found);
    if (error == EINPROGRESS) {
        pollfd ready{made.get(), POLLOUT, 0};
        socklen_t length = sizeof error;
        if (poll(&ready, 1, std::min(milliseconds_to(deadline), 2000)) != 1) return FileDescriptor();
        getsockopt(made.get(), SOL_SOCKET, SO_ERROR, &error, &length);
    }
    if (error != 0) return FileDescriptor();
    disable_delay(made.get());
    return made;
}

/// Connections are made without blocking, so waiting for one can end.
void make_blocking(int socket) {
    fcntl(socket, F_SETFL, fcntl(socket, F_GETFL) & ~O_NONBLOCK);
    const timeval longest{60, 0};
    setsockopt(socket, SOL_SOCKET, SO_SNDTIMEO, &longest, sizeof longest);
}

/// A connection to rank 0 that has not said hello yet: a rank of this job or a stranger, such as a port
/// scanner. A silent one delays no other and is dropped at its deadline.
struct Guest {
    FileDescriptor socket;
    Clock::time_point deadline;
    Hello hello = {};
    size_t received = 0;  ///< bytes of hello
};
constexpr size_t kMostGuests = 256;

/// Returns when a guest or a new connection may have sent something, or at the first deadline.
void wait_for_guests(int listener, std::vector<Guest>& guests, Clock::time_point deadline) {
    if (guests.size() >= kMostGuests) guests.erase(guests.begin());
    std::vector<pollfd> ready = {{listener, POLLIN, 0}};
    for (const Guest& guest : guests) {
        ready.push_back({guest.socket.get(), POLLIN, 0});
        deadline = std::min(deadline, guest.deadline);
    }
    if (poll(ready.data(), ready.size(), milliseconds_to(deadline)) < 0 && errno != EINTR)
        fail(ExitCode::kRankLost, "rank 0 cannot wait for the other ranks: poll: {}", std::strerror(errno));
}

/// Reads the bytes of the hello that have arrived. False: the guest closed its connection.
bool read_hello(Guest& guest) {
    char* const next = reinterpret_cast<char*>(&guest.hello) + guest.received;
    const ssize_t got = recv(guest.socket.get(), next, sizeof(Hello) - guest.received, 0);
    if (got > 0) guest.received += static_cast<size_t>(got);
    return got > 0 || (got < 0 && (errno == EAGAIN || errno == EINTR));
}

}  // namespace

Sideband::Listener::Listener(int port)
    : socket_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)) {
    const int one = 1;
    setsockopt(socket_.get(), SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<uint16_t>(port));
    address.sin_addr.s_addr = htonl(INADDR_ANY);
    socklen_t length = sizeof address;
    if (bind(socket_.get(), reinterpret_cast<sockaddr*>(&address), length) != 0 ||
        listen(socket_.get(), SOMAXCONN) != 0 ||
        getsockname(socket_.get(), reinterpret_cast<sockaddr*>(&address), &length) != 0)
        fail(ExitCode::kRankLost, "rank 0 cannot listen on port {}: {}", port, std::strerror(errno));
    port_ = ntohs(address.sin_port);
}

Sideband Sideband::host(const Listener& listener, int size, uint64_t token, double timeout_s) {
    Sideband band(0, size);
    band.sockets_.resize(static_cast<size_t>(size));
    std::vector<Guest> guests;
    const Clock::time_point deadline = deadline_in(timeout_s);
    for (int there = 1; there < size;) {
        if (Clock::now() >= deadline) band.fail_missing(listener.port(), timeout_s);
        wait_for_guests(listener.socket(), guests, deadline);
        FileDescriptor joined(accept4(listener.socket(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
        if (joined) guests.push_back({std::move(joined), std::min(deadline, deadline_in(2))});
        std::erase_if(guests, [&](Guest& guest) {
            if (!read_hello(guest) || Clock::now() >= guest.deadline) return true;
            if (guest.received < sizeof(Hello)) return false;
            const Hello& hello = guest.hello;
            const bool rank_of_job = hello.magic == Hello{}.magic && hello.token == token &&
                                     hello.size == size && hello.rank >= 1 && hello.rank < size;
            if (!rank_of_job || band.sockets_[static_cast<size_t>(hello.rank)]) return true;
            disable_delay(guest.socket.get());
            make_blocking(guest.socket.get());
            send_all(guest.socket.get(), &hello, sizeof hello);  // the welcome
            band.sockets_[static_cast<size_t>(hello.rank)] = std::move(guest.socket);
            ++there;
            return true;
        });
    }
    return band;
}

void Sideband::fail_missing(int port, double timeout_s) const {
    std::vector<int> missing;
    for (int rank = 1; rank < size_; ++rank)
        if (!sockets_[static_cast<size_t>(rank)]) missing.push_back(rank);
    fail(ExitCode::kRankLost, "{} of {} ranks did not connect to port {} of rank 0 within {} s: {}",
         missing.size(), size_, port, timeout_s, fmt::join(missing, ", "));
}

Sideband Sideband::join(int rank, int size, const std::vector<std::string>& addresses, int port,
                        uint64_t token, double timeout_s) {
    Sideband band(rank, size);
    const Hello hello{.token = token, .rank = rank, .size = size};
    for (const Clock::time_point deadline = deadline_in(timeout_s); Clock::now() < deadline;) {
        for (const std::string& address : addresses) {
            FileDescriptor made = connect_to(address, port, deadline);
            Hello welcome;
            if (!made || send(made.get(), &hello, sizeof hello, MSG_NOSIGNAL) != sizeof hello ||
                !receive_all(made.get(), &welcome, sizeof welcome, std::min(deadline, deadline_in(5))) ||
                std::memcmp(&welcome, &hello, sizeof hello) != 0)
                continue;
            make_blocking(made.get());
            band.sockets_.push_back(std::move(made));
            return band;
        }
        std::this_thread::sleep_for(std::chrono::milliseconds(200));
    }
    fail(ExitCode::kRankLost, "rank {} of {} found no rank 0 at {}, port {}, within {} s", rank, size,
         fmt::join(addresses, " or "), port, timeout_s);
}

std::vector<std::string> Sideband::all_gather(const std::string& mine) {
    std::vector<std::string> all(static_cast<size_t>(size_));
    if (rank_ != 0) {
        const std::string message = framed(mine);
        send_all(sockets_[0].get(), message.data(), message.size());
        for (std::string& text : all) text = receive_text(sockets_[0].get(), 0);
        return all;
    }
    all[0] = mine;
    for (int rank = 1; rank < size_; ++rank)
        all[static_cast<size_t>(rank)] = receive_text(sockets_[static_cast<size_t>(rank)].get(), rank);
    std::string messages;
    for (const std::string& text : all) messages += framed(text);
    for (int rank = 1; rank < size_; ++rank)
        send_all(sockets_[static_cast<size_t>(rank)].get(), messages.data(), messages.size());
    return all;
}

std::vector<std::string> own_addresses() {
    std::vector<std::string> addresses;
    ifaddrs* list = nullptr;
    if (getifaddrs(&list) == 0) {
        for (const ifaddrs* entry = list; entry; entry = entry->ifa_next) {
            if (!entry->ifa_addr || entry->ifa_addr->sa_family != AF_INET) continue;
            char text[INET_ADDRSTRLEN];
            const auto* address = reinterpret_cast<const sockaddr_in*>(entry->ifa_addr);
            inet_ntop(AF_INET, &address->sin_addr, text, sizeof text);
            if (std::string(text).rfind("127.", 0) != 0) addresses.emplace_back(text);
        }
        freeifaddrs(list);
    }
    addresses.emplace_back("127.0.0.1");
    return addresses;
}

}  // namespace pastur
