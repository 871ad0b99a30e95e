#pragma once
#include <cstdint>

namespace pastur {

/// The shape of one forward pass; N = B T.
struct BatchShape {
    int64_t batch;  ///< B, sequences of a micro-batch
    int64_t time;   ///< T
    int64_t tokens() const { return batch * time; }
};

}  // namespace pastur
