#pragma once
// config.json of Hugging Face transformers: which class describes a recipe's model, and which model a file
// describes.
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "engine/config/config.h"

namespace pastur {

/// Ids of special tokens; empty: none is known.
struct SpecialTokens {
    std::vector<int64_t> bos, eos;
};

/// How the rows of a rotary projection are paired. Pastur's kernels take halves, (i, i + R/2); DeepSeek's
/// published weights have pairs of neighbours, (2i, 2i + 1).
enum class RopeRows : uint8_t { kHalves, kNeighbours };

/// Number formats of weights in a folder.
enum class WeightFormat : uint8_t { kFp32, kBf16, kFp16 };

/// Whether the model needs modeling_pastur.py. Otherwise it is a LlamaForCausalLM, a Qwen3ForCausalLM (heads
/// normalised) or a DeepseekV3ForCausalLM whose layers are all dense.
bool needs_own_class(const Config& config);
/// Whether the model is a DeepseekV3ForCausalLM, whose rotary rows may be paired either way.
bool is_deepseek_class(const Config& config);

/// config.json of the model. rows: of its rotary projections; only the class of DeepSeek reads it.
std::string hf_config_json(const Config& config, const SpecialTokens& tokens, WeightFormat format,
                           RopeRows rows);
/// generation_config.json of the model.
std::string hf_generation_json(const SpecialTokens& tokens);

/// What a config.json describes.
struct HfModel {
    /// [model], [attention] and data.seq_len (the length of the positions, at most 2048); if there is no
    /// refusal, everything else is resolved as well.
    Config config;
    RopeRows rows = RopeRows::kHalves;
    SpecialTokens tokens;
    /// Why Pastur cannot compute this model, naming file, key and what was expected; empty: it can. Query-key
    /// forms may exist all the same.
    std::string refusal;
};
/// Throws (kCorruptData) unless the file has the sizes of a model of Llama's, DeepSeek-V2/V3's or Pastur's
/// shape; (kMissingInput, kIo).
HfModel read_hf_config(const std::filesystem::path& file);

}  // namespace pastur
