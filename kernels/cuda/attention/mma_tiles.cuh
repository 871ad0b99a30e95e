#pragma once
// Tiles of bf16 rows in shared memory and the warp products over them, common to the tensor-core attention
// kernels.
#include "kernels/cuda/attention/params.h"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/mma.cuh"

namespace pastur::attention {

inline constexpr float kLog2E = 1.4426950408889634f;

/// Which (sequence, head, tile of tokens) a block works on, and which of `chunks` parts of the tile's output.
/// The tiles of a head are neighbours in launch order, so that they find each other's rows in L2;
/// `descending` starts with the last one. Read straight from the block's index, it stays in uniform
/// registers.
struct BlockPosition {
    int batch, head, tile, chunk;

    __device__ explicit BlockPosition(bool descending, int chunks = 1) {
        const int tiles = static_cast<int>(gridDim.x) / chunks, index = static_cast<int>(blockIdx.x);
        batch = static_cast<int>(blockIdx.z);
        head = static_cast<int>(blockIdx.y);
        tile = descending ? tiles - 1 - index / chunks : index / chunks;
        chunk = index % chunks;
    }
    /// Index of the head's first token in [B, H, T].
    __device__ int64_t first_row(const Sizes& sizes) const {
        return (static_cast<int64_t>(batch) * sizes.heads + head) * sizes.tokens;
    }
};

/// The grid BlockPosition reads.
inline dim3 tile_grid(const Sizes& sizes, int heads, int tile_rows, int chunks = 1) {
    return dim3(static_cast<unsigned>(ceil_div(sizes.tokens, tile_rows) * chunks),
                static_cast<unsigned>(heads), static_cast<unsigned>(sizes.batch));
}

/// Calls run.template operator()<kQk, kV>() with the smallest instantiated tile widths that hold the heads.
template <typename Run>
void visit_widths(const Sizes& sizes, const Run& run) {
    const int qk = sizes.query_key(), v = sizes.value;
    if (qk <= 32 && v <= 32) {
        run.template operator()<32, 32>();
    } else if (qk <= 64 && v <= 64) {
        run.template operator()<64, 64>();
    } else if (qk <= 96 && v <= 64) {
        run.template operator()<96, 64>();
    } else if (qk <= 128 && v <= 128) {
        run.template operator()<128, 128>();
    } else if (qk <= 192 && v <= 128) {
        run.template operator()<192, 128>();
    } else {
        run.template operator()<256, 256>();
    }
}

/// The rows of one (sequence, head): token t holds [content | rotary], each part with an address and a stride
/// of its own. This is where a key and the rotary key shared by all heads become one row.
template <typename T>
struct TokenRows {
    T* content;
    T* rotary;
    int content_stride, rotary_stride;
    int content_width, width;  ///< width: of both parts

    /// One column of the rows: its address in token 0, and the stride from token to token.
    struct Column {
        T* data;
        int stride;
        __device__ T* at(int token) const { return data + static_cast<int64_t>(token) * stride; }
    };
    __device__ Column column(int column) const {
        if (column < content_width) return {content + column, content_stride};
        return {rotary + (column - content_width), rotary_stride};
    }
};

template <typename T>
__device__ TokenRows<T> token_rows(const HeadView<T>& view, int batch, int head, int width) {
    T* rows = view.at(batch, head);
    return {rows, rows, view.token, view.token, width, width};
}

template <typename T>
__device__ TokenRows<T> token_rows(const HeadView<T>& content, int width, const HeadView<T>& rotary,
                                   int rotary_width, int batch, int head) {
    return {content.at(batch, head), rotary.at(batch, head), content.token, rotary.token, width,
            width + rotary_width};
}

/// kRows x kWidth bf16, row-major. Rows are padded by 16 bytes: the pitch is an odd number of 16-byte units,
/// so the eight rows of an ldmatrix matrix fall into different banks, and every address is one base plus a
/// constant.
template <int kRows, int kWidth>
struct Tile {
    static_assert(kWidth % 32 == 0);
    static constexpr int kPitch = kWidth * 2 + 16;
    static constexpr int kBytes = kRows * kPitch;

