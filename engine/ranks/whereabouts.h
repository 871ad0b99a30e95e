#pragma once
// The progress of a rank: written by its training thread, read by its watchdog.
#include <atomic>
#include <chrono>
#include <cstdint>

namespace pastur {

class Whereabouts {
  public:
    void at_step(int64_t step) { step_ = step; }
    int64_t step() const { return step_; }
    /// Number of collectives entered so far. A collective has the same number on every rank.
    int64_t collectives() const { return collectives_; }
    const char* last() const { return last_; }
    /// Seconds since this rank entered the collective it is in; 0: it is in none.
    double waiting_seconds() const {
        const int64_t since = waiting_since_;
        return since == 0 ? 0 : static_cast<double>(now() - since) * 1e-9;
    }

    /// Exists while the training thread may wait for other ranks. `name` is a string literal.
    class Collective {
      public:
        Collective(Whereabouts& where, const char* name) : where_(where) {
            where_.last_ = name;
            where_.waiting_since_ = now();
            ++where_.collectives_;
        }
        ~Collective() { where_.waiting_since_ = 0; }
        Collective(const Collective&) = delete;
        Collective& operator=(const Collective&) = delete;

      private:
        Whereabouts& where_;
    };

  private:
    static int64_t now() { return std::chrono::steady_clock::now().time_since_epoch().count(); }
    std::atomic<int64_t> step_{0}, collectives_{0}, waiting_since_{0};
    std::atomic<const char*> last_{"start-up"};
};

}  // namespace pastur
