#include "engine/spectra/subspaces.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <span>

#include "diag/npz_reader.h"

namespace pastur {
namespace {

Tensor as_matrix(std::vector<float>& values, const Shape& shape) {
    return {std::as_writable_bytes(std::span(values)).data(), DType::kF32, shape};
}

/// None where an overlap has no meaning.
std::optional<double> known(double value) {
    return std::isfinite(value) ? std::optional(value) : std::nullopt;
}

}  // namespace

std::string vectors_name(size_t layer) {
    return fmt::format("layers.{}.qk.vectors", layer);
}

LayerSubspaces::LayerSubspaces(const Config& config, const ParamTable& table) {
    matrices_ = spectral_matrices(config, {Scope::kLayer}, shapes_of(table),
                                  [&](const std::string& name) -> ConstTensor {
                                      const Shape& shape = table.named(name).shape;
                                      std::vector<float>& values = weights_[name];
                                      values.resize(static_cast<size_t>(shape.numel()));
                                      return as_matrix(values, shape);
                                  });
}

void LayerSubspaces::copy(Context& ctx, const Parameters& params) {
    for (auto& [name, values] : weights_) {
        const Param& param = params.table().named(name);
        if (params.master_dtype() == DType::kF32) {
            download(ctx, as_matrix(values, param.shape), params.master(param));
            continue;
        }
        std::vector<uint16_t> stored(values.size());
        download(ctx, {std::as_writable_bytes(std::span(stored)).data(), DType::kBF16, param.shape},
                 params.master(param));
        // A bf16 is the upper half of the fp32 of the same value.
        std::transform(stored.begin(), stored.end(), values.begin(), [](uint16_t upper) {
            return std::bit_cast<float>(static_cast<uint32_t>(upper) << 16);
        });
    }
}

std::vector<Subspace> LayerSubspaces::solve() const {
    const FactorProduct& product = matrices_.front().product;
    std::vector<Subspace> layers;
    for (int64_t layer = 0; layer < product.items; ++layer)
        layers.push_back(leading_left_vectors(product, layer, kSubspaceVectors));
    return layers;
}

void LayerSubspaces::annotate(std::vector<SpectrumRecord>& records, std::vector<Subspace> layers) {
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

void LayerSubspaces::restore(const std::filesystem::path& npz) {
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
