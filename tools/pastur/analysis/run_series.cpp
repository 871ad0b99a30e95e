#include "tools/pastur/analysis/run_series.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "engine/io/json_text.h"
#include "engine/spectra/summary_lines.h"

namespace pastur {
namespace {

using nlohmann::json;

const std::string* text_at(const json& object, const char* key) {
    const auto found = object.find(key);
    return found != object.end() ? found->get_ptr<const std::string*>() : nullptr;
}

bool has_integer(const json& object, const char* key) {
    const auto found = object.find(key);
    return found != object.end() && found->is_number_integer();
}

/// The index of the null; -1 if the analysis is not about it.
int index_of(MatrixSeries& matrix, const std::string& null) {
    const auto found = std::find(matrix.nulls.begin(), matrix.nulls.end(), null);
    if (found != matrix.nulls.end()) return static_cast<int>(found - matrix.nulls.begin());
    if (std::find(std::begin(kAnalysedNulls), std::end(kAnalysedNulls), null) == std::end(kAnalysedNulls))
        return -1;
    matrix.nulls.push_back(null);
    return static_cast<int>(matrix.nulls.size()) - 1;
}

void take(double& value, double later) {
    if (std::isfinite(later)) value = later;
}

/// What a null's object, or a line in the form of "v": 1, says about it.
void read_null(const json& line, const json& own, const std::string& name, MatrixSeries& matrix,
               FormSeries::Sample& sample) {
    const int index = index_of(matrix, name);
    if (index < 0) return;
    const auto i = static_cast<size_t>(index);
    if (sample.nulls.size() <= i) sample.nulls.resize(i + 1);
    // Of a mean over positions the stored ratio is the mean of the ratios.
    const double ratio = number_or_nan(own, "mp_gap_ratio");
    take(sample.nulls[i].ratio, std::isfinite(ratio)
                                    ? ratio
                                    : number_or_nan(line, "lambda_max") / number_or_nan(own, "lambda_plus"));
    take(sample.nulls[i].outliers, number_or_nan(own, "outlier_count"));
    take(sample.kept_null, number_or_nan(own, "kept_null"));
}

void merge(FormSeries::Sample& sample, const FormSeries::Sample& later) {
    take(sample.stable_rank, later.stable_rank);
    take(sample.kept_step0, later.kept_step0);
    take(sample.kept_null, later.kept_null);
    take(sample.overlap_next, later.overlap_next);
    take(sample.overlap_random, later.overlap_random);
    sample.nulls.resize(std::max(sample.nulls.size(), later.nulls.size()));
    for (size_t i = 0; i < later.nulls.size(); ++i) {
        take(sample.nulls[i].ratio, later.nulls[i].ratio);
        take(sample.nulls[i].outliers, later.nulls[i].outliers);
    }
}

/// Orders the samples, joins those of one step, and completes kept_step0, which old versions do not write.
void finish_form(FormSeries& form) {
    std::vector<FormSeries::Sample>& samples = form.samples;
    std::stable_sort(samples.begin(), samples.end(),
                     [](const auto& a, const auto& b) { return a.step < b.step; });
    size_t kept = 0;
    for (size_t i = 0; i < samples.size(); ++i)
        if (kept > 0 && samples[kept - 1].step == samples[i].step)
            merge(samples[kept - 1], samples[i]);
        else if (kept++ != i)
            samples[kept - 1] = std::move(samples[i]);
    samples.resize(kept);
    const double initial = !samples.empty() && samples.front().step == 0 ? samples.front().stable_rank : NAN;
    for (FormSeries::Sample& sample : samples)
        if (!std::isfinite(sample.kept_step0) && initial > 0)
            sample.kept_step0 = sample.stable_rank / initial;
}

}  // namespace

void RunSeries::add(const json& line) {
    const std::string* const name = text_at(line, "matrix");
    if (!name || !has_integer(line, "step") || !has_integer(line, "layer") || !has_integer(line, "head") ||
        std::find(std::begin(kAnalysedMatrices), std::end(kAnalysedMatrices), *name) ==
            std::end(kAnalysedMatrices))
        return;
    const auto layer = line["layer"].get<int64_t>(), head = line["head"].get<int64_t>();
    MatrixSeries& matrix = matrices_[{*name, head >= 0}];
    std::vector<FormSeries::Sample>& samples = matrix.forms[{layer, std::max<int64_t>(head, -1)}].samples;
    const auto step = line["step"].get<int64_t>();
    if (samples.empty() || samples.back().step != step) samples.emplace_back().step = step;
    FormSeries::Sample& sample = samples.back();
    take(sample.stable_rank, number_or_nan(line, "stable_rank"));
    take(sample.kept_step0, number_or_nan(line, "kept_step0"));
    take(sample.overlap_next, number_or_nan(line, "overlap_next"));
    take(sample.overlap_random, number_or_nan(line, "overlap_random"));
    if (const std::string* const null = text_at(line, "null")) read_null(line, line, *null, matrix, sample);
    const auto nulls = line.find("nulls");
    if (nulls == line.end() || !nulls->is_object()) return;
    for (const auto& [null, own] : nulls->items())
        if (own.is_object()) read_null(line, own, null, matrix, sample);
}

void RunSeries::finish() {
    for (auto& [key, matrix] : matrices_) {
        for (auto& [where, form] : matrix.forms) {
            finish_form(form);
            for (const FormSeries::Sample& sample : form.samples) matrix.steps.push_back(sample.step);
        }
        std::sort(matrix.steps.begin(), matrix.steps.end());
        matrix.steps.erase(std::unique(matrix.steps.begin(), matrix.steps.end()), matrix.steps.end());
    }
}

}  // namespace pastur
