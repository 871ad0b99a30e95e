#include "tools/pastur/analysis/sentences.h"

#include <fmt/format.h>

#include <cmath>
#include <map>
#include <vector>

#include "kernels/base/error.h"
#include "tools/pastur/analysis/run_statistics.h"

namespace pastur {
namespace {

using Json = nlohmann::ordered_json;
using As = Sentence::As;

const Json* find(const Json& analysis, const std::string& pointer) {
    const Json::json_pointer place(pointer);
    return analysis.contains(place) ? &analysis.at(place) : nullptr;
}

bool has_mean(const Json& analysis, const std::string& pointer) {
    const Json* mean = find(analysis, pointer + "/mean");
    return mean && mean->is_number();
}

/// Whether the paper finds spikes in the variant.
bool is_said_to_spike(const std::string& variant) {
    return variant == "mha" || variant == "mla-prerope";
}

/// A group's statistic that a sentence is about.
struct Place {
    std::string variant, pointer;
};

/// Appends means, "mha 12 %, mla-prerope 3 %, mla-decoupled 40 %". Their intervals stand in the table beside the
/// sentences, which must fit the page's first screen with seven variants, too.
void enumerate(Sentence& sentence, const std::vector<Place>& places, As as) {
    for (size_t i = 0; i < places.size(); ++i)
        sentence.text((i > 0 ? ", " : "") + places[i].variant + " ").number(places[i].pointer + "/mean", as);
}

/// What the sentences are about: groups of the first arm, their whole form, by layers if any group has them.
class Subject {
  public:
    explicit Subject(const Json& analysis) : analysis_(analysis) {
        const Json& groups = analysis.at("groups");
        for (size_t i = 0; i < groups.size(); ++i) {
            if (groups[i].at("arm") != groups[0].at("arm")) continue;
            groups_.push_back(i);
            if (find(groups[i], "/matrices/qk/layer")) scope_ = "layer";
        }
    }
    const std::string& scope() const { return scope_; }
    std::string variant(size_t group) const { return analysis_.at("groups")[group].at("variant"); }
    std::string forms(size_t group, const std::string& matrix) const {
        return fmt::format("/groups/{}/matrices/{}/{}/", group, matrix, scope_);
    }
    const std::vector<size_t>& groups() const { return groups_; }
    /// The places of a statistic of the form of every group that has it.
    std::vector<Place> places(const std::string& statistic) const {
        std::vector<Place> list;
        for (const size_t group : groups_)
            if (const std::string at = forms(group, "qk") + statistic; has_mean(analysis_, at))
                list.push_back({variant(group), at});
        return list;
    }
    bool has_null(const char* null) const {
        return !places(fmt::format("nulls/{}/peak_ratio", null)).empty();
    }
    std::string null() const {
        for (const char* null : {"product", "profile", "permuted", "mp"})
            if (has_null(null)) return null;
        return "";
    }

