#include "engine/train/checkpoint/model_folder.h"

#include <fmt/ranges.h>

#include <bit>
#include <cstring>
#include <set>

#include "data/files.h"
#include "engine/config/nearest_name.h"
#include "engine/io/json_text.h"
#include "engine/model/attention/variants.h"
#include "engine/model/model.h"
#include "engine/train/checkpoint/checkpoint.h"
#include "engine/train/checkpoint/checkpoint_check.h"
#include "engine/train/checkpoint/checkpoint_store.h"

namespace pastur {
namespace fs = std::filesystem;
namespace {

using nlohmann::json;

constexpr int64_t kIndexLimit = 16 << 20;
constexpr int64_t kWidest = 1 << 20, kMost = 1 << 16;

json read_json(const fs::path& file) {
    json value = parse_json(read_file(file, kMaxJsonBytes));
    if (!value.is_object()) fail(ExitCode::kCorruptData, "{}: expected a JSON object", file.string());
    return value;
}

/// Reads the sizes in a config.json.
class HfConfig {
  public:
    explicit HfConfig(const fs::path& file) : file_(file.string()), json_(read_json(file)) {}

    bool has(const char* key) const {
        const auto found = json_.find(key);
        return found != json_.end() && !found->is_null();
    }
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
    /// Whether the value is the number 0.
    bool is_zero(const char* key) const {
        return has(key) && json_[key].is_number_unsigned() && json_[key].get<uint64_t>() == 0;
    }
    int64_t size_or(const char* key, int64_t most, int64_t otherwise) const {
        return has(key) ? size(key, most) : otherwise;
    }
    const std::string& file() const { return file_; }

  private:
    std::string file_;
    json json_;
};

Config config_of(const HfConfig& hf) {
    Config config;
    ModelConfig& m = config.model;
    m.preset = "custom";
    m.vocab = hf.size_or("vocab_size", 1 << 30, 2);
    m.d_model = hf.size("hidden_size", kWidest);
    m.layers = hf.size("num_hidden_layers", kMost);
    m.heads = hf.size("num_attention_heads", kMost);
    m.ffn = hf.size_or("intermediate_size", kWidest, 1);
    if (hf.has("kv_lora_rank")) {
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
            m.head_dim += a.rope_dim;
        }
        m.kv_heads = m.heads;
        return config;
    }
    if (!hf.has("head_dim") && m.d_model % m.heads != 0)
        fail(ExitCode::kCorruptData, "{}: num_attention_heads = {} does not divide hidden_size = {}",
             hf.file(), m.heads, m.d_model);
    m.head_dim = hf.size_or("head_dim", kWidest, m.d_model / m.heads);
    m.kv_heads = hf.size_or("num_key_value_heads", kMost, m.heads);
    if (m.heads % m.kv_heads != 0)
        fail(ExitCode::kCorruptData, "{}: num_key_value_heads = {} does not divide num_attention_heads = {}",
             hf.file(), m.kv_heads, m.heads);
    return config;
}

/// Takes the names of files from an index, {"weight_map": {tensor: file, ...}, ...}, as the parser meets them: a value
/// of the whole text would take many times its memory.
class IndexReader : public nlohmann::json_sax<json> {
  public:
    static constexpr size_t kMaxFiles = 10'000;
    /// Empty if there is no such map, or one of other things than texts.
    const std::set<std::string>& names() const { return names_; }

    bool null() override { return other(); }
    bool boolean(bool) override { return other(); }
    bool number_integer(int64_t) override { return other(); }
    bool number_unsigned(uint64_t) override { return other(); }
    bool number_float(double, const std::string&) override { return other(); }
    bool binary(binary_t&) override { return false; }
    bool string(std::string& value) override {
        if (!in_map()) return other();
        names_.insert(std::move(value));
        return names_.size() <= kMaxFiles;
    }
    bool start_object(size_t) override { return begin(/*is_object=*/true); }
    bool start_array(size_t) override { return begin(/*is_object=*/false); }
    bool end_object() override { return end(); }
    bool end_array() override { return end(); }
    bool key(std::string& key) override {
        if (depth_ == 1) at_map_ = key == "weight_map";
        return true;
    }
    bool parse_error(size_t, const std::string&, const nlohmann::detail::exception&) override {
        return false;
    }

