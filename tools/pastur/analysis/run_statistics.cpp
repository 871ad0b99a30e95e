#include "tools/pastur/analysis/run_statistics.h"

#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <set>

#include "tools/pastur/analysis/onset_rule.h"

namespace pastur {
namespace {

using Sample = FormSeries::Sample;
using Value = std::function<double(const Sample&)>;
using Where = std::pair<int64_t, int64_t>;  ///< layer and head
using Crossings = std::map<Where, Crossing>;

/// Collects finite values.
struct Mean {
    double sum = 0;
    int64_t count = 0;
    void add(double value) {
        if (!std::isfinite(value)) return;
        sum += value;
        ++count;
    }
    double get() const { return count > 0 ? sum / static_cast<double>(count) : NAN; }
};
struct Largest {
    double value = NAN;
    void add(double other) {
        if (std::isfinite(other) && !(other <= value)) value = other;
    }
};

double median(std::vector<double> values) {
    if (values.empty()) return NAN;
    std::sort(values.begin(), values.end());
    const size_t half = values.size() / 2;
    return values.size() % 2 == 1 ? values[half] : (values[half - 1] + values[half]) / 2;
}

double share(int64_t part, int64_t all) {
    return all > 0 ? static_cast<double>(part) / static_cast<double>(all) : NAN;
}

/// Statistics of one matrix in one scope of a run.
class FormsReader {
  public:
    FormsReader(const MatrixSeries& series, int64_t early_steps, FormsStatistics& result)
        : series_(series), early_steps_(early_steps), result_(result) {
        std::set<int64_t> layers;
        for (const auto& [where, form] : series.forms) layers.insert(where.first);
        result.layers = std::ssize(layers);
        result.forms = std::ssize(series.forms);
    }
    void read() {
        kept("kept/step0/", [](const Sample& sample) { return sample.kept_step0; });
        kept("kept/null/", [](const Sample& sample) { return sample.kept_null; });
        std::vector<Crossings> collapses;
        for (const double fraction : AnalysisRules::kCollapses) {
            collapses.push_back(crossings([](const Sample& sample) { return sample.kept_step0; },
                                          [fraction](double value) { return value < fraction; }));
            onsets("collapse/" + threshold_key(fraction) + "/", collapses.back());
        }
        overlap();
        for (size_t null = 0; null < series_.nulls.size(); ++null) read_null(null, collapses);
    }

    /// What a control is compared by: kept ranks and peaks.
    void read_control() {
        kept("kept/step0/", [](const Sample& sample) { return sample.kept_step0; });
        kept("kept/null/", [](const Sample& sample) { return sample.kept_null; });
        for (size_t null = 0; null < series_.nulls.size(); ++null) {
            const std::string prefix = "nulls/" + series_.nulls[null] + "/";
            at_step0(prefix + "step0/", null, ratio_to(null));
            peaks(prefix, ratio_to(null));
            outliers(prefix, null);
        }
    }

  private:
    bool is_later(const Sample& sample) const { return sample.step > series_.steps.front(); }
    bool is_last(const Sample& sample) const {
        return is_later(sample) && sample.step == series_.steps.back();
    }
    void set(const std::string& name, double value) { result_.figures.set(name, value); }

    /// Means over forms, by step.
    std::map<int64_t, Mean> means(const Value& value) const {
        std::map<int64_t, Mean> by_step;
        for (const auto& [where, form] : series_.forms)
            for (const Sample& sample : form.samples) by_step[sample.step].add(value(sample));
        return by_step;
    }
    void kept(const std::string& prefix, const Value& value) {
        double initial = NAN, least = NAN, least_step = NAN, final = NAN, worst = NAN;
        for (const auto& [step, mean] : means(value)) {
            if (step == 0) initial = mean.get();
            if (step == series_.steps.front()) continue;
            final = mean.get();
            if (!std::isfinite(final) || final >= least) continue;
            least = final;
            least_step = static_cast<double>(step);
        }
        std::map<std::pair<int64_t, int64_t>, Mean> by_layer;  // and step
        for (const auto& [where, form] : series_.forms)
            for (const Sample& sample : form.samples)
                if (is_later(sample)) by_layer[{where.first, sample.step}].add(value(sample));
        for (const auto& [where, mean] : by_layer)
            if (!(mean.get() >= worst) && mean.count > 0) worst = mean.get();
        set(prefix + "initial", initial);
        set(prefix + "least", least);
        set(prefix + "least_step", least_step);
        set(prefix + "final", final);
        set(prefix + "worst", worst);
    }

