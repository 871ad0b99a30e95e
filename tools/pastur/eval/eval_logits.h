#pragma once
#include <filesystem>

#include "data/loader.h"
#include "engine/model/batch.h"
#include "engine/model/model.h"

namespace pastur {

/// Writes a safetensors file with tokens.<i> i32 [T] and logits.<i> f32 [T, V] of the first `sequences` sequences of
/// `data`, complete or absent. One sequence is in memory at a time; the model's batch is one sequence. Throws (kIo),
/// and DataFailure.
void write_logits(const std::filesystem::path& file, Context& ctx, Model& model, DeviceBatch& batch,
                  const TokenLoader& data, int64_t sequences);

}  // namespace pastur
