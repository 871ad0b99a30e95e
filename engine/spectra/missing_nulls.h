#pragma once
// Nulls that were asked for and have no law for a matrix.
#include <string>
#include <vector>

#include "engine/config/config.h"
#include "engine/spectra/qk_factors.h"

namespace pastur {

/// Why SpectrumJudge has no record of `matrix`, one of `measured`, against `null`; empty where it has one. A
/// caller that follows one null per matrix takes the first of diagnostics.nulls for which this is empty.
std::string why_no_null(NullKind null, const SpectralMatrix& matrix,
                        const std::vector<SpectralMatrix>& measured);

/// One line for every null and matrix without records, to be printed once before measuring.
std::vector<std::string> missing_nulls(const std::vector<NullKind>& nulls,
                                       const std::vector<SpectralMatrix>& measured);

}  // namespace pastur
