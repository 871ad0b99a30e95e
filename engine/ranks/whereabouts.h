#pragma once
// The progress of a rank: written by its training thread, read by its watchdog.
#include <atomic>
#include <cstdint>

namespace pastur {

class Whereabouts {
  public:
    void at_step(int64_t step) { step_ = step; }
    int64_t step() const { return step_; }
    /// Number of collectives entered so far. A collective has the same number on every rank.
    int64_t collectives() const { return collectives_; }
    const char* last() const { return last_; }
    /// Whether this rank is in a collective now.
    bool is_waiting() const { return waiting_; }
    /// Seconds for which a wait in the last collective means nothing.
    double patience_seconds() const { return patience_seconds_; }

    /// Exists while the training thread may wait for other ranks. `name` is a string literal. patience_s: the
    /// time that the collective may take by itself.
    class Collective {
      public:
        Collective(Whereabouts& where, const char* name, double patience_s = 0) : where_(where) {
            where_.last_ = name;
            where_.patience_seconds_ = patience_s;
            ++where_.collectives_;
            where_.waiting_ = true;
        }
        ~Collective() { where_.waiting_ = false; }
        Collective(const Collective&) = delete;
        Collective& operator=(const Collective&) = delete;

      private:
        Whereabouts& where_;
    };

  private:
    std::atomic<int64_t> step_{0}, collectives_{0};
    std::atomic<bool> waiting_{false};
    std::atomic<double> patience_seconds_{0};
    std::atomic<const char*> last_{"start-up"};
};

}  // namespace pastur
