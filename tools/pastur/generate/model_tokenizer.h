#pragma once
#include <memory>
#include <string>

#include "data/tokenizer/tokenizer.h"
#include "engine/train/checkpoint/model_folder.h"

namespace pastur {

/// The tokenizer of a model: `named` ("bytes", a tokenizer file or a folder of `data prepare`), or if that is empty the
/// file in the model's folder, else that of the data it was trained on. Throws (kUsage) if none is known or its
/// vocabulary is larger than the model's, (kMissingInput, kCorruptData).
std::shared_ptr<const Tokenizer> tokenizer_of(const ModelFolder& model, const std::string& named);

}  // namespace pastur
