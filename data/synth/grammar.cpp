#include "data/synth/grammar.h"

#include <algorithm>
#include <charconv>

#include "data/synth/morphology.h"
#include "kernels/base/error.h"

namespace pastur {
namespace {

std::string_view trim(std::string_view text) {
    const size_t first = text.find_first_not_of(" \n");
    if (first == text.npos) return {};
    return text.substr(first, text.find_last_not_of(" \n") - first + 1);
}

/// Calls use(part) for the parts of `text` between the separators.
void for_each_part(std::string_view text, char separator, const std::function<void(std::string_view)>& use) {
    while (true) {
        const size_t end = text.find(separator);
        use(text.substr(0, end));
        if (end == text.npos) return;
        text.remove_prefix(end + 1);
    }
}

std::string inflect(std::string_view form, std::string_view word, bool past) {
    const bool be = word == "be";
    if (form.empty()) return std::string(word);
    if (form == "pl") return plural(word);
    if (form == "er") return comparative(word);
    if (form == "est") return superlative(word);
    if (form == "v") return past ? past_tense(word) : third_person(word);
    if (form == "vp") return past ? (be ? "were" : past_tense(word)) : be ? "are" : std::string(word);
    if (form == "past") return past_tense(word);
    if (form == "ed") return past_participle(word);
    if (form == "ing") return present_participle(word);
    PASTUR_CHECK(false, "unknown word form {}", form);
    return {};
}

uint64_t hash_of(std::string_view word) {
    uint64_t hash = 0;
    for (const char c : word) hash = mix64(hash + static_cast<uint8_t>(c) + kGoldenGamma);
    return hash;
}

/// Draws three words and returns the one with the largest affinity to the word drawn before. Affinities are
/// arbitrary but fixed: a model can learn them, and cannot from frequencies alone.
std::string_view draw_word(const std::vector<std::string_view>& words, Grammar::Scene& scene) {
    std::string_view best;
    uint64_t best_affinity = 0;
    for (int i = 0; i < 3; ++i) {
        const std::string_view word = words[draw_zipf(scene.random, words.size())];
        const uint64_t hash = hash_of(word);
        const uint64_t affinity = hash == scene.company ? 0 : mix64(hash ^ scene.company);
        if (best.empty() || affinity > best_affinity) {
            best = word;
            best_affinity = affinity;
        }
    }
    scene.company = hash_of(best);
    return best;
}

}  // namespace

size_t draw_zipf(SplitMix& random, size_t n) {
    constexpr uint64_t kScale = 1 << 20;
    uint64_t total = 0;
    for (size_t i = 0; i < n; ++i) total += kScale / (i + 4);
    uint64_t at = random.below(total);
    size_t i = 0;
    for (; i + 1 < n && at >= kScale / (i + 4); ++i) at -= kScale / (i + 4);
    return i;
}

Grammar::Grammar(std::string_view text) {
    std::string joined;  // continuation lines joined to their rule
    for_each_part(text, '\n', [&](std::string_view line) {
        if (trim(line).empty()) return;
        joined += line.front() == ' ' ? ' ' : '\n';
        joined += trim(line);
    });
    for_each_part(trim(joined), '\n', [&](std::string_view rule) {
        const size_t colon = rule.find(':');
        PASTUR_CHECK(colon != rule.npos, "grammar rule without a colon: {}", rule);
        std::vector<Alternative>& alternatives = rules_[std::string(trim(rule.substr(0, colon)))];
        PASTUR_CHECK(alternatives.empty(), "grammar rule given twice: {}", rule);
        for_each_part(rule.substr(colon + 1), '|', [&](std::string_view alternative) {
            alternatives.push_back(parse_alternative(trim(alternative)));
        });
    });
}

Grammar::Alternative Grammar::parse_alternative(std::string_view text) {
    Alternative alternative{1, {}};
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), alternative.weight);
    if (error == std::errc{}) {
        const size_t digits = static_cast<size_t>(end - text.data());
        PASTUR_CHECK(text.substr(digits).starts_with("*"), "weight without a star: {}", text);
        text = trim(text.substr(digits + 1));
    } else {
        alternative.weight = 1;
    }
    while (!text.empty()) {
        if (text.front() != '{') {
            const std::string_view literal = text.substr(0, text.find('{'));
            alternative.pieces.push_back({std::string(literal), false, false, {}, {}});
            text.remove_prefix(literal.size());
            continue;
        }
        const size_t close = text.find('}');
        PASTUR_CHECK(close != text.npos, "slot without an end: {}", text);
        alternative.pieces.push_back(parse_slot(text.substr(1, close - 1)));
        text.remove_prefix(close + 1);
    }
    return alternative;
}

Grammar::Piece Grammar::parse_slot(std::string_view text) {
    Piece piece{{}, true, text.starts_with('^'), {}, {}};
    if (piece.capital) text.remove_prefix(1);
    if (const size_t space = text.find(' '); space != text.npos) {
        piece.form = text.substr(0, space);
        text.remove_prefix(space + 1);
    }
    const size_t at = text.find("_@");
    if (at != text.npos) piece.by_variable = text.substr(at + 2);
    piece.text = text.substr(0, at);
    return piece;
}

void Grammar::expand_slot(const Piece& piece, Scene& scene, std::string& out) const {
    const size_t begin = out.size();
    std::string name = piece.text;
    if (!piece.by_variable.empty()) name += "_" + scene.variables.at(piece.by_variable);
    if (const auto variable = scene.variables.find(name); variable != scene.variables.end()) {
        out += inflect(piece.form, variable->second, scene.past);
    } else if (const auto words = scene.classes.find(name); words != scene.classes.end()) {
        out += inflect(piece.form, draw_word(words->second, scene), scene.past);
    } else if (rules_.count(name) != 0) {
        expand(name, scene, out);
    } else {
        PASTUR_CHECK(!piece.form.empty(), "grammar slot {{{}}} names no rule, variable or class", name);
        out += inflect(piece.form, name, scene.past);
    }
    if (piece.capital && out.size() > begin && out[begin] >= 'a' && out[begin] <= 'z')
        out[begin] -= 'a' - 'A';
}

void Grammar::expand(const std::string& rule, Scene& scene, std::string& out) const {
    const auto found = rules_.find(rule);
    PASTUR_CHECK(found != rules_.end(), "no grammar rule {}", rule);
    uint64_t total = 0;
    for (const Alternative& alternative : found->second) total += alternative.weight;
    uint64_t at = scene.random.below(total);
    auto chosen = found->second.begin();
    for (; at >= chosen->weight; ++chosen) at -= chosen->weight;
    for (const Piece& piece : chosen->pieces) {
        if (piece.slot) {
            expand_slot(piece, scene, out);
        } else {
            out += piece.text;
        }
    }
}

}  // namespace pastur
