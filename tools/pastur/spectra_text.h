#pragma once
// Spectra for people at a terminal.
#include <span>
#include <string>
#include <vector>

#include "engine/spectra/calibration.h"

namespace pastur {

/// One line a matrix and null; the heads of a layer are one line (of the head that stands out most: the
/// largest lambda_max / lambda_plus) unless every_head.
std::string spectrum_table(const std::vector<SpectrumRecord>& records, bool every_head);

/// A histogram of eigenvalues, `rows` lines of bars over a ruler on which the null's edge is marked. Bars go
/// with the square root of the count, so that a single outlier can be seen beside the bulk.
std::string spectrum_histogram(std::span<const double> eigenvalues, const SpectrumRecord& record, int columns,
                               int rows);

/// One line a matrix and null.
std::string calibration_table(const std::vector<NullCalibration>& lines);

}  // namespace pastur
