#pragma once
// `pastur train --profile-steps a:b`: a stretch of steps for profilers, and where their time went.
#include <optional>
#include <string>

#include "kernels/base/op_timer.h"

namespace pastur {

/// Steps `first` to `last`, counted from 1. Around them a CUDA profiler that waits for it records (start_profiler), and every
/// op is timed. Timed steps launch kernel by kernel and replay no CUDA graph, so profilers show their layers; they are
/// slower by the events between kernels. No bit of the run changes.
class StepProfile {
  public:
    /// Throws (kUsage) unless 1 <= first <= last <= steps. ctx must outlive the object and not move.
    StepProfile(Context& ctx, int64_t first, int64_t last, int64_t steps);
    ~StepProfile();

    /// What profiling these steps does on ctx's device, as a line for the console.
    std::string announce() const;
    /// Call both around each step, counted from 1. end_step() returns a table after the last of the steps: time per op
    /// family and step, most first, and their rates.
    void begin_step(int64_t step);
    std::optional<std::string> end_step(int64_t step);

  private:
    std::string table() const;

    Context& ctx_;
    int64_t first_, last_;
    // Of the steps profiled so far; what runs between two steps, such as a validation, is not counted.
    int64_t steps_ = 0;
    double seconds_ = 0;
    OpTotals totals_{};
    double began_ = 0;
    std::optional<OpTimer> timer_;  ///< between begin_step(first) and end_step(last)
};

/// The steps of "a:b". Throws (kUsage) for anything else.
std::pair<int64_t, int64_t> parse_step_range(const std::string& text);

}  // namespace pastur
