#pragma once
// Checkpoint files of a model under test, written at once.
#include <filesystem>

#include "engine/train/checkpoint/checkpoint.h"

namespace pastur::test {

inline void write_checkpoint(const std::filesystem::path& folder, Context& ctx, const Config& config,
                             const Parameters& params, const Optimizer& optimizer, const TrainState& state) {
    Context host = make_context(Device::kCpu);
    CheckpointImage image(params, optimizer, 0,
                          allocate(host, CheckpointImage::planned_bytes(params, optimizer, 0)));
    image.take(ctx, params, optimizer);
    write_checkpoint_files(folder, config, image, state, hf_checkpoint_files(config));
}

}  // namespace pastur::test
