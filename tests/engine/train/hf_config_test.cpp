// config.json: the class of every variant, the way back, what is refused, and rotary rows.
#include "engine/train/hugging_face/hf_config.h"

#include <cmath>
#include <nlohmann/json.hpp>

#include "engine/model/attention/variants.h"
#include "engine/train/checkpoint/checkpoint_check.h"
#include "engine/train/checkpoint/model_folder.h"
#include "engine/train/hugging_face/hf_files.h"
#include "engine/train/hugging_face/rope_rows.h"
#include "tests/support/checkpoint_files.h"
#include "tests/support/data_files.h"
#include "tests/support/expect_error.h"
#include "tests/support/model_harness.h"
#include "tests/support/temp_folder.h"

namespace pastur::test {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

class HfConfig : public testing::Test {
  protected:
    HfModel read(const std::string& text) const {
        write_bytes(folder_.path() / "config.json", text);
        return read_hf_config(folder_.path() / "config.json");
    }
    HfModel read(const json& config) const { return read(config.dump()); }
    /// Reads a config and expects Pastur not to compute it, for a reason that contains `part`.
    void expect_refused(const json& config, const std::string& part) const {
        const HfModel model = read(config);
        EXPECT_NE(model.refusal.find(part), std::string::npos) << part << " in \"" << model.refusal << '"';
        EXPECT_NE(model.refusal.find("config.json: "), std::string::npos) << model.refusal;
    }
    void expect_corrupt(const json& config, std::initializer_list<std::string> parts) const {
        expect_error(ExitCode::kCorruptData, parts, [&] { read(config); });
    }
    static json llama() {
        return {{"model_type", "llama"},    {"hidden_size", 12},        {"num_hidden_layers", 2},
                {"num_attention_heads", 4}, {"num_key_value_heads", 2}, {"head_dim", 6},
                {"intermediate_size", 20},  {"vocab_size", 9},          {"max_position_embeddings", 64}};
    }
    static json deepseek() {
        return {{"model_type", "deepseek_v3"}, {"hidden_size", 12},       {"num_hidden_layers", 2},
                {"num_attention_heads", 3},    {"kv_lora_rank", 7},       {"qk_nope_head_dim", 4},
                {"qk_rope_head_dim", 2},       {"v_head_dim", 5},         {"q_lora_rank", nullptr},
                {"first_k_dense_replace", 2},  {"intermediate_size", 20}, {"vocab_size", 9}};
    }
    TempFolder folder_;
};

std::string class_of(const Config& config) {
    return json::parse(
        hf_config_json(config, {}, WeightFormat::kFp32, RopeRows::kHalves))["architectures"][0];
}

TEST_F(HfConfig, EveryVariantHasAClassAndComesBack) {
    std::map<std::string, int> classes;
    for (const VariantCase& variant : every_attention()) {
        SCOPED_TRACE(variant.label);
        const Config config = tiny_config(variant.attention, variant.model);
        for (const RopeRows rows : {RopeRows::kHalves, RopeRows::kNeighbours}) {
            const HfModel back = read(hf_config_json(config, {{3}, {4, 5}}, WeightFormat::kBf16, rows));
            EXPECT_EQ(back.refusal, "");
            EXPECT_TRUE(back.config.attention == config.attention);
            Config sizes = back.config;
            sizes.model.preset = config.model.preset;
            EXPECT_TRUE(sizes.model == config.model);
            EXPECT_EQ(back.config.data.seq_len, config.data.seq_len);
            EXPECT_EQ(back.tokens.bos, std::vector<int64_t>{3});
            EXPECT_EQ(back.tokens.eos, (std::vector<int64_t>{4, 5}));
            EXPECT_EQ(back.rows, is_deepseek_class(config) ? rows : RopeRows::kHalves);
        }
        const std::string name = class_of(config);
        ++classes[name];
        EXPECT_EQ(name == "PasturForCausalLM", needs_own_class(config));
        EXPECT_EQ(hf_model_files(config, {}, WeightFormat::kFp32, RopeRows::kHalves).size(),
                  needs_own_class(config) ? 3u : 2u);
    }
    for (const char* name :
         {"LlamaForCausalLM", "Qwen3ForCausalLM", "DeepseekV3ForCausalLM", "PasturForCausalLM"})
        EXPECT_GT(classes[name], 0) << name;
}

TEST_F(HfConfig, NamesTheClassThatComputesTheModel) {
    Config mha = tiny_config("variant = \"mha\"");
    mha.model.d_model = 4 * mha.model.heads;
    EXPECT_EQ(class_of(mha), "LlamaForCausalLM");
    // transformers refuses a LlamaConfig whose heads do not divide the width.
    ++mha.model.d_model;
    EXPECT_EQ(class_of(mha), "PasturForCausalLM");
    EXPECT_EQ(class_of(tiny_config("variant = \"mla-decoupled\"\nrope_dim = 2\nlatent_gain = \"sqrt\"")),
              "PasturForCausalLM");
    const json config = json::parse(hf_config_json(tiny_config("variant = \"mla-decoupled\"\nrope_dim = 2"),
                                                   {}, WeightFormat::kFp16, RopeRows::kNeighbours));
    EXPECT_TRUE(config["q_lora_rank"].is_null());
    EXPECT_TRUE(config["eos_token_id"].is_null());
    EXPECT_EQ(config["rope_interleave"], true);
    EXPECT_EQ(config["first_k_dense_replace"], config["num_hidden_layers"]);
    EXPECT_EQ(config["num_key_value_heads"], config["num_attention_heads"]);
    EXPECT_EQ(config["torch_dtype"], "float16");
}

TEST_F(HfConfig, ReadsWhatTransformersWrites) {
    json config = llama();
    config["rope_parameters"] = {{"rope_theta", 500000.0}, {"rope_type", "default"}};
    config["tie_word_embeddings"] = true;
    config["eos_token_id"] = {7, 8};
    const HfModel model = read(config);
    EXPECT_EQ(model.refusal, "");
    EXPECT_EQ(model.config.model.rope_theta, 500000.0);
    EXPECT_TRUE(model.config.model.tie_embeddings);
    EXPECT_EQ(model.config.data.seq_len, 64);
    EXPECT_EQ(model.tokens.eos, (std::vector<int64_t>{7, 8}));
    EXPECT_EQ(read(deepseek()).rows, RopeRows::kNeighbours) << "the default of the class";
    config = deepseek();
    config["rope_interleave"] = false;
    EXPECT_EQ(read(config).rows, RopeRows::kHalves);
    config["model_type"] = "deepseek_v2";
    EXPECT_EQ(read(config).rows, RopeRows::kNeighbours) << "the only way of DeepSeek-V2";
    config = llama();
    config["max_position_embeddings"] = 131072;
    EXPECT_EQ(read(config).config.data.seq_len, 2048);
    for (const char* type : {"mistral", "qwen3"}) {
        config = llama();
        config["model_type"] = type;
        config["sliding_window"] = nullptr;
        const HfModel other = read(config);
        EXPECT_EQ(other.refusal, "");
        EXPECT_EQ(other.config.attention.qk_norm == QkNorm::kHead, std::string(type) == "qwen3");
    }
}

TEST_F(HfConfig, RefusesByName) {
    const auto with = [](json config, const char* key, const json& value) {
        config[key] = value;
        return config;
    };
    EXPECT_EQ(read(llama()).refusal, "");
    EXPECT_EQ(read(deepseek()).refusal, "");
    expect_refused(with(llama(), "model_type", "qwen2"), "qwen2\": expected a model without biases");
    expect_refused(with(llama(), "model_type", "gpt2"),
                   "model_type \"gpt2\": expected llama, mistral, qwen3");
    expect_refused(with(llama(), "hidden_act", "gelu"), "hidden_act");
    expect_refused(with(llama(), "rope_scaling", {{"type", "linear"}, {"factor", 2.0}}), "rope_scaling");
    expect_refused(with(llama(), "rope_parameters", {{"rope_type", "yarn"}}), "rope_scaling");
    expect_refused(
        with(llama(), "rope_parameters", {{"full_attention", {{"rope_type", "yarn"}}}, {"factor", 1}}),
        "rope_scaling");
    expect_refused(with(llama(), "partial_rotary_factor", 0.5), "partial_rotary_factor");
    expect_refused(with(llama(), "attention_bias", true), "attention_bias");
    expect_refused(with(llama(), "mlp_bias", true), "mlp_bias");
    expect_refused(with(llama(), "quantization_config", json::object()), "quantization_config");
    expect_refused(with(llama(), "head_dim", 5), "even width");
    const json mistral = with(llama(), "model_type", "mistral");
    EXPECT_EQ(read(mistral).refusal, "") << "the class's window of 4096 is longer than the positions";
    expect_refused(with(mistral, "sliding_window", 32), "sliding_window");
    expect_refused(with(mistral, "max_position_embeddings", 8192), "sliding_window");
    const json qwen3 = with(llama(), "model_type", "qwen3");
    expect_refused(with(qwen3, "use_sliding_window", true), "use_sliding_window");
    expect_refused(with(qwen3, "layer_types", {"full_attention", "sliding_attention"}), "layer_types");
    expect_refused(with(deepseek(), "first_k_dense_replace", 1), "first_k_dense_replace: expected 2");
    expect_refused(with(deepseek(), "first_k_dense_replace", 0), "first_k_dense_replace: expected 2");
    expect_refused(with(deepseek(), "num_key_value_heads", 1), "num_key_value_heads");
    expect_refused(with(llama(), "attention_bias", "no"), "attention_bias: expected true or false");
    json config = deepseek();
    config.erase("q_lora_rank");
    expect_refused(config, "q_lora_rank: expected a number or null");
    config = deepseek();
    config.erase("first_k_dense_replace");
    expect_refused(config, "first_k_dense_replace");
    config["n_routed_experts"] = nullptr;
    EXPECT_EQ(read(config).refusal, "");
}

TEST_F(HfConfig, RefusesDamage) {
    const auto own = [](const char* key, const json& value) {
        json config = json::parse(hf_config_json(tiny_config("variant = \"mla-prerope\""), {},
                                                 WeightFormat::kFp32, RopeRows::kHalves));
        config["attention"][key] = value;
        return config;
    };
    EXPECT_EQ(read(own("k_rank", 5)).config.attention.k_rank, 5);
    expect_corrupt(own("k_rank", -1), {"config.json", "k_rank"});
    expect_corrupt(own("k_rank", "5"), {"config.json", "k_rank"});
    expect_corrupt(own("k_rank", {5}), {"config.json: attention: k_rank is not a setting"});
    expect_corrupt(own("k_rankk", 5), {"config.json: attention: k_rankk is not a setting"});
    expect_corrupt(own("variant", "mla"), {"config.json", "[attention] variant = 'mla': expected one of"});
    expect_corrupt(own("variant", "x\"\n[run]\nname = \"y"), {"config.json"});
    json config = own("k_rank", 5);
    config["attention"] = 3;
    expect_corrupt(config, {"config.json: expected \"attention\""});
    for (const char* key : {"rope_theta", "rms_norm_eps"}) {
        config = llama();
        config[key] = -1;
        expect_corrupt(config, {"config.json: ", key, "expected a positive number"});
        config[key] = "x";
        expect_corrupt(config, {"config.json: ", key, "expected a positive number"});
    }
    config = llama();
    config["tie_word_embeddings"] = 1;
    expect_corrupt(config, {"tie_word_embeddings: expected true or false"});
    expect_error(ExitCode::kMissingInput, {"config.json"},
                 [&] { read_hf_config(folder_.path() / "none" / "config.json"); });
}

TEST(HfRopeRows, ArePairedAsDeepSeekPublishesThem) {
    Config config = tiny_config("variant = \"mla-decoupled\"\nnope_dim = 3\nrope_dim = 4\nkv_rank = 5");
    config.model.heads = 2;
    const auto rows = [](int64_t count) {  // row r is {r, -r}
        std::vector<float> values;
        for (int64_t row = 0; row < count; ++row)
            values.insert(values.end(), {static_cast<float>(row), -static_cast<float>(row)});
        return values;
    };
    const auto expect = [&](const char* name, int64_t count, const std::vector<int>& order) {
        SCOPED_TRACE(name);
        std::vector<float> values = rows(count);
        reorder_rotary_rows(config, name, values, RopeRows::kHalves, RopeRows::kNeighbours);
        for (size_t row = 0; row < order.size(); ++row) {
            EXPECT_EQ(values[2 * row], order[row]);
            EXPECT_EQ(values[2 * row + 1], -order[row]);
        }
        reorder_rotary_rows(config, name, values, RopeRows::kNeighbours, RopeRows::kHalves);
        EXPECT_EQ(values, rows(count)) << "the way back";
    };
    const std::vector<int> queries = {0, 1, 2, 3, 5, 4, 6, 7, 8, 9, 10, 12, 11, 13};
    expect("model.layers.0.self_attn.q_proj.weight", 14, queries);
    expect("model.layers.1.self_attn.q_b_proj.weight", 14, queries);
    expect("model.layers.1.self_attn.kv_a_proj_with_mqa.weight", 9, {0, 1, 2, 3, 4, 5, 7, 6, 8});
    expect("model.layers.1.self_attn.kv_b_proj.weight", 4, {0, 1, 2, 3});
    std::vector<float> values = rows(14);
    reorder_rotary_rows(tiny_config("variant = \"mha\""), "model.layers.0.self_attn.q_proj.weight", values,
                        RopeRows::kHalves, RopeRows::kNeighbours);
    EXPECT_EQ(values, rows(14));
}

// A checkpoint of step 0 is whole without moments, as `pastur import` writes it; no run resumes from it.
TEST(HfCheckpoint, NeedsNoMomentsAtStepZero) {
    const TempFolder folder;
    const Config config = tiny_config("variant = \"mla-rope\"");
    Context& ctx = context(Device::kCpu);
    ModelUnderTest model(config, ctx, DType::kF32, {1, 4});
    model.model().params().initialise(ctx, 1);
    Optimizer optimizer(config.train, model.model().params());
    optimizer.allocate(ctx);
    const auto write = [&](const fs::path& path, int64_t step) {
        fs::create_directory(path);
        TrainState state;
        state.step = step;
        state.tokens = step * config.train.global_batch * config.data.seq_len;
        write_checkpoint(path, ctx, config, model.model().params(), optimizer, state);
        fs::remove(path / "optimizer.rank0.safetensors");
        write_manifest(path);
        return path;
    };
    const fs::path imported = write(folder.path() / "imported", 0);
    EXPECT_EQ(check_checkpoint(imported).state.step, 0);
    TrainState state;
    expect_error(ExitCode::kMissingInput, {"imported: start a run with train.init_from"},
                 [&] { read_checkpoint_files(imported, ctx, model.model().params(), optimizer, state); });
    const fs::path later = write(folder.path() / "later", 1);
    expect_error(ExitCode::kCorruptData, {"expected optimizer.rank0.safetensors in the list"},
                 [&] { check_checkpoint(later); });
}

// Every number of fp16 comes back, and between two of them the nearer one is taken, at the middle the even one.
TEST(HfHalf, RoundsToNearestEven) {
    for (uint32_t bits = 0; bits < 0x10000; ++bits) {
        const auto half = static_cast<uint16_t>(bits);
        const float value = half_to_float(half);
        if (std::isnan(value)) {
            EXPECT_TRUE(std::isnan(half_to_float(float_to_half(value))));
            continue;
        }
        ASSERT_EQ(float_to_half(value), half) << value;
        if ((half & 0x7fff) >= 0x7bff) continue;  // the largest finite number and infinity
        const auto next = static_cast<uint16_t>(half + 1);
        const float middle = value / 2 + half_to_float(next) / 2;
        ASSERT_EQ(float_to_half(middle), half % 2 == 0 ? half : next) << middle;
        ASSERT_EQ(float_to_half(std::nextafterf(middle, value)), half) << middle;
        ASSERT_EQ(float_to_half(std::nextafterf(middle, half_to_float(next))), next) << middle;
    }
    EXPECT_EQ(float_to_half(65519.996f), 0x7bff);
    EXPECT_EQ(float_to_half(65520.0f), 0x7c00);
    EXPECT_EQ(float_to_half(-1e30f), 0xfc00);
}

}  // namespace
}  // namespace pastur::test