    /// What a lane passes to ldmatrix for the 16 x 16 block at (row, 0) as operand A, or, transposed, as two
    /// 8-column operands B of a product over the tile's rows.
    __device__ static SharedAddress lane_a(SharedAddress tile, int row, int lane) {
        return tile + (row + lane % 16) * kPitch + lane / 16 * 16;
    }
    /// The same for operand B of a product over the tile's columns: r[0], r[1] belong to rows 0-7, r[2], r[3]
    /// to 8-15.
    __device__ static SharedAddress lane_b(SharedAddress tile, int lane) {
        return tile + (lane % 8 + lane / 16 * 8) * kPitch + lane / 8 % 2 * 16;
    }
};

/// Starts the copy of tokens [first, first + kRows) into a tile; rows beyond `tokens` and columns beyond
/// rows.width become zero. Every thread of the block takes part; widths are multiples of 8 and rows aligned
/// to 16 bytes.
template <int kRows, int kWidth, int kThreads>
__device__ void load_tile(SharedAddress tile, const TokenRows<const bf16>& rows, int first, int tokens) {
    constexpr int kLanes = kWidth % 64 == 0 ? 8 : 4;  // threads side by side along a row
    constexpr int kRowStep = kThreads / kLanes;
    static_assert(kRows % kRowStep == 0);
    const int thread_row = static_cast<int>(threadIdx.x) / kLanes;
    const int thread_column = static_cast<int>(threadIdx.x) % kLanes * 8;
#pragma unroll
    for (int i = 0; i < kWidth / (8 * kLanes); ++i) {
        const int column = thread_column + i * kLanes * 8;
        const bool inside = column < rows.width;
        const auto source = rows.column(inside ? column : 0);
        SharedAddress to = tile + thread_row * Tile<kRows, kWidth>::kPitch + column * 2;
#pragma unroll
        for (int r = 0; r < kRows; r += kRowStep) {
            const bool valid = inside && first + thread_row + r < tokens;
            copy_async_16(to + r * Tile<kRows, kWidth>::kPitch, source.at(first + thread_row + r), valid);
        }
    }
}

/// Writes a warp's 16 x kWidth accumulators, times a factor for the rows g and one for the rows g + 8, to
/// tokens first ... of `rows`. They pass through 16 rows of shared memory (`kPitch` bytes apart) that no
/// other warp uses, so that every lane writes 16 bytes and whole sectors leave the chip.
template <int kWidth, int kPitch>
__device__ void store_fragments(const TokenRows<bf16>& rows, const float (&acc)[kWidth / 8][4], float factor0,
                                float factor1, std::byte* staging, int first, int tokens, int lane) {
    static_assert(kPitch >= kWidth * 2);
    __syncwarp();
    std::byte* at = staging + lane / 4 * kPitch + lane % 4 * 4;
#pragma unroll
    for (int n = 0; n < kWidth / 8; ++n) {
        *reinterpret_cast<uint32_t*>(at + n * 16) = pack_bf16(acc[n][0] * factor0, acc[n][1] * factor0);
        *reinterpret_cast<uint32_t*>(at + n * 16 + 8 * kPitch) =
            pack_bf16(acc[n][2] * factor1, acc[n][3] * factor1);
    }
    __syncwarp();
    constexpr int kLanes = kWidth % 64 == 0 ? 8 : 4;
#pragma unroll
    for (int i = 0; i < kWidth / (8 * kLanes); ++i) {
        const int column = (lane % kLanes + i * kLanes) * 8;
        if (column >= rows.width) continue;
        const auto to = rows.column(column);
#pragma unroll
        for (int r = lane / kLanes; r < 16; r += 32 / kLanes) {
            const int token = first + r;
            if (token >= tokens) continue;
            *reinterpret_cast<uint4*>(to.at(token)) =
                *reinterpret_cast<const uint4*>(staging + r * kPitch + column * 2);
        }
    }
}

/// Transposes 4 x 4 words over the four lanes of a quad: word j of lane t becomes word t of lane j.
__device__ inline void transpose_quad(uint32_t (&words)[4], int lane) {
#pragma unroll
    for (int bit = 1; bit <= 2; bit *= 2) {
        const bool upper = lane & bit;
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            if (i & bit) continue;
            const uint32_t mine = upper ? words[i] : words[i | bit];
            const uint32_t theirs = __shfl_xor_sync(kAllLanes, mine, bit);
            if (upper)
                words[i] = theirs;
            else
                words[i | bit] = theirs;
        }
    }
}

