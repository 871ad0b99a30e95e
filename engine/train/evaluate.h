#pragma once
#include <functional>
#include <optional>

#include "data/loader.h"
#include "engine/model/batch.h"
#include "engine/model/model.h"
#include "engine/ranks/comm.h"

namespace pastur {

struct Evaluation {
    double loss;     ///< mean cross-entropy, nats per token
    int64_t tokens;  ///< it was measured on
    double perplexity() const;
};

/// Loss on the first sequences of `data`, at most max_tokens of them (0: all), in storage order; the batches
/// are dealt to the ranks, and every rank is told the same. give_up() is asked before each round of batches;
/// once it is true on any rank, all end with nothing.
std::optional<Evaluation> evaluate(Context& ctx, Comm& comm, Model& model, DeviceBatch& batch,
                                   const TokenLoader& data, int64_t max_tokens,
                                   const std::function<bool()>& give_up);

}  // namespace pastur
