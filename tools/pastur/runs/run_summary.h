#pragma once
// One run folder as `pastur compare` shows it: a number or a word for each question.
#include <cmath>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <nlohmann/json_fwd.hpp>
#include <string>

namespace pastur {

/// Numbers that a run does not have are NaN, steps -1.
struct RunSummary {
    std::string name, variant;
    /// "done", "requeue", "nonfinite", "data" (it could not be read), "running", or "died": silent for ten
    /// minutes without an end.
    std::string status;
    int64_t resumes = 0;
    double parameters = NAN, cache_bytes_per_token = NAN;
    int64_t step = -1, steps = -1;  ///< reached, and to be reached
    double train_loss = NAN;        ///< at `step`
    double val_loss = NAN, best_val = NAN;
    int64_t val_step = -1, best_val_step = -1;
    double unigram_entropy = NAN;  ///< of the validation tokens, nats
    double tokens_per_s = NAN;     ///< median of the logged steps
    double mem_gib = NAN, elapsed_s = NAN;

    /// Query-key forms of the layers (of the heads where layers are not measured) at the last measurement.
    int64_t spectra_step = -1;
    double kept_step0 = NAN, kept_null = NAN;              ///< kept rank, mean over the forms
    double peak_ratio_product = NAN, peak_ratio_mp = NAN;  ///< lambda_max / lambda_plus, largest of the forms
    /// Attention on the probe at its last measurement, over all layers and heads.
    double max_logit = NAN;          ///< largest
    double attention_entropy = NAN;  ///< nats, mean
    double entropy_ratio = NAN;      ///< to the logarithm of the number of keys, mean
    /// The earliest onset of any matrix, at the lowest threshold.
    int64_t spike_onset = -1, collapse_onset = -1;
};

/// Whether the folder holds the log of a run.
bool has_run_log(const std::filesystem::path& folder);

/// Whether a log was last written so long ago, ten minutes, that its run did not go on.
bool is_silent(const std::filesystem::path& log);

/// Calls use_spectrum, if there is one, with every line of spectra/summary.jsonl, which is too long to be read twice.
/// Throws (kMissingInput) where has_run_log() is false, (kIo, kCorruptData) for files that cannot be read.
RunSummary summarise_run(const std::filesystem::path& folder,
                         const std::function<void(const nlohmann::json&)>& use_spectrum = {});

}  // namespace pastur
