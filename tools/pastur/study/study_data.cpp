#include "tools/pastur/study/study_data.h"

#include <chrono>
#include <nlohmann/json.hpp>
#include <optional>
#include <thread>

#include "data/files.h"
#include "data/output.h"
#include "data/synth/synth.h"
#include "engine/train/run_owner.h"
#include "engine/train/stop_request.h"
#include "kernels/base/error.h"
#include "tools/pastur/data/data_progress.h"
#include "tools/pastur/print.h"
#include "tools/pastur/study/design_toml.h"

namespace pastur {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

constexpr const char* kRecord = "prepared.json";
constexpr int kVersion = 1;
constexpr int64_t kMostRecord = 1 << 20;

const char* name_of(DocumentFormat format) {
    return format == DocumentFormat::kText ? "text" : format == DocumentFormat::kJsonLines ? "jsonl" : "auto";
}

DocumentFormat format_at(const toml::node& node, const std::string& path) {
    const auto name = value_at<std::string>(node, "format", "auto, text or jsonl", path);
    for (const DocumentFormat format :
         {DocumentFormat::kAuto, DocumentFormat::kText, DocumentFormat::kJsonLines})
        if (name == name_of(format)) return format;
    fail(ExitCode::kUsage, "{}: format: expected auto, text or jsonl; got \"{}\"", place_of(path, node),
         name);
}

int64_t count_at(const toml::node& node, const std::string& name, int64_t least, const std::string& path) {
    const auto value = value_at<int64_t>(node, name, "an integer", path);
    if (value < least)
        fail(ExitCode::kUsage, "{}: {}: expected an integer, {} or more; got {}", place_of(path, node), name,
             least, value);
    return value;
}

double fraction_at(const toml::node& node, const std::string& name, const std::string& path) {
    const auto value = node.value<double>();
    if (!value || !(*value >= 0 && *value < 1))
        fail(ExitCode::kUsage, "{}: {}: expected a number from 0 to below 1", place_of(path, node), name);
    return *value;
}

void read_key(StudyData& data, const std::string& name, const toml::node& node, const std::string& path) {
    PrepareOptions& options = data.options;
    if (name == "input") data.inputs = list_at<std::string>(node, name, "texts", path);
    if (name == "synth_docs") data.synth_docs = count_at(node, name, 1, path);
    if (name == "synth_seed") data.synth_seed = static_cast<uint64_t>(count_at(node, name, 0, path));
    if (name == "tokenizer") options.tokenizer = value_at<std::string>(node, name, "a text", path);
    if (name == "val_fraction") options.val_fraction = fraction_at(node, name, path);
    if (name == "val_tokens") options.val_tokens = count_at(node, name, 0, path);
    if (name == "seed") options.seed = static_cast<uint64_t>(count_at(node, name, 0, path));
    if (name == "format") options.format.format = format_at(node, path);
    if (name == "separator") options.format.separator = value_at<std::string>(node, name, "a text", path);
    if (name == "field") options.format.field = value_at<std::string>(node, name, "a text", path);
    if (name == "skip_bad") options.skip_bad = count_at(node, name, 0, path);
}

std::string relative_to(const fs::path& base, const std::string& path) {
    return base.empty() || fs::path(path).is_absolute() ? path : (base / path).string();
}

bool names_a_path(const std::string& tokenizer) {
    return tokenizer != "bytes" && !tokenizer.starts_with("train:");
}

std::string fingerprint_of(const SplitMeta& split) {
    return split.fingerprint ? fmt::format("{:016x}", *split.fingerprint) : "";
}

Json record_of(const StudyData& data, const DataMeta& meta) {
    return {{"v", kVersion},
            {"settings", data.settings()},
            {"train", fingerprint_of(meta.train)},
            {"val", fingerprint_of(meta.val)}};
}

/// Thrown out of a preparation to end it.
struct Stopped {};

void stop_if_requested(const fs::path& out) {
    if (stop_requested(out)) throw Stopped();
}

PrepareOptions options_for(const StudyData& data, const fs::path& out, const fs::path& work) {
    PrepareOptions options = data.options;
    options.out = work / "data";
    if (names_a_path(options.tokenizer)) options.tokenizer = relative_to(data.base, options.tokenizer);
    for (const std::string& input : data.inputs) options.inputs.push_back(relative_to(data.base, input));
    if (data.synth_docs > 0) {
        const fs::path stories = work / "stories.txt";
        write_synthetic_corpus(data.synth_docs, data.synth_seed, stories,
                               [&](int64_t, int64_t) { stop_if_requested(out); });
        options.inputs = {stories.string()};
    }
    return options;
}

/// Makes `work`/data and gives it its place.
void make_data(const fs::path& out, const StudyData& data, const fs::path& work) {
    // The owner's file alone stays.
    for (const fs::directory_entry& entry : fs::directory_iterator(work))
        if (entry.path().filename().string()[0] != '.') fs::remove_all(entry.path());
    print_text("data: making {}\n", data_folder(out).string());
    std::fflush(stdout);
    const PrepareOptions options = options_for(data, out, work);
    PrepareResult result;
    {
        PrepareDisplay display;
        result = prepare(options, [&](const PrepareProgress& progress) {
            stop_if_requested(out);
            display(progress);
        });
    }
    for (const std::string& note : result.notes) print_note("note: {}\n", printable(note));
    write_file_atomically(options.out / kRecord, record_of(data, result.meta).dump(1) + "\n");
    if (::rename(options.out.c_str(), data_folder(out).c_str()) != 0)
        fail_io("cannot rename to", data_folder(out).string());
    sync_path(out);
    std::error_code ignored;
    fs::remove(work / "stories.txt", ignored);
    print_text("data: {} tokens to train on, {} to validate on, vocabulary {}\n", result.meta.train.tokens,
               result.meta.val.tokens, result.meta.vocab_size);
    std::fflush(stdout);
}

/// The claim on the folder of the preparation; empty: another process has it.
std::unique_ptr<RunOwner> claim(const fs::path& work) {
    try {
        return std::make_unique<RunOwner>(work);
    } catch (const Error& error) {
        if (error.code() != ExitCode::kUsage) throw;
        return nullptr;
    }
}

}  // namespace

