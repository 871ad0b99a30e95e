#pragma once
// Ends a job whose ranks cannot go on: a thread of each rank that knows where the others are.
//
// Twice a second every rank tells rank 0 where it is, over the sideband, and rank 0 answers. A rank is lost
// when its connection closes (it was killed or crashed: noticed at once), when nothing comes from it for
// timeout_s (it was stopped, or its host is gone), or when another has waited timeout_s in a collective that
// it has not entered (it hangs elsewhere). Rank 0 then names it, its host and process, its step and its last
// collective on stderr, and every rank ends with exit code 71; the others watch rank 0 in the same way. What
// the training thread is doing, waiting inside a library say, does not matter.
#include <atomic>
#include <string>
#include <thread>
#include <vector>

#include "engine/ranks/sideband.h"
#include "engine/ranks/whereabouts.h"

namespace pastur {

class Watchdog {
  public:
    /// Every rank, before it enters a collective that may hang.
    Watchdog(Sideband band, const Whereabouts& where, double timeout_s);
    /// Takes leave: the connection that closes then is no loss.
    ~Watchdog();
    Watchdog(const Watchdog&) = delete;
    Watchdog& operator=(const Watchdog&) = delete;

    /// Ends every rank with this code, the others without a word: this one has said what happened.
    [[noreturn]] void end_all(int code);

  private:
    /// What ranks tell each other.
    struct Beat {
        enum class Kind : int32_t { kAlive, kLeaving, kFailed };
        Kind kind = Kind::kAlive;
        int32_t code = 0;  ///< of kFailed
        int64_t step = 0, collectives = 0;
        double waiting_seconds = 0;
        char last[40] = {};
    };
    struct Peer {
        int rank;
        Beat beat{};
        double heard = 0;  ///< when, on this process's clock
        bool left = false;
        std::string partial = {};  ///< bytes of a beat that has not all come
    };
    void watch();
    void listen(int milliseconds);
    void hear(Peer& peer, int socket);
    void tell(const Beat& beat) const;
    Beat own_beat() const;
    void judge();
    [[noreturn]] void lost(const Peer& peer, const std::string& why);

    Sideband band_;
    const Whereabouts& where_;
    double timeout_s_;
    std::vector<std::string> names_;  ///< "rank 3 (host n1, process 77)", by rank
    std::vector<Peer> peers_;         ///< parallel to band_.sockets()
    std::atomic<bool> leaving_{false};
    std::thread thread_;
};

}  // namespace pastur
