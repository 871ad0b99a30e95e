#pragma once
// Ends a job whose ranks cannot continue: a thread in each rank that knows the progress of the others.
//
// Twice a second every rank sends its progress to rank 0 over a connection of its own, and rank 0 sends its
// own to every rank. A rank is lost if its connection closes (it was killed or crashed; noticed at once), if
// nothing arrives from it for timeout_s (it was stopped, or its host is down), or if another rank has waited
// timeout_s in a collective that it has not entered (it hangs elsewhere). Rank 0 then prints its host,
// process, step and last collective on stderr, and every rank exits with code 71. The other ranks watch rank
// 0 in the same way. None of this depends on the training thread, which may be blocked inside a library. All
// times are those of an AwakeClock.
#include <atomic>
#include <string>
#include <thread>
#include <vector>

#include "data/file_descriptor.h"
#include "engine/ranks/awake_clock.h"
#include "engine/ranks/whereabouts.h"

namespace pastur {

class Watchdog {
  public:
    /// Every rank constructs one as soon as it is connected. sockets, places: those of Channel::kWatchdog and
    /// the ranks' places (rendezvous.h).
    Watchdog(int rank, std::vector<FileDescriptor> sockets, const std::vector<std::string>& places,
             const Whereabouts& where, double timeout_s);
    /// Tells the other ranks that this one leaves, so its closing connection is not taken for a loss.
    ~Watchdog();
    Watchdog(const Watchdog&) = delete;
    Watchdog& operator=(const Watchdog&) = delete;

    void set_timeout(double seconds) { timeout_s_ = seconds; }
    /// Ends every rank with this code. The other ranks print nothing: this one has reported the cause.
    [[noreturn]] void end_all(int code);

  private:
    /// The message that ranks exchange.
    struct Beat {
        enum class Kind : int32_t { kAlive, kLeaving, kFailed };
        Kind kind = Kind::kAlive;
        int32_t code = 0;  ///< exit code, if kFailed
        int64_t step = 0, collectives = 0;
        double waiting_seconds = 0;
        char last[40] = {};
    };
    struct Peer {
        int rank;
        Beat beat{};
        double heard = 0;  ///< awake_ at its last beat
        bool left = false;
        std::string partial = {};  ///< the bytes so far of an incomplete beat
    };
    void watch();
    void tick();
    void listen(int milliseconds);
    void hear(Peer& peer, int socket);
    void tell(const Beat& beat) const;
    Beat own_beat() const;
    void judge();
    [[noreturn]] void lost(const Peer& peer, const std::string& why);

    int rank_;
    std::vector<FileDescriptor> sockets_;
    const Whereabouts& where_;
    std::atomic<double> timeout_s_;
    std::vector<std::string> names_;  ///< "rank 3 (host n1, process 77)", by rank
    std::vector<Peer> peers_;         ///< parallel to sockets_
    AwakeClock clock_{1};             ///< the watching thread reads it twenty times a second
    double awake_ = 0;                ///< clock_, as last read
    double waited_ = 0;               ///< seconds of awake_ in the present collective, less its patience
    int64_t collectives_ = -1;        ///< the collective that waited_ belongs to
    std::atomic<bool> leaving_{false};
    std::thread thread_;
};

}  // namespace pastur
