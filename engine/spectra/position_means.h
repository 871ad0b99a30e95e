#pragma once
// The metrics of scope "positions" averaged over its pairs of positions.
#include <vector>

#include "engine/spectra/spectrum_records.h"

namespace pastur {

inline constexpr const char* kPositionMeans = "qk@mean";

/// Appends for each layer, head and null one record of the matrix "qk@mean": every metric is its mean over the matrices
/// qk@i,j, NaN where one of them is. Nothing if there are no such records.
void append_position_means(std::vector<SpectrumRecord>& records);

}  // namespace pastur
