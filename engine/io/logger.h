#pragma once
// The reports of a run: metrics.jsonl for programs, progress lines for the console.
#include <chrono>
#include <cstdint>
#include <filesystem>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>

#include "data/output.h"
#include "engine/io/console.h"

namespace pastur {

/// metrics.jsonl: one JSON object per line, each appended by one write(2). A run that is killed loses no line
/// that it wrote, and at most its last one is cut.
class MetricsLog {
  public:
    /// Opens for appending. Ends a line that an earlier run left cut.
    explicit MetricsLog(const std::filesystem::path& file);

    /// {"v":1, <fields of event in their order>}. Floats read back equal; non-finite ones are null, and
    /// "nonfinite" lists their names. Throws (kIo).
    void write(const nlohmann::ordered_json& event);
    /// Makes everything written durable. Throws (kIo).
    void sync() { file_.sync(); }

  private:
    AppendFile file_;
};

/// The text of a line of metrics.jsonl, without the newline.
std::string metrics_line(const nlohmann::ordered_json& event);

/// Before a run resumes from `step`: moves the lines of later steps to metrics.abandoned.jsonl next to `file`, and
/// removes a last line that was cut. Returns the number of lines moved; `file` may be missing. A crash may leave
/// moved lines in both files, never in neither.
int64_t truncate_after(const std::filesystem::path& file, int64_t step);

/// Console lines of a run: one for each logged step, and below them, where the console can show a status, the
/// latest step.
class Progress {
  public:
    struct Status {
        int64_t step = 0;
        double loss = 0;
        double lr = 0;
        double tokens_per_s = 0;
        std::optional<double> mfu = {};  ///< a fraction; absent: unknown
        double step_seconds = 0;         ///< recent mean, for the time left
    };
    /// `out` null: silent, as on every rank but 0.
    Progress(Console* out, int64_t steps);
    /// Lets the last status stand.
    ~Progress();
    Progress(const Progress&) = delete;
    Progress& operator=(const Progress&) = delete;

    /// Call it every step. A `logged` step is a line; another one is the status, at most ten times a second.
    void step(const Status& status, bool logged);
    /// A line of its own.
    void message(const std::string& text);

  private:
    Console* out_;
    int64_t steps_;
    std::chrono::steady_clock::time_point last_drawn_{};
};

/// "1:02:03": hours, minutes and seconds.
std::string format_duration(double seconds);

/// `step 120/2000  loss 5.4321  lr 1.0e-03  415.2 k tok/s  MFU 41.3 %  ETA 1:02:03`
std::string format_progress(const Progress::Status& status, int64_t steps);

}  // namespace pastur