    template <typename Beyond>
    Crossings crossings(const Value& value, const Beyond& beyond) const {
        Crossings result;
        std::vector<std::pair<int64_t, double>> values;
        for (const auto& [where, form] : series_.forms) {
            values.clear();
            for (const Sample& sample : form.samples)
                if (const double one = value(sample); std::isfinite(one))
                    values.emplace_back(sample.step, one);
            result[where] = find_crossing(values, beyond);
        }
        return result;
    }

    /// Whether an onset in the first steps could have been confirmed.
    bool measured_early() const {
        const auto& steps = series_.steps;
        const auto after = std::upper_bound(steps.begin(), steps.end(), early_steps_);
        return after != steps.end() && after - steps.begin() >= 2;
    }
    void onsets(const std::string& prefix, const Crossings& crossings) {
        int64_t measured = 0, onsets = 0, early = 0, stays = 0;
        std::vector<double> steps;
        std::map<int64_t, std::pair<int64_t, int64_t>> layers;  // early ones, all
        for (const auto& [where, crossing] : crossings) {
            if (crossing.kind == Crossing::Kind::kUnmeasured) continue;
            ++measured;
            auto& [early_here, all_here] = layers[where.first];
            ++all_here;
            if (crossing.kind != Crossing::Kind::kOnset) continue;
            ++onsets;
            steps.push_back(static_cast<double>(crossing.step));
            stays += crossing.stays ? 1 : 0;
            if (crossing.step > early_steps_) continue;
            ++early;
            ++early_here;
        }
        const int64_t early_layers = std::count_if(layers.begin(), layers.end(), [](const auto& layer) {
            return 2 * layer.second.first >= layer.second.second;
        });
        set(prefix + "share", share(onsets, measured));
        set(prefix + "early_share", measured_early() ? share(early, measured) : NAN);
        set(prefix + "layers", measured_early() ? share(early_layers, std::ssize(layers)) : NAN);
        set(prefix + "first_step", steps.empty() ? NAN : *std::min_element(steps.begin(), steps.end()));
        set(prefix + "median_step", median(steps));
        set(prefix + "stays", share(stays, onsets));
    }

    void overlap() {
        Mean value, random;
        for (const auto& [where, form] : series_.forms)
            for (const Sample& sample : form.samples)
                if (is_last(sample)) {
                    value.add(sample.overlap_next);
                    random.add(sample.overlap_random);
                }
        if (value.count == 0) return;
        set("next_layer_overlap/value", value.get());
        set("next_layer_overlap/random", random.get());
    }

    static Value ratio_to(size_t null) {
        return [null](const Sample& sample) {
            return null < sample.nulls.size() ? sample.nulls[null].ratio : NAN;
        };
    }
    void read_null(size_t null, const std::vector<Crossings>& collapses) {
        const std::string prefix = "nulls/" + series_.nulls[null] + "/";
        const Value ratio = ratio_to(null);
        at_step0(prefix + "step0/", null, ratio);
        Crossings spikes;  // beyond kLagSpike edges
        for (const double edges : AnalysisRules::kSpikes) {
            Crossings found = crossings(ratio, [edges](double value) { return value > edges; });
            onsets(prefix + "spike/" + threshold_key(edges) + "/", found);
            if (edges == AnalysisRules::kLagSpike) spikes = std::move(found);
        }
        peaks(prefix, ratio);
        outliers(prefix, null);
        depths(prefix + "onset_depth", spikes);
        for (size_t i = 0; i < collapses.size(); ++i)
            lag(prefix + "lag/" + threshold_key(AnalysisRules::kCollapses[i]), spikes, collapses[i]);
    }
    void at_step0(const std::string& prefix, size_t null, const Value& ratio) {
        std::map<double, int64_t> beyond;
        int64_t measured = 0;
        Largest largest;
        Mean outliers;
        for (const auto& [where, form] : series_.forms) {
            if (form.samples.empty() || form.samples.front().step != 0) continue;
            const Sample& sample = form.samples.front();
            if (const double value = ratio(sample); std::isfinite(value)) {
                ++measured;
                largest.add(value);
                for (const double edges : AnalysisRules::kSpikes) beyond[edges] += value > edges ? 1 : 0;
            }
            if (null < sample.nulls.size()) outliers.add(sample.nulls[null].outliers);
        }
        for (const double edges : AnalysisRules::kSpikes)
            set(prefix + "beyond/" + threshold_key(edges), share(beyond[edges], measured));
        set(prefix + "peak_ratio", largest.value);
        set(prefix + "outliers", outliers.get());
    }
    void peaks(const std::string& prefix, const Value& ratio) {
        Largest peak, final;
        std::vector<double> of_forms;
        std::map<int64_t, Mean> log_peaks;  // by layer
        for (const auto& [where, form] : series_.forms) {
            Largest own;
            for (const Sample& sample : form.samples) {
                if (is_later(sample)) own.add(ratio(sample));
                if (is_last(sample)) final.add(ratio(sample));
            }
            if (!std::isfinite(own.value)) continue;
            peak.add(own.value);
            of_forms.push_back(own.value);
            log_peaks[where.first].add(own.value > 1 ? std::log(own.value) : 0);
        }
        set(prefix + "peak_ratio", peak.value);
        set(prefix + "median_peak", median(of_forms));
        set(prefix + "final_ratio", final.value);
        set(prefix + "concentration", concentration(log_peaks));
    }
    /// The normalised Herfindahl index of the layers' shares in the sum of log peaks.
    static double concentration(const std::map<int64_t, Mean>& log_peaks) {
        double sum = 0, squares = 0;
        for (const auto& [layer, mean] : log_peaks) {
            sum += mean.get();
            squares += mean.get() * mean.get();
        }
        const auto layers = static_cast<double>(log_peaks.size());
        if (layers < 2 || sum == 0) return NAN;
        return std::clamp((layers * squares / (sum * sum) - 1) / (layers - 1), 0.0, 1.0);
    }
    void outliers(const std::string& prefix, size_t null) {
        const auto by_step = means([null](const Sample& sample) {
            return null < sample.nulls.size() ? sample.nulls[null].outliers : NAN;
        });
        double final = NAN;
        Largest most;
        for (const auto& [step, mean] : by_step) {
            if (step == series_.steps.front()) continue;
            final = mean.get();
            most.add(final);
        }
        set(prefix + "outliers", final);
        set(prefix + "most_outliers", most.value);
    }

