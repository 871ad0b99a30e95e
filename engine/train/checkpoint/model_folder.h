#pragma once
// The weights of a finished model: a checkpoint of Pastur, or a folder of Hugging Face transformers
// (config.json and model.safetensors, or shards with model.safetensors.index.json).
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "data/shards/open_files.h"
#include "engine/config/config.h"
#include "engine/io/safetensors.h"
#include "engine/model/parameters.h"
#include "engine/spectra/qk_factors.h"
#include "engine/train/hugging_face/hf_config.h"

namespace pastur {

/// The numbers of a tensor by its name, contiguous.
using ReadTensor = std::function<std::vector<float>(const std::string&)>;

/// Sets all weights of `params`, which is allocated, one tensor at a time.
void fill_weights(Context& ctx, Parameters& params, const ReadTensor& read);

/// Whether the folder is one of transformers and not a checkpoint: it has a config.json and no manifest.
bool is_hugging_face(const std::filesystem::path& path);

class ModelFolder {
  public:
    /// path: a checkpoint folder, a run folder or its checkpoints (the newest is opened), or a Hugging Face
    /// folder of Llama shape (also with grouped queries or normalised heads), DeepSeek-V2/V3 shape, or of
    /// Pastur's own class. Verifies the bytes of a checkpoint, compares the shapes of the attention with the
    /// config and the tensors with the index. Throws (kMissingInput, kCorruptData, kIo).
    explicit ModelFolder(const std::filesystem::path& path);

    /// The folder that was opened.
    const std::filesystem::path& path() const { return path_; }
    bool is_checkpoint() const { return is_checkpoint_; }
    /// The model's config; for a Hugging Face folder only [model], [attention] and data.seq_len are of the
    /// folder.
    const Config& config() const { return config_; }
    const SpecialTokens& tokens() const { return tokens_; }
    const std::vector<std::unique_ptr<SafetensorsFile>>& files() const { return files_; }
    /// Every tensor of one or two dimensions that read() understands, and the attention's in any dtype.
    std::vector<NamedShape> shapes() const;
    /// The tensor, converted exactly from F32, BF16 or F16 to fp32, its rotary rows paired as in Pastur. If the
    /// architecture names it, it must have the architecture's shape. Throws (kCorruptData), with the nearest
    /// name if the tensor does not exist, also if the file was cut short meanwhile, and (kIo).
    std::vector<float> read(const std::string& name) const;

    /// Throws (kCorruptData) unless Pastur computes this model: what the config says, every tensor of the
    /// architecture and no other. Spectra need less.
    void check_computable() const;
    /// The tensors of the architecture, in the order of its parameter table.
    const std::vector<NamedShape>& parameters() const { return parameters_; }
    /// Reads all weights, one tensor at a time. params: of config(), allocated.
    void read_weights(Context& ctx, Parameters& params) const;

  private:
    void open_checkpoint(const std::filesystem::path& path);
    void open_hugging_face(const std::filesystem::path& path);
    void open_files(const std::vector<std::filesystem::path>& files);
    static bool is_readable(const SafetensorsFile::Entry& entry);
    /// Throws (kCorruptData) if the tensor has more than two dimensions or not the architecture's shape.
    void check_shape(const std::string& name) const;
    /// Throws (kCorruptData), with the nearest name.
    const SafetensorsFile& owner_of(const std::string& name) const;

    std::filesystem::path path_;
    bool is_checkpoint_ = false;
    Config config_;
    SpecialTokens tokens_;
    RopeRows rows_ = RopeRows::kHalves;
    std::string refusal_;  ///< why the model cannot be computed; empty: it can
    std::vector<std::unique_ptr<SafetensorsFile>> files_;
    std::map<std::string, const SafetensorsFile*> owners_;  ///< the file of every tensor
    std::vector<NamedShape> parameters_;
    std::map<std::string, Shape> expected_;  ///< parameters_ by name
    std::unique_ptr<OpenFiles> open_ = std::make_unique<OpenFiles>();
};

/// Converts IEEE 754 binary16.
float half_to_float(uint16_t bits);
/// Rounds to nearest, ties to even; magnitudes of 65520 and more become infinity. NaN stays NaN.
uint16_t float_to_half(float value);

}  // namespace pastur
