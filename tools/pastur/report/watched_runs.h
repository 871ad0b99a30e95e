#pragma once
// The runs that a page shows, while they go on.
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "tools/pastur/report/report_page.h"

namespace pastur {

/// Whether a folder is that of a study that has begun to train.
bool is_study_folder(const std::filesystem::path& folder);

/// Run folders, and folders of studies (tools/pastur/study), which stand for their runs.
class WatchedRuns {
  public:
    /// Throws (kMissingInput) if a path is that of a file, or of a folder with files that are not a run's.
    explicit WatchedRuns(std::vector<std::filesystem::path> paths);

    /// Looks at the folders again. Throws (kIo), and (kCorruptData) for a damaged record of a study's run.
    void refresh();
    /// The runs that have begun, in the order of the paths; those of a study by name.
    const std::vector<std::filesystem::path>& folders() const { return folders_; }
    /// Runs that have not ended, and those that have not begun. A run that was stopped and can be resumed has not
    /// ended.
    int64_t unfinished() const { return unfinished_; }
    /// Changes if a file that the page shows does.
    const std::string& fingerprint() const { return fingerprint_; }
    /// `text`, with title, notes and (once its runs have ended) analysis of study.json where the only path is a study's.
    /// Refers to this object.
    ReportText describe(const ReportText& text) const;

  private:
    void add_run(const std::filesystem::path& folder, bool in_study);
    void add_study(const std::filesystem::path& folder);

    std::vector<std::filesystem::path> paths_, folders_;
    int64_t unfinished_ = 0;
    std::string fingerprint_;
    nlohmann::ordered_json study_;  ///< study.json of the last study; null: none
};

}  // namespace pastur
