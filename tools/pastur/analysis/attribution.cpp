#include "tools/pastur/analysis/attribution.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

namespace pastur {
namespace {

using Json = nlohmann::ordered_json;
using Key = RunSeries::Key;

/// Two variants that differ in one thing.
struct Step {
    const char *kind, *from, *to, *question;
};
constexpr Step kSteps[] = {
    {"compression", "mha-nope", "mla-nope", "compression without rotation"},
    {"compression", "mha", "mla-rope", "compression where every head's keys are rotated"},
    {"compression", "mha-shared-rope", "mla-decoupled", "compression where one shared sub-vector is rotated"},
    {"rotation", "mha-nope", "mha", "rotation of every head's keys, without compression"},
    {"rotation", "mha", "mha-shared-rope", "from every head to one shared sub-vector, without compression"},
    {"rotation", "mla-nope", "mla-rope", "rotation after the up-projection, at equal compression"},
    {"rotation", "mla-rope", "mla-prerope", "from after the up-projection to before the compression"},
    {"rotation", "mla-rope", "mla-decoupled",
     "from every head to one shared sub-vector, at equal compression"},
};

struct Compared {
    std::string kind, question;
    const RunGroup *from, *to;
};

constexpr const char* kGain = "attention.latent_gain";

/// The settings that all runs of a group share, without the seed's; empty if they differ or are unknown.
std::map<std::string, std::string> settings_of(const RunGroup& group) {
    const auto& first = group.runs.front()->settings;
    for (const RunStatistics* run : group.runs)
        if (run->settings != first) return {};
    return first;
}

/// Whether `to` is `from` with the gain.
bool adds_gain(const RunGroup& from, const RunGroup& to) {
    auto without = settings_of(from), with = settings_of(to);
    if (from.variant != to.variant || without[kGain] != "none" || with[kGain] != "sqrt") return false;
    without.erase(kGain);
    with.erase(kGain);
    return without == with;
}

std::vector<Compared> compared_groups(std::span<const RunGroup> groups) {
    std::vector<Compared> result;
    for (const Step& step : kSteps)
        for (const RunGroup& from : groups)
            for (const RunGroup& to : groups)
                if (from.variant == step.from && to.variant == step.to && from.arm == to.arm)
                    result.push_back({step.kind, step.question, &from, &to});
    for (const RunGroup& from : groups)
        for (const RunGroup& to : groups)
            if (adds_gain(from, to))
                result.push_back({"latent_gain", "latent_gain of " + from.variant, &from, &to});
    return result;
}

class Attribution {
  public:
    void compare(const Compared& pair) {
        for (const Key& key : keys_of(*pair.to)) {
            if (key.matrix == "qk_literal" || key.matrix == kControlMatrix) continue;
            // A part is compared with the whole of a variant that has no parts.
            const Key other = pair.from->has(key) ? key : Key{"qk", key.per_head};
            if (!pair.from->has(other)) continue;
            for (const char* figure :
                 {"kept/step0/least", "kept/step0/final", "kept/null/least", "kept/null/final"}) {
                std::string name = figure;
                std::replace(name.begin(), name.end(), '/', '.');
                add(pair, key, name, "", pair.from->values(other, figure), pair.to->values(key, figure));
            }
            for (const std::string null : {"product", "mp"}) {
                const std::string figure = "nulls/" + null + "/peak_ratio";
                add(pair, key, "log10_peak_ratio", null, logarithms(pair.from->values(other, figure)),
                    logarithms(pair.to->values(key, figure)));
            }
        }
        add(pair, {}, "val_loss", "", pair.from->val_losses(), pair.to->val_losses());
    }
    Json json() { return std::move(list_); }

  private:
    static std::vector<double> logarithms(std::vector<double> values) {
        for (double& value : values) value = std::log10(value);
        return values;
    }
    void add(const Compared& pair, const Key& key, const std::string& statistic, const std::string& null,
             const std::vector<double>& from, const std::vector<double>& to) {
        const MeanAndInterval difference = difference_of_means(from, to);
        if (difference.count == 0) return;
        list_.push_back({{"question", pair.question},
                         {"kind", pair.kind},
                         {"from", {{"variant", pair.from->variant}, {"arm", pair.from->arm}}},
                         {"to", {{"variant", pair.to->variant}, {"arm", pair.to->arm}}},
                         {"matrix", key.matrix},
                         {"scope", key.matrix.empty() ? "" : scope_of(key)},
                         {"statistic", statistic},
                         {"null", null},
                         {"difference", to_json(difference)},
                         {"from_mean", rounded(mean_over_seeds(from).mean, kLossDigits)},
                         {"to_mean", rounded(mean_over_seeds(to).mean, kLossDigits)}});
    }
    Json list_ = Json::array();
};

}  // namespace

Json attribution_json(std::span<const RunGroup> groups) {
    Attribution attribution;
    for (const Compared& pair : compared_groups(groups)) attribution.compare(pair);
    return attribution.json();
}

}  // namespace pastur
