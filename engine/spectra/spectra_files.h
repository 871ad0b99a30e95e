#pragma once
// The folder spectra/ of a run: summary.jsonl and step_00000100.npz.
#include <filesystem>
#include <functional>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <vector>

#include "data/output.h"
#include "engine/spectra/qk_factors.h"

namespace pastur {

/// The bytes of an npz with `layers.<l>.<matrix>` (n) and `layers.<l>.<matrix>.heads` (H x n), `<matrix>`
/// alone where it belongs to no layer; a matrix without a spectrum is NaN.
std::string spectra_npz(const std::vector<SpectralMatrix>& matrices,
                        const std::vector<std::vector<Spectrum>>& spectra);

class SpectraFiles {
  public:
    /// Touches no file.
    explicit SpectraFiles(std::filesystem::path folder) : folder_(std::move(folder)) {}

    /// Makes the folder. What belongs to steps after `step` (-1: everything) is moved aside: lines to
    /// summary.abandoned.jsonl, archives to abandoned/. `replay` sees every line that stays, in order. Throws
    /// (kIo).
    void open(int64_t step, const std::function<void(const nlohmann::ordered_json&)>& replay);

    /// step_XXXXXXXX.npz, complete or absent. Throws (kIo).
    void write_spectra(int64_t step, const std::vector<SpectralMatrix>& matrices,
                       const std::vector<std::vector<Spectrum>>& spectra) const;
    /// Appends to summary.jsonl by one write. Throws (kIo).
    void append_summary(const std::vector<nlohmann::ordered_json>& records);
    /// What was appended is durable. Throws (kIo).
    void sync() { summary_->sync(); }

  private:
    std::filesystem::path folder_;
    std::unique_ptr<AppendFile> summary_;
};

}  // namespace pastur
