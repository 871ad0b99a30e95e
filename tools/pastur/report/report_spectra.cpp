#include "tools/pastur/report/report_spectra.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <optional>
#include <set>
#include <tuple>

#include "diag/npz_reader.h"
#include "engine/spectra/summary_lines.h"
#include "kernels/base/error.h"
#include "tools/pastur/report/report_run.h"

namespace pastur {
namespace {

/// Fields of a record that the page draws. It computes gap, ratio, soft rank and fraction from these.
constexpr const char* kMetricNames[] = {"lambda_max",     "lambda_plus",
                                        "lambda_minus",   "bulk_edge",
                                        "sigma2",         "outlier_count",
                                        "outliers_below", "stable_rank",
                                        "alpha",          "participation_ratio",
                                        "entropy_rank",   "outlier_energy",
                                        "kept_null",      "ks",
                                        "overlap_before", "overlap_next",
                                        "overlap_random", "n"};
constexpr size_t kMetricCount = std::size(kMetricNames);

struct Cell {
    int64_t step, layer, head;
    auto key() const { return std::tie(step, layer, head); }
    bool operator<(const Cell& other) const { return key() < other.key(); }
};
struct Record {
    std::array<float, kMetricCount> metrics;
    std::vector<float> variances;  ///< as MetricGrid::variances
    std::vector<std::string> flags;
};
struct GridKey {
    std::string matrix, null;
    bool per_head;
    bool operator<(const GridKey& other) const {
        return std::tie(matrix, null, per_head) < std::tie(other.matrix, other.null, other.per_head);
    }
};
struct Records {
    std::vector<std::vector<int64_t>> chains;
    std::map<Cell, Record> cells;
};

std::optional<int64_t> integer_of(const nlohmann::json& object, const char* key) {
    const auto value = object.find(key);
    if (value == object.end() || !value->is_number_integer()) return std::nullopt;
    return value->get<int64_t>();
}
std::string text_of(const nlohmann::json& object, const char* key) {
    const auto value = object.find(key);
    return value != object.end() && value->is_string() ? value->get<std::string>() : std::string();
}

std::vector<int64_t> integers_of(const nlohmann::json& object, const char* key) {
    std::vector<int64_t> list;
    if (const auto value = object.find(key); value != object.end() && value->is_array())
        for (const nlohmann::json& item : *value)
            list.push_back(item.is_number_integer() ? item.get<int64_t>() : 0);
    return list;
}

/// Reads the dimensions of the null's law and its variances. LawCurves checks them.
void read_law(const nlohmann::json& json, const std::string& null, Records& records, Record& record) {
    const auto terms = json.find("terms");
    if (null == "mp" && json.contains("dims")) {
        const std::vector<int64_t> dims = integers_of(json, "dims");
        if (!dims.empty()) records.chains = {{dims.front(), dims.back()}};
    } else if (null == "mp") {
        records.chains = {{integer_of(json, "rows").value_or(0), integer_of(json, "cols").value_or(0)}};
    } else if (null == "product" && terms != json.end() && terms->is_array()) {
        records.chains.clear();
        constexpr size_t kMostTerms = 16;  // LawCurves draws no law of more
        for (const nlohmann::json& term : *terms) {
            if (records.chains.size() > kMostTerms) break;
            records.chains.push_back(integers_of(term, "dims"));
            record.variances.push_back(static_cast<float>(number_of(term, "variance_product")));
        }
    } else if (null == "product") {
        records.chains = {integers_of(json, "dims")};
    }
}

/// The texts in a record's list of flags, which are a few short ones.
std::vector<std::string> flags_of(const nlohmann::json& json) {
    constexpr size_t kMost = 4, kLongest = 64;
    std::vector<std::string> flags;
    if (const auto given = json.find("flags"); given != json.end() && given->is_array())
        for (const nlohmann::json& flag : *given)
            if (flags.size() < kMost && flag.is_string() &&
                flag.get_ref<const std::string&>().size() <= kLongest)
                flags.push_back(flag.get<std::string>());
    return flags;
}

/// False if the record lacks a key of its identity (step, layer, head, matrix or null), or has one matrix or null too
/// many.
bool add_record(const nlohmann::json& json, std::map<GridKey, Records>& grids) {
    const auto step = integer_of(json, "step"), layer = integer_of(json, "layer"),
               head = integer_of(json, "head");
    const GridKey key{text_of(json, "matrix"), text_of(json, "null"), head.value_or(-1) >= 0};
    if (!step || !layer || !head || key.matrix.empty() || key.null.empty()) return false;
    constexpr size_t kMaxGrids = 256, kLongestName = 100;
    if (key.matrix.size() > kLongestName || key.null.size() > kLongestName) return false;
    if (grids.size() >= kMaxGrids && !grids.contains(key)) return false;
    Records& records = grids[key];
    Record& record = records.cells[{*step, *layer, *head}];
    record = {};
    read_law(json, key.null, records, record);
    for (size_t i = 0; i < kMetricCount; ++i)
        record.metrics[i] = static_cast<float>(number_of(json, kMetricNames[i]));
    record.flags = flags_of(json);
    return true;
}

size_t index_in(const std::vector<int64_t>& sorted, int64_t value) {
    return static_cast<size_t>(std::lower_bound(sorted.begin(), sorted.end(), value) - sorted.begin());
}

size_t index_of(const MetricGrid& grid, const Cell& cell) {
    const size_t row =
        index_in(grid.steps, cell.step) * grid.layers.size() + index_in(grid.layers, cell.layer);
    return row * grid.heads.size() + index_in(grid.heads, cell.head);
}

void check_is_grid(const MetricGrid& grid, size_t records, const std::filesystem::path& file) {
    const size_t cells = grid.steps.size() * grid.layers.size() * grid.heads.size();
    if (cells > 16 * records + 4096)
        fail(ExitCode::kCorruptData, "{}: {} records of \"{}\" spread over {} cells; expected a grid",
             file.string(), records, grid.matrix, cells);
}

MetricGrid make_grid(const GridKey& key, Records& records, const std::filesystem::path& file) {
    MetricGrid grid{key.matrix, key.null, key.per_head, std::move(records.chains), {}, {}, {}, {}, {}, {}};
    std::set<int64_t> steps, layers, heads;
    for (const auto& [cell, record] : records.cells) {
        steps.insert(cell.step);
        layers.insert(cell.layer);
        heads.insert(cell.head);
    }
    grid.steps.assign(steps.begin(), steps.end());
    grid.layers.assign(layers.begin(), layers.end());
    grid.heads.assign(heads.begin(), heads.end());
    check_is_grid(grid, records.cells.size(), file);
    const size_t cells = steps.size() * layers.size() * heads.size();
    for (size_t i = 0; i < kMetricCount; ++i) {
        std::vector<float> values(cells, NAN);
        bool any = false;
        for (const auto& [cell, record] : records.cells) {
            values[index_of(grid, cell)] = record.metrics[i];
            any = any || std::isfinite(record.metrics[i]);
        }
        if (any) grid.metrics[kMetricNames[i]] = std::move(values);
    }
    if (grid.chains.size() > 1) grid.variances.assign(grid.chains.size(), std::vector<float>(cells, NAN));
    for (const auto& [cell, record] : records.cells)
        for (size_t i = 0; i < std::min(grid.variances.size(), record.variances.size()); ++i)
            grid.variances[i][index_of(grid, cell)] = record.variances[i];
    for (const auto& [cell, record] : records.cells)
        for (const std::string& flag : record.flags) ++grid.flags[flag];
    return grid;
}

/// The number that follows `prefix`; `rest` is the text after it. None if there is no such number.
std::optional<int64_t> number_after(std::string_view text, std::string_view prefix, std::string_view& rest) {
    if (!text.starts_with(prefix)) return std::nullopt;
    int64_t number = 0;
    const char* const end = text.data() + text.size();
    const auto [next, error] = std::from_chars(text.data() + prefix.size(), end, number);
    if (error != std::errc() || number < 0) return std::nullopt;
    rest = std::string_view(next, static_cast<size_t>(end - next));
    return number;
}

std::string array_name(const EigenvalueGroup& group, int64_t layer) {
    return fmt::format("layers.{}.{}{}", layer, group.matrix, group.per_head ? ".heads" : "");
}

/// The groups of a file, whose arrays are `layers.<l>.<matrix>` [n] and `layers.<l>.<matrix>.heads` [H][n].
std::vector<EigenvalueGroup> read_groups(const NpzReader& file) {
    std::map<std::pair<std::string, bool>, EigenvalueGroup> groups;
    for (const std::string& name : file.names()) {
        std::string_view matrix;
        const auto layer = number_after(name, "layers.", matrix);
        if (!layer || matrix.size() < 2 || matrix.front() != '.') continue;
        matrix.remove_prefix(1);
        const bool per_head = matrix.ends_with(".heads");
        if (per_head) matrix.remove_suffix(6);
        const std::vector<int64_t> shape = file.shape(name);
        if (shape.size() != (per_head ? 2u : 1u)) continue;
        EigenvalueGroup& group = groups[{std::string(matrix), per_head}];
        if (group.layers.empty())
            group = {std::string(matrix), per_head, {}, per_head ? shape[0] : 1, shape.back()};
        if (shape.back() == group.n && (!per_head || shape[0] == group.heads)) group.layers.push_back(*layer);
    }
    std::vector<EigenvalueGroup> list;
    for (auto& [key, group] : groups) {
        std::sort(group.layers.begin(), group.layers.end());
        if (group.values_per_step() > 0) list.push_back(std::move(group));
    }
    return list;
}

}  // namespace

struct MetricRecords::Grids {
    std::map<GridKey, Records> by_key;
};
MetricRecords::MetricRecords() : grids_(std::make_unique<Grids>()) {}
MetricRecords::~MetricRecords() = default;

bool MetricRecords::add(const nlohmann::json& line) {
    bool complete = true;
    const int nulls = for_each_null(line, [&](const nlohmann::json& record) {
        complete = add_record(record, grids_->by_key) && complete;
    });
    return nulls > 0 && complete;
}

std::vector<MetricGrid> MetricRecords::take_grids(const std::filesystem::path& file) {
    std::vector<MetricGrid> grids;
    for (auto& [key, list] : grids_->by_key) grids.push_back(make_grid(key, list, file));
    grids_->by_key.clear();
    return grids;
}

std::vector<MetricGrid> read_metric_grids(const std::filesystem::path& spectra,
                                          std::vector<std::string>& notes,
                                          const std::function<void(const nlohmann::json&)>& use_line) {
    const std::filesystem::path file = spectra / "summary.jsonl";
    MetricRecords records;
    int64_t incomplete = 0;
    const int64_t unreadable = read_json_lines(file, [&](const nlohmann::json& json) {
        if (use_line) use_line(json);
        if (!records.add(json)) ++incomplete;
    });
    if (unreadable + incomplete > 0)
        notes.push_back(
            fmt::format("spectra/summary.jsonl: {} lines could not be read", unreadable + incomplete));
    return records.take_grids(file);
}

MetricGrid at_steps(const MetricGrid& grid, const std::vector<int64_t>& steps) {
    MetricGrid picked = grid;
    picked.steps = steps;
    const size_t row = grid.layers.size() * grid.heads.size();
    const auto pick = [&](std::vector<float>& values) {
        std::vector<float> kept;
        for (const int64_t step : steps) {
            const auto begin = values.begin() + static_cast<int64_t>(index_in(grid.steps, step) * row);
            kept.insert(kept.end(), begin, begin + static_cast<int64_t>(row));
        }
        values = std::move(kept);
    };
    for (auto& [name, values] : picked.metrics) pick(values);
    for (std::vector<float>& values : picked.variances) pick(values);
    return picked;
}

EigenvalueFiles::EigenvalueFiles(const std::filesystem::path& spectra) {
    if (!std::filesystem::is_directory(spectra)) return;
    for (const auto& entry : std::filesystem::directory_iterator(spectra)) {
        const std::string name = entry.path().filename().string();
        std::string_view rest;
        const auto step = number_after(name, "step_", rest);
        if (step && rest == ".npz") files_[*step] = entry.path();
    }
    for (const auto& [step, path] : files_) steps_.push_back(step);
    if (!files_.empty()) groups_ = read_groups(NpzReader(files_.rbegin()->second));
}

std::vector<double> EigenvalueFiles::read(const EigenvalueGroup& group, int64_t step) const {
    const auto block = static_cast<size_t>(group.heads * group.n);
    const NpzReader file(files_.at(step));
    std::vector<double> values;
    for (const int64_t layer : group.layers) {
        const std::string name = array_name(group, layer);
        NpzContent array;
        if (file.contains(name)) array = file.read(name);
        if (array.values.size() == block)
            values.insert(values.end(), array.values.begin(), array.values.end());
        else
            values.insert(values.end(), block, NAN);
    }
    return values;
}

std::string pack_spectra(const std::vector<double>& values, int64_t n) {
    constexpr double kLevels = 65535;
    const double range = std::log(1e12);
    std::string bytes;
    for (size_t begin = 0; begin < values.size(); begin += static_cast<size_t>(n)) {
        std::vector<double> spectrum(values.begin() + static_cast<int64_t>(begin),
                                     values.begin() + static_cast<int64_t>(begin) + n);
        const bool finite =
            std::all_of(spectrum.begin(), spectrum.end(), [](double v) { return std::isfinite(v); });
        if (finite) std::sort(spectrum.begin(), spectrum.end(), std::greater<>());
        const auto largest = static_cast<float>(finite ? std::max(spectrum.front(), 0.0) : NAN);
        bytes.append(reinterpret_cast<const char*>(&largest), sizeof(largest));
        if (!finite) continue;
        auto before = static_cast<int64_t>(kLevels);
        for (size_t i = 1; i < spectrum.size(); ++i) {
            const double log_ratio = spectrum[i] > 0 ? std::log(spectrum[i] / spectrum.front()) : -range;
            const int64_t level = std::max<int64_t>(0, std::llround(kLevels * (1 + log_ratio / range)));
            auto distance = static_cast<uint64_t>(before - level);
            for (; distance > 127; distance >>= 7) bytes += static_cast<char>(128 | (distance & 127));
            bytes += static_cast<char>(distance);
            before = level;
        }
    }
    return bytes;
}

std::vector<int64_t> spread(const std::vector<int64_t>& values, size_t count) {
    if (values.size() <= count || count == 0) return count == 0 ? std::vector<int64_t>{} : values;
    if (count == 1) return {values.back()};
    std::vector<int64_t> picked;
    for (size_t i = 0; i < count; ++i) picked.push_back(values[i * (values.size() - 1) / (count - 1)]);
    return picked;
}

}  // namespace pastur
