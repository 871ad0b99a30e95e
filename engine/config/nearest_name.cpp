#include "engine/config/nearest_name.h"

#include <algorithm>
#include <cctype>
#include <limits>
#include <utility>

namespace pastur {
namespace {

/// Longer names are compared by their first characters, which bounds the work.
constexpr size_t kMaxCompared = 128;

/// Names that other trainers and model configurations give to our keys, where they share no word.
constexpr std::pair<std::string_view, std::string_view> kForeignKeys[] = {
    {"hidden_size", "d_model"},
    {"n_embd", "d_model"},
    {"dim", "d_model"},
    {"n_layer", "layers"},
    {"num_hidden_layers", "layers"},
    {"depth", "layers"},
    {"n_head", "heads"},
    {"intermediate_size", "ffn"},
    {"block_size", "seq_len"},
    {"context_length", "seq_len"},
    {"max_iters", "steps"},
    {"iterations", "steps"},
    {"batch_size", "global_batch"},
    {"dtype", "precision"},
    {"rms_norm_eps", "norm_eps"},
    {"path", "dir"},
    {"clip", "grad_clip"},
    {"min_lr", "final_lr_fraction"},
    {"rank", "kv_rank"},
    {"gradient_checkpointing", "recompute"},
};

char folded(char c) {
    return static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
}

/// The words of a name such as "learning_rate", in lower case.
std::vector<std::string> words_of(std::string_view name) {
    std::vector<std::string> words(1);
    for (const char c : name.substr(0, kMaxCompared)) {
        if (c != '_' && c != '-' && c != '.')
            words.back() += folded(c);
        else if (!words.back().empty())
            words.emplace_back();
    }
    if (words.back().empty()) words.pop_back();
    return words;
}

}  // namespace

int edit_distance(std::string_view a, std::string_view b) {
    a = a.substr(0, kMaxCompared);
    b = b.substr(0, kMaxCompared);
    // Rows i - 2, i - 1 and i of the dynamic programme (optimal string alignment).
    std::vector<int> before(b.size() + 1), last(b.size() + 1), row(b.size() + 1);
    for (size_t j = 0; j <= b.size(); ++j) last[j] = static_cast<int>(j);
    for (size_t i = 1; i <= a.size(); ++i) {
        row[0] = static_cast<int>(i);
        for (size_t j = 1; j <= b.size(); ++j) {
            const int replace = last[j - 1] + (folded(a[i - 1]) != folded(b[j - 1]) ? 1 : 0);
            row[j] = std::min({last[j] + 1, row[j - 1] + 1, replace});
            const bool swapped = i > 1 && j > 1 && folded(a[i - 1]) == folded(b[j - 2]) &&
                                 folded(a[i - 2]) == folded(b[j - 1]);
            if (swapped) row[j] = std::min(row[j], before[j - 2] + 1);
        }
        std::swap(before, last);
        std::swap(last, row);
    }
    return last[b.size()];
}

int name_distance(std::string_view name, std::string_view candidate) {
    std::string key(name.substr(0, kMaxCompared));
    std::replace(key.begin(), key.end(), '-', '_');
    for (const auto& [foreign, own] : kForeignKeys)
        if (own == candidate && foreign == key) return 0;
    int distance = edit_distance(name, candidate);
    const size_t common = std::min(name.size(), candidate.size());
    // "warmup" is nearest to warmup_steps, whatever the number of missing letters.
    const bool abbreviated =
        common >= 3 && edit_distance(name.substr(0, common), candidate.substr(0, common)) == 0;
    const std::vector<std::string> words = words_of(name);
    std::string initials;
    for (const std::string& word : words) initials += word[0];
    if (abbreviated || (words.size() > 1 && initials == candidate)) distance = std::min(1, distance);
    for (const std::string& word : words_of(candidate))
        if (word.size() >= 4 && std::find(words.begin(), words.end(), word) != words.end())
            distance = std::min(2, distance);
    return distance;
}

std::string nearest_name(std::string_view name, const std::vector<std::string>& candidates) {
    std::string best;
    int fewest = std::numeric_limits<int>::max();
    for (const std::string& candidate : candidates)
        if (const int distance = name_distance(name, candidate); distance < fewest) {
            fewest = distance;
            best = candidate;
        }
    return best;
}

}  // namespace pastur
