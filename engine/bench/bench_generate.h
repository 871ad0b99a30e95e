#pragma once
// Speed and memory of generation: prompts of random tokens at initial weights, then passes of one token per sequence.
#include <vector>

#include "engine/config/config.h"
#include "engine/model/decoding/decoder.h"

namespace pastur {

struct GenerateBenchOptions {
    std::vector<int64_t> batches;  ///< sequences, measured one after the other
    int64_t context = 0;           ///< tokens of every prompt
    int64_t steps = 0;             ///< measured passes after it
};

struct GenerateCell {
    int64_t batch = 0, context = 0;
    double prefill_seconds = 0;             ///< of all prompts, the second time that they are read
    std::vector<double> step_seconds = {};  ///< of each pass, without the draw of tokens
    CacheUse cache = {};                    ///< after the last pass
    int64_t working_bytes = 0;              ///< Decoder::working_bytes()
    int64_t replays = 0;                    ///< Decoder::replays(), also of the passes that warm up

    double prefill_tokens_per_s() const;
    double step_seconds_p50() const;
    double step_seconds_p95() const;
    /// Tokens of all sequences per second.
    double decode_tokens_per_s() const;
};

struct GenerateBench {
    Config config;
    int64_t parameters = 0;
    int64_t weight_bytes = 0;  ///< of the parameters in the compute dtype
    std::vector<GenerateCell> cells;
};

/// Throws (kNoDevice) if a batch does not fit.
GenerateBench bench_generate(Context& ctx, const Config& config, const GenerateBenchOptions& options);

}  // namespace pastur
