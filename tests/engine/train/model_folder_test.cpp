// Hugging Face folders of both shapes, in every dtype, whole and in shards, and their faults.
#include "engine/train/checkpoint/model_folder.h"

#include <cmath>
#include <cstring>
#include <limits>
#include <nlohmann/json.hpp>

#include "engine/model/attention/variants.h"
#include "tests/support/data_files.h"
#include "tests/support/expect_error.h"
#include "tests/support/spectrum_reference.h"
#include "tests/support/temp_folder.h"

namespace pastur::test {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

/// Converts a float of at most 11 significant bits and a small exponent exactly.
uint16_t to_half(float value) {
    uint32_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    if (value == 0) return static_cast<uint16_t>(bits >> 16 & 0x8000);
    return static_cast<uint16_t>((bits >> 16 & 0x8000) | ((bits >> 23 & 0xff) - 112) << 10 |
                                 (bits >> 13 & 0x3ff));
}

struct Stored {
    std::string name;
    std::vector<int64_t> shape;
    std::vector<double> values;
};

/// A safetensors file written from the format's description, in F32, BF16 or F16.
void write_tensors(const fs::path& file, const std::vector<Stored>& tensors, const std::string& dtype) {
    json header = json::object();
    std::string data;
    for (const Stored& tensor : tensors) {
        const size_t begin = data.size();
        for (const double value : tensor.values) {
            const auto single = static_cast<float>(value);
            const uint16_t half = dtype == "F16" ? to_half(single) : to_bf16(single).bits;
            if (dtype == "F32")
                data.append(reinterpret_cast<const char*>(&single), sizeof single);
            else
                data.append(reinterpret_cast<const char*>(&half), sizeof half);
        }
        header[tensor.name] = {
            {"dtype", dtype}, {"shape", tensor.shape}, {"data_offsets", {begin, data.size()}}};
    }
    const std::string text = header.dump();
    const uint64_t length = text.size();
    write_bytes(file, std::string(reinterpret_cast<const char*>(&length), sizeof length) + text + data);
}

/// Multiples of 1/64 below 2: exact in all three dtypes.
std::vector<double> coarse(Random& random, int64_t count) {
    std::vector<double> values;
    for (int64_t i = 0; i < count; ++i) values.push_back(static_cast<double>(random.below(255) - 127) / 64);
    return values;
}

class ModelFolderTest : public testing::Test {
  protected:
    const fs::path& path() const { return folder_.path(); }
    void write_config(const json& config) const { write_bytes(path() / "config.json", config.dump()); }
    static json llama() {
        return {{"model_type", "llama"},    {"hidden_size", 12},        {"num_hidden_layers", 2},
                {"num_attention_heads", 4}, {"num_key_value_heads", 2}, {"head_dim", 6},
                {"intermediate_size", 20},  {"vocab_size", 9}};
    }
    static json deepseek(bool q_rank) {
        json config = {{"model_type", "deepseek_v3"}, {"hidden_size", 12}, {"num_hidden_layers", 2},
                       {"num_attention_heads", 3},    {"kv_lora_rank", 7}, {"qk_nope_head_dim", 4},
                       {"qk_rope_head_dim", 2},       {"v_head_dim", 5},   {"q_lora_rank", nullptr}};
        if (q_rank) config["q_lora_rank"] = 6;
        return config;
    }
    /// Random values for the attention tensors of `config`.
    std::vector<Stored> tensors_of(const Config& config) {
        const Model model(config, DType::kF32, {1, 1});
        std::vector<Stored> tensors;
        for (const Param& param : model.params().table().params()) {
            if (param.name.find("self_attn") == std::string::npos) continue;
            Stored& tensor = tensors.emplace_back();
            tensor.name = param.name;
            for (int i = 0; i < param.shape.rank(); ++i) tensor.shape.push_back(param.shape[i]);
            tensor.values = coarse(random_, param.shape.numel());
        }
        return tensors;
    }
    static Config llama_config() {
        Config config;
        config.model = {"custom", 9, 12, 2, 4, 2, 6, 20};
        return config;
    }
    static Config deepseek_config(bool q_rank) {
        Config config;
        config.model = {"custom", 2, 12, 2, 3, 3, 6, 1};
        config.attention = {variant_named("mla-decoupled"), 7, 0, 0, 4, 2, 5, q_rank ? 6 : 0, true};
        return config;
    }
    void expect_reads(const ModelFolder& folder, const std::vector<Stored>& tensors) {
        for (const Stored& tensor : tensors) {
            const std::vector<float> got = folder.read(tensor.name);
            EXPECT_EQ(std::vector<double>(got.begin(), got.end()), tensor.values) << tensor.name;
        }
    }
    /// Compares every query-key spectrum of the folder with dense matrices of the given tensors.
    void expect_spectra(const ModelFolder& folder, const std::vector<Stored>& tensors) {
        const Config& config = folder.config();
        std::map<std::string, std::vector<float>> floats;
        NamedValues named;
        for (const Stored& tensor : tensors) named[tensor.name] = tensor.values;
        std::map<std::string, Shape> shapes;
        for (const NamedShape& shape : folder.shapes()) shapes[shape.name] = shape.shape;
        Context ctx = make_context(Device::kCpu);
        const DenseWeights dense(config, named);
        for (const SpectralMatrix& matrix :
             spectral_matrices(config, variant_of(config).default_scopes, folder.shapes(),
                               [&](const std::string& name) -> ConstTensor {
                                   std::vector<float>& values = floats[name];
                                   if (values.empty()) values = folder.read(name);
                                   return ConstTensor(as_tensor(std::span(values))).reshape(shapes.at(name));
                               })) {
            const std::vector<FactorProduct> product = {matrix.product};
            const auto spectra = make_spectrum_solver(ctx, product)->solve(product);
            for (size_t i = 0; i < matrix.items.size(); ++i) {
                const auto [layer, head] = matrix.items[i];
                const std::vector<double> want =
                    squared_singular_values(dense.matrix(matrix.name, layer, head));
                for (size_t k = 0; k < spectra[0][i].eigenvalues.size(); ++k)
                    ASSERT_NEAR(spectra[0][i].eigenvalues[k], want[k], 1e-10 * want[0])
                        << matrix.name << " layer " << layer << " head " << head;
            }
        }
    }
    TempFolder folder_;
    Random random_{7};
};

TEST_F(ModelFolderTest, ReadsLlamaInEveryDtype) {
    write_config(llama());
    for (const std::string dtype : {"F32", "BF16", "F16"}) {
        SCOPED_TRACE(dtype);
        const std::vector<Stored> tensors = tensors_of(llama_config());
        write_tensors(path() / "model.safetensors", tensors, dtype);
        const ModelFolder folder(path());
        EXPECT_STREQ(name_of(folder.config().attention.variant), "mha");
        EXPECT_EQ(folder.config().model.kv_heads, 2);
        EXPECT_EQ(folder.config().model.head_dim, 6);
        expect_reads(folder, tensors);
        expect_spectra(folder, tensors);
    }
}

TEST_F(ModelFolderTest, ReadsDeepSeekWithAndWithoutQueryLatents) {
    for (const bool q_rank : {false, true}) {
        write_config(deepseek(q_rank));
        const std::vector<Stored> tensors = tensors_of(deepseek_config(q_rank));
        write_tensors(path() / "model.safetensors", tensors, "F32");
        const ModelFolder folder(path());
        EXPECT_STREQ(name_of(folder.config().attention.variant), "mla-decoupled");
        EXPECT_EQ(folder.config().attention.q_rank, q_rank ? 6 : 0);
        expect_reads(folder, tensors);
        expect_spectra(folder, tensors);
    }
}

TEST_F(ModelFolderTest, ReadsLatentAttentionWithoutRotaryEmbedding) {
    json config = deepseek(false);
    config["qk_rope_head_dim"] = 0;
    write_config(config);
    Config expected = deepseek_config(false);
    expected.model.head_dim = expected.attention.nope_dim;
    expected.attention = {
        .variant = variant_named("mla-nope"), .kv_rank = 7, .v_dim = 5, .latent_norm = true};
    const std::vector<Stored> tensors = tensors_of(expected);
    write_tensors(path() / "model.safetensors", tensors, "F32");
    const ModelFolder folder(path());
    EXPECT_STREQ(name_of(folder.config().attention.variant), "mla-nope");
    expect_reads(folder, tensors);
    expect_spectra(folder, tensors);
}

TEST_F(ModelFolderTest, ReadsShards) {
    write_config(llama());
    const std::vector<Stored> tensors = tensors_of(llama_config());
    json map = json::object();
    std::vector<std::vector<Stored>> shards(3);
    for (size_t i = 0; i < tensors.size(); ++i) {
        shards[i % 3].push_back(tensors[i]);
        map[tensors[i].name] = fmt::format("model-0000{}-of-00003.safetensors", i % 3 + 1);
    }
    for (size_t i = 0; i < 3; ++i)
        write_tensors(path() / fmt::format("model-0000{}-of-00003.safetensors", i + 1), shards[i], "BF16");
    write_bytes(path() / "model.safetensors.index.json", json{{"weight_map", map}}.dump());
    const ModelFolder folder(path());
    expect_reads(folder, tensors);
    expect_spectra(folder, tensors);
    fs::remove(path() / "model-00002-of-00003.safetensors");
    expect_error(ExitCode::kMissingInput, {"model-00002-of-00003"}, [&] { ModelFolder broken(path()); });
}

// A file that is cut short after it was opened is an error, not a signal.
TEST_F(ModelFolderTest, AFileThatIsCutShortWhileItIsReadIsRefused) {
    write_config(llama());
    const std::vector<Stored> tensors = tensors_of(llama_config());
    write_tensors(path() / "model.safetensors", tensors, "F32");
    const ModelFolder folder(path());
    expect_reads(folder, tensors);
    fs::resize_file(path() / "model.safetensors", 4);
    expect_error(ExitCode::kCorruptData, {"model.safetensors", "cut short while it was in use"},
                 [&] { folder.read(tensors.front().name); });
}

TEST_F(ModelFolderTest, SaysWhatIsWrong) {
    expect_error(ExitCode::kMissingInput, {"nowhere"}, [&] { ModelFolder folder(path() / "nowhere"); });
    expect_error(ExitCode::kMissingInput, {}, [&] { ModelFolder folder(path()); });
    write_config(llama());
    expect_error(ExitCode::kMissingInput, {"expected a model.safetensors"},
                 [&] { ModelFolder folder(path()); });
    const std::vector<Stored> tensors = tensors_of(llama_config());
    write_tensors(path() / "model.safetensors", tensors, "F32");

    const auto expect_bad_config = [&](const json& config, std::initializer_list<std::string> parts) {
        write_config(config);
        expect_error(ExitCode::kCorruptData, parts, [&] { ModelFolder folder(path()); });
    };
    json config = llama();
    config.erase("hidden_size");
    expect_bad_config(config, {"config.json", "with \"hidden_size\"", "Llama or DeepSeek"});
    for (const json& bad : {json(0), json(-3), json("12"), json(1.5), json(int64_t{1} << 40)}) {
        config = llama();
        config["hidden_size"] = bad;
        expect_bad_config(config, {"config.json: hidden_size: expected an integer from 1 to"});
    }
    config = llama();
    config["num_key_value_heads"] = 3;
    expect_bad_config(config, {"num_key_value_heads = 3 does not divide num_attention_heads = 4"});
    write_bytes(path() / "config.json", "{");
    expect_error(ExitCode::kCorruptData, {"config.json: expected a JSON object"},
                 [&] { ModelFolder folder(path()); });

    config = llama();
    config["hidden_size"] = 16;  // the tensors have 12
    config["head_dim"] = 6;
    write_config(config);
    expect_error(ExitCode::kCorruptData, {"layers.0.self_attn.k_proj", "[12, 12]: expected [12, 16]"},
                 [&] { ModelFolder folder(path()); });
    config = llama();  // nothing is made for heads and layers that the tensors do not have
    config["num_attention_heads"] = config["num_key_value_heads"] = 65536;
    write_config(config);
    expect_error(ExitCode::kCorruptData, {"k_proj", "[12, 12]: expected [393216, 12]"},
                 [&] { ModelFolder folder(path()); });
    config = llama();
    config["num_hidden_layers"] = 65536;
    write_config(config);
    expect_error(ExitCode::kCorruptData, {"65536 layers"}, [&] { ModelFolder folder(path()); });
    write_config(llama());
    expect_error(ExitCode::kCorruptData, {"no tensor \"model.layers.2.self_attn.q_proj.weight\"", "nearest"},
                 [&] { ModelFolder(path()).read("model.layers.2.self_attn.q_proj.weight"); });
}

TEST_F(ModelFolderTest, ReadsAroundDtypesThatItDoesNotNeed) {
    write_config(llama());
    const std::vector<Stored> tensors = tensors_of(llama_config());
    write_tensors(path() / "model-1.safetensors", tensors, "F32");
    const std::string header =
        R"({"scales":{"dtype":"F4_E2M1","shape":[2,3],"data_offsets":[0,3]},)"
        R"("model.embed_positions":{"dtype":"I64","shape":[1,1],"data_offsets":[3,11]}})";
    const uint64_t length = header.size();
    write_bytes(
        path() / "model-2.safetensors",
        std::string(reinterpret_cast<const char*>(&length), sizeof length) + header + std::string(11, '\1'));
    json map = {{"scales", "model-2.safetensors"}, {"model.embed_positions", "model-2.safetensors"}};
    for (const Stored& tensor : tensors) map[tensor.name] = "model-1.safetensors";
    write_bytes(path() / "model.safetensors.index.json", json{{"weight_map", map}}.dump());
    const ModelFolder folder(path());
    expect_reads(folder, tensors);
    expect_spectra(folder, tensors);
    for (const NamedShape& shape : folder.shapes()) EXPECT_NE(shape.name, "model.embed_positions");
    expect_error(ExitCode::kCorruptData, {"scales is F4_E2M1: expected F32, BF16 or F16"},
                 [&] { folder.read("scales"); });
}

TEST_F(ModelFolderTest, RefusesAttentionWithoutAQueryKeyForm) {
    write_config(llama());
    for (const auto& [name, part] :
         {std::pair("model.layers.1.self_attn.q_norm.weight", "norms of queries and keys"),
          std::pair("model.layers.0.self_attn.k_norm.weight", "norms of queries and keys"),
          std::pair("model.layers.0.self_attn.k_proj.bias", "biases of queries and keys")}) {
        std::vector<Stored> tensors = tensors_of(llama_config());
        tensors.push_back({name, {6}, coarse(random_, 6)});
        write_tensors(path() / "model.safetensors", tensors, "F32");
        expect_error(ExitCode::kCorruptData, {"model.safetensors", name, part},
                     [&] { ModelFolder folder(path()); });
    }
    std::vector<Stored> tensors = tensors_of(llama_config());
    tensors.push_back({"model.layers.0.self_attn.o_proj.bias", {12}, coarse(random_, 12)});
    write_tensors(path() / "model.safetensors", tensors, "F32");
    expect_spectra(ModelFolder(path()), tensors);  // attention scores do not depend on it
}

TEST_F(ModelFolderTest, RefusesAnIndexThatPointsElsewhere) {
    write_config(llama());
    for (const json& map :
         {json{{"x", "../x.safetensors"}}, json{{"x", "/etc/passwd"}}, json{{"x", 3}}, json{{"x", ".."}}}) {
        write_bytes(path() / "model.safetensors.index.json", json{{"weight_map", map}}.dump());
        expect_error(ExitCode::kCorruptData, {"weight_map"}, [&] { ModelFolder folder(path()); });
    }
    write_bytes(path() / "model.safetensors.index.json", "{}");
    expect_error(ExitCode::kCorruptData, {"weight_map"}, [&] { ModelFolder folder(path()); });
}

TEST(HalfToFloat, EveryHalfIsWhatItsBitsSay) {
    for (uint32_t bits = 0; bits < 0x10000; ++bits) {
        const int exponent = static_cast<int>(bits >> 10 & 0x1f), mantissa = static_cast<int>(bits & 0x3ff);
        const double sign = bits & 0x8000 ? -1 : 1;
        const float got = half_to_float(static_cast<uint16_t>(bits));
        if (exponent == 31 && mantissa != 0) {
            ASSERT_TRUE(std::isnan(got)) << bits;
        } else {
            const double want = exponent == 31  ? std::numeric_limits<double>::infinity()
                                : exponent == 0 ? std::ldexp(mantissa, -24)
                                                : std::ldexp(1024 + mantissa, exponent - 25);
            ASSERT_EQ(static_cast<double>(got), sign * want) << bits;
            ASSERT_EQ(std::signbit(got), sign < 0) << bits;
        }
    }
}

}  // namespace
}  // namespace pastur::test
