#pragma once
// Shared by the Hopper kernels of attention and linear layers: blocks of one producing and several consuming
// warpgroups, rings of stages in shared memory between them, and the swizzled tiles that TMA writes and wgmma
// reads.
#include <type_traits>

#include "kernels/cuda/hopper.cuh"

namespace pastur {

/// kRows rows of bf16 in shared memory as TMA writes them. The segments of a row are cut into parts of 64 (or
/// 32) columns. Parts are stored one after the other, each as kRows lines of 128 (64) bytes whose 16-byte
/// units TMA permutes ("swizzle 128B", "64B"). The whole begins at a multiple of 1024 bytes.
template <int kRows, int... kSegments>
struct SwizzledRows {
    static constexpr int kWidth = (kSegments + ...);
    static constexpr int kBytes = kRows * kWidth * 2;
    static constexpr int kParts = (((kSegments + 63) / 64) + ...);

    struct Part {
        int column, width;    ///< first column in the row, number of columns
        int segment, within;  ///< segment, first column in it
    };
    static constexpr Part part(int index) {
        constexpr int kWidths[] = {kSegments...};
        int column = 0;
        for (int segment = 0;; ++segment)
            for (int within = 0; within < kWidths[segment]; within += 64) {
                const int left = kWidths[segment] - within, width = left < 64 ? left : 64;
                if (index-- == 0) return {column, width, segment, within};
                column += width;
            }
    }
    static constexpr Part part_of(int column) {
        int index = 0;
        while (part(index).column + part(index).width <= column) ++index;
        return part(index);
    }

    /// The wgmma descriptor of an operand that begins kOffset bytes after `at`. Addresses of shared memory
    /// fit the field without a mask, so the loop over a tile holds one descriptor and adds constants to it.
    template <int kWidthOfPart, int kOffset>
    __device__ static uint64_t descriptor(SharedAddress at) {
        static_assert(kWidthOfPart == 64 || kWidthOfPart == 32);
        static_assert(kOffset % 16 == 0);
        constexpr uint64_t kSwizzle = kWidthOfPart == 64 ? 1 : 2, kEightRows = 8 * kWidthOfPart * 2 / 16;
        constexpr uint32_t kLow = (1 << 16) + kOffset / 16;
        return (kSwizzle << 62 | kEightRows << 32) + ((at >> 4) + kLow);
    }
    /// Descriptor of 16 columns of the rows from `row` on, as an operand stored by rows.
    template <int kColumn>
    __device__ static uint64_t by_rows(SharedAddress rows, int row) {
        constexpr Part kPart = part_of(kColumn);
        return descriptor<kPart.width, kPart.column * kRows * 2 + (kColumn - kPart.column) * 2>(
            rows + row * kPart.width * 2);
    }
    /// Descriptor of the columns of one part in 16 rows, as an operand B that is summed over its rows.
    template <int kPartIndex, int kRow>
    __device__ static uint64_t by_columns(SharedAddress rows) {
        constexpr Part kPart = part(kPartIndex);
        return descriptor<kPart.width, kPart.column * kRows * 2 + kRow * kPart.width * 2>(rows);
    }
};

/// The position at which TMA stores 16-byte unit `unit` of a row of 128 (or 64) bytes. The pattern repeats
/// every eight rows.
template <int kRowBytes>
__device__ __forceinline__ int swizzled(int row, int unit) {
    static_assert(kRowBytes == 128 || kRowBytes == 64);
    return kRowBytes == 128 ? unit ^ row % 8 : unit ^ row / 2 % 4;
}

inline constexpr int kWarpgroup = 128;
inline constexpr int kGroupRows = 64;  ///< rows per consuming warpgroup
/// Number of consuming warpgroups, their threads, and the threads of a block. (Attention forward with values
/// of 64 columns has three consuming warpgroups instead.)
inline constexpr int kConsumers = 2;
inline constexpr int kConsumerThreads = kConsumers * kWarpgroup, kThreads = kConsumerThreads + kWarpgroup;

/// Registers per thread after the producer has given up those it does not need.
template <int kConsumers>
struct Registers {
    static constexpr int kProducer = kConsumers == 2 ? 24 : 32, kConsumer = kConsumers == 2 ? 240 : 160;
    /// At launch each thread gets as many registers, in multiples of 8, as fit. A warpgroup that requests
    /// more than are left would wait forever.
    static constexpr int kLaunched = 65536 / ((kConsumers + 1) * kWarpgroup) / 8 * 8;
    static_assert(kProducer + kConsumers * kConsumer <= (kConsumers + 1) * kLaunched);
};

/// Position in a ring of stages, and the parity of that stage's phase.
template <int kStages>
struct Ring {
    int stage = 0, parity = 0;
    __device__ void advance() {
        if (++stage == kStages) {
            stage = 0;
            parity ^= 1;
        }
    }
};

/// Position of the `index`-th of `rows` x `columns` tiles in an order by groups of `group` rows (the last
/// group may be smaller), and within a group column by column.
__device__ __forceinline__ void grouped_at(int index, int rows, int columns, int group, int& row,
                                           int& column) {
    const int first = index / (group * columns) * group, size = min(group, rows - first);
    const int within = index - first * columns;
    row = first + within % size;
    column = within / size;
}

/// An array of mbarriers in shared memory, 8 bytes each.
struct Barriers {
    SharedAddress first;
    __device__ SharedAddress operator[](int i) const { return first + i * 8; }
};

__device__ inline SharedAddress shared_base() {
    return (shared_address(dynamic_shared()) + 1023) / 1024 * 1024;
}
__device__ __forceinline__ std::byte* shared_pointer(SharedAddress at) {
    return dynamic_shared() + (at - shared_address(dynamic_shared()));
}
/// A number in shared memory that one thread writes and others read after a barrier.
__device__ inline volatile int& shared_number(SharedAddress at) {
    return *reinterpret_cast<volatile int*>(shared_pointer(at));
}
inline constexpr int kSharedAlignment = 1024;  ///< extra bytes of shared memory to request for alignment
inline constexpr int kHopperSharedBytes = 227 * 1024;  ///< largest shared memory of a block

}  // namespace pastur
