#pragma once
// Spectral metrics as TensorBoard scalars.
#include <vector>

#include "engine/io/tensorboard.h"
#include "engine/spectra/spectrum_records.h"

namespace pastur {

/// `spectral/<metric>.product/L03/qk` of a layer's matrix or weight against a null, and
/// `spectral/<metric>.product/L03/qk.heads`, the mean over the layer's heads: mp_gap_ratio, outlier_count,
/// outlier_energy. Metrics of the eigenvalues alone have one tag for all nulls, `spectral/<metric>/L03/qk`:
/// stable_rank, entropy_rank; with scope "overlap" also overlap_before and overlap_next.
std::vector<Scalar> spectral_scalars(int64_t step, const std::vector<SpectrumRecord>& records);

}  // namespace pastur
