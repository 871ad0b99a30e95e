#include "engine/train/hugging_face/hf_export.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "data/files.h"
#include "data/output.h"
#include "engine/io/manifest.h"
#include "engine/model/recipe.h"
#include "engine/train/checkpoint/checkpoint.h"
#include "engine/train/hugging_face/hf_files.h"
#include "engine/train/hugging_face/hf_index.h"
#include "engine/train/hugging_face/rope_rows.h"

namespace pastur {
namespace fs = std::filesystem;
namespace {

int64_t element_bytes(WeightFormat format) {
    return format == WeightFormat::kFp32 ? 4 : 2;
}

/// Tensors of a model in a format of weights, one at a time in memory.
class FormattedTensors {
  public:
    FormattedTensors(const ModelSource& model, WeightFormat format, RopeRows rows)
        : model_(model), format_(format), rows_(rows) {}

    /// The tensor's source. Its bytes live until those of another are asked for.
    TensorSource source(const NamedShape& tensor) {
        TensorSource source;
        source.name = tensor.name;
        source.dtype = format_ == WeightFormat::kFp32 ? DType::kF32 : DType::kBF16;
        if (format_ == WeightFormat::kFp16) source.format = "F16";
        for (int i = 0; i < tensor.shape.rank(); ++i) source.shape.push_back(tensor.shape[i]);
        source.bytes = [this, name = tensor.name] { return bytes(name); };
        return source;
    }

  private:
    std::span<const std::byte> bytes(const std::string& name) {
        values_ = model_.read(name);
        reorder_rotary_rows(model_.config, name, values_, RopeRows::kHalves, rows_);
        if (format_ == WeightFormat::kFp32) return std::as_bytes(std::span(values_));
        narrow_.resize(values_.size());
        if (format_ == WeightFormat::kBf16)
            std::transform(values_.begin(), values_.end(), narrow_.begin(),
                           [](float x) { return to_bf16(x).bits; });
        else
            to_half(name);
        return std::as_bytes(std::span(narrow_));
    }
    void to_half(const std::string& name) {
        for (size_t i = 0; i < values_.size(); ++i) {
            narrow_[i] = float_to_half(values_[i]);
            if (std::isfinite(values_[i]) && (narrow_[i] & 0x7c00) == 0x7c00)
                fail(
                    ExitCode::kCorruptData,
                    "{}: tensor {}: expected numbers below 65520, which fp16 can hold: element {} is {}; take "
                    "bf16",
                    model_.folder.string(), name, i, values_[i]);
        }
    }

    const ModelSource& model_;
    WeightFormat format_;
    RopeRows rows_;
    std::vector<float> values_;
    std::vector<uint16_t> narrow_;
};

/// Tensors in their order, as many to a file as fit.
std::vector<std::vector<NamedShape>> shards_of(const std::vector<NamedShape>& tensors,
                                               const ExportOptions& options) {
    std::vector<std::vector<NamedShape>> shards(1);
    int64_t bytes = 0;
    for (const NamedShape& tensor : tensors) {
        const int64_t size = tensor.shape.numel() * element_bytes(options.format);
        if (!shards.back().empty() && bytes + size > options.max_shard_bytes) {
            shards.emplace_back();
            bytes = 0;
        }
        shards.back().push_back(tensor);
        bytes += size;
    }
    return shards;
}

void write_weights(const fs::path& folder, const ModelSource& model, const ExportOptions& options,
                   RopeRows rows, const StringMap& metadata) {
    FormattedTensors formatted(model, options.format, rows);
    const auto shards = shards_of(model.parameters, options);
    nlohmann::ordered_json map = nlohmann::ordered_json::object();
    int64_t total = 0;
    for (size_t i = 0; i < shards.size(); ++i) {
        const std::string name = shards.size() == 1
                                     ? std::string(kModelFile)
                                     : fmt::format("model-{:05}-of-{:05}.safetensors", i + 1, shards.size());
        std::vector<TensorSource> sources;
        for (const NamedShape& tensor : shards[i]) {
            sources.push_back(formatted.source(tensor));
            map[tensor.name] = name;
            total += tensor.shape.numel() * element_bytes(options.format);
        }
        write_safetensors(folder / name, sources, metadata);
    }
    if (shards.size() == 1) return;
    const nlohmann::ordered_json index = {{"metadata", {{"total_size", total}}}, {"weight_map", map}};
    write_text_files(folder, {{kHfIndexFile, index.dump(2) + "\n"}});
}

void copy_tokenizer(const fs::path& from, const fs::path& to) {
    for (const std::string_view name : tokenizer_file_names()) {
        if (!path_exists(from / name)) continue;
        FileWriter out(to / name);
        read_in_chunks(from / name, [&](std::string_view bytes) { out.write(bytes); });
        out.finish();
    }
}

/// Names that export and import write, and that a killed one may have left.
bool is_own_name(const std::string& name) {
    const auto names = hf_file_names();
    return std::find(names.begin(), names.end(), name) != names.end() || name == kHfIndexFile ||
           name == kStateFile || name == kManifestName ||
           (name.starts_with("model") && name.ends_with(".safetensors"));
}

}  // namespace

ModelSource source_of(const ModelFolder& model) {
    return {model.config(), model.tokens(), model.parameters(),
            [&model](const std::string& name) { return model.read(name); }, model.path()};
}

void export_hugging_face(const ModelFolder& model, const fs::path& out, const ExportOptions& options) {
    model.check_computable();
    const RopeRows rows = is_deepseek_class(model.config()) ? RopeRows::kNeighbours : RopeRows::kHalves;
    OutputFolder folder(out, /*replace=*/false, is_own_name);
    write_weights(folder.staging(), source_of(model), options, rows, {{"format", "pt"}});
    write_text_files(folder.staging(), hf_model_files(model.config(), model.tokens(), options.format, rows));
    copy_tokenizer(model.path(), folder.staging());
    folder.commit();
}

void import_hugging_face(const ModelFolder& model, const fs::path& out) {
    if (model.is_checkpoint())
        fail(ExitCode::kUsage, "{}: expected a Hugging Face folder: this is a checkpoint of pastur",
             model.path().string());
    model.check_computable();
    write_first_checkpoint(source_of(model), out);
}

void write_first_checkpoint(const ModelSource& source, const fs::path& out) {
    OutputFolder folder(out, /*replace=*/false, is_own_name);
    const ExportOptions one_file = {WeightFormat::kFp32, std::numeric_limits<int64_t>::max()};
    write_weights(folder.staging(), source, one_file, RopeRows::kHalves, checkpoint_metadata(source.config));
    write_checkpoint_state(folder.staging(), {});
    write_text_files(folder.staging(),
                     hf_model_files(source.config, source.tokens, WeightFormat::kFp32, RopeRows::kHalves));
    copy_tokenizer(source.folder, folder.staging());
    write_manifest(folder.staging());
    folder.commit();
}

}  // namespace pastur
