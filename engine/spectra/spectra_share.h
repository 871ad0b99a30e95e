#pragma once
// Spectra divided over ranks: each solves a part of every matrix's items, and all get all.
#include "engine/ranks/comm.h"
#include "engine/spectra/spectrum_records.h"

namespace pastur {

/// What one rank solves.
struct SpectraShare {
    struct Part {
        size_t matrix;  ///< of which it is a part
        size_t first;   ///< item of that matrix
    };
    std::vector<SpectralMatrix> matrices;  ///< none without items
    std::vector<Part> parts;               ///< parallel to matrices
};
/// Whole groups, in order, as even as they divide. Of a single rank: everything.
SpectraShare share_of_rank(const std::vector<SpectralMatrix>& matrices, int rank, int ranks);

/// A share whose solver did not answer: every spectrum failed, for this reason.
MeasuredSpectra failed_spectra(const SpectraShare& share, int64_t draws, const std::string& reason);

/// The spectra of `matrices` from every rank's share, on every rank. Every rank calls it. Of what failed,
/// the rank is told and not the reason.
MeasuredSpectra gather_spectra(Context& ctx, Comm& comm, const std::vector<SpectralMatrix>& matrices,
                               const MeasuredSpectra& own);

}  // namespace pastur
