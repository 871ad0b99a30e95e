#pragma once
#include <chrono>
#include <cstdint>
#include <string>

namespace pastur {

/// Progress of a long command on stderr: one line rewritten in place on a terminal, a plain line now and then
/// otherwise.
class ProgressLine {
  public:
    ProgressLine();
    ~ProgressLine();
    /// True when the line is due again; only then does the caller compose it.
    bool due();
    /// `done` of `total` (0: unknown), then `text`.
    void show(double done, double total, const std::string& text);
    /// A message that stays.
    void note(const std::string& text);
    /// Starts the clock of speed and ETA again, for the next stage.
    void restart();
    /// Since the last restart.
    double seconds() const;

  private:
    using Clock = std::chrono::steady_clock;
    void clear();
    bool terminal_;
    bool drawn_ = false;
    Clock::time_point start_, last_;
};

/// "12.3 M", "4.56 k": three figures and a decimal prefix.
std::string with_prefix(double value);
/// "1h02m", "3m07s", "12s".
std::string duration(double seconds);

}  // namespace pastur