  private:
    bool in_map() const { return at_map_ && depth_ == 2; }
    /// A value that is no text. Such a map is not one.
    bool other() const { return depth_ >= 1 && !at_map_; }
    bool begin(bool is_object) {
        const bool fits = depth_ == 0 || (at_map_ && depth_ == 1) ? is_object : !at_map_;
        return ++depth_ <= kMaxJsonDepth && fits;
    }
    bool end() { return --depth_, true; }
    int depth_ = 0;
    bool at_map_ = false;
    std::set<std::string> names_;
};

/// The safetensors files of a folder: model.safetensors, or the files that the index names.
std::set<fs::path> weight_files(const fs::path& folder) {
    const fs::path index = folder / "model.safetensors.index.json", single = folder / "model.safetensors";
    if (!path_exists(index)) {
        if (path_exists(single)) return {single};
        fail(ExitCode::kMissingInput,
             "{}: expected a model.safetensors or model.safetensors.index.json in it", folder.string());
    }
    const std::string text = read_file(index, kIndexLimit);
    IndexReader reader;
    const bool is_json = json::sax_parse(text.begin(), text.end(), &reader, json::input_format_t::json);
    if (!is_json || reader.names().empty())
        fail(ExitCode::kCorruptData, "{}: expected a \"weight_map\" of tensors to at most {} files",
             index.string(), IndexReader::kMaxFiles);
    std::set<fs::path> files;
    for (const std::string& file : reader.names()) {
        const fs::path name = file;
        if (name.empty() || name != name.filename() || name == "..")
            fail(ExitCode::kCorruptData, "{}: weight_map: expected names of files in the same folder",
                 index.string());
        files.insert(folder / name);
    }
    return files;
}

template <typename Stored, typename Convert>
std::vector<float> converted(std::span<const std::byte> bytes, Convert convert) {
    std::vector<float> out(bytes.size() / sizeof(Stored));
    for (size_t i = 0; i < out.size(); ++i) {
        Stored stored;
        std::memcpy(&stored, bytes.data() + i * sizeof stored, sizeof stored);
        out[i] = convert(stored);
    }
    return out;
}

Shape shape_of(const std::vector<int64_t>& extents) {
    Shape shape;
    for (const int64_t extent : extents) shape.push_back(extent);
    return shape;
}

}  // namespace

float half_to_float(uint16_t bits) {
    const uint32_t sign = static_cast<uint32_t>(bits & 0x8000) << 16, exponent = bits >> 10 & 0x1f;
    const uint32_t mantissa = bits & 0x3ff;
    if (exponent == 0) {
        const float magnitude = static_cast<float>(mantissa) * 0x1p-24f;  // zero or subnormal
        return sign ? -magnitude : magnitude;
    }
    const uint32_t widened = exponent == 0x1f ? 0xff : exponent + 127 - 15;
    return std::bit_cast<float>(sign | widened << 23 | mantissa << 13);
}

ModelFolder::ModelFolder(const fs::path& path) {
    if (!path_exists(path)) fail(ExitCode::kMissingInput, "{}: no such file or folder", path.string());
    if (path_exists(path / "config.json"))
        open_hugging_face(path);
    else
        open_checkpoint(path_exists(path / "checkpoints") ? path / "checkpoints" : path);
    for (const auto& file : files_) open_->open(file->path());
    for (const auto& file : files_)
        for (const auto& [name, entry] : file->entries())
            if (!owners_.emplace(name, file.get()).second)
                fail(ExitCode::kCorruptData, "{}: tensor {} is in two files", path_.string(), name);
    // Every layer has a tensor, so a config cannot make the program build more layers than the files hold.
    if (config_.model.layers > std::ssize(owners_))
        fail(ExitCode::kCorruptData, "{}: the config names {} layers: expected at most one per tensor, {}",
             path_.string(), config_.model.layers, owners_.size());
    // For the shapes only; nothing is allocated.
    const Model model(config_, DType::kF32, {1, 1});
    for (const Param& param : model.params().table().params())
        if (param.name.find(".self_attn.") != std::string::npos) expected_.emplace(param.name, param.shape);
    // Nothing is sized by the config before it has been compared with the tensors.
    for (const auto& [name, shape] : expected_)
        if (owners_.contains(name)) check_shape(name);
}

