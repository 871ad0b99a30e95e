#pragma once
// Shared memory of wgmma/resident_forward.cu, and the warps of its producer warpgroup, which copy and rotate.
#include "kernels/cuda/attention/wgmma/resident.cuh"

namespace pastur::attention::wgmma_resident {

inline constexpr int kStages = 2;
inline constexpr int kRotators = 3;  ///< warps of the producer warpgroup that rotate
/// Registers per thread of a rotating and of a consuming warp, out of 3 * 168 for three warpgroups. With
/// fewer, spills cost 12 % where keys are rotated; the other way round 1 % where half of each query is.
template <Rotated kRotated>
struct RotatingRegisters {
    static constexpr int kRotator = kRotated == Rotated::kHalfQueries ? 72 : 56;
    static constexpr int kConsumer = (3 * 168 - kRotator) / 2;
};

/// Neighbouring columns that a lane rotates at once, with their partners half the width further.
inline constexpr int kRotatedColumns = 4;
/// Rows that a warp rotates at once.
constexpr int rotated_rows(int width) {
    return 32 / (width / (2 * kRotatedColumns));
}

/// Shared memory of a CTA: queries, keys and values of two heads in turn, and for each consumer warp its two
/// times 16 output rows on their way to memory.
template <int kShared>
struct HeadTiles {
    using Widths = HeadWidths<kResidentWidth - kShared, kShared, kResidentWidth>;
    using Rows = typename Widths::template Key<kResidentTokens>;  // of keys and queries
    using V = typename Widths::template Value<kResidentTokens>;
    using Out = SwizzledRows<kWarpRows, kResidentWidth>;
    static constexpr int kKeyAt = Rows::kBytes, kValueAt = 2 * Rows::kBytes;
    static constexpr int kStageBytes = kValueAt + V::kBytes;
    static constexpr int kOutAt = kStages * kStageBytes;
    static constexpr int kBarriersAt = kOutAt + kConsumers * 4 * 2 * Out::kBytes;
    static constexpr int kSharedBytes = kBarriersAt + 5 * kStages * 8 + kSharedAlignment;
    static_assert(kSharedBytes <= kHopperSharedBytes);
};

struct ForwardKernelParams {
    TensorMaps maps;
    CUtensorMap out, rotated_q, rotated_k;
    ForwardParams<bf16> attention;
    int copied_rows;  ///< rows of each matrix of a head: whole tiles of 64, zero past the last token
    int rotations;    ///< how many times rotated_rows a rotating warp covers of a head
};

#if defined(PASTUR_HOPPER)

/// Addresses of a CTA's shared memory.
template <typename Tiles>
struct HeadShared {
    SharedAddress base = shared_base();
    Barriers qk_full{base + Tiles::kBarriersAt}, qk_empty{qk_full[kStages]}, rotated{qk_empty[kStages]},
        v_full{rotated[kStages]}, v_empty{v_full[kStages]};

    __device__ SharedAddress stage(int index) const { return base + index * Tiles::kStageBytes; }
};

/// Copies the rows of every head by TMA; one thread.
template <typename Tiles>
__device__ __forceinline__ void produce(const ForwardKernelParams& p, const HeadShared<Tiles>& shared) {
    Ring<kStages> ring;
    const int bytes = p.copied_rows * kResidentWidth * 2;
    for (HeadWalk walk(p.attention.sizes, 1); !walk.done(); walk.advance(), ring.advance()) {
        const int batch = walk.batch(), head = walk.head(), kv_head = head / p.attention.sizes.group();
        const SharedAddress stage = shared.stage(ring.stage), qk_full = shared.qk_full[ring.stage],
                            v_full = shared.v_full[ring.stage];
        mbarrier_sleep(shared.qk_empty[ring.stage], ring.parity ^ 1);
        mbarrier_expect(qk_full, 2 * bytes);
        copy_rows<typename Tiles::Rows>(stage, p.maps.q, qk_full, 0, head, head, batch);
        copy_rows<typename Tiles::Rows>(stage + Tiles::kKeyAt, p.maps.k, qk_full, 0, kv_head, 0, batch);
        mbarrier_sleep(shared.v_empty[ring.stage], ring.parity ^ 1);
        mbarrier_expect(v_full, bytes);
        copy_rows<typename Tiles::V>(stage + Tiles::kValueAt, p.maps.v, v_full, 0, kv_head, 0, batch);
    }
}

/// Byte offset of a row's 16-byte unit among rows of kRowBytes, 128 or 64.
template <int kRowBytes>
__device__ __forceinline__ int swizzled_unit(int row, int unit) {
    return row * kRowBytes + swizzled<kRowBytes>(row, unit) * 16;
}

/// A warp that rotates a third of a head's queries, and keys, in shared memory before the consumers read them
/// (rope.h, kForward), and copies them from there to memory.
template <typename Tiles, Rotated kRotated>
struct Rotator {
    static constexpr bool kKeys = kRotated == Rotated::kQueriesAndKeys;
    static constexpr int kBegin = kRotated == Rotated::kHalfQueries ? kResidentWidth / 2 : 0;
    static constexpr int kWidth = kResidentWidth - kBegin, kHalf = kWidth / 2;
    static constexpr int kRows = rotated_rows(kWidth);  ///< rotated at once
    /// Number of rotations whose angles are held or being loaded. Loads from L2 take longer than three
    /// rotations, and the angles of all would not fit next to the heads.
    static constexpr int kAhead = 4;

