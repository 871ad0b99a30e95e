#pragma once
// Scope "overlap": the directions that carry the layers' query-key forms, whether they persist from one measurement to
// the next and whether they propagate from layer to layer.
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "diag/subspace.h"
#include "engine/model/parameters.h"
#include "engine/spectra/spectrum_records.h"

namespace pastur {

/// Vectors compared per layer, k.
inline constexpr int64_t kSubspaceVectors = 8;

/// Works on copies of the weights in the host's memory. One thread at a time.
class LayerSubspaces {
  public:
    /// Takes the memory for the weights of the layers' forms.
    LayerSubspaces(const Config& config, const ParamTable& table);

    /// Copies the weights to the host, after the work that is queued on ctx.
    void copy(Context& ctx, const Parameters& params);
    /// The leading left singular vectors of the layers' forms, of the weights copied last. Takes 0.19 s per layer of width
    /// 768 on one core, and grows with the width's cube.
    std::vector<Subspace> solve() const;
    /// Sets `overlap` of the records of matrix "qk" of whole layers, and keeps `layers` for the measurement after.
    void annotate(std::vector<SpectrumRecord>& records, std::vector<Subspace> layers);
    /// Takes the layers of a measurement from its archive as those before; none if the archive has none.
    void restore(const std::filesystem::path& npz);

  private:
    std::map<std::string, std::vector<float>> weights_;
    std::vector<SpectralMatrix> matrices_;  ///< the layers' form, from weights_
    std::vector<Subspace> before_;          ///< by layer; empty: no measurement before
};

/// The array of a layer's vectors in step_XXXXXXXX.npz, [k][model width].
std::string vectors_name(size_t layer);

}  // namespace pastur
