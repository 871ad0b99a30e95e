#pragma once
// The token behind each document of a byte-level BPE tokenizer.
#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>

namespace pastur {

struct EndToken {
    int32_t id;
    std::string config;  ///< tokenizer_config.json that names it: that of the folder, or a short one
};

/// In this order: `eos_token` of tokenizer_config.json and of special_tokens_map.json, `eos_token_id` of
/// generation_config.json and of config.json, all in `folder`; then <|endoftext|>, <|end_of_text|>, </s> and <eos>, where
/// the vocabulary has one of them alone. `texts` are those of all ids. Throws (kCorruptData) where there is none, where
/// a file names what is not a token, and where a file is damaged.
EndToken find_end_token(const std::filesystem::path& folder, const std::string& origin,
                        std::span<const std::optional<std::string>> texts);

}  // namespace pastur
