#include "data/tokenizer/end_token.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "data/files.h"
#include "data/meta.h"
#include "kernels/base/error.h"

namespace pastur {
namespace {

using Json = nlohmann::ordered_json;
using Texts = std::span<const std::optional<std::string>>;

constexpr int64_t kMaxConfigBytes = 4 << 20;

/// The JSON object that a file of the folder holds; empty if the file does not exist.
Json read_object(const std::filesystem::path& path) {
    if (!path_exists(path)) return Json::object();
    Json json = Json::parse(read_file(path, kMaxConfigBytes), nullptr, /*allow_exceptions=*/false);
    if (!json.is_object()) fail(ExitCode::kCorruptData, "{}: expected a JSON object", path.string());
    return json;
}

/// The token that `eos_token` names: a text, or an object with its `content`.
std::optional<int32_t> named_token(const Json& json, const std::filesystem::path& path, Texts texts) {
    const auto found = json.find("eos_token");
    if (found == json.end() || found->is_null()) return std::nullopt;
    const Json value = found->is_object() ? found->value("content", Json()) : *found;
    if (!value.is_string()) fail(ExitCode::kCorruptData, "{}: eos_token: expected a token", path.string());
    const std::string& text = value.get_ref<const std::string&>();
    const auto at = std::find(texts.begin(), texts.end(), text);
    if (at == texts.end())
        fail(ExitCode::kCorruptData, "{}: eos_token: {} is not a token of tokenizer.json", path.string(),
             value.dump());
    return static_cast<int32_t>(at - texts.begin());
}

/// The token that `eos_token_id` names: an id, or the first of a list.
std::optional<int32_t> numbered_token(const Json& json, const std::filesystem::path& path, Texts texts) {
    const auto found = json.find("eos_token_id");
    if (found == json.end() || found->is_null()) return std::nullopt;
    const Json& value = found->is_array() && !found->empty() ? found->front() : *found;
    const int64_t id = value.is_number_integer() ? value.get<int64_t>() : -1;
    if (id < 0 || id >= std::ssize(texts) || !texts[static_cast<size_t>(id)])
        fail(ExitCode::kCorruptData, "{}: eos_token_id: {} is not a token of tokenizer.json", path.string(),
             value.dump());
    return static_cast<int32_t>(id);
}

/// The only usual end token of the vocabulary.
std::optional<int32_t> usual_token(Texts texts) {
    std::optional<int32_t> usual;
    for (const char* name : {"<|endoftext|>", "<|end_of_text|>", "</s>", "<eos>"}) {
        const auto at = std::find(texts.begin(), texts.end(), std::string(name));
        if (at == texts.end()) continue;
        if (usual) return std::nullopt;
        usual = static_cast<int32_t>(at - texts.begin());
    }
    return usual;
}

}  // namespace

EndToken find_end_token(const std::filesystem::path& folder, const std::string& origin, Texts texts) {
    const std::filesystem::path config = folder / kTokenizerConfigFile;
    Json json = read_object(config);
    if (const auto id = named_token(json, config, texts)) return {*id, read_file(config, kMaxConfigBytes)};
    std::optional<int32_t> id;
    const std::filesystem::path map = folder / "special_tokens_map.json";
    id = named_token(read_object(map), map, texts);
    for (const char* name : {"generation_config.json", "config.json"})
        if (!id) id = numbered_token(read_object(folder / name), folder / name, texts);
    if (!id) id = usual_token(texts);
    if (!id)
        fail(
            ExitCode::kCorruptData,
            "{}: which token ends a document is not known: expected {} beside it with {{\"eos_token\": \"...\"}}",
            origin, kTokenizerConfigFile);
    const bool made_here = json.empty();
    if (made_here) json["tokenizer_class"] = "PreTrainedTokenizerFast";
    json["eos_token"] = *texts[static_cast<size_t>(*id)];
    if (made_here) json["clean_up_tokenization_spaces"] = false;
    return {*id, json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n"};
}

}  // namespace pastur
