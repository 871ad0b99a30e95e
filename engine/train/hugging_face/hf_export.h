#pragma once
// Model folders out of and into Hugging Face transformers. Memory: 2.5 times the largest tensor in fp32.
#include <filesystem>

#include "engine/train/checkpoint/model_folder.h"

namespace pastur {

struct ExportOptions {
    WeightFormat format = WeightFormat::kFp32;
    int64_t max_shard_bytes =
        5'000'000'000;  ///< of the tensors in a file; a larger tensor has a file of its own
};

/// Writes a folder that transformers loads, complete or absent: config.json and its companions, the weights in
/// `format` in model.safetensors or in shards with an index, and the tokenizer's files of `model`. Rotary rows are
/// paired as the class of DeepSeek publishes them. Throws (kUsage) if `out` exists and is not empty, (kCorruptData) for
/// a model that Pastur cannot compute, or a number that fp16 cannot hold, and (kIo).
void export_hugging_face(const ModelFolder& model, const std::filesystem::path& out,
                         const ExportOptions& options);

/// A model that is written: its tensors are read one at a time.
struct ModelSource {
    Config config;
    SpecialTokens tokens;
    std::vector<NamedShape> parameters;  ///< in the order of the parameter table
    ReadTensor read;
    std::filesystem::path folder;  ///< named in messages; the files of its tokenizer are copied
};
ModelSource source_of(const ModelFolder& model);

/// Writes a checkpoint of step 0 with fp32 weights, complete or absent. It has no optimizer state, so no run resumes
/// from it. Throws (kUsage) if `out` exists and is not empty, and (kIo).
void write_first_checkpoint(const ModelSource& source, const std::filesystem::path& out);

/// Writes a checkpoint of step 0 with the weights of `model` in fp32, complete or absent: for train.init_from, eval,
/// spectra and verify. It has no optimizer state, so no run resumes from it. Throws as export_hugging_face().
void import_hugging_face(const ModelFolder& model, const std::filesystem::path& out);

}  // namespace pastur
