#pragma once
// The data of a run: what it trains on and what it validates on.
#include <functional>
#include <string>
#include <vector>

#include "data/loader.h"
#include "engine/config/config.h"
#include "engine/train/checkpoint/train_state.h"

namespace pastur {

struct TrainingData {
    /// Opens and reads all data that the recipe names. Without data.val, a mixture validates on the validation shards of
    /// its folders, by the same weights. Throws as TokenLoader does, and (kUsage) where the recipe names no data.
    explicit TrainingData(const Config& config);

    struct NamedLoader {
        std::string name;
        TokenLoader loader;
    };
    TokenLoader train, val;
    std::vector<NamedLoader> val_sets;  ///< data.val_sets

    /// The token that ends the documents of all this data, for data.mask_documents. Throws (kUsage), naming the data,
    /// where nothing says it or some data has another one.
    int32_t separator() const;
    /// For the console: sources of a mixture with their epochs in the whole run, further validation sets, and what
    /// files were taken for.
    std::string describe(const Config& config) const;
    /// Sets the fingerprints of `state` to those of this data.
    void sign(TrainState& state) const;
};

/// Throws (kCorruptData), naming the sources, if the training data differs from that of the checkpoint. Says which
/// validation data differs.
void check_same_data(const TrainState& checkpoint, const TrainState& present, const TrainingData& data,
                     const std::function<void(const std::string&)>& say);

/// The config with all paths to data absolute.
Config with_absolute_data(Config config);

}  // namespace pastur
