#include "engine/spectra/subspaces.h"

#include <fmt/format.h>

#include <cmath>

#include "diag/npz_reader.h"

namespace pastur {
namespace {

/// None where an overlap has no meaning.
std::optional<double> known(double value) {
    return std::isfinite(value) ? std::optional(value) : std::nullopt;
}

}  // namespace

std::string vectors_name(size_t layer) {
    return fmt::format("layers.{}.qk.vectors", layer);
}

std::vector<Subspace> layer_subspaces(const std::vector<SpectralMatrix>& matrices,
                                      const std::vector<std::vector<Spectrum>>& spectra) {
    std::vector<Subspace> layers;
    for (size_t m = 0; m < matrices.size(); ++m)
        if (matrices[m].product.leading_vectors > 0)
            for (const Spectrum& spectrum : spectra[m]) layers.push_back(spectrum.leading);
    return layers;
}

void LayerOverlaps::annotate(std::vector<SpectrumRecord>& records, std::vector<Subspace> layers) {
    if (layers.empty()) return;
    for (SpectrumRecord& record : records) {
        if (record.matrix != "qk" || record.head >= 0) continue;
        const auto layer = static_cast<size_t>(record.layer);
        const Subspace& mine = layers.at(layer);
        SubspaceOverlap& found = record.overlap.emplace();
        if (layer < before_.size()) found.before = known(overlap(mine, before_[layer]));
        if (layer + 1 < layers.size()) found.next = known(overlap(mine, layers[layer + 1]));
        if (mine.count > 0) found.random = static_cast<double>(mine.count) / static_cast<double>(mine.width);
    }
    before_ = std::move(layers);
}

void LayerOverlaps::restore(const std::filesystem::path& npz) {
    before_.clear();
    std::error_code ignored;
    if (!std::filesystem::is_regular_file(npz, ignored)) return;
    const NpzReader file(npz);
    for (size_t layer = 0; file.contains(vectors_name(layer)); ++layer) {
        NpzContent array = file.read(vectors_name(layer));
        Subspace& subspace = before_.emplace_back();
        if (array.shape.size() == 2) subspace = {array.shape[0], array.shape[1], std::move(array.values)};
    }
}

}  // namespace pastur
