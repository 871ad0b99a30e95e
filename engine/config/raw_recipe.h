#pragma once
// A recipe before derived fields are filled: the values that were given, and where each comes from.
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "engine/config/config_fields.h"

namespace pastur {

/// Where a key's value comes from, for messages and precedence.
struct Origin {
    enum class Source { kDefault, kPreset, kRecipe, kOverride };
    Source source = Source::kDefault;
    std::string place;  ///< "recipe.toml:12" or "--train.lr"
};

class RawRecipe {
  public:
    /// Gives every key its default. `fields` must outlive the recipe.
    explicit RawRecipe(std::span<const Field> fields) : fields_(fields), origins_(fields.size()) {}

    // These three are called in this order. Each throws (kUsage): place, key, what was expected, and for an
    // unknown key the nearest valid one.
    /// Takes values from TOML text; `where` names it in messages.
    void read(const std::string& toml, const std::string& where);
    void apply(const Override& override);
    /// Takes sizes of model.preset where neither the recipe nor an override gives them.
    void apply_preset();

    Config config;
    std::span<const Field> fields() const { return fields_; }
    /// The key must exist.
    const Field& field(std::string_view section, std::string_view key) const;
    const Origin& origin(const Field& field) const {
        return origins_[static_cast<size_t>(&field - fields_.data())];
    }
    const Origin& origin(std::string_view section, std::string_view key) const {
        return origin(field(section, key));
    }
    /// Whether the recipe or an override gives the key.
    bool is_given(const Field& field) const;
    /// `heads = 5 (recipe.toml:3)`, `d_model = 128 (preset nano)`, `kv_rank = 64 (default)`.
    std::string describe(std::string_view section, std::string_view key) const;

  private:
    Origin& origin_of(const Field& field) { return origins_[static_cast<size_t>(&field - fields_.data())]; }
    const Field& field_or_fail(std::string_view section, std::string_view key,
                               const std::string& where) const;
    std::span<const Field> fields_;
    std::vector<Origin> origins_;  ///< parallel to fields_
};

/// Replaces a value of 0 by the derived one.
inline void fill(int64_t& value, int64_t derived) {
    if (value == 0) value = derived;
}

// Derived fields and checks that concern more than one key, whatever the attention variant.
/// Fills and checks widths and counts of heads. Throws (kUsage).
void derive_model(RawRecipe& recipe);
/// Fills and checks micro-batches and paths, once the model and run.name are complete. Throws (kUsage).
void derive_run(RawRecipe& recipe, int ranks);

/// The text of a recipe. Throws (kMissingInput, kUsage).
std::string read_recipe_file(const std::string& path);

}  // namespace pastur
