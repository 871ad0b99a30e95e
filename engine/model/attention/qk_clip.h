#pragma once
// train.qk_clip (QK-Clip; Kimi K2, arXiv 2507.20534): which weights are scaled when the largest logit S of a query head
// exceeds the limit tau, with gamma = tau / S. Every variant's query-key form says it:
//
// - Where queries and keys have rows of their own for each query head, both are scaled by sqrt(gamma).
// - Where several heads share a key (the rotary key of mla-decoupled, mtla and mha-shared-rope; grouped queries), the
//   head's queries are scaled by gamma and the key is not, because scaling it would change the other heads as well.
// - Rows that a norm over the head follows (attention.qk_norm) are not scaled, since the norm undoes it. If the other side
//   has none, that side is scaled by gamma: the keys of mla-prerope, whose norm precedes their compression. Else there
//   is nothing to scale: the gain of the norm is one vector for all heads.
//
// Each rule multiplies every logit of the head by gamma, given the layer's input, and no logit of another head.
#include <vector>

#include "engine/config/raw_recipe.h"
#include "engine/model/attention/qk_form.h"

namespace pastur {

/// Rows of every head that are scaled by sqrt(gamma) or by gamma.
struct ClippedRows {
    QkRows rows;
    bool root;  ///< by sqrt(gamma)
};

/// Empty if no weights of the form scale the logits of one head.
std::vector<ClippedRows> clipped_rows(const QkForm& form);

/// Throws (kUsage) if train.qk_clip is on and the resolved recipe's variant has nothing to scale.
void check_qk_clip(const RawRecipe& recipe);

}  // namespace pastur
