#pragma once
// Spectral metrics as TensorBoard scalars.
#include <vector>

#include "engine/io/tensorboard.h"
#include "engine/spectra/spectrum_records.h"

namespace pastur {

/// `spectral/L03/qk/product/<metric>` of a layer's matrix or weight, and `spectral/L03/qk.heads/product/<metric>`,
/// the mean over the layer's heads. Metrics: mp_gap_ratio, outlier_count, outlier_energy, stable_rank,
/// entropy_rank.
std::vector<Scalar> spectral_scalars(int64_t step, const std::vector<SpectrumRecord>& records);

}  // namespace pastur
