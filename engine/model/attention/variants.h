#pragma once
// Everything that depends on the attention variant: one constant each, at the end of attention_<variant>.cpp,
// and the table of them.
#include <initializer_list>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "engine/config/raw_recipe.h"
#include "engine/model/attention/qk_form.h"

namespace pastur {

class Attention;
class Parameters;

/// Widths of a head in the attention core.
struct CoreWidths {
    int64_t qk, v;
    int64_t shared = 0;  ///< of qk: columns that queries multiply with one key for all heads
};

/// A key of [model] or [attention] that not every variant reads.
struct VariantKey {
    const char* section;
    const char* key;
    const char* condition =
        nullptr;  ///< when it is read, for messages: `prerope_site = "input"`; null: always
    bool (*is_read)(const Config&) = nullptr;  ///< that condition
};

/// Numbers of a slot of a decoder's cache, in the compute dtype.
struct CachePart {
    const char* name;  ///< "keys", "latent", ...
    int64_t heads, width;
    /// Where tokens share a slot: they are added. False: the last one replaces those before.
    bool summed = false;
};

/// What a decoder keeps of the tokens of a sequence in every layer.
struct CacheLayout {
    std::vector<CachePart> parts;
    int64_t stride = 1;  ///< tokens that share a slot
    int64_t slots(int64_t tokens) const { return (tokens + stride - 1) / stride; }
    /// Numbers of a slot.
    int64_t slot_values() const;
};

struct VariantInfo {
    const char* name;                        ///< the value of attention.variant
    std::initializer_list<VariantKey> keys;  ///< that the variant reads
    /// Fills the keys' default sizes (where they are 0) and checks them. Throws (kUsage).
    void (*fill)(RawRecipe& recipe);
    /// One layer's attention; adds its tensors under `prefix` ("model.layers.3.self_attn.").
    std::unique_ptr<Attention> (*make)(const Config& config, Parameters& params, const std::string& prefix);
    CoreWidths (*core_widths)(const Config& config);
    /// Width of the rotated sub-vectors, hence of the rotary table. 0: nothing is rotated, there is no table.
    int64_t (*rope_width)(const Config& config);
    /// The cache of a decoder; Attention::cached() has the numbers in the same order.
    CacheLayout (*cache)(const Config& config);
    QkForm (*qk_form)(const Config& config);
    std::initializer_list<Scope> scopes;          ///< that diagnostics.scopes may name
    std::initializer_list<Scope> default_scopes;  ///< for an empty diagnostics.scopes

    /// Null if the field is not among `keys`.
    const VariantKey* find_key(const Field& field) const;
    bool has_scope(Scope scope) const;
    /// Values that the cache of a decoder holds per token and layer, rounded up.
    int64_t cache_values(const Config& config) const;
};

/// The table. A Variant is the index of a row.
std::span<const VariantInfo* const> variants();
std::vector<std::string> variant_names();
const VariantInfo& variant_of(const Config& config);
const char* name_of(Variant variant);
/// The variant of this name. Throws (kUsage) "<where>: expected one of ...; did you mean ...?".
Variant variant_named(const std::string& name, const std::string& where = "attention.variant");

// For VariantInfo::fill.
/// Throws (kUsage) for an odd width, because rotary embeddings rotate pairs.
void check_even(const RawRecipe& recipe, const char* section, const char* key, int64_t width);
/// Throws (kUsage) unless 1 <= rank <= width. `of` says in the message where the width comes from.
void check_rank(const RawRecipe& recipe, const char* key, int64_t rank, int64_t width, const std::string& of);
/// Fills and checks attention.nope_dim, rope_dim and v_dim of heads with one rotary key for all heads.
void fill_split_heads(RawRecipe& recipe);

/// The factor of a normalised latent of this rank (attention.latent_gain). sqrt(d_model / rank): a normalised
/// latent has unit components in `rank` dimensions where the layer's input has them in d_model, so queries and
/// keys made of it have rank / d_model of the variance. (LongCat-Flash, arXiv 2509.01322.)
float latent_gain(const Config& config, int64_t rank);

/// For VariantInfo::core_widths of heads with one rotary key for all heads.
CoreWidths split_core_widths(const Config& config);

}  // namespace pastur