void ModelFolder::open_checkpoint(const fs::path& path) {
    path_ = CheckpointStore::find(path);
    config_ = check_checkpoint(path_).config;
    files_.push_back(std::make_unique<SafetensorsFile>(path_ / "model.safetensors"));
}

namespace {

/// Throws (kCorruptData) if the tensor changes attention scores in a way that a query-key form cannot
/// express.
void check_has_query_key_form(const fs::path& file, const std::string& tensor) {
    const size_t begin = tensor.find(".self_attn.");
    if (begin == std::string::npos) return;
    const std::string part = tensor.substr(begin + 11);
    const bool norm = part.starts_with("q_norm.") || part.starts_with("k_norm.");
    const bool bias = part.ends_with(".bias") &&
                      (part.starts_with("q_") || part.starts_with("k_") || part.starts_with("kv_"));
    if (norm || bias)
        fail(ExitCode::kCorruptData,
             "{}: expected a model without {}; tensor \"{}\" leaves it without a query-key form",
             file.string(), norm ? "norms of queries and keys" : "biases of queries and keys", tensor);
}

}  // namespace

void ModelFolder::open_hugging_face(const fs::path& path) {
    path_ = path;
    config_ = config_of(HfConfig(path / "config.json"));
    for (const fs::path& file : weight_files(path)) {
        files_.push_back(std::make_unique<SafetensorsFile>(file));
        for (const auto& [name, entry] : files_.back()->entries()) check_has_query_key_form(file, name);
    }
}

std::vector<NamedShape> ModelFolder::shapes() const {
    std::vector<NamedShape> shapes;
    for (const auto& [name, file] : owners_) {
        const SafetensorsFile::Entry& entry = file->entries().at(name);
        const bool readable = entry.dtype == "F32" || entry.dtype == "BF16" || entry.dtype == "F16";
        if (!readable && !expected_.contains(name)) continue;
        const std::vector<int64_t>& extents = entry.shape;
        if (extents.size() == 1 || extents.size() == 2) shapes.push_back({name, shape_of(extents)});
    }
    return shapes;
}

void ModelFolder::check_shape(const std::string& name) const {
    const SafetensorsFile& file = *owners_.at(name);
    const SafetensorsFile::Entry& entry = file.entries().at(name);
    const auto expected = expected_.find(name);
    if (entry.shape.size() > 2 ||
        (expected != expected_.end() && !(shape_of(entry.shape) == expected->second)))
        fail(ExitCode::kCorruptData, "{}: tensor {} is {}[{}]: expected {}", file.path().string(), name,
             entry.dtype, fmt::join(entry.shape, ", "),
             expected != expected_.end() ? to_string(expected->second) : "one or two dimensions");
}

std::vector<float> ModelFolder::read(const std::string& name) const {
    const auto owner = owners_.find(name);
    if (owner == owners_.end()) {
        std::vector<std::string> names;
        for (const auto& [known, file] : owners_) names.push_back(known);
        fail(ExitCode::kCorruptData, "{}: holds no tensor \"{}\"{}", path_.string(), name,
             names.empty() ? "" : fmt::format("; the nearest is \"{}\"", nearest_name(name, names)));
    }
    check_shape(name);
    const SafetensorsFile::Entry& entry = owner->second->entries().at(name);
    if (entry.dtype == "F32" || entry.dtype == "BF16" || entry.dtype == "F16") {
        const SafetensorsFile& file = *owner->second;
        std::vector<std::byte> bytes(entry.bytes.size());
        read_at(*open_->open(file.path()), entry.bytes.data() - file.bytes().data(), bytes, file.path());
        if (entry.dtype == "F32") return converted<float>(bytes, [](float x) { return x; });
        if (entry.dtype == "BF16") return converted<Bf16>(bytes, [](Bf16 x) { return to_float(x); });
        return converted<uint16_t>(bytes, half_to_float);
    }
    fail(ExitCode::kCorruptData, "{}: tensor {} is {}: expected F32, BF16 or F16",
         owner->second->path().string(), name, entry.dtype);
}

}  // namespace pastur
