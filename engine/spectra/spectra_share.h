#pragma once
// Spectra divided over ranks: each rank solves a share of every matrix's items, and all ranks receive all.
#include "engine/ranks/comm.h"
#include "engine/spectra/spectrum_records.h"

namespace pastur {

/// The matrices and items that one rank solves.
struct SpectraShare {
    struct Part {
        size_t matrix;  ///< index of the whole matrix
        size_t first;   ///< the part's first item in it
    };
    std::vector<SpectralMatrix> matrices;  ///< each with at least one item
    std::vector<Part> parts;               ///< parallel to matrices
};
/// Whole groups in order, divided as evenly as possible; everything for a single rank.
SpectraShare share_of_rank(const std::vector<SpectralMatrix>& matrices, int rank, int ranks);

/// The result of a share whose solver threw: every spectrum failed for this reason.
MeasuredSpectra failed_spectra(const SpectraShare& share, const std::vector<FactorDraw>& draws,
                               const std::string& reason);

/// The spectra of `matrices` from every rank's share, on every rank. Every rank calls it with the same
/// draws. Spectra that `own` lacks count as failed. Reasons of failures arrive as "rank 1: <reason>",
/// those of one rank together and cut after kReasonBytes.
MeasuredSpectra gather_spectra(Context& ctx, Comm& comm, const std::vector<SpectralMatrix>& matrices,
                               const MeasuredSpectra& own, const std::vector<FactorDraw>& draws);
inline constexpr int64_t kReasonBytes = 400;

}  // namespace pastur
