#pragma once
// The weights of a finished model, whoever wrote it: a checkpoint of ours, or a folder as Hugging Face
// transformers writes it (config.json; model.safetensors, or shards with model.safetensors.index.json).
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "engine/config/config.h"
#include "engine/io/safetensors.h"
#include "engine/spectra/qk_factors.h"

namespace pastur {

class ModelFolder {
  public:
    /// path: a checkpoint folder, a run folder or its checkpoints (the newest is taken), or a Hugging Face
    /// folder of Llama shape (also grouped queries) or DeepSeek-V2/V3 shape. A checkpoint's bytes are
    /// verified. Throws (kMissingInput, kCorruptData, kIo).
    explicit ModelFolder(const std::filesystem::path& path);

    /// What was opened.
    const std::filesystem::path& path() const { return path_; }
    /// [model] and [attention] of it; of a foreign folder the rest are defaults.
    const Config& config() const { return config_; }
    /// Every tensor of one or two dimensions that read() understands, and the attention's in any dtype.
    std::vector<NamedShape> shapes() const;
    /// The tensor in fp32, which is exact: F32, BF16 and F16 are understood. It must have the shape that the
    /// architecture gives it, where that names it. Throws (kCorruptData) with the nearest name when there is
    /// none.
    std::vector<float> read(const std::string& name) const;

  private:
    void open_checkpoint(const std::filesystem::path& path);
    void open_hugging_face(const std::filesystem::path& path);

    std::filesystem::path path_;
    Config config_;
    std::vector<std::unique_ptr<SafetensorsFile>> files_;
    std::map<std::string, const SafetensorsFile*> owners_;  ///< of every tensor
    std::map<std::string, Shape> expected_;
};

/// IEEE 754 binary16.
float half_to_float(uint16_t bits);

}  // namespace pastur
