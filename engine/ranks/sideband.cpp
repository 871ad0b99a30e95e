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

void send_text(const FileDescriptor& socket, const std::string& message, int to) {
    if (!send_all(socket.get(), message.data(), message.size(), deadline_in(kMessageSeconds)))
        fail(ExitCode::kRankLost, "the connection to rank {} was lost before training began", to);
}

std::string receive_text(const FileDescriptor& socket, int from) {
    const Clock::time_point deadline = deadline_in(kMessageSeconds);
    uint32_t length = 0;
    std::string text;
    bool good = receive_all(socket.get(), &length, sizeof length, deadline) && length <= kLongest;
    if (good) {
        text.resize(length);
        good = receive_all(socket.get(), text.data(), length, deadline);
    }
    if (!good) fail(ExitCode::kRankLost, "rank {} was lost before training began", from);
    return text;
}

}  // namespace

std::vector<std::string> Sideband::all_gather(const std::string& mine) {
    std::vector<std::string> all(static_cast<size_t>(size_));
    if (rank_ != 0) {
        send_text(sockets_[0], framed(mine), 0);
        for (std::string& text : all) text = receive_text(sockets_[0], 0);
        return all;
    }
    all[0] = mine;
    for (int rank = 1; rank < size_; ++rank)
        all[static_cast<size_t>(rank)] = receive_text(sockets_[static_cast<size_t>(rank)], rank);
    std::string messages;
    for (const std::string& text : all) messages += framed(text);
    for (int rank = 1; rank < size_; ++rank) send_text(sockets_[static_cast<size_t>(rank)], messages, rank);
    return all;
}

}  // namespace pastur
