#include "tools/pastur/runs/run_record.h"

#include <cmath>
#include <variant>

#include "data/files.h"
#include "data/output.h"
#include "engine/io/json_text.h"
#include "kernels/base/error.h"

namespace pastur {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

constexpr int kVersion = 1;

struct Member {
    const char* name;
    std::variant<std::string RunSummary::*, int64_t RunSummary::*, double RunSummary::*> member;
};

constexpr Member kMembers[] = {
    {"name", &RunSummary::name},
    {"variant", &RunSummary::variant},
    {"status", &RunSummary::status},
    {"resumes", &RunSummary::resumes},
    {"parameters", &RunSummary::parameters},
    {"cache_bytes_per_token", &RunSummary::cache_bytes_per_token},
    {"step", &RunSummary::step},
    {"steps", &RunSummary::steps},
    {"train_loss", &RunSummary::train_loss},
    {"val_loss", &RunSummary::val_loss},
    {"best_val", &RunSummary::best_val},
    {"val_step", &RunSummary::val_step},
    {"best_val_step", &RunSummary::best_val_step},
    {"unigram_entropy", &RunSummary::unigram_entropy},
    {"tokens_per_s", &RunSummary::tokens_per_s},
    {"mem_gib", &RunSummary::mem_gib},
    {"elapsed_s", &RunSummary::elapsed_s},
    {"spectra_step", &RunSummary::spectra_step},
    {"kept_step0", &RunSummary::kept_step0},
    {"kept_null", &RunSummary::kept_null},
    {"peak_ratio_product", &RunSummary::peak_ratio_product},
    {"peak_ratio_mp", &RunSummary::peak_ratio_mp},
    {"max_logit", &RunSummary::max_logit},
    {"attention_entropy", &RunSummary::attention_entropy},
    {"entropy_ratio", &RunSummary::entropy_ratio},
    {"spike_onset", &RunSummary::spike_onset},
    {"collapse_onset", &RunSummary::collapse_onset},
};

/// null or a number. Integers of a double's precision are read as such.
double number(const Json& json, double null_value) {
    return json.is_null() ? null_value : json.get<double>();
}

Json summary_json(const RunSummary& summary) {
    Json json;
    for (const Member& each : kMembers)
        std::visit([&](auto member) { json[each.name] = summary.*member; }, each.member);
    return json;
}

RunSummary read_summary(const Json& json) {
    RunSummary summary;
    for (const Member& each : kMembers)
        std::visit(
            [&](auto member) {
                using Value = std::remove_cvref_t<decltype(summary.*member)>;
                if constexpr (std::is_same_v<Value, double>)
                    summary.*member = number(json.at(each.name), NAN);
                else
                    summary.*member = json.at(each.name).get<Value>();
            },
            each.member);
    return summary;
}

Json forms_json(const FormsStatistics& forms) {
    Json figures = Json::object(), pairs = Json::object();
    for (const std::string& name : forms.figures.names()) figures[name] = forms.figures[name];
    for (const auto& [place, values] : forms.pairs) {
        Json& list = pairs[place] = Json::array();
        for (const auto& [first, second] : values) list.push_back({first, second});
    }
    return {{"layers", forms.layers}, {"forms", forms.forms}, {"figures", figures}, {"pairs", pairs}};
}

FormsStatistics read_forms(const Json& json) {
    FormsStatistics forms;
    forms.layers = json.at("layers").get<int64_t>();
    forms.forms = json.at("forms").get<int64_t>();
    for (const auto& [name, value] : json.at("figures").items()) forms.figures.set(name, number(value, NAN));
    for (const auto& [place, values] : json.at("pairs").items()) {
        Pairs& pairs = forms.pairs[place];
        for (const Json& pair : values)
            pairs.emplace_back(number(pair.at(0), INFINITY), number(pair.at(1), INFINITY));
    }
    return forms;
}

RunRecord read_record(const Json& json) {
    RunRecord record;
    record.summary = read_summary(json.at("summary"));
    RunStatistics& run = record.statistics;
    run.name = record.summary.name;
    run.variant = json.at("variant").get<std::string>();
    run.arm = json.at("arm").get<std::string>();
    run.steps = json.at("steps").get<int64_t>();
    run.measurements = json.at("measurements").get<int64_t>();
    run.val_loss = record.summary.val_loss;
    for (const auto& [matrix, scopes] : json.at("matrices").items())
        for (const auto& [scope, forms] : scopes.items())
            run.matrices[{matrix, scope == "head"}] = read_forms(forms);
    if (const auto page = json.find("page"); page != json.end()) record.page = *page;
    return record;
}

}  // namespace

fs::path record_of(const fs::path& run_folder) {
    return run_folder / "statistics.json";
}

bool is_kept_as_record(const fs::path& run_folder) {
    return !has_run_log(run_folder) && path_exists(record_of(run_folder));
}

void write_run_record(const fs::path& file, const RunRecord& record) {
    const RunStatistics& run = record.statistics;
    Json json = {{"v", kVersion},
                 {"summary", summary_json(record.summary)},
                 {"variant", run.variant},
                 {"arm", run.arm},
                 {"steps", run.steps},
                 {"measurements", run.measurements},
                 {"matrices", Json::object()}};
    for (const auto& [key, forms] : run.matrices)
        json["matrices"][key.matrix][key.per_head ? "head" : "layer"] = forms_json(forms);
    if (!record.page.is_null()) json["page"] = record.page;
    write_file_atomically(file, json.dump() + "\n");
}

RunRecord read_run_record(const fs::path& file) {
    constexpr size_t kMaxBytes = 16 << 20;  // 12 layers of 12 heads with six matrices take 0.2 MB
    const std::string text = read_file(file, kMaxBytes);
    try {
        const Json json = parse_json<Json>(text, kMaxBytes);
        if (const int version = json.at("v").get<int>(); version != kVersion)
            fail(ExitCode::kCorruptData,
                 "{} has version {}, expected {}: delete it if the run's log and spectra are there",
                 file.string(), version, kVersion);
        return read_record(json);
    } catch (const nlohmann::json::exception& error) {
        fail(ExitCode::kCorruptData, "{} is not the record of a run that `pastur study` writes: {}",
             file.string(), error.what());
    }
}

}  // namespace pastur
