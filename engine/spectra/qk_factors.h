#pragma once
// Which matrices of a model are decomposed, as products of its weights: the query-key forms of the variants
// (VARIANTS: effective key map at zero relative position; SPECTRA: scopes). Weights W are stored [out, in]:
// with Q_h the rows of a head's effective query map [w, C] and K_h those of its key map, M_h = Q_h^T K_h.
#include <array>
#include <functional>
#include <string>
#include <vector>

#include "diag/spectrum.h"
#include "engine/config/config.h"
#include "engine/model/param_table.h"

namespace pastur {

/// Matrices of one name and one shape, which are solved together.
struct SpectralMatrix {
    struct Item {
        int64_t layer;  ///< -1: of no layer (embedding, LM head)
        int64_t head;   ///< -1: of all heads
    };
    /// qk, qk_content, qk_rope, qk_literal, qk@i,j, ov, or a weight's short name
    std::string name;
    std::vector<Item> items;  ///< in the order of the product's items
    FactorProduct product;
    /// What M is at initialisation: a product of independent Gaussian matrices, a sum of such products that
    /// share no factor (the whole query-key form of mla-decoupled), or neither (that sum with a low-rank
    /// query, whose down-projection both terms share, and the literal form of a sum).
    enum class Form : uint8_t { kProduct, kSumOfProducts, kOther };
    Form form = Form::kProduct;
    /// Names of the matrices that a kSumOfProducts adds up, of the same items.
    std::vector<std::string> terms = {};
};

/// Leading left singular vectors that scope "overlap" asks of the layers' query-key forms.
inline constexpr int64_t kSubspaceVectors = 8;

/// A weight by its name: f32, contiguous, on the device where it will be solved.
using WeightLookup = std::function<ConstTensor(const std::string& name)>;
struct NamedShape {
    std::string name;
    Shape shape;
};

/// The positions of a query and a key.
using PositionPair = std::array<int64_t, 2>;
/// Those of scope "positions": diagnostics.positions, or for sequences of T tokens (0, 0), (T/2, T/2), (T-1, T-1), (T-1, T/2), (T-1, 0), each
/// once.
std::vector<PositionPair> position_pairs(const Config& config);

/// The matrices of these scopes, which the variant has (VariantInfo::has_scope), of all layers; none for scopes that
/// are not about products of weights. Gains of latent norms are folded in.
///     positions: qk@i,j, the heads' forms M_ij = (R_i Q_h)^T K_h,j between a query at position i and a key at
///     position j. K_h,j = R_j K_h, so that M depends on i - j alone; where keys are compressed after their rotation
///     (mla-prerope), R_j stands in the middle of the key's chain. Where nothing is rotated all pairs have equal forms
///     ov: W_V^h W_O^h, what a head writes for what it reads, and its sum over heads
/// `weights` are the model's tensors; scope "weights" takes the matrices among them.
/// lookup is called for each tensor that is used, and the address of its result is kept.
std::vector<SpectralMatrix> spectral_matrices(const Config& config, const std::vector<Scope>& scopes,
                                              const std::vector<NamedShape>& weights,
                                              const WeightLookup& lookup);

/// The products alone, in their order, as SpectrumSolver expects them.
std::vector<FactorProduct> products_of(const std::vector<SpectralMatrix>& matrices);
/// `weights` of spectral_matrices() for a model's parameters.
std::vector<NamedShape> shapes_of(const ParamTable& table);

/// "model.layers.3.self_attn.q_proj.weight" -> {3, "q_proj"}; "lm_head.weight" -> {-1, "lm_head"}.
struct ShortName {
    int64_t layer;
    std::string name;
};
ShortName short_name(const std::string& weight);

}  // namespace pastur
