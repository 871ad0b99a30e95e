#pragma once
// One call's share of a study: the runs that it trains.
#include <chrono>
#include <vector>

#include "tools/pastur/study/cell_runner.h"
#include "tools/pastur/study/cell_slots.h"
#include "tools/pastur/study/study_arguments.h"
#include "tools/pastur/study/study_runs.h"

namespace pastur {

/// Whether a pattern of --only matches the run's name; no patterns match all.
bool is_chosen(const StudyCell& cell, const std::vector<std::string>& patterns);

/// Trains the chosen runs that are not done. Other processes may train others, or the same, which are passed over.
class StudySession {
  public:
    StudySession(Study& study, const StudyArguments& arguments, const CellSlots& slots, double max_seconds);
    /// Returns whether a stop was requested.
    bool run();

  private:
    using Clock = std::chrono::steady_clock;
    void stop();
    void start(size_t slot);
    void finish(const CellRunner::Ended& ended);

    Study& study_;
    CellRunner runner_;
    size_t slots_;
    double max_seconds_;
    bool write_json_;
    std::vector<const StudyCell*> waiting_;  ///< the next one last
    bool stopping_ = false;
    Clock::time_point begin_ = Clock::now();
};

}  // namespace pastur
