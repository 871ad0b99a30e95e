#include "engine/io/logger.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <fstream>

#include "data/output.h"
#include "engine/io/json_text.h"
#include "kernels/base/error.h"

namespace pastur {
namespace fs = std::filesystem;
namespace {

/// Appends the paths ("a", "a.b", "a.0") of the non-finite numbers in `value` to `names`.
void collect_nonfinite(std::vector<std::string>& names, const nlohmann::ordered_json& value,
                       const std::string& name) {
    if (value.is_number_float() && !std::isfinite(value.get<double>())) names.push_back(name);
    if (!value.is_structured()) return;
    for (const auto& [key, child] : value.items())
        collect_nonfinite(names, child, name.empty() ? key : name + "." + key);
}

bool ends_in_cut_line(const fs::path& file) {
    std::ifstream in(file, std::ios::binary | std::ios::ate);
    if (!in) fail_io("cannot open", file.string());
    if (in.tellg() == 0) return false;
    in.seekg(-1, std::ios::end);
    const int last = in.get();
    if (!in) fail_io("cannot read", file.string());
    return last != '\n';
}

/// A line's "step". A line that has none, or is not a JSON object, belongs to no step and stays: -1.
int64_t step_of(const nlohmann::json& event) {
    return event.is_object() ? integer_or_minus_one(event, "step") : -1;
}

}  // namespace

std::string metrics_line(const nlohmann::ordered_json& event) {
    PASTUR_CHECK(event.is_object(), "a metrics event is a JSON object");
    nlohmann::ordered_json line = {{"v", 1}};
    line.update(event);
    std::vector<std::string> names;
    collect_nonfinite(names, event, "");
    if (!names.empty()) line["nonfinite"] = names;
    return line.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
}

MetricsLog::MetricsLog(const fs::path& file) : file_(file) {
    if (ends_in_cut_line(file)) file_.write("\n");
}

void MetricsLog::write(const nlohmann::ordered_json& event) {
    file_.write(metrics_line(event) + "\n");
}

int64_t truncate_after(const fs::path& file, int64_t step) {
    std::error_code ignored;
    const fs::file_status status = fs::symlink_status(file, ignored);
    if (fs::exists(status) && !fs::is_regular_file(status))  // opening a pipe would wait for its other end
        fail(ExitCode::kIo, "cannot read {}: not a regular file", file.string());
    std::ifstream in(file, std::ios::binary);
    if (!in) {
        if (errno == ENOENT) return 0;
        fail_io("cannot open", file.string());
    }
    fs::path abandoned_path = file;
    abandoned_path.replace_extension(".abandoned" + file.extension().string());
    OutputFile kept(file);
    AppendFile abandoned(abandoned_path);
    int64_t moved = 0;
    for (std::string line; std::getline(in, line);) {
        if (in.eof()) break;  // a line without a newline was cut
        line += '\n';
        const bool later = step_of(parse_json(line)) > step;
        if (later) {
            abandoned.write(line);
            ++moved;
        } else {
            kept.write(line);
        }
    }
    if (in.bad()) fail_io("cannot read", file.string());
    abandoned.sync();
    kept.commit();
    return moved;
}

std::string format_duration(double seconds) {
    // Bounded: the first step of a long run may promise centuries.
    const auto total = static_cast<int64_t>(std::clamp(seconds, 0.0, 3.6e6) + 0.5);
    return fmt::format("{}:{:02}:{:02}", total / 3600, total / 60 % 60, total % 60);
}

std::string format_progress(const Progress::Status& status, int64_t steps) {
    std::string text =
        fmt::format("step {}/{}  loss {:.4f}  lr {:.1e}  ", status.step, steps, status.loss, status.lr);
    const double rate = status.tokens_per_s;
    text += rate < 1e3   ? fmt::format("{:.0f} tok/s", rate)
            : rate < 1e6 ? fmt::format("{:.1f} k tok/s", rate * 1e-3)
                         : fmt::format("{:.2f} M tok/s", rate * 1e-6);
    if (status.mfu) text += fmt::format("  MFU {:.1f} %", *status.mfu * 100);
    const double left = static_cast<double>(steps - status.step) * status.step_seconds;
    return text + "  ETA " + format_duration(left);
}

Progress::Progress(Console* out, int64_t steps) : out_(out), steps_(steps) {}

Progress::~Progress() {
    if (out_) out_->keep_status();
}

void Progress::step(const Status& status, bool logged) {
    if (!out_) return;
    if (logged) {
        out_->set_status("");
        out_->write(format_progress(status, steps_) + "\n");
        return;
    }
    const auto now = std::chrono::steady_clock::now();
    if (!out_->has_status() || now - last_drawn_ < std::chrono::milliseconds(100)) return;
    last_drawn_ = now;
    out_->set_status(format_progress(status, steps_));
}

void Progress::message(const std::string& text) {
    if (out_) out_->write(text + "\n");
}

}  // namespace pastur
