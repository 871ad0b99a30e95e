#pragma once
#include <cstdint>

namespace pastur {

/// What changes from step to step besides the tensors; part of every checkpoint.
struct TrainState {
    int64_t step = 0;               ///< finished
    int64_t tokens = 0;             ///< trained on
    int64_t skipped = 0;            ///< steps left out under train.nonfinite = "skip"
    uint64_t data_fingerprint = 0;  ///< of the training data
    uint64_t val_fingerprint = 0;   ///< of the validation data; 0: unknown
};

}  // namespace pastur
