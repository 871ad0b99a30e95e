#pragma once
// Data that a study makes once, in its own folder, and that all its runs read.
#include <toml++/toml.h>
#include <cstdint>
#include <filesystem>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "data/prepare.h"

namespace pastur {

/// What to make: text to read or stories to write, and how. The keys of [data_prepare] are the options of
/// `pastur data prepare`:
///
///     input = ["corpus/*.txt", "more.jsonl.zst"]   # files, globs, folders; relative to the design
///     synth_docs = 8000                            # in place of input: that many synthetic stories,
///     synth_seed = 1                               # of this stream
///     tokenizer = "train:2048"                     # or bytes, a tokenizer.model or .json, a folder
///     val_fraction = 0.01  val_tokens = 4097  seed = 1
///     format = "auto"  separator = "<|doc|>"  field = "text"  skip_bad = 0
struct StudyData {
    std::vector<std::string> inputs;  ///< as they were given
    std::filesystem::path base;  ///< folder that inputs and tokenizer are relative to; empty: the current one
    int64_t synth_docs = 0;      ///< above 0: stories, and no inputs
    uint64_t synth_seed = 1;
    PrepareOptions options;  ///< the rest; inputs and out are set when the data is made

    /// All that decides the data, by the names of the keys.
    nlohmann::ordered_json settings() const;
};

/// Reads a section [data_prepare] of the design `path`. Throws (kUsage) with the line.
StudyData read_study_data(const toml::table& section, const std::string& path);

/// Text and tokenizer of the command line in place of those of a design; both empty: changes nothing. Throws (kUsage)
/// for text without a tokenizer, and for a tokenizer without text.
void give_data_options(std::optional<StudyData>& data, const std::vector<std::string>& inputs,
                       const std::string& tokenizer);

/// <out>/data, a folder as `pastur data prepare` makes it, with prepared.json: {"v", "settings": {...}, "train": hash,
/// "val": hash}. Complete or absent.
std::filesystem::path data_folder(const std::filesystem::path& out);

enum class DataState : uint8_t { kMissing, kReady };
/// Throws (kUsage) if the folder was made with other settings, or not by a study, and (kCorruptData) if it no longer
/// holds the tokens that were prepared.
DataState data_state(const std::filesystem::path& out, const StudyData& data);

/// Makes the folder unless it is there, one process at a time on all hosts that share `out`; the others wait. Removes
/// first what a killed preparation left in <out>/preparation. Returns false if a stop was requested. Throws what
/// data_state() and prepare() throw.
bool prepare_study_data(const std::filesystem::path& out, const StudyData& data);

/// For study.json: {"settings": {...}, "vocab", "train_tokens", "val_tokens", "train_fingerprint", ...}. The folder is
/// ready.
nlohmann::ordered_json describe_study_data(const std::filesystem::path& out, const StudyData& data);

}  // namespace pastur
