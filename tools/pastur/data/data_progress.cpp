#include "tools/pastur/data/data_progress.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "tools/pastur/print.h"

namespace pastur {

ProgressLine::ProgressLine() : terminal_(::isatty(STDERR_FILENO)), start_(Clock::now()), last_(start_) {}

ProgressLine::~ProgressLine() {
    clear();
}

double ProgressLine::seconds() const {
    return std::chrono::duration<double>(Clock::now() - start_).count();
}

void ProgressLine::restart() {
    start_ = last_ = Clock::now();
}

bool ProgressLine::due() {
    const auto interval = terminal_ ? std::chrono::milliseconds(200) : std::chrono::milliseconds(10'000);
    if (Clock::now() - last_ < interval) return false;
    last_ = Clock::now();
    return true;
}

void ProgressLine::show(double done, double total, const std::string& text) {
    const double fraction = total > 0 ? std::clamp(done / total, 0.0, 1.0) : 0;
    std::string line;
    if (total > 0) {
        constexpr int kWidth = 24;
        const int filled = static_cast<int>(fraction * kWidth);
        if (terminal_) line = fmt::format("[{:#<{}}{:.<{}}] ", "", filled, "", kWidth - filled);
        line += fmt::format("{:3.0f} %  ", 100 * fraction);
    }
    line += printable(text);
    if (fraction > 0.01) line += fmt::format("  ETA {}", duration(seconds() * (1 - fraction) / fraction));
    fmt::print(stderr, "{}{}{}", terminal_ ? "\r\033[K" : "", line, terminal_ ? "" : "\n");
    std::fflush(stderr);
    drawn_ = terminal_;
}

void ProgressLine::note(const std::string& text) {
    clear();
    print_note("{}\n", text);
}

void ProgressLine::clear() {
    if (drawn_) fmt::print(stderr, "\r\033[K");
    drawn_ = false;
}

void PrepareDisplay::operator()(const PrepareProgress& progress) {
    using Stage = PrepareProgress::Stage;
    if (progress.stage != stage_) enter(progress.stage);
    if (progress.stage == Stage::kTrain || !line_.due()) return;
    const double read = static_cast<double>(progress.bytes_read);
    const double total = static_cast<double>(progress.bytes_total);
    std::string text = fmt::format("{}B of {}B", with_prefix(read), with_prefix(total));
    if (progress.stage == Stage::kEncode)
        text += fmt::format("  {} documents  {} tokens  {} tokens/s",
                            with_prefix(static_cast<double>(progress.documents)),
                            with_prefix(static_cast<double>(progress.tokens)),
                            with_prefix(static_cast<double>(progress.tokens) / line_.seconds()));
    line_.show(read, total, text);
}

void PrepareDisplay::enter(PrepareProgress::Stage stage) {
    using Stage = PrepareProgress::Stage;
    if (stage == Stage::kSample) line_.note("reading a sample for the tokenizer ...");
    if (stage == Stage::kTrain) line_.note("training the tokenizer (a minute or two for 32000 pieces) ...");
    if (stage == Stage::kEncode) line_.restart();
    stage_ = stage;
}

std::string with_prefix(double value) {
    constexpr const char* kPrefixes[] = {"", " k", " M", " G", " T"};
    int prefix = 0;
    for (; std::abs(value) >= 999.5 && prefix < 4; ++prefix) value /= 1000;
    const int decimals = prefix == 0 || value >= 99.95 ? 0 : value >= 9.995 ? 1 : 2;
    return fmt::format("{:.{}f}{}", value, decimals, kPrefixes[prefix]);
}

std::string duration(double seconds) {
    const int64_t s = static_cast<int64_t>(std::ceil(seconds));
    if (s >= 3600) return fmt::format("{}h{:02}m", s / 3600, s / 60 % 60);
    if (s >= 60) return fmt::format("{}m{:02}s", s / 60, s % 60);
    return fmt::format("{}s", s);
}

}  // namespace pastur
