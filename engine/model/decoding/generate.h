#pragma once
// Continues prompts token by token.
#include <functional>
#include <vector>

#include "engine/model/decoding/decoder.h"
#include "engine/model/decoding/sampler.h"

namespace pastur {

enum class StopReason : uint8_t {
    kEos,     ///< the end-of-text token was drawn; it is not part of the tokens
    kCaller,  ///< GenerateOptions::on_token said so; the token is part of the tokens
    kTokens,  ///< max_tokens were drawn
    kRoom,    ///< the sequence is as long as the decoder's cache
};
const char* name_of(StopReason reason);

struct GenerateOptions {
    Sampling sampling;
    int64_t max_tokens = 0;       ///< of a continuation; 0: as many as the cache has room for
    int64_t vocab = 0;            ///< only ids below it are drawn; 0: the model's vocabulary
    std::vector<int32_t> eos;     ///< ids that end a sequence
    uint64_t first_sequence = 0;  ///< number of the first prompt, for the random numbers
    /// Called with each token in the order of sequences; returns whether its sequence goes on. Empty: all do.
    std::function<bool(int64_t sequence, int32_t token)> on_token = {};
};

struct Continuation {
    std::vector<int32_t> tokens;
    StopReason stop = StopReason::kTokens;
};

struct Generation {
    std::vector<Continuation> sequences;  ///< one of each prompt
    double prefill_seconds = 0;           ///< until the logits that follow all prompts are computed
    double first_token_seconds = 0;       ///< until on_token() has seen the first token
    double decode_seconds = 0;            ///< of all further passes, with the draws
    int64_t prompt_tokens = 0;
    int64_t decoded_tokens = 0;  ///< tokens that passes after the prefill gave
    CacheUse cache;              ///< at the end
};

/// Continues each prompt, of 1 to decoder.shape().prompt tokens, until a StopReason holds.
Generation generate(Decoder& decoder, const std::vector<std::vector<int32_t>>& prompts,
                    const GenerateOptions& options);

}  // namespace pastur