/// A warp's 16 tokens x 64 columns in registers, straight from memory in pieces of 16 bytes: lane (g, t) =
/// (lane / 4, lane % 4) has columns 8 t .. and 32 + 8 t .. of rows g and g + 8.
struct BlockChunks {
    Packed<bf16, 8> chunk[2][2];

    __device__ void request(const TokenRows<const bf16>& rows, int first, int tokens, int lane,
                            int first_column = 0) {
#pragma unroll
        for (int i = 0; i < 2; ++i) {
            const auto source = rows.column(first_column + i * 32 + lane % 4 * 8);
#pragma unroll
            for (int half = 0; half < 2; ++half) {
                const int token = first + lane / 4 + half * 8;
                chunk[half][i] = {};
                if (token < tokens) chunk[half][i] = Packed<bf16, 8>::load(source.at(token));
            }
        }
    }

    /// Gives the rows as operand A of a product over the columns.
    __device__ void to_fragments(uint32_t (&a)[4][4], int lane) const {
#pragma unroll
        for (int i = 0; i < 2; ++i) {
#pragma unroll
            for (int half = 0; half < 2; ++half) {
                uint32_t words[4];
#pragma unroll
                for (int j = 0; j < 4; ++j) words[j] = chunk[half][i].words[j];
                transpose_quad(words, lane);
#pragma unroll
                for (int j = 0; j < 4; ++j) a[i * 2 + j / 2][half + j % 2 * 2] = words[j];
            }
        }
    }
};

/// Writes columns [32 kFrom, 32 kTo) of a warp's accumulators of 16 rows, times a factor for the rows g and
/// one for the rows g + 8, to tokens first ... of `rows`: quads exchange words, so that every lane writes 16
/// bytes and whole sectors leave the chip.
template <int kFrom, int kTo, int kTiles>
__device__ void store_columns(const TokenRows<bf16>& rows, const float (&acc)[kTiles][4], float factor0,
                              float factor1, int first, int tokens, int lane) {
#pragma unroll
    for (int i = kFrom; i < kTo; ++i) {
        const auto to = rows.column(i * 32 + lane % 4 * 8);
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            const float factor = half == 0 ? factor0 : factor1;
            uint32_t words[4];
#pragma unroll
            for (int j = 0; j < 4; ++j) {
                const float(&pair)[4] = acc[i * 4 + j];
                words[j] = pack_bf16(pair[2 * half] * factor, pair[2 * half + 1] * factor);
            }
            transpose_quad(words, lane);
            const int token = first + lane / 4 + half * 8;
            if (token < tokens)
                *reinterpret_cast<uint4*>(to.at(token)) = {words[0], words[1], words[2], words[3]};
        }
    }
}

/// All of them.
template <int kTiles>
__device__ void store_block(const TokenRows<bf16>& rows, const float (&acc)[kTiles][4], float factor0,
                            float factor1, int first, int tokens, int lane) {
    store_columns<0, kTiles / 4>(rows, acc, factor0, factor1, first, tokens, lane);
}

/// Rotates two neighbouring columns of a row (its first or second half of the fragment) and their partners
/// back (rope.h, kInverse).
__device__ inline void rotate_pairs_back(float (&a)[4], float (&b)[4], int half, float2 cosine, float2 sine) {
    const float x = a[2 * half], y = a[2 * half + 1];
    a[2 * half] = x * cosine.x + b[2 * half] * sine.x;
    a[2 * half + 1] = y * cosine.y + b[2 * half + 1] * sine.y;
    b[2 * half] = b[2 * half] * cosine.x - x * sine.x;
    b[2 * half + 1] = b[2 * half + 1] * cosine.y - y * sine.y;
}

/// The angles of a warp's 16 tokens, for the last 16 kPairs columns of an accumulator: all of a head's, or
/// the shared ones. A column and its partner half the width further are the same lane's.
template <int kPairs>
struct BlockAngles {
    static constexpr int kHalf = kPairs * 8;
    float2 cosine[2][kPairs], sine[2][kPairs];

