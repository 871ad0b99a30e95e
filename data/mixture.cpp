#include "data/mixture.h"

#include <algorithm>
#include <filesystem>
#include <numeric>
#include <optional>
#include <set>

#include "data/files.h"
#include "data/meta.h"
#include "data/tokenizer/tokenizer.h"
#include "kernels/base/error.h"

namespace pastur {
namespace {

constexpr int64_t kLongestPeriod = 1'000'000;

std::string trimmed(const std::string& text) {
    const size_t begin = text.find_first_not_of(" \t\n"), end = text.find_last_not_of(" \t\n");
    return begin == text.npos ? "" : text.substr(begin, end - begin + 1);
}

/// The entries between commas, without the space around them. A pattern such as {a,b}.bin stays whole.
std::vector<std::string> split_list(const std::string& text) {
    std::vector<std::string> entries(1);
    int depth = 0;
    for (const char c : text) {
        depth += (c == '{') - (c == '}');
        if (c == ',' && depth <= 0)
            entries.emplace_back();
        else
            entries.back() += c;
    }
    for (std::string& entry : entries) entry = trimmed(entry);
    return entries;
}

/// A decimal number as digits and the count of those behind the point. None: not a number above 0.
struct Decimal {
    std::string digits;
    size_t decimals;
};
std::optional<Decimal> parse_decimal(const std::string& text) {
    const size_t point = text.find('.');
    std::string digits = text;
    if (point != text.npos) digits.erase(point, 1);
    const bool number = !digits.empty() && digits.find_first_not_of("0123456789") == digits.npos;
    if (!number || digits.find_first_not_of('0') == digits.npos) return std::nullopt;
    size_t decimals = point == text.npos ? 0 : text.size() - point - 1;
    for (; decimals > 0 && digits.back() == '0'; --decimals) digits.pop_back();
    return Decimal{digits, decimals};
}

[[noreturn]] void fail_long_period() {
    fail(ExitCode::kUsage, "use weights of fewer digits: these repeat only after more than {} sequences",
         kLongestPeriod);
}

/// The weights as whole numbers without a common divisor.
std::vector<int64_t> whole_weights(const std::vector<Decimal>& weights) {
    size_t decimals = 0;
    for (const Decimal& weight : weights) decimals = std::max(decimals, weight.decimals);
    std::vector<int64_t> whole;
    for (const Decimal& weight : weights) {
        std::string digits = weight.digits + std::string(decimals - weight.decimals, '0');
        digits.erase(0, digits.find_first_not_of('0'));
        if (digits.size() > 17) fail_long_period();
        whole.push_back(std::stoll(digits));
    }
    int64_t divisor = 0, sum = 0;
    for (const int64_t weight : whole) divisor = std::gcd(divisor, weight);
    for (int64_t& weight : whole) {
        weight /= divisor;
        if (weight > kLongestPeriod || (sum += weight) > kLongestPeriod) fail_long_period();
    }
    return whole;
}

}  // namespace

std::vector<WeightedSource> parse_mixture(const std::string& text) {
    std::vector<WeightedSource> sources;
    std::vector<Decimal> weights;
    std::set<std::string> names;
    for (const std::string& entry : split_list(text)) {
        const size_t equals = entry.rfind('=');
        const std::string where = equals == entry.npos ? "" : trimmed(entry.substr(0, equals));
        const auto weight =
            equals == entry.npos ? std::nullopt : parse_decimal(trimmed(entry.substr(equals + 1)));
        if (where.empty() || !weight)
            fail(ExitCode::kUsage,
                 "expected \"DIR=WEIGHT, DIR=WEIGHT\" with weights above 0, but an entry is \"{}\"", entry);
        if (!names.insert(where).second)
            fail(ExitCode::kUsage, "{} is named twice: expected one weight for it", where);
        sources.push_back({where, 0});
        weights.push_back(*weight);
    }
    const std::vector<int64_t> whole = whole_weights(weights);
    for (size_t k = 0; k < sources.size(); ++k) sources[k].weight = whole[k];
    return sources;
}

std::vector<NamedGlob> parse_val_sets(const std::string& text) {
    std::vector<NamedGlob> sets;
    std::set<std::string> names;
    if (trimmed(text).empty()) return sets;
    for (const std::string& entry : split_list(text)) {
        const size_t equals = entry.find('=');
        const std::string name = trimmed(entry.substr(0, std::min(equals, entry.size())));
        const std::string glob = equals == entry.npos ? "" : trimmed(entry.substr(equals + 1));
        const bool plain =
            name.find_first_not_of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.") ==
            name.npos;
        if (name.empty() || glob.empty() || !plain || name == "loss")
            fail(
                ExitCode::kUsage,
                "expected \"NAME=GLOB, NAME=GLOB\" with names of letters, digits, \"_\", \"-\" and \".\" (not \"loss\"), "
                "but an entry is \"{}\"",
                entry);
        if (!names.insert(name).second) fail(ExitCode::kUsage, "{} names two sets", name);
        sets.push_back({name, glob});
    }
    return sets;
}

std::string place_mixture(const std::string& text, const PlacePath& place) {
    std::string placed;
    for (const std::string& entry : split_list(text)) {
        const size_t equals = entry.rfind('=');
        placed += (placed.empty() ? "" : ", ") + place(trimmed(entry.substr(0, equals))) + "=" +
                  trimmed(entry.substr(equals + 1));
    }
    return placed;
}

std::string place_val_sets(const std::string& text, const PlacePath& place) {
    std::string placed;
    for (const auto& [name, glob] : parse_val_sets(text))
        placed += (placed.empty() ? "" : ", ") + name + "=" + place(glob);
    return placed;
}

MixtureSchedule::MixtureSchedule(const std::vector<int64_t>& weights) : slots_(weights.size()) {
    const int64_t sources = std::ssize(weights);
    const int64_t period = std::accumulate(weights.begin(), weights.end(), int64_t{0});
    PASTUR_CHECK(sources >= 1 && sources <= UINT16_MAX && period <= kLongestPeriod &&
                     *std::min_element(weights.begin(), weights.end()) >= 1,
                 "{} weights with the sum {}", sources, period);
    // All lags are multiplied by period * parts.
    const int64_t parts = std::max<int64_t>(2 * sources - 2, 1), late = period * (parts - 1);
    std::vector<int64_t> lags(weights.size());
    for (int64_t n = 0; n < period; ++n) {
        size_t chosen = weights.size();
        for (size_t k = 0; k < weights.size(); ++k) {
            lags[k] += weights[k] * parts;
            if (lags[k] < period) continue;
            // The lag exceeds `late` after (late - lag) / weight further sequences: the least of these comes next.
            if (chosen == weights.size() ||
                (late - lags[k]) * weights[chosen] < (late - lags[chosen]) * weights[k])
                chosen = k;
        }
        PASTUR_CHECK(chosen < weights.size(), "no source is due at {} of {}", n, period);
        lags[chosen] -= period * parts;
        sources_.push_back(static_cast<uint16_t>(chosen));
        indices_.push_back(static_cast<int32_t>(slots_[chosen].size()));
        slots_[chosen].push_back(static_cast<int32_t>(n));
    }
}

MixtureSchedule::Place MixtureSchedule::at(int64_t sequence) const {
    const auto slot = static_cast<size_t>(sequence % period());
    const size_t source = sources_[slot];
    return {source, sequence / period() * std::ssize(slots_[source]) + indices_[slot]};
}

int64_t MixtureSchedule::count(size_t source, int64_t sequences) const {
    const std::vector<int32_t>& slots = slots_[source];
    const auto rest = static_cast<int32_t>(sequences % period());
    return sequences / period() * std::ssize(slots) +
           (std::lower_bound(slots.begin(), slots.end(), rest) - slots.begin());
}

void check_same_tokenizer(const std::vector<std::string>& folders) {
    const auto model_of = [](const std::filesystem::path& folder) {
        constexpr int64_t kMost = 64 << 20;
        const std::optional<std::filesystem::path> file = tokenizer_file_in(folder);
        return file ? read_file(*file, kMost) : "";
    };
    std::optional<DataMeta> first;
    std::string first_folder, first_model;
    for (const std::string& folder : folders) {
        if (!path_exists(std::filesystem::path(folder) / kMetaFile)) continue;
        const DataMeta meta = read_meta(folder);
        if (!first) {
            first = meta;
            first_folder = folder;
            first_model = model_of(folder);
        } else if (meta.tokenizer != first->tokenizer || meta.vocab_size != first->vocab_size ||
                   meta.eos_id != first->eos_id || model_of(folder) != first_model) {
            fail(
                ExitCode::kUsage,
                "data.mixture: expected folders of one tokenizer: {} has {} (vocabulary {}, EOS {}) and {} has {} "
                "(vocabulary {}, EOS {}){}",
                first_folder, first->tokenizer, first->vocab_size, first->eos_id, folder, meta.tokenizer,
                meta.vocab_size, meta.eos_id,
                meta.tokenizer == first->tokenizer ? ", or their tokenizer files differ" : "");
        }
    }
}

}  // namespace pastur
