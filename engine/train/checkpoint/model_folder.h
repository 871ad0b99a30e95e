#pragma once
// The weights of a finished model: a checkpoint of Pastur, or a folder of Hugging Face transformers
// (config.json and model.safetensors, or shards with model.safetensors.index.json).
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "data/open_files.h"
#include "engine/config/config.h"
#include "engine/io/safetensors.h"
#include "engine/spectra/qk_factors.h"

namespace pastur {

class ModelFolder {
  public:
    /// path: a checkpoint folder, a run folder or its checkpoints (the newest is opened), or a Hugging Face
    /// folder of Llama shape (also with grouped queries) or DeepSeek-V2/V3 shape. Verifies the bytes of a
    /// checkpoint, and compares the shapes of the attention with the config. Throws (kMissingInput, kCorruptData, kIo).
    explicit ModelFolder(const std::filesystem::path& path);

    /// The folder that was opened.
    const std::filesystem::path& path() const { return path_; }
    /// The model's config; for a Hugging Face folder only [model] and [attention] are set.
    const Config& config() const { return config_; }
    /// Every tensor of one or two dimensions that read() understands, and the attention's in any dtype.
    std::vector<NamedShape> shapes() const;
    /// The tensor, converted exactly from F32, BF16 or F16 to fp32. If the architecture names it, it must
    /// have the architecture's shape. Throws (kCorruptData), with the nearest name if the tensor does not
    /// exist, also if the file was cut short meanwhile, and (kIo).
    std::vector<float> read(const std::string& name) const;

  private:
    void open_checkpoint(const std::filesystem::path& path);
    /// Throws (kCorruptData) if a tensor has more than two dimensions or not the architecture's shape.
    void check_shape(const std::string& name) const;
    void open_hugging_face(const std::filesystem::path& path);

    std::filesystem::path path_;
    Config config_;
    std::vector<std::unique_ptr<SafetensorsFile>> files_;
    std::map<std::string, const SafetensorsFile*> owners_;  ///< the file of every tensor
    std::map<std::string, Shape> expected_;
    std::unique_ptr<OpenFiles> open_ = std::make_unique<OpenFiles>();
};

/// Converts IEEE 754 binary16.
float half_to_float(uint16_t bits);

}  // namespace pastur