    __device__ void request(const float* table, int first, int tokens, int lane) {
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            const int token = min(first + lane / 4 + half * 8, tokens - 1);  // rows past it are not stored
            const float* row = table + token * 2 * kHalf + lane % 4 * 2;
#pragma unroll
            for (int n = 0; n < kPairs; ++n) {
                cosine[half][n] = *reinterpret_cast<const float2*>(row + n * 8);
                sine[half][n] = *reinterpret_cast<const float2*>(row + n * 8 + kHalf);
            }
        }
    }

    /// Rotates the last of an accumulator's columns back (rope.h, kInverse).
    template <int kTiles>
    __device__ void rotate_back(float (&acc)[kTiles][4]) const {
        constexpr int kFirst = kTiles - 2 * kPairs;
#pragma unroll
        for (int half = 0; half < 2; ++half) {
#pragma unroll
            for (int n = 0; n < kPairs; ++n) {
                rotate_pairs_back(acc[kFirst + n], acc[kFirst + kPairs + n], half, cosine[half][n],
                                  sine[half][n]);
            }
        }
    }
};

/// Operand A of a product, 16 rows x kDepth columns of a tile: kept in registers where the width leaves room
/// for it, read again for every product otherwise.
template <int kRows, int kDepth, bool kKeep>
struct OperandA {
    SharedAddress at;

    __device__ void load(SharedAddress tile, int row, int lane) {
        at = Tile<kRows, kDepth>::lane_a(tile, row, lane);
    }
    __device__ void fragment(uint32_t (&a)[4], int k) const { load_matrices(a, at + k * 32); }
};

template <int kRows, int kDepth>
struct OperandA<kRows, kDepth, true> {
    uint32_t kept[kDepth / 16][4];

    __device__ void load(SharedAddress tile, int row, int lane) {
        const SharedAddress at = Tile<kRows, kDepth>::lane_a(tile, row, lane);
#pragma unroll
        for (int k = 0; k < kDepth / 16; ++k) load_matrices(kept[k], at + k * 32);
    }
    __device__ void fragment(uint32_t (&a)[4], int k) const {
#pragma unroll
        for (int i = 0; i < 4; ++i) a[i] = kept[k][i];
    }
};

template <int kTiles>
__device__ void clear(float (&acc)[kTiles][4]) {
#pragma unroll
    for (int n = 0; n < kTiles; ++n) {
#pragma unroll
        for (int i = 0; i < 4; ++i) acc[n][i] = 0;
    }
}

/// acc = A B^T over the kDepth columns of both: A 16 x kDepth, B a tile of kCols rows.
template <int kCols, int kDepth, typename A>
__device__ void multiply_rows(float (&acc)[kCols / 8][4], const A& a, SharedAddress tile_b, int lane) {
    const SharedAddress at = Tile<kCols, kDepth>::lane_b(tile_b, lane);
    clear(acc);
#pragma unroll
    for (int k = 0; k < kDepth / 16; ++k) {
        uint32_t fa[4];
        a.fragment(fa, k);
#pragma unroll
        for (int n = 0; n < kCols / 16; ++n) {
            uint32_t fb[4];
            load_matrices(fb, at + n * 16 * Tile<kCols, kDepth>::kPitch + k * 32);
            multiply_add(acc[2 * n], fa, fb[0], fb[1]);
            multiply_add(acc[2 * n + 1], fa, fb[2], fb[3]);
        }
    }
}

/// acc += S B over the kCols columns of S and rows of B: S a warp's 16 x kCols accumulators, rounded to bf16
/// in place (two accumulator tiles side by side have the layout of a fragment A), B a tile of kCols rows.
template <int kCols, int kWidth>
__device__ void accumulate_rows(float (&acc)[kWidth / 8][4], const float (&s)[kCols / 8][4],
                                SharedAddress tile_b, int lane) {
    const SharedAddress at = Tile<kCols, kWidth>::lane_a(tile_b, 0, lane);
#pragma unroll
    for (int k = 0; k < kCols / 16; ++k) {
        const uint32_t fa[4] = {pack_bf16(s[2 * k][0], s[2 * k][1]), pack_bf16(s[2 * k][2], s[2 * k][3]),
                                pack_bf16(s[2 * k + 1][0], s[2 * k + 1][1]),
                                pack_bf16(s[2 * k + 1][2], s[2 * k + 1][3])};
#pragma unroll
        for (int n = 0; n < kWidth / 16; ++n) {
            uint32_t fb[4];
            load_matrices_transposed(fb, at + k * 16 * Tile<kCols, kWidth>::kPitch + n * 32);
            multiply_add(acc[2 * n], fa, fb[0], fb[1]);
            multiply_add(acc[2 * n + 1], fa, fb[2], fb[3]);
        }
    }
}

}  // namespace pastur::attention
