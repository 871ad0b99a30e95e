#pragma once
// What decoding passes through the layers: the cache of a layer, and one token of each sequence.
#include <cstdint>
#include <span>
#include <vector>

#include "kernels/base/tensor.h"

namespace pastur {

/// A layer's cache of B sequences, laid out by CacheLayout.
struct LayerCache {
    std::vector<Tensor> parts;  ///< [B, slots, heads, width], in the order of CacheLayout::parts
};

/// One token of each of B sequences, each at a position of its own. Tensors are on the device.
struct DecodeStep {
    ConstTensor positions;  ///< i32 [B]
    ConstTensor slots;      ///< i32 [B]: of the cache, positions / stride
    ConstTensor lengths;    ///< i32 [B]: slots that the token sees, with its own; slots + 1
    /// At least the lengths, at most the slots of the cache; what a pass launches depends on them and not on the lengths.
    std::span<const int32_t> bounds;
    int64_t longest;              ///< of the bounds
    ConstTensor rope_table = {};  ///< f32 [tokens, w] as in rope.h; empty where nothing is rotated
    ConstTensor rope_rows = {};   ///< f32 [B, w]: its rows of the positions
};

}  // namespace pastur
