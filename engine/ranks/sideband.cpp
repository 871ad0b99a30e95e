#include "engine/ranks/sideband.h"

#include <cstdint>

#include "engine/ranks/sockets.h"
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
    fail(ExitCode::kRankLost, "rank {} ({}) was lost before training began", rank,
         places_[static_cast<size_t>(rank)]);
}

void Sideband::send(int rank, const std::string& message) const {
    if (!send_all(sockets_[static_cast<size_t>(rank)].get(), message.data(), message.size(),
                  deadline_in(kMessageSeconds)))
        fail_lost(rank);
}

std::string Sideband::receive(int rank) const {
    const int socket = sockets_[static_cast<size_t>(rank)].get();
    const Clock::time_point deadline = deadline_in(kMessageSeconds);
    uint32_t length = 0;
    if (!receive_all(socket, &length, sizeof length, deadline) || length > kLongest) fail_lost(rank);
    std::string text(length, '\0');
    if (!receive_all(socket, text.data(), length, deadline)) fail_lost(rank);
    return text;
}

std::vector<std::string> Sideband::all_gather(const std::string& mine) {
    std::vector<std::string> all(static_cast<size_t>(size_));
    if (rank_ != 0) {
        send(0, framed(mine));
        for (std::string& text : all) text = receive(0);
        return all;
    }
    all[0] = mine;
    for (int rank = 1; rank < size_; ++rank) all[static_cast<size_t>(rank)] = receive(rank);
    std::string messages;
    for (const std::string& text : all) messages += framed(text);
    for (int rank = 1; rank < size_; ++rank) send(rank, messages);
    return all;
}

}  // namespace pastur
