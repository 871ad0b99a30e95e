#include "engine/ranks/watchdog.h"

#include <fmt/format.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "engine/io/console.h"
#include "kernels/base/error.h"

namespace pastur {
namespace {

constexpr double kBeatSeconds = 0.5;

}  // namespace

Watchdog::Watchdog(int rank, std::vector<FileDescriptor> sockets, const std::vector<std::string>& places,
                   const Whereabouts& where, double timeout_s)
    : rank_(rank), sockets_(std::move(sockets)), where_(where), timeout_s_(timeout_s) {
    for (size_t i = 0; i < places.size(); ++i) names_.push_back(fmt::format("rank {} ({})", i, places[i]));
    for (size_t i = 0; i < sockets_.size(); ++i) peers_.push_back({static_cast<int>(i)});
    thread_ = std::thread([this] { watch(); });
}

Watchdog::~Watchdog() {
    leaving_ = true;
    thread_.join();
    Beat beat = own_beat();
    beat.kind = Beat::Kind::kLeaving;
    tell(beat);
}

Watchdog::Beat Watchdog::own_beat() const {
    Beat beat;
    beat.step = where_.step();
    beat.collectives = where_.collectives();
    beat.waiting_seconds = std::max(waited_, 0.0);
    std::strncpy(beat.last, where_.last(), sizeof beat.last - 1);
    return beat;
}

/// Never waits: a rank whose connection is full or closed is found by judge() or hear().
void Watchdog::tell(const Beat& beat) const {
    for (const FileDescriptor& socket : sockets_)
        if (socket) send(socket.get(), &beat, sizeof beat, MSG_NOSIGNAL | MSG_DONTWAIT);
}

void Watchdog::watch() {
    double next = 0;
    while (!leaving_) {
        tick();
        if (awake_ >= next) {
            tell(own_beat());
            next = awake_ + kBeatSeconds;
        }
        listen(50);
        judge();
    }
}

void Watchdog::tick() {
    const double before = awake_;
    awake_ = clock_.read();
    const int64_t collectives = where_.collectives();
    const bool same = where_.is_waiting() && collectives == collectives_;
    waited_ = same ? waited_ + awake_ - before : -where_.patience_seconds();
    collectives_ = collectives;
}

void Watchdog::listen(int milliseconds) {
    std::vector<pollfd> ready;
    for (size_t i = 0; i < peers_.size(); ++i)
        ready.push_back({peers_[i].left ? -1 : sockets_[i].get(), POLLIN, 0});
    if (poll(ready.data(), ready.size(), milliseconds) <= 0) return;
    for (size_t i = 0; i < ready.size(); ++i)
        if (ready[i].revents != 0) hear(peers_[i], ready[i].fd);
}

void Watchdog::hear(Peer& peer, int socket) {
    char bytes[16 * sizeof(Beat)];
    const ssize_t got = recv(socket, bytes, sizeof bytes, MSG_DONTWAIT);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (got <= 0) lost(peer, "its connection closed: it was killed or crashed");
    peer.partial.append(bytes, static_cast<size_t>(got));
    while (peer.partial.size() >= sizeof(Beat)) {
        std::memcpy(&peer.beat, peer.partial.data(), sizeof(Beat));
        peer.partial.erase(0, sizeof(Beat));
        peer.heard = awake_;
        peer.left = peer.left || peer.beat.kind == Beat::Kind::kLeaving;
        if (peer.beat.kind == Beat::Kind::kFailed) {
            tell(peer.beat);
            _exit(peer.beat.code);
        }
    }
}

void Watchdog::judge() {
    Beat latest = own_beat();  // of the rank that has waited too long in the latest collective
    for (size_t i = 0; i < peers_.size(); ++i) {
        const Peer& peer = peers_[i];
        if (peer.left || !sockets_[i]) continue;
        if (const double silent = awake_ - peer.heard; silent > timeout_s_)
            lost(peer,
                 fmt::format("no sign of life for {:.1f} s: it was stopped, or its host is down", silent));
        if (peer.beat.waiting_seconds > timeout_s_ && peer.beat.collectives >= latest.collectives)
            latest = peer.beat;
    }
    if (rank_ != 0 || latest.waiting_seconds <= timeout_s_) return;
    const std::string waited = fmt::format("other ranks have waited {:.1f} s for it in collective {} ({})",
                                           latest.waiting_seconds, latest.collectives, latest.last);
    Peer self{0, own_beat()};
    if (self.beat.collectives < latest.collectives) lost(self, waited);
    const auto late = std::min_element(peers_.begin() + 1, peers_.end(), [](const Peer& a, const Peer& b) {
        return a.beat.collectives < b.beat.collectives;
    });
    lost(*late, late->beat.collectives < latest.collectives
                    ? waited
                    : fmt::format("every rank is in collective {} ({}) and none completes it",
                                  latest.collectives, latest.last));
}

void Watchdog::lost(const Peer& peer, const std::string& why) {
    Console::report_error(fmt::format(
        "{} is lost: {}; last seen in step {}, collective {} ({}): ending every rank",
        names_[static_cast<size_t>(peer.rank)], why, peer.beat.step, peer.beat.collectives, peer.beat.last));
    end_all(static_cast<int>(ExitCode::kRankLost));
}

void Watchdog::end_all(int code) {
    Beat beat;
    beat.kind = Beat::Kind::kFailed;
    beat.code = code;
    tell(beat);
    _exit(code);  // without destructors, in which libraries would wait for the lost ranks
}

}  // namespace pastur
