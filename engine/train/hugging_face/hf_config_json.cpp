// Recipes as config.json.
#include <nlohmann/json.hpp>

#include "engine/model/attention/head_norm.h"
#include "engine/model/attention/variants.h"
#include "engine/model/recipe.h"
#include "engine/train/hugging_face/hf_config.h"

namespace pastur {
namespace {

using nlohmann::ordered_json;

enum class HfClass { kLlama, kQwen3, kDeepseekV3, kPastur };

HfClass class_of(const Config& config) {
    const ModelConfig& m = config.model;
    const Variant variant = config.attention.variant;
    if (variant == variant_named("mha")) {
        if (normalises_heads(config)) return HfClass::kQwen3;
        // transformers 5 refuses a LlamaConfig whose heads do not divide the width.
        return m.d_model % m.heads == 0 ? HfClass::kLlama : HfClass::kPastur;
    }
    const bool plain = !normalises_heads(config) && config.attention.latent_norm &&
                       config.attention.latent_gain == LatentGain::kNone;
    return variant == variant_named("mla-decoupled") && plain ? HfClass::kDeepseekV3 : HfClass::kPastur;
}

const char* torch_name(WeightFormat format) {
    switch (format) {
        case WeightFormat::kFp32:
            return "float32";
        case WeightFormat::kBf16:
            return "bfloat16";
        case WeightFormat::kFp16:
            break;
    }
    return "float16";
}

/// null, one id, or a list.
ordered_json ids_json(const std::vector<int64_t>& ids) {
    if (ids.empty()) return nullptr;
    return ids.size() == 1 ? ordered_json(ids.front()) : ordered_json(ids);
}

void add_llama(ordered_json& json, const Config& config, bool qwen3) {
    json["architectures"] = {qwen3 ? "Qwen3ForCausalLM" : "LlamaForCausalLM"};
    json["model_type"] = qwen3 ? "qwen3" : "llama";
    json["head_dim"] = config.model.head_dim;
    json["num_key_value_heads"] = config.model.kv_heads;
    if (qwen3) {
        json["use_sliding_window"] = false;
        json["sliding_window"] = nullptr;
        json["max_window_layers"] = config.model.layers;
    } else {
        json["mlp_bias"] = false;
    }
    json["attention_bias"] = false;
}

void add_deepseek(ordered_json& json, const Config& config, RopeRows rows) {
    const AttentionConfig& a = config.attention;
    json["architectures"] = {"DeepseekV3ForCausalLM"};
    json["model_type"] = "deepseek_v3";
    json["num_key_value_heads"] = config.model.heads;
    json["q_lora_rank"] = a.q_rank > 0 ? ordered_json(a.q_rank) : ordered_json(nullptr);
    json["kv_lora_rank"] = a.kv_rank;
    json["qk_nope_head_dim"] = a.nope_dim;
    json["qk_rope_head_dim"] = a.rope_dim;
    json["v_head_dim"] = a.v_dim;
    json["rope_interleave"] = rows == RopeRows::kNeighbours;
    json["first_k_dense_replace"] = config.model.layers;  // no layer has experts
    json["num_nextn_predict_layers"] = 0;
    json["pastur_head_dim"] = config.model.head_dim;  // no width of the model, but a key of its recipe
    json["attention_bias"] = false;
}

void add_pastur(ordered_json& json, const Config& config) {
    json["architectures"] = {"PasturForCausalLM"};
    json["model_type"] = "pastur";
    json["auto_map"] = {{"AutoConfig", "modeling_pastur.PasturConfig"},
                        {"AutoModelForCausalLM", "modeling_pastur.PasturForCausalLM"}};
    json["head_dim"] = config.model.head_dim;
    json["num_key_value_heads"] = config.model.kv_heads;
    ordered_json attention = ordered_json::object();
    for (const Field& field :
         config_fields())  // values of TOML: texts, numbers and booleans are JSON as well
        if (std::string_view(field.section) == "attention")
            attention[field.key] = ordered_json::parse(value_text(field, config));
    json["attention"] = attention;
}

}  // namespace

bool needs_own_class(const Config& config) {
    return class_of(config) == HfClass::kPastur;
}

bool is_deepseek_class(const Config& config) {
    return class_of(config) == HfClass::kDeepseekV3;
}

std::string hf_config_json(const Config& config, const SpecialTokens& tokens, WeightFormat format,
                           RopeRows rows) {
    const ModelConfig& m = config.model;
    const HfClass hf_class = class_of(config);
    ordered_json json = ordered_json::object();
    if (hf_class == HfClass::kPastur)
        add_pastur(json, config);
    else if (hf_class == HfClass::kDeepseekV3)
        add_deepseek(json, config, rows);
    else
        add_llama(json, config, hf_class == HfClass::kQwen3);
    json["vocab_size"] = m.vocab;
    json["hidden_size"] = m.d_model;
    json["intermediate_size"] = m.ffn;
    json["num_hidden_layers"] = m.layers;
    json["num_attention_heads"] = m.heads;
    json["hidden_act"] = "silu";
    json["max_position_embeddings"] = config.data.seq_len;
    json["rms_norm_eps"] = m.norm_eps;
    json["rope_theta"] = m.rope_theta;
    json["attention_dropout"] = 0.0;
    json["initializer_range"] = 0.02;
    json["tie_word_embeddings"] = m.tie_embeddings;
    json["use_cache"] = true;
    json["bos_token_id"] = ids_json(tokens.bos);
    json["eos_token_id"] = ids_json(tokens.eos);
    json["pad_token_id"] = nullptr;
    json["torch_dtype"] = torch_name(format);
    return json.dump(2) + "\n";
}

std::string hf_generation_json(const SpecialTokens& tokens) {
    const ordered_json json = {
        {"bos_token_id", ids_json(tokens.bos)}, {"eos_token_id", ids_json(tokens.eos)}, {"use_cache", true}};
    return json.dump(2) + "\n";
}

}  // namespace pastur
