#pragma once
// What `pastur convert` found, as text and as JSON.
#include <nlohmann/json.hpp>

#include "engine/convert/conversion.h"

namespace pastur {

/// Perplexity on the held-out text after a stage.
struct ConvertStage {
    const char* name;  ///< "source", "partial RoPE", "kv_rank", "q_rank", "latent norm", "multiplied out"
    double loss;       ///< nats per token
};

struct ConvertReport {
    std::string source, out;
    Config before, after;
    convert::ConvertOptions options;  ///< of a conversion to `mla-decoupled`
    int64_t calibrate_tokens = 0, eval_tokens = 0;
    std::vector<ConvertStage> stages;
    std::vector<convert::LayerReport> layers;
};

/// One row of --dry-run.
struct ConvertTrade {
    convert::RotationKind rotation;
    int64_t kv_rank;
    int64_t cache_bytes;
    convert::LayerReport mean;  ///< over layers
    double loss;
};

/// Bytes per token of an inference cache in bf16, all layers.
int64_t cache_bytes(const Config& config);
convert::LayerReport mean_of(const std::vector<convert::LayerReport>& layers);
const char* name_of(convert::RotationKind rotation);

std::string describe(const ConvertReport& report);
nlohmann::ordered_json to_json(const ConvertReport& report);
/// The lines above the rows of --dry-run. report: of the source, with the loss of stage "source".
std::string describe_trades(const ConvertReport& report);
std::string describe(const ConvertReport& report, const ConvertTrade& trade);
nlohmann::ordered_json to_json(const ConvertReport& report, const std::vector<ConvertTrade>& trades);

}  // namespace pastur
