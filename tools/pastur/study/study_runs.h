#pragma once
// The runs of a study with their states, and the files that are made of the finished ones.
#include <filesystem>
#include <map>
#include <nlohmann/json_fwd.hpp>
#include <set>
#include <string>
#include <vector>

#include "tools/pastur/runs/run_record.h"
#include "tools/pastur/study/cell_state.h"
#include "tools/pastur/study/design.h"
#include "tools/pastur/study/study_json.h"

namespace pastur {

class Study {
  public:
    /// Reads the states of all runs. Throws what check_same_settings() and data_state() throw.
    Study(StudyDesign design, std::filesystem::path out);

    const StudyDesign& design() const { return design_; }
    const std::filesystem::path& out() const { return out_; }
    const CellState& state(const StudyCell& cell) const { return states_.at(cell.name); }
    const StudyCell& cell(const std::string& name) const;
    /// Reads states again: of one run, or of all, which other processes may have trained. Returns whether a run
    /// has begun, stopped or ended since the last look.
    bool refresh(const std::string& name);
    bool refresh();
    int64_t count(CellState::Status status) const;

    /// Seconds of training that are left, by the speed of the steps so far; NaN before the first.
    double seconds_left(const StudyCell& cell) const;
    double seconds_left() const;

    /// Writes study.json of all runs that are finished by the time it is written, whichever process trained them.
    /// Returns it.
    nlohmann::ordered_json write_json();
    /// Writes the page of the finished runs with the analysis of study.json, after write_json(). Records of former versions
    /// count in the analysis and have no maps. Returns its path; empty: there are no others.
    std::filesystem::path write_page(const nlohmann::ordered_json& json) const;

  private:
    /// Those that a page can draw.
    std::vector<std::filesystem::path> drawable_folders() const;
    void read_finished(const StudyCell& cell);
    /// Reads log and spectra, and writes statistics.json next to them.
    RunRecord make_record(const StudyCell& cell, const std::filesystem::path& folder) const;

    StudyDesign design_;
    std::filesystem::path out_;
    std::map<std::string, CellState> states_;
    FinishedRuns finished_;
    std::map<std::string, RunStatistics> statistics_;  ///< of the finished runs
    std::set<std::string> drawable_;                   ///< finished runs that a page can draw
};

}  // namespace pastur
