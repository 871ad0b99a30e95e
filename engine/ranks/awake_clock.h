#pragma once
// Time for which this process ran: it stands still while a job is stopped (SIGSTOP, Ctrl-Z, a suspended
// machine), so a job that continues does not take its own absence for the silence of others.
#include <algorithm>
#include <chrono>

namespace pastur {

class AwakeClock {
  public:
    /// longest_gap_s: read() is called more often, unless the process does not run. Longer gaps count as this.
    explicit AwakeClock(double longest_gap_s) : longest_gap_s_(longest_gap_s) {}

    /// Seconds since the construction. Not for several threads.
    double read() {
        const auto now = std::chrono::steady_clock::now();
        const double gap = std::chrono::duration<double>(now - last_).count();
        last_ = now;
        return awake_s_ += std::min(gap, longest_gap_s_);
    }

  private:
    double longest_gap_s_, awake_s_ = 0;
    std::chrono::steady_clock::time_point last_ = std::chrono::steady_clock::now();
};

}  // namespace pastur
