#pragma once
// Spectra as text for a terminal.
#include <span>
#include <string>
#include <vector>

#include "engine/spectra/calibration.h"

namespace pastur {

/// One line per matrix and null. Unless every_head, the heads of a layer share a line, that of the head with
/// the largest lambda_max / lambda_plus.
std::string spectrum_table(const std::vector<SpectrumRecord>& records, bool every_head);

/// A histogram of eigenvalues: `rows` lines of bars over a ruler with a mark at the null's edge. A bar's
/// height is the square root of its count, so a single outlier is visible next to the bulk.
std::string spectrum_histogram(std::span<const double> eigenvalues, const SpectrumRecord& record, int columns,
                               int rows);

/// One line per matrix and null.
std::string calibration_table(const std::vector<NullCalibration>& lines);

}  // namespace pastur