Json StudyData::settings() const {
    Json settings;
    if (synth_docs > 0)
        settings = {{"synth_docs", synth_docs}, {"synth_seed", synth_seed}};
    else
        settings = {{"input", inputs}};
    settings.update({{"tokenizer", options.tokenizer},
                     {"val_fraction", options.val_fraction},
                     {"val_tokens", options.val_tokens},
                     {"seed", options.seed},
                     {"format", name_of(options.format.format)},
                     {"separator", options.format.separator},
                     {"field", options.format.field},
                     {"skip_bad", options.skip_bad}});
    return settings;
}

StudyData read_study_data(const toml::table& section, const std::string& path) {
    const std::vector<std::string> keys = {"input",  "synth_docs", "synth_seed", "tokenizer",
                                           "format", "separator",  "field",      "val_fraction",
                                           "seed",   "val_tokens", "skip_bad"};
    StudyData data;
    data.base = fs::path(path).parent_path();
    for (const auto& [key, node] : section) {
        const std::string name(key.str());
        check_key(name, keys, "data_prepare", place_of(path, node));
        read_key(data, name, node, path);
    }
    if (data.inputs.empty() == (data.synth_docs == 0))
        fail(ExitCode::kUsage, "{}: [data_prepare] needs either input or synth_docs",
             place_of(path, section));
    if (data.options.tokenizer.empty())
        fail(ExitCode::kUsage, "{}: [data_prepare] needs a tokenizer, such as \"train:32000\"",
             place_of(path, section));
    return data;
}

void give_data_options(std::optional<StudyData>& data, const std::vector<std::string>& inputs,
                       const std::string& tokenizer) {
    if (inputs.empty() && tokenizer.empty()) return;
    if (!data && inputs.empty())
        fail(ExitCode::kUsage, "--tokenizer {}: expected --input, or a design with [data_prepare]",
             tokenizer);
    if (!data) data.emplace();
    PrepareOptions& options = data->options;
    if (!tokenizer.empty())
        options.tokenizer = fs::exists(tokenizer) ? fs::absolute(tokenizer).string() : tokenizer;
    if (options.tokenizer.empty()) fail(ExitCode::kUsage, "--input needs --tokenizer, such as train:32000");
    if (inputs.empty()) return;
    if (names_a_path(options.tokenizer)) options.tokenizer = relative_to(data->base, options.tokenizer);
    data->inputs = inputs;
    data->base.clear();
    data->synth_docs = 0;
}

fs::path data_folder(const fs::path& out) {
    return out / "data";
}

DataState data_state(const fs::path& out, const StudyData& data) {
    const fs::path folder = data_folder(out);
    if (!path_exists(folder)) return DataState::kMissing;
    if (!path_exists(folder / kRecord))
        fail(ExitCode::kUsage,
             "{} was not made by this study: move it, or remove [data_prepare] and set data.dir",
             folder.string());
    const Json record =
        Json::parse(read_file(folder / kRecord, kMostRecord), nullptr, /*allow_exceptions=*/false);
    if (!record.is_object() || !record.contains("settings"))
        fail(ExitCode::kCorruptData, "{}: expected an object with \"settings\"", (folder / kRecord).string());
    const Json wanted = data.settings();
    for (const auto& [key, value] : wanted.items())
        if (const auto made = record["settings"].find(key);
            made == record["settings"].end() || *made != value)
            fail(ExitCode::kUsage,
                 "{} was made with other settings than the design's: {} = {}, now {}; give another --out",
                 folder.string(), key, made == record["settings"].end() ? "none" : made->dump(),
                 value.dump());
    if (record != record_of(data, read_meta(folder)))
        fail(ExitCode::kCorruptData, "{} no longer holds the tokens that the study prepared",
             folder.string());
    return DataState::kReady;
}

bool prepare_study_data(const fs::path& out, const StudyData& data) {
    const fs::path work = out / "preparation";
    bool told = false;
    try {
        while (data_state(out, data) == DataState::kMissing) {
            stop_if_requested(out);
            if (const std::unique_ptr<RunOwner> owner = claim(work)) {
                // Another process may have made it between the look and the claim.
                if (data_state(out, data) == DataState::kMissing) make_data(out, data, work);
                continue;
            }
            if (!std::exchange(told, true)) {
                print_text("data: waiting for another process that makes {}\n", data_folder(out).string());
                std::fflush(stdout);
            }
            std::this_thread::sleep_for(std::chrono::milliseconds(200));
        }
    } catch (const Stopped&) {
        return false;
    }
    std::error_code ignored;
    fs::remove(work, ignored);  // only if it is empty
    return true;
}

Json describe_study_data(const fs::path& out, const StudyData& data) {
    const DataMeta meta = read_meta(data_folder(out));
    return {{"settings", data.settings()},
            {"vocab", meta.vocab_size},
            {"train_tokens", meta.train.tokens},
            {"val_tokens", meta.val.tokens},
            {"train_fingerprint", fingerprint_of(meta.train)},
            {"val_fingerprint", fingerprint_of(meta.val)}};
}

}  // namespace pastur