    /// The onset's step, infinite if it did not occur; NaN if the form does not tell.
    static double onset_of(const Crossing& crossing) {
        if (crossing.kind == Crossing::Kind::kOnset) return static_cast<double>(crossing.step);
        return crossing.kind == Crossing::Kind::kNever ? INFINITY : NAN;
    }
    void depths(const std::string& place, const Crossings& spikes) {
        std::map<int64_t, std::vector<double>> layers;
        for (const auto& [where, crossing] : spikes)
            if (const double onset = onset_of(crossing); !std::isnan(onset))
                layers[where.first].push_back(onset);
        Pairs& pairs = result_.pairs[place];
        for (const auto& [layer, onsets] : layers)
            pairs.emplace_back(static_cast<double>(layer), median(onsets));
    }
    int64_t measurement(double step) const {
        return std::lower_bound(series_.steps.begin(), series_.steps.end(), static_cast<int64_t>(step)) -
               series_.steps.begin();
    }
    void lag(const std::string& place, const Crossings& spikes, const Crossings& collapses) {
        std::vector<double> measurements, steps;
        Pairs& pairs = result_.pairs[place];
        for (const auto& [where, crossing] : spikes) {
            const double spike = onset_of(crossing), collapse = onset_of(collapses.at(where));
            if (std::isnan(spike) || std::isnan(collapse) || (std::isinf(spike) && std::isinf(collapse)))
                continue;
            pairs.emplace_back(spike, collapse);
            if (std::isinf(spike) || std::isinf(collapse)) continue;
            steps.push_back(collapse - spike);
            measurements.push_back(static_cast<double>(measurement(collapse) - measurement(spike)));
        }
        set(place + "/both", share(std::ssize(steps), std::ssize(pairs)));
        set(place + "/measurements", median(measurements));
        set(place + "/steps", median(steps));
    }

    const MatrixSeries& series_;
    int64_t early_steps_;
    FormsStatistics& result_;
};

}  // namespace

std::string threshold_key(double threshold) {
    return fmt::format("{}", threshold);
}

void Figures::set(const std::string& name, double value) {
    if (values_.insert_or_assign(name, value).second) names_.push_back(name);
}

double Figures::operator[](const std::string& name) const {
    const auto found = values_.find(name);
    return found != values_.end() ? found->second : NAN;
}

int64_t RunStatistics::early_steps() const {
    return static_cast<int64_t>(AnalysisRules::kEarlyFraction * static_cast<double>(steps));
}

void add_statistics(RunStatistics& run, const RunSeries& series) {
    int64_t last = 0;
    for (const auto& [key, matrix] : series.matrices()) {
        if (matrix.steps.empty()) continue;
        run.measurements = std::max<int64_t>(run.measurements, std::ssize(matrix.steps));
        last = std::max(last, matrix.steps.back());
    }
    if (run.steps == 0) run.steps = last;
    for (const auto& [key, matrix] : series.matrices()) {
        if (matrix.steps.empty()) continue;
        FormsReader reader(matrix, run.early_steps(), run.matrices[key]);
        if (key.matrix == kControlMatrix)
            reader.read_control();
        else
            reader.read();
    }
}

}  // namespace pastur
