#pragma once
#include "data/loader.h"
#include "engine/batch.h"
#include "engine/model.h"

namespace pastur {

struct Evaluation {
    double loss;     ///< mean cross-entropy, nats per token
    int64_t tokens;  ///< it was measured on
    double perplexity() const;
};

/// Loss on the first sequences of `data`, at most max_tokens of them (0: all), in storage order.
Evaluation evaluate(Context& ctx, Model& model, DeviceBatch& batch, const TokenLoader& data,
                    int64_t max_tokens);

}  // namespace pastur
