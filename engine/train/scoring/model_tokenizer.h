#pragma once
#include <memory>
#include <string>

#include "data/tokenizer/tokenizer.h"
#include "engine/train/checkpoint/model_folder.h"

namespace pastur {

/// The tokenizer of a model. name: "bytes", a tokenizer file or a folder of `data prepare`; empty: the tokenizer in the
/// model's folder, else that of the data.dir it was trained on. Null if `name` is empty and there is none. Throws
/// (kMissingInput, kCorruptData), and (kUsage) if it has more tokens than the model.
std::shared_ptr<const Tokenizer> tokenizer_of_model(const ModelFolder& folder, const std::string& name);

/// As tokenizer_of_model(), but throws (kUsage) where there is none.
std::shared_ptr<const Tokenizer> required_tokenizer(const ModelFolder& folder, const std::string& name);

}  // namespace pastur