    const ForwardKernelParams& p;
    const HeadShared<Tiles>& shared;
    int rotator, lane;

    using Numbers = Packed<bf16, kRotatedColumns>;
    struct Angles {
        Packed<float, kRotatedColumns> cosine, sine;
    };
    /// This lane's row and first column among those that the warp rotates at once.
    __device__ __forceinline__ int row() const { return lane % kRows; }
    __device__ __forceinline__ int column() const { return lane / kRows * kRotatedColumns; }
    /// The warp's first row of a head.
    __device__ __forceinline__ int first() const { return rotator * p.rotations * kRows; }

    /// The angles of a rotation; past the last token those of the last token.
    __device__ __forceinline__ Angles load(int index) const {
        const int token = min(first() + index * kRows + row(), p.attention.sizes.tokens - 1);
        const float* from = p.attention.rope_table + token * kWidth + column();
        return {Packed<float, kRotatedColumns>::load(from),
                Packed<float, kRotatedColumns>::load(from + kHalf)};
    }

    /// Byte offset of this lane's numbers in the first rotation from the warp's first row.
    __device__ __forceinline__ int lane_offset() const {
        return swizzled_unit<kWidth * 2>(row(), column() / 8) + column() % 8 * 2;
    }
    /// Rotates the numbers `at` and their partners. In an odd rotation that starts half-way through the
    /// pattern of eight swizzled rows, the two halves of a row are exchanged.
    template <bool kOdd>
    __device__ __forceinline__ void rotate(SharedAddress at, const Angles& angles) const {
        constexpr int kPartner = kHalf * 2;
        bf16* low = reinterpret_cast<bf16*>(shared_pointer(kOdd && kRows < 8 ? at ^ kPartner : at));
        bf16* high = reinterpret_cast<bf16*>(shared_pointer(kOdd && kRows < 8 ? at : at ^ kPartner));
        const auto x = Numbers::load(low), y = Numbers::load(high);
        const auto &c = angles.cosine, &s = angles.sine;
        Numbers::of([&](int i) { return x[i] * c[i] - y[i] * s[i]; }).store(low);
        Numbers::of([&](int i) { return y[i] * c[i] + x[i] * s[i]; }).store(high);
    }

    /// The warp's first row of a head's queries.
    __device__ __forceinline__ SharedAddress queries(SharedAddress stage) const {
        return stage + kBegin * kResidentTokens * 2 + first() * kWidth * 2;
    }
    /// The warp's first row of a head's keys.
    __device__ __forceinline__ SharedAddress keys(SharedAddress stage) const {
        return stage + Tiles::kKeyAt + first() * kWidth * 2;
    }

    /// Starts the copy of the warp's rotated rows to memory and waits until they may be overwritten; one
    /// lane.
    __device__ __forceinline__ void store(const HeadWalk& walk, SharedAddress stage) const {
        const int head = walk.head(), batch = walk.batch();
        store_box(p.rotated_q, queries(stage), 0, first(), head, batch);
        if constexpr (kKeys) store_box(p.rotated_k, keys(stage), 0, first(), head, batch);
        stores_commit();
        stores_read<0>();
    }

    __device__ __forceinline__ void run() {
        Ring<kStages> ring;
        const int tokens = p.attention.sizes.tokens;
        const int count = min(max((tokens - first() + kRows - 1) / kRows, 0), p.rotations);
        const int offset = lane_offset();
        Angles angles[kAhead];  // angles[k] serves rotations k, k + kAhead ...
        unrolled<kAhead>([&]<int kFirst>() { angles[kFirst] = load(kFirst); });
        for (HeadWalk walk(p.attention.sizes, 1); !walk.done(); walk.advance(), ring.advance()) {
            const SharedAddress stage = shared.stage(ring.stage);
            mbarrier_sleep(shared.qk_full[ring.stage], ring.parity);
            // One fence and one copy per head: the fence waits for the angles being loaded, and many small
            // copies were slower.
#pragma unroll 1
            for (int some = 0; some < count; some += kAhead) {
                unrolled<kAhead>([&]<int kFirst>() {
                    const int index = some + kFirst, next = index + kAhead;
                    if (index >= count) return;
                    const int at = offset + index * kRows * kWidth * 2;
                    rotate<kFirst % 2 == 1>(queries(stage) + at, angles[kFirst]);
                    if constexpr (kKeys) rotate<kFirst % 2 == 1>(keys(stage) + at, angles[kFirst]);
                    angles[kFirst] = load(next < count ? next : kFirst);  // or the next head's first
                });
            }
            shared_written();
            __syncwarp();
            release(shared.rotated[ring.stage]);
            if (lane == 0) {
                if (count > 0) store(walk, stage);
                release(shared.qk_empty[ring.stage]);
            }
        }
    }
};

#endif  // PASTUR_HOPPER

}  // namespace pastur::attention::wgmma_resident
