#include "engine/model/attention/qk_clip.h"

#include <algorithm>

#include "engine/model/attention/variants.h"
#include "kernels/base/error.h"

namespace pastur {
namespace {

/// Whether every query head has rows of its own, which no norm follows.
bool scales(const QkSide& side, int64_t heads) {
    return side.heads == heads && std::all_of(side.head.begin(), side.head.end(), [](const QkRows& rows) {
               return !rows.weight.empty() && rows.stride > 0 && rows.gain.empty();
           });
}

/// Adds what scales the logits, or a term of them; false: nothing does. keys_too: both sides may be scaled.
bool add_part(std::vector<ClippedRows>& clipped, const QkPart& part, bool keys_too) {
    const int64_t heads = part.query.heads;
    const bool queries = scales(part.query, heads), keys = keys_too && scales(part.key, heads);
    for (const QkSide* side : {&part.query, &part.key})
        if (side == &part.query ? queries : keys)
            for (const QkRows& rows : side->head) clipped.push_back({rows, queries && keys});
    return queries || keys;
}

}  // namespace

std::vector<ClippedRows> clipped_rows(const QkForm& form) {
    std::vector<ClippedRows> clipped;
    const bool whole = form.content && form.rope
                           ? add_part(clipped, *form.content, true) && add_part(clipped, *form.rope, false)
                           : add_part(clipped, form.whole, true);
    return whole ? clipped : std::vector<ClippedRows>();
}

void check_qk_clip(const RawRecipe& recipe) {
    const Config& config = recipe.config;
    if (config.train.qk_clip == 0 || !clipped_rows(variant_of(config).qk_form(config)).empty()) return;
    fail(
        ExitCode::kUsage,
        "train: {}: expected 0 with attention.{}: a norm over each head undoes any scaling of the weights before it, and its "
        "gain is one for all heads",
        recipe.describe("train", "qk_clip"), recipe.describe("attention", "qk_norm"));
}

}  // namespace pastur
