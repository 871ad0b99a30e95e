#pragma once
// The online softmax of 16 queries over tiles of keys, a warp's work in the forward kernels of mma.sync.
#include "kernels/cuda/attention/masks.cuh"
#include "kernels/cuda/attention/max_logit.cuh"
#include "kernels/cuda/attention/mma/tiles.cuh"
#include "kernels/cuda/attention/softmax.cuh"

namespace pastur::attention {

/// A warp's 16 queries, their softmax so far, and their unnormalised outputs.
template <typename Operand, int kQk, int kV>
struct QueryRows {
    Operand q;
    OnlineSoftmax softmax;
    float out[kV / 8][4];

    /// Adds keys [key, key + kKeys); `row` is the warp's first query. kDiagonal: whether keys may follow
    /// queries. `stride`: of the keys, unless kMask is kCausal.
    template <int kKeys, bool kDiagonal, Mask kMask>
    __device__ void attend(SharedAddress k_tile, SharedAddress v_tile, int row, int key, float c, int lane,
                           const ChunkEnds& chunk_ends, const QueryDocuments<kMask>& documents, int stride) {
        float s[kKeys / 8][4];
        multiply_rows<kKeys, kQk>(s, q, k_tile, lane);
        if constexpr (kMask == Mask::kDocuments) {
            if (kDiagonal || documents.hides(key, stride))
                mask_other_documents(s, row + lane / 4, key + lane % 4 * 2,
                                     chunk_ends.from(key) >> lane % 4 * 2, documents.first_key);
        } else if constexpr (kMask == Mask::kStride && kDiagonal) {
            mask_hidden_keys(s, row + lane / 4, key + lane % 4 * 2, chunk_ends.from(key) >> lane % 4 * 2);
        } else if constexpr (kMask == Mask::kStride) {
            mask_inside_chunks(s, chunk_ends.from(key) >> lane % 4 * 2);
        } else if constexpr (kDiagonal) {
            mask_later_keys(s, row + lane / 4, key + lane % 4 * 2);
        }
        float rescale[2];
        softmax.template step<kMask != Mask::kCausal>(s, rescale, c);
#pragma unroll
        for (int n = 0; n < kV / 8; ++n) {
            out[n][0] *= rescale[0], out[n][1] *= rescale[0];
            out[n][2] *= rescale[1], out[n][3] *= rescale[1];
        }
        accumulate_rows<kKeys, kV>(out, s, v_tile, lane);
    }

    /// Writes lse of tokens row ...; call softmax.finish() first.
    __device__ void store_lse(float* lse, int row, int tokens, float scale, int lane) const {
        const int token = row + lane / 4 + lane % 4 * 8;  // lanes 0 and 1 of each quad write
        if (lane % 4 >= 2 || token >= tokens) return;
        const float maximum = lane % 4 == 0 ? softmax.maximum[0] : softmax.maximum[1];
        const float sum = lane % 4 == 0 ? softmax.sum[0] : softmax.sum[1];
        lse[token] = maximum * scale + logf(sum);
    }
};

}  // namespace pastur::attention
