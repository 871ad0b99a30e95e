#include "engine/ranks/sideband.h"

#include <cstdint>

#include "kernels/base/error.h"

namespace pastur {
namespace {

constexpr uint32_t kLongest = 1 << 20;  ///< bytes of a message
/// A rank that dies or stops is found by the watchdog, not by this limit.
constexpr double kMessageSeconds = 600;

/// A message: its length, then its bytes.
std::string framed(const std::string& text) {
    const auto length = static_cast<uint32_t>(text.size());
    return std::string(reinterpret_cast<const char*>(&length), sizeof length) + text;
}

}  // namespace

void Sideband::fail_lost(int rank) const {
    fail(ExitCode::kRankLost, "rank {} ({}) is lost: its connection closed", rank,
         places_[static_cast<size_t>(rank)]);
}

void Sideband::send(int rank, const std::string& message, Clock::time_point deadline) const {
    if (!send_all(sockets_[static_cast<size_t>(rank)].get(), message.data(), message.size(), deadline))
        fail_lost(rank);
}

std::string Sideband::receive(int rank, Clock::time_point deadline) const {
    const int socket = sockets_[static_cast<size_t>(rank)].get();
    uint32_t length = 0;
    if (!receive_all(socket, &length, sizeof length, deadline) || length > kLongest) fail_lost(rank);
    std::string text(length, '\0');
    if (!receive_all(socket, text.data(), length, deadline)) fail_lost(rank);
    return text;
}

std::vector<std::string> Sideband::all_gather(const std::string& mine) {
    return all_gather(mine, deadline_in(kMessageSeconds));
}

void Sideband::wait_for_all() {
    all_gather("", Clock::time_point::max());
}

std::vector<std::string> Sideband::all_gather(const std::string& mine, Clock::time_point deadline) {
    std::vector<std::string> all(static_cast<size_t>(size_));
    if (rank_ != 0) {
        send(0, framed(mine), deadline);
        for (std::string& text : all) text = receive(0, deadline);
        return all;
    }
    all[0] = mine;
    for (int rank = 1; rank < size_; ++rank) all[static_cast<size_t>(rank)] = receive(rank, deadline);
    std::string messages;
    for (const std::string& text : all) messages += framed(text);
    for (int rank = 1; rank < size_; ++rank) send(rank, messages, deadline);
    return all;
}

}  // namespace pastur
