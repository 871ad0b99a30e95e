#pragma once
#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace pastur {

/// The state of a run besides its tensors; part of every checkpoint.
struct TrainState {
    int64_t step = 0;                                ///< number of finished steps
    int64_t tokens = 0;                              ///< number of tokens trained on, without padding
    int64_t skipped = 0;                             ///< number of steps skipped by train.nonfinite = "skip"
    uint64_t data_fingerprint = 0;                   ///< of the training data
    uint64_t val_fingerprint = 0;                    ///< of the validation data; 0: unknown
    int64_t qk_clipped = 0;                          ///< number of times that train.qk_clip scaled a head
    std::vector<uint64_t> source_fingerprints = {};  ///< of a mixture's sources, in their order
    std::map<std::string, uint64_t> val_set_fingerprints = {};  ///< of data.val_sets, by name
};

}  // namespace pastur
