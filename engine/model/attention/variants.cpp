#include "engine/model/attention/variants.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "kernels/base/error.h"

namespace pastur {

// The table: one line a variant, in the order in which help lists them; the first is the default. Each line
// declares the constant at the end of attention_<variant>.cpp and points to it.
// clang-format off
constexpr const VariantInfo* kVariants[] = {
    [] { extern const VariantInfo kMha; return &kMha; }(),
    [] { extern const VariantInfo kMhaNope; return &kMhaNope; }(),
    [] { extern const VariantInfo kMhaSharedRope; return &kMhaSharedRope; }(),
    [] { extern const VariantInfo kMlaNope; return &kMlaNope; }(),
    [] { extern const VariantInfo kMlaRope; return &kMlaRope; }(),
    [] { extern const VariantInfo kMlaPrerope; return &kMlaPrerope; }(),
    [] { extern const VariantInfo kMlaDecoupled; return &kMlaDecoupled; }(),
    [] { extern const VariantInfo kMtla; return &kMtla; }(),
};
// clang-format on

const VariantKey* VariantInfo::find_key(const Field& field) const {
    const auto found = std::find_if(keys.begin(), keys.end(), [&](const VariantKey& key) {
        return std::string_view(key.section) == field.section && std::string_view(key.key) == field.key;
    });
    return found == keys.end() ? nullptr : found;
}

bool VariantInfo::has_scope(Scope scope) const {
    constexpr Scope kOfEveryVariant[] = {Scope::kOv, Scope::kPositions, Scope::kOverlap};
    return std::find(std::begin(kOfEveryVariant), std::end(kOfEveryVariant), scope) !=
               std::end(kOfEveryVariant) ||
           std::find(scopes.begin(), scopes.end(), scope) != scopes.end();
}

int64_t CacheLayout::slot_values() const {
    int64_t values = 0;
    for (const CachePart& part : parts) values += part.heads * part.width;
    return values;
}

int64_t VariantInfo::cache_values(const Config& config) const {
    const CacheLayout layout = cache(config);
    return (layout.slot_values() + layout.stride - 1) / layout.stride;
}

std::span<const VariantInfo* const> variants() {
    return kVariants;
}

std::vector<std::string> variant_names() {
    std::vector<std::string> names;
    for (const VariantInfo* variant : kVariants) names.emplace_back(variant->name);
    return names;
}

const VariantInfo& variant_of(const Config& config) {
    return *variants()[static_cast<size_t>(config.attention.variant)];
}

const char* name_of(Variant variant) {
    return variants()[static_cast<size_t>(variant)]->name;
}

Variant variant_named(const std::string& name, const std::string& where) {
    return static_cast<Variant>(index_of_name(name, variant_names(), where));
}

void check_even(const RawRecipe& recipe, const char* section, const char* key, int64_t width) {
    if (width < 2 || width % 2 != 0)
        fail(ExitCode::kUsage, "{}: {}: expected an even width, since rotary embeddings rotate pairs",
             section, recipe.describe(section, key));
}

void check_rank(const RawRecipe& recipe, const char* key, int64_t rank, int64_t width,
                const std::string& of) {
    if (rank < 1 || rank > width)
        fail(ExitCode::kUsage, "attention: {}: expected 1 to {}, the width it compresses ({})",
             recipe.describe("attention", key), width, of);
}

void fill_split_heads(RawRecipe& recipe) {
    AttentionConfig& a = recipe.config.attention;
    const int64_t head_dim = recipe.config.model.head_dim;
    fill(a.nope_dim, head_dim / 2);
    fill(a.rope_dim, head_dim / 2);
    fill(a.v_dim, head_dim);
    if (a.nope_dim < 1)
        fail(ExitCode::kUsage, "attention: {}: expected 1 or more", recipe.describe("attention", "nope_dim"));
    check_even(recipe, "attention", "rope_dim", a.rope_dim);
}

float latent_gain(const Config& config, int64_t rank) {
    if (config.attention.latent_gain == LatentGain::kNone) return 1;
    return std::sqrt(static_cast<float>(config.model.d_model) / static_cast<float>(rank));
}

CoreWidths split_core_widths(const Config& config) {
    const AttentionConfig& a = config.attention;
    return {a.nope_dim + a.rope_dim, a.v_dim, a.rope_dim};
}

}  // namespace pastur
