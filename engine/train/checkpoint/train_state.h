#pragma once
#include <cstdint>

namespace pastur {

/// The state of a run besides its tensors; part of every checkpoint.
struct TrainState {
    int64_t step = 0;               ///< number of finished steps
    int64_t tokens = 0;             ///< number of tokens trained on
    int64_t skipped = 0;            ///< number of steps skipped by train.nonfinite = "skip"
    uint64_t data_fingerprint = 0;  ///< of the training data
    uint64_t val_fingerprint = 0;   ///< of the validation data; 0: unknown
    int64_t qk_clipped = 0;         ///< number of times that train.qk_clip scaled a head
};

}  // namespace pastur
