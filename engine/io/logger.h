#pragma once
// What a run says: metrics.jsonl for programs, a progress line for people.
#include <chrono>
#include <cstdint>
#include <filesystem>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>

#include "data/output.h"
#include "engine/io/console.h"

namespace pastur {

/// metrics.jsonl: one JSON object a line, appended whole by one write(2), so that a killed run loses no line
/// that it wrote and leaves at most the last one cut.
class MetricsLog {
  public:
    /// Opens for appending; ends a line that an earlier run left cut.
    explicit MetricsLog(const std::filesystem::path& file);

    /// {"v":1, <fields of event in their order>}. Floats read back equal; non-finite ones are null, and
    /// "nonfinite" lists their names. Throws (kIo).
    void write(const nlohmann::ordered_json& event);
    /// What was written is durable. Throws (kIo).
    void sync() { file_.sync(); }

  private:
    AppendFile file_;
};

/// The text of a line of metrics.jsonl, without the newline.
std::string metrics_line(const nlohmann::ordered_json& event);

/// Before a run goes on from `step`: appends the lines of later steps to metrics.abandoned.jsonl beside
/// `file` and takes them out of it, with a last line that was cut. Returns the number of lines moved; no file
/// is fine. A crash in between may leave moved lines in both files, never in neither.
int64_t truncate_after(const std::filesystem::path& file, int64_t step);

/// A progress line, rewritten in place on a terminal; plain lines elsewhere.
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
    /// `out` null: silent, as every rank but 0 is.
    Progress(Console* out, int64_t steps);
    /// Leaves the last progress line standing.
    ~Progress();
    Progress(const Progress&) = delete;
    Progress& operator=(const Progress&) = delete;

    /// Every step. A terminal shows it, at most ten times a second; elsewhere only a `logged` step is a line.
    void step(const Status& status, bool logged);
    /// A line of its own, above the progress line.
    void message(const std::string& text);

  private:
    std::string eraser() const;  ///< takes the progress line off the terminal

    Console* out_;
    int64_t steps_;
    bool terminal_;
    std::string shown_;  ///< the progress line on the terminal; empty: none
    std::chrono::steady_clock::time_point last_drawn_{};
};

/// "1:02:03": hours, minutes and seconds.
std::string format_duration(double seconds);

/// `step 120/2000  loss 5.4321  lr 1.0e-03  415.2 k tok/s  MFU 41.3 %  ETA 1:02:03`
std::string format_progress(const Progress::Status& status, int64_t steps);

}  // namespace pastur
