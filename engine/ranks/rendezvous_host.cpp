// Rank 0's side of the rendezvous.
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <map>

#include "engine/ranks/awake_clock.h"
#include "engine/ranks/handshake.h"
#include "engine/ranks/rendezvous.h"
#include "kernels/base/error.h"

namespace pastur {
namespace {

constexpr double kGuestSeconds = 10;  ///< from the connection to the claim
constexpr int kPollMilliseconds = 200;
constexpr int kAcceptedAtATime = 64;
constexpr size_t kMostGuests = 1024;
constexpr size_t kMostReasons = 8;  ///< distinct refusals that an error lists

/// A connection that has not proved itself yet: a rank of this job or a stranger, such as a port scanner.
struct Guest {
    FileDescriptor socket;
    Clock::time_point deadline;
    Challenge challenge = {};
    Claim claim = {};
    size_t received = 0;  ///< bytes of the claim
};

/// Large jobs need more descriptors than the usual soft limit of 1024.
void raise_descriptor_limit(int size) {
    const rlim_t needed = kChannels * static_cast<rlim_t>(size) + kMostGuests + 256;
    rlimit limit{};
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= needed) return;
    limit.rlim_cur = std::min(needed, limit.rlim_max);
    setrlimit(RLIMIT_NOFILE, &limit);
}

/// A rank sends nothing before `begin`, so anything to read means that its connection is useless.
bool is_idle(int socket) {
    char byte;
    const ssize_t got = recv(socket, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
    return got < 0 && (errno == EAGAIN || errno == EINTR);
}

class Host {
  public:
    Host(const Listener& listener, int size, const JobKey& key, double timeout_s)
        : listener_(listener), key_(key), timeout_s_(timeout_s) {
        made_.size = size;
        made_.places.resize(static_cast<size_t>(size));
        processes_.resize(static_cast<size_t>(size));
        made_.places[0] = own_place();
        for (auto& sockets : made_.sockets) sockets.resize(static_cast<size_t>(size));
    }

    Connections run() {
        for (;;) {
            vacate_dead();
            if (missing().empty()) {
                begin();
                return std::move(made_);
            }
            if (clock_.read() >= timeout_s_) fail_missing();
            wait();
            accept_some();
            std::erase_if(guests_, [this](Guest& guest) { return is_done(guest); });
        }
    }

  private:
    /// Returns when a connection may have something to say, or soon.
    void wait() {
        std::vector<pollfd> ready = {{listener_.socket(), POLLIN, 0}};
        for (const Guest& guest : guests_) ready.push_back({guest.socket.get(), POLLIN, 0});
        for (const auto& sockets : made_.sockets)
            for (const FileDescriptor& socket : sockets) ready.push_back({socket.get(), POLLIN, 0});
        if (poll(ready.data(), ready.size(), kPollMilliseconds) < 0 && errno != EINTR)
            fail(ExitCode::kRankLost, "rank 0 cannot wait for the other ranks: poll: {}",
                 std::strerror(errno));
    }

    /// Accepts what waits, up to a number, so a flood of connections does not keep claims from being read.
    void accept_some() {
        for (int accepted = 0; accepted < kAcceptedAtATime; ++accepted) {
            if (guests_.size() >= kMostGuests) guests_.erase(guests_.begin());
            FileDescriptor socket(
                accept4(listener_.socket(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
            if (!socket && (errno == EMFILE || errno == ENFILE)) {
                if (guests_.empty())
                    fail(ExitCode::kRankLost,
                         "rank 0 cannot accept a connection from each rank: {}; raise `ulimit -n`",
                         std::strerror(errno));
                guests_.erase(guests_.begin());
                continue;
            }
            if (!socket) return;
            Guest guest{std::move(socket), deadline_in(kGuestSeconds)};
            guest.challenge.nonce = random_digest();
            const int one = 1;
            setsockopt(guest.socket.get(), IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
            if (say(guest, guest.challenge)) guests_.push_back(std::move(guest));
        }
    }

    /// A new connection has room for every message, so this never waits. False: the connection is lost.
    template <typename Message>
    static bool say(const Guest& guest, const Message& message) {
        return send_all(guest.socket.get(), &message, sizeof message, Clock::now());
    }

    /// Reads what has arrived. True: the guest is answered, gone, silent for too long or not a rank.
    bool is_done(Guest& guest) {
        char* const next = reinterpret_cast<char*>(&guest.claim) + guest.received;
        const ssize_t got = recv(guest.socket.get(), next, sizeof(Claim) - guest.received, 0);
        if (got > 0) guest.received += static_cast<size_t>(got);
        if (got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR)) return true;
        if (guest.received >= sizeof guest.claim.magic && guest.claim.magic != kHandshakeMagic) {
            note(guest, "not a rank of this version of pastur");
            return true;
        }
        if (guest.received < sizeof(Claim)) return Clock::now() >= guest.deadline;
        answer(guest);
        return true;
    }

    void answer(Guest& guest) {
        Claim& claim = guest.claim;
        Answer answer;
        if (!equal_in_constant_time(claim.proof, proof_of(claim, guest.challenge, key_.secret))) {
            answer.verdict = Answer::Verdict::kWrongSecret;
            put_text(answer.text, "wrong secret");
            note(guest, answer.text);
            say(guest, answer);
            return;
        }
        claim.place[sizeof claim.place - 1] = 0;
        const std::string reason = reason_to_refuse(claim);
        if (!reason.empty()) note(guest, reason);
        answer.verdict = reason.empty() ? Answer::Verdict::kWelcome : Answer::Verdict::kRefused;
        put_text(answer.text, reason.empty() ? made_.places[0] : reason);
        answer.proof = proof_of(answer, claim, guest.challenge, key_.secret);
        if (!say(guest, answer) || !reason.empty()) return;
        made_.places[static_cast<size_t>(claim.rank)] = claim.place;
        processes_[static_cast<size_t>(claim.rank)] = claim.process;
        made_.sockets[claim.channel][static_cast<size_t>(claim.rank)] = std::move(guest.socket);
    }

    /// "": the claim is good, and its seat is free.
    std::string reason_to_refuse(const Claim& claim) {
        if (claim.job != key_.job) return fmt::format("this is job {}, not {}", key_.job, claim.job);
        if (claim.size != made_.size)
            return fmt::format("this job has {} ranks, not {}", made_.size, claim.size);
        if (claim.rank < 1 || claim.rank >= made_.size || claim.channel >= kChannels)
            return fmt::format("rank {} does not connect to a rank 0 of {} ranks", claim.rank, made_.size);
        const auto rank = static_cast<size_t>(claim.rank);
        vacate_dead(rank);
        const std::string& place = made_.places[rank];
        if (!place.empty() && processes_[rank] != claim.process)
            return fmt::format("rank {} is already there ({})", claim.rank, place);
        // The process gave up its first connection, perhaps before the answer arrived.
        if (made_.sockets[claim.channel][rank]) vacate(rank);
        return "";
    }

    void vacate(size_t rank) {
        for (auto& sockets : made_.sockets) sockets[rank].reset();
        made_.places[rank].clear();
    }
    void vacate_dead(size_t rank) {
        for (auto& sockets : made_.sockets)
            if (sockets[rank] && !is_idle(sockets[rank].get())) return vacate(rank);
    }
    void vacate_dead() {
        for (size_t rank = 1; rank < made_.places.size(); ++rank) vacate_dead(rank);
    }

    void begin() {
        const Begin message;
        for (auto& sockets : made_.sockets)
            for (size_t rank = 1; rank < sockets.size(); ++rank)
                if (!send_all(sockets[rank].get(), &message, sizeof message, Clock::now()))
                    fail(ExitCode::kRankLost, "rank {} ({}) was lost before training began", rank,
                         made_.places[rank]);
    }

    std::vector<int> missing() const {
        std::vector<int> ranks;
        for (int rank = 1; rank < made_.size; ++rank)
            for (const auto& sockets : made_.sockets)
                if (!sockets[static_cast<size_t>(rank)]) {
                    ranks.push_back(rank);
                    break;
                }
        return ranks;
    }

    void note(const Guest& guest, const std::string& reason) {
        const std::string line = fmt::format("{}: {}", peer_address(guest.socket.get()), reason);
        if (refused_.size() < kMostReasons || refused_.count(line) > 0) ++refused_[line];
    }

    [[noreturn]] void fail_missing() const {
        const std::vector<int> ranks = missing();
        std::vector<std::string> lines;
        for (const auto& [line, times] : refused_)
            lines.push_back(times == 1 ? line : fmt::format("{} ({} times)", line, times));
        fail(ExitCode::kRankLost, "{} of {} ranks did not connect to port {} of rank 0 within {} s: {}{}{}",
             ranks.size(), made_.size, listener_.port(), timeout_s_, fmt::join(ranks, ", "),
             lines.empty() ? "" : "; refused: ", fmt::join(lines, ", "));
    }

    const Listener& listener_;
    const JobKey& key_;
    double timeout_s_;
    AwakeClock clock_{1};
    Connections made_;
    std::vector<Digest> processes_;  ///< of the claims, by rank
    std::vector<Guest> guests_;
    std::map<std::string, int> refused_;  ///< how often, by address and reason
};

}  // namespace

Connections host_rendezvous(const Listener& listener, int size, const JobKey& key, double timeout_s) {
    raise_descriptor_limit(size);
    return Host(listener, size, key, timeout_s).run();
}

}  // namespace pastur
