#pragma once
// Scope "overlap": the directions that carry the layers' query-key forms, whether they persist from one measurement to
// the next and whether they propagate from layer to layer.
#include <filesystem>
#include <string>
#include <vector>

#include "engine/spectra/spectrum_records.h"

namespace pastur {

/// The layers' vectors of one measurement, by layer: those of matrix "qk" of whole layers. Empty if it asks for none.
std::vector<Subspace> layer_subspaces(const std::vector<SpectralMatrix>& matrices,
                                      const std::vector<std::vector<Spectrum>>& spectra);

/// Compares the layers' vectors with each other and with those of the measurement before.
class LayerOverlaps {
  public:
    /// Sets `overlap` of the records of matrix "qk" of whole layers, and keeps `layers` for the measurement after.
    /// Without layers it does nothing.
    void annotate(std::vector<SpectrumRecord>& records, std::vector<Subspace> layers);
    /// Takes the layers of a measurement from its archive as those before; none if the archive has none.
    void restore(const std::filesystem::path& npz);

  private:
    std::vector<Subspace> before_;  ///< by layer; empty: no measurement before
};

/// The array of a layer's vectors in step_XXXXXXXX.npz, [k][model width].
std::string vectors_name(size_t layer);

}  // namespace pastur
