#pragma once
// A trained model of variant `mha` (also with grouped queries) as `mla-decoupled`, after TransMLA (arXiv 2502.07864).
#include <map>

#include "engine/convert/forward_model.h"
#include "engine/convert/stages/rotation.h"

namespace pastur::convert {

struct ConvertOptions {
    int64_t kv_rank = 0;   ///< r; 0: full_rank()
    int64_t rope_dim = 0;  ///< d_R; 0: the heads' width D
    int64_t fold = 0;      ///< FreqFold; 0: D / d_R
    int64_t q_rank = 0;    ///< 0: queries are not compressed
    RotationKind rotation = RotationKind::kComplex;
};

/// Shares of energy on the calibration text that a layer keeps.
struct LayerReport {
    double rope = 0;     ///< of the keys', in the components that keep RoPE
    double keys = 0;     ///< of the content keys', in the latent
    double values = 0;   ///< of the values', in the latent
    double queries = 1;  ///< of the queries', in their latent
    double balance = 1;  ///< content keys' RMS over the values'
    double kv_spread = 0,
           q_spread = 0;  ///< of a normalised latent: RMS over tokens, standard deviation over mean
};

/// A model whose attention tensors were computed; all others are those of the source.
struct ConvertedModel {
    Config config;
    std::map<std::string, std::vector<float>> tensors;
    std::vector<LayerReport> layers;
    WeightSet weights(const ReadTensor& source) const;
};

/// The recipe of the same model with another attention, resolved.
Config with_attention(Config config, const AttentionConfig& attention);
HeadSizes head_sizes(const Config& config);
/// The rank at which the latent loses nothing: the inputs' width, or that of content keys and values where they are fewer.
int64_t full_rank(const Config& source, int64_t rope_dim);

/// The options with their defaults. Throws (kUsage) for a source that is not `mha`, or normalises its heads, and for
/// sizes out of range, with the valid ones.
ConvertOptions resolve(ConvertOptions options, const Config& source);

/// moments: input_moments() of the source. The latents are not normalised (attention.latent_norm = false).
ConvertedModel convert_to_decoupled(const Config& source, const ReadTensor& read,
                                    const std::vector<Matrix>& moments, const ConvertOptions& options);

/// Normalises the latents, in a basis and with scales in which their RMS varies least over tokens. The gains, the mean RMS,
/// are measured on the model's own activations, so the norms begin as near to identities as they can. moments: of the
/// source, as above.
void normalise_latents(Context& ctx, ConvertedModel& model, const ReadTensor& source,
                       const std::vector<Matrix>& moments, const TokenSequences& text);

}  // namespace pastur::convert