  private:
    const Json& analysis_;
    std::vector<size_t> groups_;
    std::string scope_ = "head";
};

void add_kept(const Json& analysis, const Subject& subject, Json& list) {
    const std::vector<Place> places = subject.places("kept/step0/least");
    if (places.empty()) return;
    Sentence sentence(analysis);
    sentence.text(
        fmt::format("Least share of its stable rank at the start that a {}'s form keeps: ", subject.scope()));
    enumerate(sentence, places, As::kPercent);
    for (const size_t group : subject.groups()) {
        const std::string content = subject.forms(group, "qk_content") + "kept/step0/least",
                          rope = subject.forms(group, "qk_rope") + "kept/step0/least";
        if (!has_mean(analysis, content) || !has_mean(analysis, rope)) continue;
        sentence.text(" (content of " + subject.variant(group) + " ")
            .number(content + "/mean", As::kPercent)
            .text(", rotary part ")
            .number(rope + "/mean", As::kPercent)
            .text(")");
    }
    list.push_back(sentence.text(".").json());
}

void add_spikes(const Json& analysis, const Subject& subject, Json& list) {
    const std::string null = subject.null();
    const std::vector<Place> early = subject.places("nulls/" + null + "/spike/2/early_share");
    if (early.empty()) return;
    Sentence sentence(analysis);
    sentence.text(subject.scope() == "layer" ? "Layers" : "Heads")
        .text(" that begin to exceed ")
        .number("/rules/lag_spike")
        .text(" edges of " + null + " in the first ")
        .number("/rules/early_fraction", As::kPercent)
        .text(" of the steps: ");
    enumerate(sentence, early, As::kPercent);
    if (const std::vector<Place> naive = subject.places("nulls/mp/step0/beyond/2");
        null != "mp" && !naive.empty()) {
        sentence.text("; beyond them at the start under mp: ");
        enumerate(sentence, naive, As::kPercent);
    }
    list.push_back(sentence.text(".").json());
}

void add_lag(const Json& analysis, const Subject& subject, Json& list) {
    Sentence sentence(analysis);
    bool any = false;
    for (const size_t group : subject.groups()) {
        const std::string lag = subject.forms(group, "qk") + "nulls/" + subject.null() + "/lag/0.5/";
        if (!has_mean(analysis, lag + "measurements") || !is_said_to_spike(subject.variant(group))) continue;
        if (any)
            sentence.text("; ");
        else
            sentence.text("Measurements from the spike beyond ")
                .number("/rules/lag_spike")
                .text(" edges of " + subject.null() + " to a stable rank below ")
                .number("/rules/collapse/0", As::kPercent)
                .text(" of the start: ");
        any = true;
        sentence.text(subject.variant(group) + " ").interval(lag + "measurements");
        if (has_mean(analysis, lag + "rho"))
            sentence.text(", rank correlation ")
                .number(lag + "rho/mean")
                .text(" (p = ")
                .number(lag + "p", As::kChance)
                .text(")");
    }
    if (any) list.push_back(sentence.text(".").json());
}

void add_attribution(const Json& analysis, const Subject& subject, Json& list) {
    Sentence sentence(analysis);
    std::map<std::string, bool> told;  // by kind
    const Json& attribution = analysis.at("attribution");
    const auto add = [&](size_t index) {
        const Json& one = attribution[index];
        const std::string kind = one.at("kind");
        if (one.at("matrix") != "qk" || one.at("scope") != subject.scope() ||
            one.at("statistic") != "kept.step0.least" || told[kind])
            return;
        sentence.text(told.size() == 1 ? "That share changes by " : "; by ")
            .interval(fmt::format("/attribution/{}/difference", index), As::kPoints)
            .text(fmt::format(" from {} to {} ({})", one.at("from").at("variant").get<std::string>(),
                              one.at("to").at("variant").get<std::string>(),
                              one.at("question").get<std::string>()));
        told[kind] = true;
    };
    // The steps that the paper takes come before those that lead there.
    for (const char* to : {"mla-prerope", "mla-rope", "mla-decoupled", ""})
        for (size_t i = 0; i < attribution.size(); ++i)
            if (*to == '\0' || attribution[i].at("to").at("variant") == to) add(i);
    if (!told.empty() && told.begin()->second) list.push_back(sentence.text(".").json());
}

void add_loss(const Json& analysis, const Subject& subject, Json& list) {
    std::vector<Place> places;
    for (const size_t group : subject.groups())
        if (const std::string at = fmt::format("/groups/{}/val_loss", group); has_mean(analysis, at))
            places.push_back({subject.variant(group), at});
    if (places.empty()) return;
    Sentence sentence(analysis);
    sentence.text("Validation loss at the end: ");
    enumerate(sentence, places, As::kLoss);
    list.push_back(sentence.text(".").json());
}

/// A key as a JSON pointer has it.
std::string escaped(const std::string& key) {
    std::string text;
    for (const char c : key)
        if (c == '~' || c == '/')
            text += c == '~' ? "~0" : "~1";
        else
            text += c;
    return text;
}

/// The place among the rules of a threshold that is a key.
std::string threshold_at(const Json& analysis, const std::string& threshold) {
    for (const char* kind : {"spike", "collapse"})
        for (size_t i = 0; i < analysis.at("rules").at(kind).size(); ++i)
            if (threshold_key(analysis.at("rules").at(kind)[i].get<double>()) == threshold)
                return fmt::format("/rules/{}/{}", kind, i);
    return "";
}

/// Appends how the choices of a finding split by the dimension that says most about it.
void add_split(Sentence& sentence, const Json& analysis, const std::string& finding) {
    const Json& one = analysis.at(Json::json_pointer(finding));
    const std::string dimension = one.at("depends_on")[0];
    sentence.text("; by " + dimension);
    const char* before = ": ";
    for (const auto& [value, tally] : one.at("by").at(dimension).items()) {
        const std::string by = finding + "/by/" + dimension + "/" + escaped(value);
        sentence.text(before);
        if (dimension == "threshold")
            sentence.number(threshold_at(analysis, value));
        else
            sentence.text(value.empty() ? "none" : value);
        sentence.text(" (")
            .number(by + "/supported")
            .text(" for, ")
            .number(by + "/contradicted")
            .text(" against)");
        before = ", ";
    }
}

/// Appends the claim that is contradicted most often.
void add_objection(Sentence& sentence, const Json& one, const std::string& finding) {
    static const std::map<std::string, std::string> kNames = {
        {"early", "early spikes"},
        {"specific", "only some layers spike"},
        {"persist", "spikes that stay"},
        {"travel", "onsets in the order of depth"},
        {"directions", "shared directions"},
        {"together", "spike and collapse in the same forms"},
        {"lag", "onsets at the same time"},
        {"order", "onsets in the same order"},
        {"keeps", "kept rank"},
        {"collapses", "collapse"}};
    int64_t most = 0;
    size_t worst = 0;
    const Json& claims = one.at("claims");
    for (size_t i = 0; i < claims.size(); ++i)
        if (const int64_t against = claims[i].at("tally").at("contradicted");
            claims[i].at("counts") && against > most) {
            most = against;
            worst = i;
        }
    if (most == 0) return;
    const std::string id = claims[worst].at("id"), variant = claims[worst].at("variant");
    sentence
        .text("; most often contradicted: " + kNames.at(id.substr(0, id.find(':'))) + " in " + variant +
              ", in ")
        .number(fmt::format("{}/claims/{}/tally/contradicted", finding, worst));
}

}  // namespace

std::string Sentence::shown(double value, As as) {
    switch (as) {
        case As::kPercent: {
            const double percent = value * 100;
            const bool is_whole = std::abs(percent - std::round(percent)) < 1e-9;
            return fmt::format("{:.{}f} %", percent, std::abs(percent) < 9.95 && !is_whole ? 1 : 0);
        }
        case As::kPoints:
            return fmt::format("{:+.1f} points", value * 100);
        case As::kLoss:
            return fmt::format("{:.3f}", value);
        case As::kChance:
            return fmt::format("{:.1g}", value);
        case As::kNumber:
            return fmt::format("{:.3g}", value);
    }
    return "";
}

Sentence& Sentence::text(const std::string& words) {
    text_ += words;
    return *this;
}

Sentence& Sentence::number(const std::string& pointer, As as) {
    const Json* number = find(analysis_, pointer);
    PASTUR_CHECK(number && number->is_number(), "the analysis has no number at {}", pointer);
    const double value = *number;
    values_.push_back({{"shown", shown(value, as)}, {"value", *number}, {"at", pointer}});
    return text(shown(value, as));
}

Sentence& Sentence::interval(const std::string& pointer, As as) {
    number(pointer + "/mean", as);
    const Json* low = find(analysis_, pointer + "/low");
    if (!low || !low->is_number()) return *this;
    return text(" (").number(pointer + "/low", as).text(" to ").number(pointer + "/high", as).text(")");
}

Json because_json(const Json& analysis, size_t finding) {
    const std::string at = fmt::format("/findings/{}", finding);
    const Json& one = analysis.at(Json::json_pointer(at));
    Sentence sentence(analysis);
    if (one.at("choices").empty())
        return sentence.text("No run has the spectra that the claim is about.").json();
    sentence.text("Of the choices of matrix, null, scope and threshold, ")
        .number(at + "/tally/supported")
        .text(" support it, ")
        .number(at + "/tally/contradicted")
        .text(" contradict it and ")
        .number(at + "/tally/undecided")
        .text(" leave it undecided");
    if (!one.at("depends_on").empty()) add_split(sentence, analysis, at);
    add_objection(sentence, one, at);
    return sentence.text(".").json();
}

Json sentences_json(const Json& analysis) {
    Json list = Json::array();
    if (analysis.at("groups").empty()) return list;
    const Subject subject(analysis);
    add_kept(analysis, subject, list);
    add_spikes(analysis, subject, list);
    add_lag(analysis, subject, list);
    add_attribution(analysis, subject, list);
    add_loss(analysis, subject, list);
    return list;
}

}  // namespace pastur
