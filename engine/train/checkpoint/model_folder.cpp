#include "engine/train/checkpoint/model_folder.h"

#include <fmt/ranges.h>

#include <bit>
#include <cstring>

#include "data/files.h"
#include "engine/config/nearest_name.h"
#include "engine/io/manifest.h"
#include "engine/model/model.h"
#include "engine/train/checkpoint/checkpoint.h"
#include "engine/train/checkpoint/checkpoint_check.h"
#include "engine/train/checkpoint/checkpoint_store.h"
#include "engine/train/hugging_face/hf_index.h"
#include "engine/train/hugging_face/rope_rows.h"
#include "kernels/fill.h"

namespace pastur {
namespace fs = std::filesystem;
namespace {

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

uint16_t float_to_half(float value) {
    const auto bits = std::bit_cast<uint32_t>(value);
    const auto sign = static_cast<uint16_t>(bits >> 16 & 0x8000);
    const uint32_t magnitude = bits & 0x7fffffff;
    if (magnitude > 0x7f800000) return sign | 0x7e00;   // NaN
    if (magnitude >= 0x477ff000) return sign | 0x7c00;  // 65520 and more
    if (magnitude < 0x38800000) {  // below 2^-14: multiples of 2^-24, which the addition rounds to
        const float shifted = std::bit_cast<float>(magnitude) + 0.5f;  // ulp of [0.5, 1): 2^-24
        return static_cast<uint16_t>(sign | (std::bit_cast<uint32_t>(shifted) - 0x3f000000));
    }
    const uint32_t rounded = magnitude + 0xfff + (magnitude >> 13 & 1);
    return static_cast<uint16_t>(sign | ((rounded >> 13) - (112u << 10)));
}

namespace {

bool is_attention(const std::string& tensor) {
    return tensor.find(".self_attn.") != std::string::npos;
}

/// Throws (kCorruptData) if the tensor changes attention scores in a way that a query-key form cannot
/// express.
void check_has_query_key_form(const fs::path& file, const std::string& tensor) {
    if (!is_attention(tensor)) return;
    const std::string part = tensor.substr(tensor.find(".self_attn.") + 11);
    const bool norm = part.starts_with("q_norm.") || part.starts_with("k_norm.");
    const bool bias = part.ends_with(".bias") &&
                      (part.starts_with("q_") || part.starts_with("k_") || part.starts_with("kv_"));
    if (norm || bias)
        fail(ExitCode::kCorruptData,
             "{}: expected a model without {}; tensor \"{}\" leaves it without a query-key form",
             file.string(), norm ? "norms of queries and keys" : "biases of queries and keys", tensor);
}

/// Tensors that transformers passes over: tables of the rotation, and the head of a model whose embedding is
/// its head.
bool is_passed_over(const std::string& tensor, const Config& config) {
    return tensor.ends_with(".rotary_emb.inv_freq") ||
           (config.model.tie_embeddings && tensor == "lm_head.weight");
}

}  // namespace

bool is_hugging_face(const fs::path& path) {
    return path_exists(path / kHfConfigFile) && !path_exists(path / kManifestName);
}

ModelFolder::ModelFolder(const fs::path& path) {
    if (!path_exists(path)) fail(ExitCode::kMissingInput, "{}: no such file or folder", path.string());
    if (is_hugging_face(path))
        open_hugging_face(path);
    else
        open_checkpoint(path_exists(path / "checkpoints") ? path / "checkpoints" : path);
    // Every layer has a tensor, so a config cannot make the program build more layers than the files hold.
    if (config_.model.layers > std::ssize(owners_))
        fail(ExitCode::kCorruptData, "{}: the config names {} layers: expected at most one per tensor, {}",
             path_.string(), config_.model.layers, owners_.size());
    // For the shapes only; nothing is allocated.
    const Model model(config_, DType::kF32, {1, 1});
    for (const Param& param : model.params().table().params()) {
        parameters_.push_back({param.name, param.shape});
        expected_.emplace(param.name, param.shape);
    }
    for (const auto& [name, file] : owners_) {
        // Nothing is sized by the config before it has been compared with the tensors.
        if (expected_.contains(name) && is_attention(name)) check_shape(name);
        if (!expected_.contains(name)) check_has_query_key_form(file->path(), name);
    }
}

void ModelFolder::open_checkpoint(const fs::path& path) {
    path_ = CheckpointStore::find(path);
    is_checkpoint_ = true;
    config_ = check_checkpoint(path_).config;
    if (path_exists(path_ / kHfConfigFile)) tokens_ = read_hf_config(path_ / kHfConfigFile).tokens;
    open_files({path_ / kModelFile});
}

void ModelFolder::open_hugging_face(const fs::path& path) {
    path_ = path;
    HfModel model = read_hf_config(path / kHfConfigFile);
    config_ = std::move(model.config);
    tokens_ = std::move(model.tokens);
    rows_ = model.rows;
    refusal_ = std::move(model.refusal);
    if (path_exists(path / kHfIndexFile)) {
        const HfIndex index(path / kHfIndexFile);
        open_files(index.files());
        index.check(owners_);
    } else {
        if (!path_exists(path / kModelFile))
            fail(ExitCode::kMissingInput, "{}: expected a {} or {} in it", path.string(), kModelFile,
                 kHfIndexFile);
        open_files({path / kModelFile});
    }
}

void ModelFolder::open_files(const std::vector<fs::path>& files) {
    for (const fs::path& file : files) files_.push_back(std::make_unique<SafetensorsFile>(file));
    for (const auto& file : files_) open_->open(file->path());
    for (const auto& file : files_)
        for (const auto& [name, entry] : file->entries())
            if (!owners_.emplace(name, file.get()).second)
                fail(ExitCode::kCorruptData, "{}: tensor {} is in two files", path_.string(), name);
}

void ModelFolder::check_computable() const {
    if (!refusal_.empty()) fail(ExitCode::kCorruptData, "{}", refusal_);
    for (const NamedShape& parameter : parameters_) {
        const SafetensorsFile& file = owner_of(parameter.name);
        check_shape(parameter.name);
        if (!is_readable(file.entries().at(parameter.name))) read(parameter.name);  // throws
    }
    for (const auto& [name, file] : owners_)
        if (!expected_.contains(name) && !is_passed_over(name, config_))
            fail(ExitCode::kCorruptData, "{}: expected only tensors of {}: {} is not one of them",
                 file->path().string(), pastur::name_of(config_.attention.variant), shown_name(name));
}

void ModelFolder::read_weights(Context& ctx, Parameters& params) const {
    fill_weights(ctx, params, [this](const std::string& name) { return read(name); });
}

void fill_weights(Context& ctx, Parameters& params, const ReadTensor& read) {
    Context host = make_context(Device::kCpu);
    for (const Param& param : params.table().params()) {
        const std::vector<float> values = read(param.name);
        const Tensor master = params.master(param);
        const ConstTensor wide = ConstTensor(as_tensor(std::span(values))).reshape(param.shape);
        if (master.dtype() == DType::kF32) {
            upload(ctx, master, wide);
            continue;
        }
        const Buffer memory = allocate(host, wide.numel() * size_of(master.dtype()));
        const Tensor narrow(memory.data(), master.dtype(), param.shape);
        cast(host, narrow, wide);
        upload(ctx, master, narrow);
    }
    params.refresh_compute(ctx);
}

bool ModelFolder::is_readable(const SafetensorsFile::Entry& entry) {
    return entry.dtype == "F32" || entry.dtype == "BF16" || entry.dtype == "F16";
}

std::vector<NamedShape> ModelFolder::shapes() const {
    std::vector<NamedShape> shapes;
    for (const auto& [name, file] : owners_) {
        const SafetensorsFile::Entry& entry = file->entries().at(name);
        if (!is_readable(entry) && !(expected_.contains(name) && is_attention(name))) continue;
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

const SafetensorsFile& ModelFolder::owner_of(const std::string& name) const {
    if (const auto owner = owners_.find(name); owner != owners_.end()) return *owner->second;
    std::vector<std::string> names;
    for (const auto& [known, file] : owners_) names.push_back(known);
    fail(ExitCode::kCorruptData, "{}: holds no tensor \"{}\"{}", path_.string(), name,
         names.empty() ? "" : fmt::format("; the nearest is \"{}\"", nearest_name(name, names)));
}

std::vector<float> ModelFolder::read(const std::string& name) const {
    const SafetensorsFile& file = owner_of(name);
    check_shape(name);
    const SafetensorsFile::Entry& entry = file.entries().at(name);
    if (!is_readable(entry))
        fail(ExitCode::kCorruptData, "{}: tensor {} is {}: expected F32, BF16 or F16", file.path().string(),
             name, entry.dtype);
    std::vector<std::byte> bytes(entry.bytes.size());
    read_at(*open_->open(file.path()), entry.bytes.data() - file.bytes().data(), bytes, file.path());
    std::vector<float> values;
    if (entry.dtype == "F32")
        values = converted<float>(bytes, [](float x) { return x; });
    else if (entry.dtype == "BF16")
        values = converted<Bf16>(bytes, [](Bf16 x) { return to_float(x); });
    else
        values = converted<uint16_t>(bytes, half_to_float);
    if (expected_.contains(name)) reorder_rotary_rows(config_, name, values, rows_, RopeRows::kHalves);
    return values;
}

}  // namespace pastur
