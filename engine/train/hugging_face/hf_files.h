#pragma once
// The files that make a folder of weights a folder of Hugging Face transformers.
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "engine/train/hugging_face/hf_config.h"

namespace pastur {

/// A small file: its name and content.
struct TextFile {
    std::string name, text;
};

/// modeling_pastur.py of this folder, built in (tools/cmake/PasturAssets.cmake).
struct HfAsset {
    std::string_view name, text;
};
std::span<const HfAsset> hf_assets();

inline constexpr const char* kHfConfigFile = "config.json";

/// Files besides weights that a checkpoint may hold: config.json, generation_config.json, modeling_pastur.py
/// and those of a tokenizer.
std::span<const std::string_view> hf_file_names();
/// Those of a tokenizer, and texts for its use.
std::span<const std::string_view> tokenizer_file_names();

/// config.json, generation_config.json and, where the model needs it, modeling_pastur.py.
std::vector<TextFile> hf_model_files(const Config& config, const SpecialTokens& tokens, WeightFormat format,
                                     RopeRows rows);

/// hf_model_files() of a checkpoint of the run. If data.dir is a folder of `data prepare`, special tokens are
/// its EOS, and its tokenizer.model or tokenizer.json is copied, with tokenizer_config.json. Throws (kCorruptData, kIo).
std::vector<TextFile> hf_checkpoint_files(const Config& config);

/// Creates the files and fsyncs each. Throws (kIo).
void write_text_files(const std::filesystem::path& folder, const std::vector<TextFile>& files);

}  // namespace pastur
