#pragma once
#include <span>
#include <string>

#include "engine/train/hugging_face/hf_config.h"

namespace pastur {

/// Reorders the rotary rows of a weight [rows, columns] of `mla-decoupled`: those of every head in q_proj and q_b_proj,
/// and those of the shared key in kv_a_proj_with_mqa. Other tensors and other variants keep their rows.
void reorder_rotary_rows(const Config& config, const std::string& name, std::span<float> values,
                         RopeRows from, RopeRows to);

}  // namespace pastur
