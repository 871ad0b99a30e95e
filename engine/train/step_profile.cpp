#include "engine/train/step_profile.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <vector>

#include "kernels/base/error.h"
#include "kernels/base/trace.h"

namespace pastur {
namespace {

double seconds_now() {
    return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

}  // namespace

std::pair<int64_t, int64_t> parse_step_range(const std::string& text) {
    int64_t first = 0, last = 0;
    const char* const end = text.data() + text.size();
    const auto left = std::from_chars(text.data(), end, first);
    if (left.ec == std::errc() && left.ptr != end && *left.ptr == ':') {
        const auto right = std::from_chars(left.ptr + 1, end, last);
        if (right.ec == std::errc() && right.ptr == end) return {first, last};
    }
    fail(ExitCode::kUsage, "--profile-steps {}: expected FIRST:LAST, such as 10:12", text);
}

StepProfile::StepProfile(Context& ctx, int64_t first, int64_t last, int64_t steps)
    : ctx_(ctx), first_(first), last_(last) {
    if (first < 1 || first > last || last > steps)
        fail(ExitCode::kUsage,
             "--profile-steps {}:{}: expected two of the steps 1 to {}, the first one first", first, last,
             steps);
}

StepProfile::~StepProfile() {
    if (!timer_) return;
    timer_.reset();
    try {
        stop_profiler(ctx_);
    } catch (const std::exception&) {
        // The run ends with an error of its own.
    }
}

std::string StepProfile::announce() const {
    return fmt::format("--profile-steps: times ops in steps {} to {}{}", first_, last_,
                       is_cuda(ctx_)
                           ? ", between cudaProfilerStart and cudaProfilerStop"
                           : "; a CPU has no CUDA profiler to start, so perf or VTune see the whole run");
}

void StepProfile::begin_step(int64_t step) {
    if (step < first_ || step > last_) return;
    if (!timer_) {
        start_profiler(ctx_);
        timer_.emplace(ctx_);
    }
    timer_->collect();
    began_ = seconds_now();
}

std::optional<std::string> StepProfile::end_step(int64_t step) {
    if (!timer_ || step > last_) return std::nullopt;
    const OpTotals totals = timer_->collect();
    seconds_ += seconds_now() - began_;
    ++steps_;
    for (size_t i = 0; i < totals.size(); ++i) {
        totals_[i].calls += totals[i].calls;
        totals_[i].seconds += totals[i].seconds;
        totals_[i].flops += totals[i].flops;
        totals_[i].bytes += totals[i].bytes;
    }
    if (step < last_) return std::nullopt;
    timer_.reset();
    stop_profiler(ctx_);
    return table();
}

std::string StepProfile::table() const {
    std::vector<std::pair<std::string, OpTotal>> rows;
    double others = seconds_;
    for (size_t i = 0; i < totals_.size(); ++i) {
        if (totals_[i].calls == 0) continue;
        rows.emplace_back(name_of(static_cast<OpFamily>(i)), totals_[i]);
        others -= totals_[i].seconds;
    }
    std::stable_sort(rows.begin(), rows.end(),
                     [](const auto& a, const auto& b) { return a.second.seconds > b.second.seconds; });
    const auto steps = static_cast<double>(steps_);
    std::string text =
        fmt::format("steps {} to {}: {:.3f} ms per step\n{:<20}{:>8}{:>12}{:>9}{:>10}{:>10}\n", first_, last_,
                    1e3 * seconds_ / steps, "op family", "calls", "ms", "share", "TFLOP/s", "GB/s");
    for (const auto& [name, total] : rows) {
        const auto rate = [&](double work, double unit) {
            return work > 0 && total.seconds > 0 ? fmt::format("{:.3g}", work / total.seconds / unit)
                                                 : std::string("-");
        };
        text += fmt::format("{:<20}{:>8.4g}{:>12.3f}{:>7.1f} %{:>10}{:>10}\n", name,
                            static_cast<double>(total.calls) / steps, 1e3 * total.seconds / steps,
                            100 * total.seconds / seconds_, rate(total.flops, 1e12), rate(total.bytes, 1e9));
    }
    return text + fmt::format("{:<20}{:>8}{:>12.3f}{:>7.1f} %\n", "between ops", "", 1e3 * others / steps,
                              100 * others / seconds_);
}

}  // namespace pastur
