#pragma once
// Where a rank is in its run, written by the thread that trains and read by the one that watches.
#include <atomic>
#include <chrono>
#include <cstdint>

namespace pastur {

class Whereabouts {
  public:
    void at_step(int64_t step) { step_ = step; }
    int64_t step() const { return step_; }
    /// Collectives entered so far, the same numbers for the same ones on every rank.
    int64_t collectives() const { return collectives_; }
    const char* last() const { return last_; }
    /// How long this rank has been in its last collective; 0: it is not in one.
    double waiting_seconds() const {
        const int64_t since = waiting_since_;
        return since == 0 ? 0 : static_cast<double>(now() - since) * 1e-9;
    }

    /// Lives while its thread may wait for other ranks. `name` is a literal.
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
