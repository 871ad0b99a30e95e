#include "tools/pastur/spectra/spectra_text.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <tuple>

namespace pastur {
namespace {

std::string number(double x) {
    return std::isfinite(x) ? fmt::format("{:.4g}", x) : "-";
}

std::string layer_name(const SpectrumRecord& record) {
    return record.layer < 0 ? "-" : fmt::format("{}", record.layer);
}

std::string line(const SpectrumRecord& record, const std::string& which) {
    const SpectrumMetrics& m = record.metrics;
    return fmt::format("{:>5}  {:<12} {:<9} {:>6} {:<8} {:>10} {:>10} {:>7} {:>8} {:>6} {:>11} {:>7}  {}\n",
                       layer_name(record), record.matrix, which, record.n, record.null, number(m.lambda_max),
                       number(m.lambda_plus), number(m.mp_gap_ratio), number(m.outlier_count),
                       number(m.outliers_below), number(m.stable_rank), number(m.alpha),
                       fmt::join(record.flags, ","));
}

/// NaN ranks above every number.
bool stands_out_more(const SpectrumRecord& a, const SpectrumRecord& b) {
    if (std::isnan(b.metrics.mp_gap_ratio)) return false;
    return std::isnan(a.metrics.mp_gap_ratio) || a.metrics.mp_gap_ratio > b.metrics.mp_gap_ratio;
}

}  // namespace

std::string spectrum_table(const std::vector<SpectrumRecord>& records, bool every_head) {
    std::string text =
        fmt::format("{:>5}  {:<12} {:<9} {:>6} {:<8} {:>10} {:>10} {:>7} {:>8} {:>6} {:>11} {:>7}  {}\n",
                    "layer", "matrix", "head", "n", "null", "lambda_max", "edge", "ratio", "outliers",
                    "below", "stable rank", "alpha", "flags");
    // Sorted by layer, not in the order of solving; the heads of a layer and null are adjacent.
    std::map<std::tuple<int64_t, std::string, bool, std::string>, std::vector<const SpectrumRecord*>> groups;
    for (const SpectrumRecord& record : records)
        groups[{record.layer, record.matrix, record.head >= 0, record.null}].push_back(&record);
    for (const auto& [key, group] : groups) {
        const SpectrumRecord* most = group.front();
        for (const SpectrumRecord* record : group) {
            if (every_head && record->head >= 0) text += line(*record, fmt::format("{}", record->head));
            if (stands_out_more(*record, *most)) most = record;
        }
        if (most->head < 0)
            text += line(*most, "all");
        else if (!every_head)
            text += line(*most, fmt::format("{} of {}", most->head, group.size()));
    }
    return text;
}

std::string calibration_table(const std::vector<NullCalibration>& lines) {
    std::string text =
        fmt::format("{:<14} {:<6} {:>6}  {:<9} {:>8} {:>14} {:>7} {:>9} {:>7}\n", "matrix", "of", "n", "null",
                    "matrices", "outliers each", "most", "with any", "energy");
    for (const NullCalibration& line : lines)
        text += fmt::format("{:<14} {:<6} {:>6}  {:<9} {:>8} {:>14.4f} {:>7} {:>8.2f}% {:>6.2f}%\n",
                            line.matrix, line.per_head ? "head" : "layer", line.n, line.null, line.matrices,
                            line.outliers, line.most_outliers, 100 * line.with_any, 100 * line.energy);
    return text;
}

std::string spectrum_histogram(std::span<const double> eigenvalues, const SpectrumRecord& record, int columns,
                               int rows) {
    const std::string title =
        fmt::format("layer {} {}{}: {} eigenvalues, null {}", layer_name(record), record.matrix,
                    record.head < 0 ? "" : fmt::format(" head {}", record.head), record.n, record.null);
    const double edge = record.metrics.lambda_plus, largest = record.metrics.lambda_max;
    if (eigenvalues.empty() || !std::isfinite(largest) || largest <= 0)
        return fmt::format("{}: {}\n", title, fmt::join(record.flags, ", "));
    const double right = 1.02 * (std::isfinite(edge) ? std::max(largest, edge) : largest);
    const auto column_of = [&](double x) {
        return static_cast<size_t>(std::clamp(x / right * columns, 0.0, columns - 1.0));
    };
    std::vector<int> counts(static_cast<size_t>(columns));
    for (const double value : eigenvalues) ++counts[column_of(value)];
    const int most = *std::max_element(counts.begin(), counts.end());
    std::string text = title + "\n";
    static const char* const kEighths[] = {" ",      "\u2581", "\u2582", "\u2583", "\u2584",
                                           "\u2585", "\u2586", "\u2587", "\u2588"};
    for (int row = rows - 1; row >= 0; --row) {
        for (const int count : counts) {
            const double eighths =
                std::ceil(8.0 * rows * std::sqrt(static_cast<double>(count) / most)) - 8.0 * row;
            text += kEighths[static_cast<size_t>(std::clamp(eighths, 0.0, 8.0))];
        }
        text += '\n';
    }
    const size_t mark = std::isfinite(edge) ? column_of(edge) : counts.size();
    for (size_t i = 0; i < counts.size(); ++i) text += i == mark ? "\u2534" : "\u2500";
    return text + fmt::format("\n0 ... {}; edge \u2534 {}, {} beyond it hold {} of the energy\n",
                              number(right), number(edge), number(record.metrics.outlier_count),
                              number(record.metrics.outlier_energy));
}

}  // namespace pastur
