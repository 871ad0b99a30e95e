// config.json as recipes.
#include <fmt/ranges.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "data/files.h"
#include "engine/io/json_text.h"
#include "engine/model/attention/variants.h"
#include "engine/model/recipe.h"
#include "engine/train/hugging_face/hf_config.h"
#include "kernels/base/error.h"
#include "kernels/base/printable.h"

namespace pastur {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr int64_t kWidest = 1 << 20, kMost = 1 << 16, kLargestId = int64_t{1} << 31;
/// Longer sequences are not the default, whatever the model's positions allow: activations grow with them.
constexpr int64_t kLongest = 2048;

json read_object(const fs::path& file) {
    json value = parse_json(read_file(file, kMaxJsonBytes));
    if (!value.is_object()) fail(ExitCode::kCorruptData, "{}: expected a JSON object", file.string());
    return value;
}

/// Values of a config.json, checked where they are read.
class Keys {
  public:
    explicit Keys(const fs::path& file) : file_(file.string()), json_(read_object(file)) {}

    bool contains(const char* key) const { return json_.contains(key); }
    /// Whether the key has a value other than null.
    bool has(const char* key) const {
        const auto found = json_.find(key);
        return found != json_.end() && !found->is_null();
    }
    const json& at(const char* key) const { return json_.at(key); }
    int64_t size(const char* key, int64_t most) const {
        const auto found = json_.find(key);
        if (found == json_.end())
            fail(ExitCode::kCorruptData, "{}: expected a model of Llama or DeepSeek-V2/V3 shape, with \"{}\"",
                 file_, key);
        const bool valid = found->is_number_unsigned() && found->get<uint64_t>() >= 1 &&
                           found->get<uint64_t>() <= static_cast<uint64_t>(most);
        if (!valid)
            fail(ExitCode::kCorruptData, "{}: {}: expected an integer from 1 to {}", file_, key, most);
        return found->get<int64_t>();
    }
    int64_t size_or(const char* key, int64_t most, int64_t otherwise) const {
        return has(key) ? size(key, most) : otherwise;
    }
    /// A number that may be 0; of anything else, `otherwise`.
    int64_t count_or(const char* key, int64_t otherwise) const {
        const bool given =
            has(key) && json_[key].is_number_unsigned() && json_[key].get<uint64_t>() <= kLargestId;
        return given ? json_[key].get<int64_t>() : otherwise;
    }
    /// Whether the value is the number 0.
    bool is_zero(const char* key) const {
        return has(key) && json_[key].is_number_unsigned() && json_[key].get<uint64_t>() == 0;
    }
    double positive_or(const char* key, double otherwise) const {
        if (!has(key)) return otherwise;
        return positive(json_[key], key);
    }
    double positive(const json& value, const char* key) const {
        if (!value.is_number() || !(value.get<double>() > 0))
            fail(ExitCode::kCorruptData, "{}: {}: expected a positive number", file_, key);
        return value.get<double>();
    }
    bool flag_or(const char* key, bool otherwise) const {
        if (!has(key)) return otherwise;
        if (!json_[key].is_boolean())
            fail(ExitCode::kCorruptData, "{}: {}: expected true or false", file_, key);
        return json_[key].get<bool>();
    }
    /// The text, of at most 40 characters; "": none.
    std::string text_or_empty(const char* key) const {
        const auto found = json_.find(key);
        return found != json_.end() && found->is_string() ? found->get<std::string>().substr(0, 40) : "";
    }
    /// One id or a list; ids of other kinds are passed over.
    std::vector<int64_t> ids(const char* key) const {
        std::vector<int64_t> ids;
        const auto add = [&](const json& id) {
            if (id.is_number_unsigned() && id.get<uint64_t>() < kLargestId) ids.push_back(id.get<int64_t>());
        };
        const auto found = json_.find(key);
        if (found == json_.end()) return ids;
        if (found->is_array())
            std::for_each(found->begin(), found->end(), add);
        else
            add(*found);
        return ids;
    }
    const std::string& file() const { return file_; }

