#pragma once
// The folder spectra/ of a run: summary.jsonl and step_00000100.npz.
#include <filesystem>
#include <functional>
#include <vector>

#include "engine/spectra/step_lines.h"
#include "engine/spectra/summary_lines.h"

namespace pastur {

/// The bytes of an npz with arrays `layers.<l>.<matrix>` (n) and `layers.<l>.<matrix>.heads` (H x n), named
/// `<matrix>` alone if it belongs to no layer. A failed spectrum is NaN. The layers' leading vectors are arrays of vectors_name().
std::string spectra_npz(const std::vector<SpectralMatrix>& matrices,
                        const std::vector<std::vector<Spectrum>>& spectra);

class SpectraFiles {
  public:
    /// Touches no file until open().
    explicit SpectraFiles(const std::filesystem::path& folder)
        : folder_(folder), summary_(folder / "summary.jsonl") {}

    /// Makes the folder. Moves aside what belongs to steps after `step` (-1: everything): lines to
    /// summary.abandoned.jsonl, archives to abandoned/. Calls `replay` with every record that remains, in order.
    /// Throws (kIo).
    void open(int64_t step, const std::function<void(LoggedRecord)>& replay);

    /// Writes step_XXXXXXXX.npz atomically. Throws (kIo).
    void write_spectra(int64_t step, const std::vector<SpectralMatrix>& matrices,
                       const std::vector<std::vector<Spectrum>>& spectra) const;
    std::filesystem::path spectra_file(int64_t step) const;
    /// Appends the records of one step to summary.jsonl with one write. Throws (kIo).
    void append_summary(int64_t step, const std::vector<SpectrumRecord>& records);
    /// Makes everything appended durable. Throws (kIo).
    void sync() { summary_.sync(); }

  private:
    std::filesystem::path folder_;
    StepLines summary_;
};

}  // namespace pastur
