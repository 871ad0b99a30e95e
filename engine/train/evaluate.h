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
    int64_t tokens;  ///< number of tokens measured, without padding
    double perplexity() const;
};

/// Loss on the first sequences of `data` in storage order, at most max_tokens positions (0: all). Batches are
/// divided over the ranks; every rank returns the same result. give_up() is called before each round of
/// batches; once it is true on any rank, all ranks return nothing. Throws DataFailure on every rank.
std::optional<Evaluation> evaluate(Context& ctx, Comm& comm, Model& model, DeviceBatch& batch,
                                   const TokenLoader& data, int64_t max_tokens,
                                   const std::function<bool()>& give_up);
/// The same of sequences [0, sequences) of a reader.
std::optional<Evaluation> evaluate(Context& ctx, Comm& comm, Model& model, DeviceBatch& batch,
                                   const ReadSequence& read, int64_t sequences,
                                   const std::function<bool()>& give_up);

}  // namespace pastur