  private:
    std::string file_;
    json json_;
};

void take_latent_sizes(const Keys& hf, Config& config) {
    ModelConfig& m = config.model;
    AttentionConfig& a = config.attention;
    const bool rotates = !hf.is_zero("qk_rope_head_dim");
    a.variant = variant_named(rotates ? "mla-decoupled" : "mla-nope");
    a.kv_rank = hf.size("kv_lora_rank", kWidest);
    m.head_dim = hf.size("qk_nope_head_dim", kWidest);
    a.v_dim = hf.size("v_head_dim", kWidest);
    a.q_rank = hf.size_or("q_lora_rank", kWidest, 0);
    a.latent_norm = true;
    if (rotates) {
        a.nope_dim = m.head_dim;
        a.rope_dim = hf.size("qk_rope_head_dim", kWidest);
        m.head_dim = hf.size_or("pastur_head_dim", kWidest, a.nope_dim + a.rope_dim);
    }
    m.kv_heads = m.heads;
}

void take_head_sizes(const Keys& hf, Config& config) {
    ModelConfig& m = config.model;
    if (!hf.has("head_dim") && m.d_model % m.heads != 0)
        fail(ExitCode::kCorruptData, "{}: num_attention_heads = {} does not divide hidden_size = {}",
             hf.file(), m.heads, m.d_model);
    m.head_dim = hf.size_or("head_dim", kWidest, m.d_model / m.heads);
    m.kv_heads = hf.size_or("num_key_value_heads", kMost, m.heads);
    if (m.heads % m.kv_heads != 0)
        fail(ExitCode::kCorruptData, "{}: num_key_value_heads = {} does not divide num_attention_heads = {}",
             hf.file(), m.kv_heads, m.heads);
    if (hf.text_or_empty("model_type") == "qwen3") config.attention.qk_norm = QkNorm::kHead;
}

/// The setting by which a model scales its rotation; null if it does not scale it.
const json* rope_scaling(const Keys& hf) {
    for (const char* key : {"rope_scaling", "rope_parameters"}) {
        if (!hf.has(key)) continue;
        const json& scaling = hf.at(key);
        if (!scaling.is_object()) return &scaling;
        const auto type = scaling.contains("rope_type") ? scaling.find("rope_type") : scaling.find("type");
        const bool plain = type == scaling.end() ? !scaling.contains("factor") : *type == "default";
        if (!plain) return &scaling;
    }
    return nullptr;
}

/// Since transformers 5 the base is in an object of its own.
double rope_theta(const Keys& hf) {
    if (hf.has("rope_parameters") && hf.at("rope_parameters").is_object()) {
        const json& parameters = hf.at("rope_parameters");
        if (const auto base = parameters.find("rope_theta"); base != parameters.end())
            return hf.positive(*base, "rope_parameters.rope_theta");
    }
    return hf.positive_or("rope_theta", 10000.0);
}

Config sizes_of(const Keys& hf) {
    Config config;
    config.run.name = "imported";
    ModelConfig& m = config.model;
    m.vocab = hf.size_or("vocab_size", 1 << 30, 2);
    m.d_model = hf.size("hidden_size", kWidest);
    m.layers = hf.size("num_hidden_layers", kMost);
    m.heads = hf.size("num_attention_heads", kMost);
    m.ffn = hf.size_or("intermediate_size", kWidest, 1);
    m.rope_theta = rope_theta(hf);
    m.norm_eps = hf.positive_or("rms_norm_eps", 1e-6);
    m.tie_embeddings = hf.flag_or("tie_word_embeddings", false);
    config.data.seq_len = std::min(hf.size_or("max_position_embeddings", 1 << 30, kLongest), kLongest);
    if (hf.has("kv_lora_rank"))
        take_latent_sizes(hf, config);
    else
        take_head_sizes(hf, config);
    return config;
}

/// [attention] of a folder that Pastur exported, as TOML: texts, numbers and booleans are written as in JSON.
std::string attention_toml(const Keys& hf) {
    const json* attention = hf.has("attention") ? &hf.at("attention") : nullptr;
    if (!attention || !attention->is_object())
        fail(ExitCode::kCorruptData, "{}: expected \"attention\", the section of a recipe", hf.file());
    std::string text = "[attention]\n";
    for (const auto& [key, value] : attention->items()) {
        const bool known = find_field("attention", key) != nullptr;
        if (!known || value.is_structured() || value.is_null())
            fail(ExitCode::kCorruptData, "{}: attention: {} is not a setting of a recipe's [attention]",
                 hf.file(), printable(key.substr(0, 40)));
        text += fmt::format("{} = {}\n", key,
                            value.dump(-1, ' ', /*ensure_ascii=*/true, json::error_handler_t::replace));
    }
    return text;
}

/// The resolved recipe of a folder whose class is modeling_pastur.py's.
Config own_config(const Keys& hf) {
    const Config sizes = sizes_of(hf);
    const ModelConfig& m = sizes.model;
    std::string text = fmt::format(
        "[model]\nvocab = {}\nd_model = {}\nlayers = {}\nheads = {}\nkv_heads = {}\nhead_dim = {}\n"
        "ffn = {}\nrope_theta = {}\nnorm_eps = {}\ntie_embeddings = {}\n[data]\nseq_len = {}\n[run]\nname = "
        "\"imported\"\n",
        m.vocab, m.d_model, m.layers, m.heads, m.kv_heads, m.head_dim, m.ffn, m.rope_theta, m.norm_eps,
        m.tie_embeddings, sizes.data.seq_len);
    return parse_config(text + attention_toml(hf), "its recipe", {});
}

/// first_obstacle() of keys that only the classes of DeepSeek have.
std::string deepseek_obstacle(const Keys& hf) {
    if (!hf.contains("q_lora_rank")) return "q_lora_rank: expected a number or null";
    const int64_t layers = hf.size("num_hidden_layers", kMost);
    const bool no_experts = hf.contains("n_routed_experts") && !hf.has("n_routed_experts");
    if (!no_experts && hf.count_or("first_k_dense_replace", 0) < layers)
        return fmt::format("first_k_dense_replace: expected {}, the number of layers: no layer with experts",
                           layers);
    if (hf.size_or("num_key_value_heads", kMost, hf.size("num_attention_heads", kMost)) !=
        hf.size("num_attention_heads", kMost))
        return "num_key_value_heads: expected num_attention_heads";
    return "";
}

/// The first key of a config.json that changes the model to one that Pastur cannot compute; "": none.
std::string first_obstacle(const Keys& hf) {
    const std::string type = hf.text_or_empty("model_type");
    const std::vector<std::string> known = {"llama",       "mistral",     "qwen3",
                                            "deepseek_v2", "deepseek_v3", "pastur"};
    if (type == "qwen2")
        return "model_type \"qwen2\": expected a model without biases of queries, keys and values";
    if (std::find(known.begin(), known.end(), type) == known.end())
        return fmt::format("model_type \"{}\": expected {} or {}", printable(type),
                           fmt::join(known.begin(), known.end() - 1, ", "), known.back());
    const bool latent = hf.has("kv_lora_rank");
    if (latent != (type.starts_with("deepseek")) && type != "pastur")
        return fmt::format("kv_lora_rank: expected {} for model_type \"{}\"", latent ? "none" : "a number",
                           type);
    if (hf.has("hidden_act") && hf.text_or_empty("hidden_act") != "silu")
        return "hidden_act: expected \"silu\", the activation of SwiGLU";
    if (rope_scaling(hf)) return "rope_scaling: expected a rotary embedding that is not scaled";
    if (hf.positive_or("partial_rotary_factor", 1) != 1)
        return "partial_rotary_factor: expected heads that are rotated at full width";
    for (const char* key : {"attention_bias", "mlp_bias", "use_sliding_window"})
        if (hf.flag_or(key, false)) return fmt::format("{}: expected false", key);
    if (hf.has("quantization_config")) return "quantization_config: expected weights that are not quantised";
    if (type == "mistral") {
        // The class has a window of 4096 unless the file says null.
        const int64_t window =
            hf.contains("sliding_window") ? hf.count_or("sliding_window", kLargestId) : 4096;
        if (window < hf.size_or("max_position_embeddings", 1 << 30, 4096 * 32))
            return "sliding_window: expected null, or no fewer than max_position_embeddings";
    }
    if (hf.has("layer_types")) {
        const json& layers = hf.at("layer_types");
        if (!std::all_of(layers.begin(), layers.end(),
                         [](const json& layer) { return layer == "full_attention"; }))
            return "layer_types: expected full_attention in every layer";
    }
    if ((type == "mistral" || type == "qwen3") && !hf.contains("num_key_value_heads"))
        return "num_key_value_heads: expected a number";
    if (type == "qwen3" && !hf.has("head_dim")) return "head_dim: expected a number";
    return type.starts_with("deepseek") ? deepseek_obstacle(hf) : "";
}

/// DeepSeek's classes pair neighbours unless a V3 file says otherwise.
RopeRows rows_of(const Keys& hf) {
    const std::string type = hf.text_or_empty("model_type");
    const bool neighbours =
        type == "deepseek_v2" || (type == "deepseek_v3" && hf.flag_or("rope_interleave", true));
    return neighbours ? RopeRows::kNeighbours : RopeRows::kHalves;
}

}  // namespace

HfModel read_hf_config(const fs::path& file) {
    const Keys hf(file);
    HfModel model;
    model.tokens = {hf.ids("bos_token_id"), hf.ids("eos_token_id")};
    model.rows = rows_of(hf);
    const bool own = hf.text_or_empty("model_type") == "pastur";
    if (!own) model.config = sizes_of(hf);
    try {
        if (const std::string obstacle = first_obstacle(hf); !obstacle.empty())
            model.refusal = fmt::format("{}: {}", hf.file(), obstacle);
    } catch (const Error& error) {  // a value of another kind than the key's
        model.refusal = error.what();
    }
    try {
        if (own)
            model.config = own_config(hf);
        else if (model.refusal.empty())
            model.config = parse_config(to_toml(model.config), "its recipe", {});
    } catch (const Error& error) {
        // Line numbers are those of a recipe made of the file.
        const std::string text = fmt::format("{}: not a model of pastur: {}", hf.file(), error.what());
        if (own) fail(ExitCode::kCorruptData, "{}", text);
        model.refusal = text;
    }
    return model;
}

}  // namespace pastur
