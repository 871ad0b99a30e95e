#pragma once
#include <chrono>
#include <cstdint>
#include <optional>
#include <string>

#include "data/prepare.h"

namespace pastur {

/// Progress of a long command on stderr: on a terminal one line that is rewritten in place, otherwise a line
/// every ten seconds.
class ProgressLine {
  public:
    ProgressLine();
    ~ProgressLine();
    /// True when the line is due again. The caller composes it only then.
    bool due();
    /// Shows the share `done` of `total` (0: unknown), then `text` and the time left.
    void show(double done, double total, const std::string& text);
    /// Prints a message that stays.
    void note(const std::string& text);
    /// Restarts the clock of speed and ETA for the next stage.
    void restart();
    /// Since the last restart().
    double seconds() const;

  private:
    using Clock = std::chrono::steady_clock;
    void clear();
    bool terminal_;
    bool drawn_ = false;
    Clock::time_point start_, last_;
};

/// Shows the reports of prepare() as a progress line.
class PrepareDisplay {
  public:
    void operator()(const PrepareProgress& progress);

  private:
    void enter(PrepareProgress::Stage stage);
    ProgressLine line_;
    std::optional<PrepareProgress::Stage> stage_;
};

/// Three figures and a decimal prefix: "12.3 M", "4.56 k".
std::string with_prefix(double value);
/// "1h02m", "3m07s", "12s".
std::string duration(double seconds);

}  // namespace pastur
