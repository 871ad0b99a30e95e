#pragma once
#include <filesystem>
#include <string>
#include <vector>

#include "engine/train/checkpoint/model_folder.h"

namespace pastur {

/// Sets the weights of `params`, of `config` and allocated, to those of a Hugging Face folder: for train.init_from. Returns
/// lines for the user: where they are from, and which settings that no shape depends on differ. Throws as ModelFolder and
/// check_computable(), and (kUsage) if [model] or [attention] is another one.
std::vector<std::string> start_from_hugging_face(Context& ctx, const std::filesystem::path& folder,
                                                 const Config& config, Parameters& params);

}  // namespace pastur
