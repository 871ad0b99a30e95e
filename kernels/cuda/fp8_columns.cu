// Rounding columns to e4m3, which become the rows of the transposed matrix. A column's scale is that of its
// largest number, so that every number is looked at twice, but it is read once: the blocks of the launch go
// through groups of columns which they hold together until all of a column is looked through. How many tiles
// a block holds meanwhile decides the speed, hence in registers, too: what the blocks tell each other takes
// several tiles' time (H200, 32,768 rows of 5,504 bf16 columns, held in shared memory alone: 0.203 ms, 4 of
// 32 KB; 0.236 to 0.263, 3 and 4 of 16 KB, twice a multiprocessor; with 3 more in registers 0.182).
#include <algorithm>

#include "kernels/cuda/fp8.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/mma.cuh"
#include "kernels/cuda/numeric.cuh"
#include "kernels/fp8.h"

namespace pastur {
namespace {

// A tile is kTileRows rows of a chunk, whose columns are 128 bytes of a row: eight threads' units of 16. A
// thread has four rows, which are one word of a column when they are turned around.
constexpr int kAcross = 8;
template <typename T>
constexpr int kColumns = kAcross* kVector<T>;  // of a chunk
template <typename T>
constexpr int kOfWord = 4 / static_cast<int>(sizeof(T));  // numbers of x in a word

/// The tiles of a block: kLoads are on their way, kHeld looked through and waiting for those of other blocks,
/// the first kStay of these in shared memory, the others in registers.
template <int kWorkers_, int kLoads_, int kStay_, int kKept_, int kBlocks_>
struct Ring {
    static constexpr int kWorkers = kWorkers_, kLoads = kLoads_, kStay = kStay_, kKept = kKept_;
    static constexpr int kBlocks = kBlocks_;  ///< of a multiprocessor, at most: what it has registers for
    static constexpr int kHeld = kStay + kKept;
    static constexpr int kWarps = kWorkers / kWarp, kTileRows = kWorkers / kAcross * 4;
    static constexpr int kThreads = kWorkers + 2 * kWarp;  ///< beside the workers a publisher and a fetcher
    static constexpr int kSlots = kLoads + kStay, kTileUnits = kTileRows * kAcross;
};
using LargeRing = Ring<512, 1, 4, 3, 1>;
using SmallRing = Ring<256, 1, 2, 3, 2>;  ///< for little shared memory, and for matrices of few large tiles

/// What the warps of a block share.
template <typename T, typename R>
struct Shared {
    uint4 ring[R::kSlots][R::kTileUnits];
    uint4 turned[2][kColumns<T>][R::kWarps];  ///< columns of a tile; one is written while the other is read
    uint4 largest[R::kHeld][R::kWarps][kAcross];
    float inverse[R::kHeld][kColumns<T>];
};

/// Chunks of a group, at most: neighbours in memory, read at about the same time.
constexpr int64_t kMostSide = 4;
static_assert(kRoundedColumns / kColumns<float> + kMostSide <= kRoundedChunks);

/// The order of tiles, of which a block has every gridDim.x-th. Chunks go in groups, whose tiles of the same
/// rows follow one another.
struct TileOrder {
    int tiles = 0, side = 0, groups = 0;  ///< tiles of a chunk, chunks of a group

    int of_group() const { return tiles * side; }
    __host__ __device__ int total() const { return tiles * side * groups; }
    __device__ int chunk(int index) const { return index / (tiles * side) * side + index % side; }
    __device__ int tile(int index) const { return index % (tiles * side) / side; }
};

template <typename T>
struct RoundColumnsParams {
    F8Output out;
    Rows<const T> x;
    int64_t rows, columns;
    bool reads_vectors, writes_vectors;  ///< whether x and out allow them
    TileOrder order{};
    int *largest = nullptr,
        *done = nullptr;              ///< of columns, as bits; of chunks, tiles that are looked through
    bool looks = true, turns = true;  ///< what this launch does

    __device__ int64_t first_column(int index) const { return int64_t{order.chunk(index)} * kColumns<T>; }
};

/// A worker's four units of a tile.
struct Units {
    uint4* tile;

    __device__ static int first_row() { return static_cast<int>(threadIdx.x) / kAcross * 4; }
    __device__ uint4& operator[](int i) const {
        return tile[(first_row() + i) * kAcross + threadIdx.x % kAcross];
    }
    template <typename T>
    __device__ Packed<T, kVector<T>> pack(int i) const {
        return Packed<T, kVector<T>>::load(reinterpret_cast<const T*>(&(*this)[i]));
    }
};

/// Begins to fill a worker's units, with zeros outside of the matrix.
template <typename R, typename T>
__device__ void fill(const RoundColumnsParams<T>& p, const Units& units, int index) {
    const int64_t column = p.first_column(index) + threadIdx.x % kAcross * kVector<T>;
    const int64_t first = int64_t{p.order.tile(index)} * R::kTileRows + Units::first_row();
#pragma unroll
    for (int i = 0; i < 4; ++i) {
        const bool row_is_there = first + i < p.rows;
        const T* from = p.x[first + i] + column;
        if (p.reads_vectors) {
            copy_async_16(shared_address(&units[i]), from, row_is_there && column < p.columns);
        } else {
            auto* to = reinterpret_cast<T*>(&units[i]);
            for (int c = 0; c < kVector<T>; ++c)
                to[c] = row_is_there && column + c < p.columns ? from[c] : from_float<T>(0);
        }
    }
}

/// Of each number of the two words the larger absolute value; NaN is ignored.
template <typename T>
__device__ uint32_t larger(uint32_t a, uint32_t b) {
    if constexpr (std::is_same_v<T, bf16>) {
        const uint32_t x = a & 0x7fff7fffu, y = b & 0x7fff7fffu;
        const __nv_bfloat162 most =
            __hmax2(reinterpret_cast<const __nv_bfloat162&>(x), reinterpret_cast<const __nv_bfloat162&>(y));
        return reinterpret_cast<const uint32_t&>(most);
    } else {
        return __float_as_uint(fmaxf(fabsf(__uint_as_float(a)), fabsf(__uint_as_float(b))));
    }
}

/// to = the largest numbers of the warp's part of a tile.
template <typename T>
__device__ void look_through(uint4 (&to)[kAcross], const Units& units) {
    uint32_t largest[4] = {};
#pragma unroll
    for (int i = 0; i < 4; ++i) {
        const auto pack = units.pack<T>(i);
#pragma unroll
        for (int w = 0; w < 4; ++w) largest[w] = larger<T>(largest[w], pack.words[w]);
    }
#pragma unroll
    for (int offset = kAcross; offset < kWarp; offset *= 2)
#pragma unroll
        for (int w = 0; w < 4; ++w)
            largest[w] = larger<T>(largest[w], __shfl_xor_sync(kAllLanes, largest[w], offset));
    const int lane = threadIdx.x % kWarp;
    if (lane < kAcross) to[lane] = {largest[0], largest[1], largest[2], largest[3]};
}

/// By one warp: raises the largest numbers of a chunk to those of the tile. A maximum is the same in any
/// order, and of numbers that are not negative the bits order as they do.
template <typename T, int kWarps>
__device__ void publish(const RoundColumnsParams<T>& p, const uint4 (&largest)[kWarps][kAcross], int index) {
    const int lane = threadIdx.x % kWarp;
    Packed<T, 2 * kOfWord<T>> most{};  // the first word of it
#pragma unroll
    for (int w = 0; w < kWarps; ++w)
        most.words[0] = larger<T>(most.words[0], reinterpret_cast<const uint32_t*>(largest[w])[lane]);
#pragma unroll
    for (int i = 0; i < kOfWord<T>; ++i) {
        const int64_t column = p.first_column(index) + lane * kOfWord<T> + i;
        if (column < p.columns) atomicMax(p.largest + column, __float_as_int(most[i]));
    }
    __syncwarp();
    if (lane > 0) return;
    __threadfence();
    atomicAdd(p.done + p.order.chunk(index), 1);
}

/// By one warp: a chunk's scales, once all of its tiles are looked through.
template <typename T>
__device__ void fetch_scales(const RoundColumnsParams<T>& p, float (&inverse)[kColumns<T>], int index) {
    const int lane = threadIdx.x % kWarp;
    if (lane == 0)
        while (load_acquire(p.done + p.order.chunk(index)) < p.order.tiles) {
        }
    __syncwarp();
#pragma unroll
    for (int i = 0; i < kOfWord<T>; ++i) {
        const int c = lane + i * kWarp;
        const int64_t column = p.first_column(index) + c;
        // From L2: other blocks have raised it.
        const Fp8Scale scale(column < p.columns ? __int_as_float(__ldcg(p.largest + column)) : 0.0f);
        inverse[c] = scale.inverse;
        if (column < p.columns && p.order.tile(index) == 0) p.out.scales[column] = scale.scale;
    }
}

// Four words of a column, of 16 rows, are a unit. The eight threads that write units of a row of tiles at
// once have columns far apart: each puts them at another place of its columns, so that they meet different
// banks.
template <typename T>
__device__ int place(int unit, int column) {
    return unit ^ column / kVector<T>;
}

/// Rounds a worker's numbers of a tile into columns.
template <typename T, int kWarps>
__device__ void turn_around(uint4 (&turned)[kColumns<T>][kWarps], const Packed<T, kVector<T>> (&packs)[4],
                            const float (&inverse)[kColumns<T>]) {
    const int first = threadIdx.x % kAcross * kVector<T>, down = threadIdx.x / kAcross;
#pragma unroll
    for (int c = 0; c < kVector<T>; ++c) {
        auto* unit = reinterpret_cast<uint32_t*>(&turned[first + c][place<T>(down / 4, first + c)]);
        store_f8<4>(reinterpret_cast<uint8_t*>(unit + down % 4),
                    [&](int i) { return packs[i][c] * inverse[first + c]; });
    }
}

template <typename R, typename T>
__device__ void write_columns(const RoundColumnsParams<T>& p, const uint4 (&turned)[kColumns<T>][R::kWarps],
                              int index) {
    const int unit = threadIdx.x % R::kWarps;
    const int64_t row = int64_t{p.order.tile(index)} * R::kTileRows + 16 * unit;
#pragma unroll
    for (int c = threadIdx.x / R::kWarps; c < kColumns<T>; c += kWarp) {
        const int64_t column = p.first_column(index) + c;
        if (row >= p.rows || column >= p.columns) return;
        const uint4& from = turned[c][place<T>(unit, c)];
        uint8_t* to = p.out.values + column * p.rows + row;
        if (p.writes_vectors)
            *reinterpret_cast<uint4*>(to) = from;
        else
            for (int i = 0; i < 16 && row + i < p.rows; ++i)
                to[i] = reinterpret_cast<const uint8_t*>(&from)[i];
    }
}

/// What the warps of a block wait for, as barriers of their own.
template <typename R>
struct Signals {
    static constexpr int kAll = R::kWorkers + kWarp, kTurned = 1;

    __device__ static int looked(int step) { return 2 + step % R::kHeld; }
    __device__ static int ready(int step) { return 2 + R::kHeld + step % R::kHeld; }
    static_assert(2 + 2 * R::kHeld <= 16, "a block has 16 barriers");
};

/// A worker's way through the block's tiles: each is looked through kHeld steps before it is turned around.
template <typename R, typename T>
struct Worker {
    using Four = Packed<T, kVector<T>>[4];  ///< its units of a tile

    const RoundColumnsParams<T>& p;
    Shared<T, R>& shared;
    const int count;
    Four kept[R::kKept] = {};

    __device__ static int index_of(int step) { return static_cast<int>(blockIdx.x + step * gridDim.x); }
    __device__ Units units(int step) const { return Units{shared.ring[step % R::kSlots]}; }

    /// The tile that is turned around makes room in `place` for one from shared memory, whose place the next
    /// load takes.
    __device__ __forceinline__ void run(int step, Four& place) {
        const int turned = step - R::kHeld, moved = step - R::kStay;
        if (turned >= 0) {
            barrier_wait(Signals<R>::ready(turned), Signals<R>::kAll);
            if (p.turns) turn_around<T>(shared.turned[step % 2], place, shared.inverse[turned % R::kHeld]);
        }
        if (moved >= 0) {
#pragma unroll
            for (int i = 0; i < 4; ++i) place[i] = units(moved).template pack<T>(i);
        }
        if (step + R::kLoads < count) fill<R>(p, units(step + R::kLoads), index_of(step + R::kLoads));
        copy_async_commit();
        copy_async_wait<R::kLoads>();
        if (step < count) {
            if (p.looks) look_through<T>(shared.largest[step % R::kHeld][threadIdx.x / kWarp], units(step));
            barrier_arrive(Signals<R>::looked(step), Signals<R>::kAll);
        }
        if (p.turns && turned >= 0) {
            barrier_wait(Signals<R>::kTurned, R::kWorkers);
            write_columns<R>(p, shared.turned[step % 2], index_of(turned));
        }
    }

    __device__ void run() {
        for (int step = 0; step < R::kLoads; ++step) {
            if (step < count) fill<R>(p, units(step), index_of(step));
            copy_async_commit();
        }
        for (int step = 0; step < count + R::kHeld; step += R::kKept)
#pragma unroll
            for (int i = 0; i < R::kKept; ++i)
                if (step + i < count + R::kHeld) run(step + i, kept[i]);
    }
};

/// out.values [columns, rows] and its scales = x rounded. All blocks are there at once, and no tile is more
/// than kHeld - 1 steps before the last one of its group: what a worker waits for is looked through before.
/// The warps beside the workers talk to other blocks, so that nothing else waits for memory. A slot of theirs
/// is free when its next step begins: the scales of a step come after it was published.
template <typename R, typename T>
__global__ void __launch_bounds__(R::kThreads, R::kBlocks)
    round_columns_kernel(const RoundColumnsParams<T> p) {
    extern __shared__ uint4 memory[];
    auto& shared = *reinterpret_cast<Shared<T, R>*>(memory);
    const int stride = static_cast<int>(gridDim.x), first = static_cast<int>(blockIdx.x);
    const int count = (p.order.total() - first + stride - 1) / stride;
    if (threadIdx.x < R::kWorkers) {
        Worker<R, T>{p, shared, count}.run();
    } else if (threadIdx.x < R::kWorkers + kWarp) {
        for (int step = 0; p.looks && step < count; ++step) {
            barrier_wait(Signals<R>::looked(step), Signals<R>::kAll);
            publish(p, shared.largest[step % R::kHeld], first + step * stride);
            if (!p.turns) barrier_arrive(Signals<R>::ready(step), Signals<R>::kAll);
        }
    } else {
        for (int step = 0; p.turns && step < count; ++step) {
            if (!p.looks) barrier_wait(Signals<R>::looked(step), Signals<R>::kAll);
            fetch_scales(p, shared.inverse[step % R::kHeld], first + step * stride);
            barrier_arrive(Signals<R>::ready(step), Signals<R>::kAll);
        }
    }
}

/// Of how many blocks `device` has room.
template <typename T, typename R>
int resident_blocks(const cudaDeviceProp& device) {
    constexpr size_t kReserved = 1024;  // of every block, by the driver
    const auto by_memory =
        static_cast<int>(device.sharedMemPerMultiprocessor / (sizeof(Shared<T, R>) + kReserved));
    return device.multiProcessorCount * std::min(by_memory, R::kBlocks);
}

/// Of at most kRoundedColumns columns.
template <typename R, typename T>
void round_columns(CudaContext& ctx, RoundColumnsParams<T> p) {
    int blocks = resident_blocks<T, R>(ctx.handles().properties);
    const int64_t chunks = ceil_div(p.columns, kColumns<T>);
    p.order.tiles = static_cast<int>(ceil_div(p.rows, R::kTileRows));
    p.order.side =
        static_cast<int>(std::clamp<int64_t>(blocks / p.order.tiles, 1, std::min(kMostSide, chunks)));
    p.order.groups = static_cast<int>(ceil_div(chunks, p.order.side));
    // Blocks that have as many tiles of each group wait least for each other, if that leaves most of them.
    const int of_group = p.order.of_group(), each = static_cast<int>(ceil_div(of_group, blocks));
    const int even =
        of_group < blocks ? blocks - blocks % of_group : static_cast<int>(ceil_div(of_group, each));
    if (even >= blocks * 9 / 10) blocks = even;
    blocks = std::min(blocks, p.order.total());
    p.done = reinterpret_cast<int*>(ctx.handles().rounded_columns.data());
    p.largest = p.done + kRoundedChunks;
    CUDA_CHECK(cudaMemsetAsync(p.done, 0, static_cast<size_t>(p.largest + p.columns - p.done) * sizeof(int),
                               ctx.handles().stream));
    const auto run = [&](bool looks, bool turns) {
        p.looks = looks, p.turns = turns;
        launch_together(ctx, blocks, R::kThreads, sizeof(Shared<T, R>), round_columns_kernel<R, T>, p);
    };
    const int64_t steps = blocks % of_group == 0   ? 0
                          : of_group % blocks == 0 ? each - 1
                                                   : ceil_div(of_group - 1, blocks);
    if (steps < R::kHeld) {
        run(true, true);
    } else {
        run(true, false);
        run(false, true);
    }
}

}  // namespace

void quantize_columns(CudaContext& ctx, const Fp8Rows& out, ConstTensor x) {
    const int64_t rows = x.size(0), columns = x.size(1);
    const cudaDeviceProp& device = ctx.handles().properties;
    visit_float_type(x.dtype(), [&]<typename T>() {
        const bool reads_vectors = allows_vectors(x) && columns % kVector<T> == 0;
        const bool writes_vectors =
            rows % 16 == 0 && reinterpret_cast<uintptr_t>(out.values.bytes()) % 16 == 0;
        const int64_t large = ceil_div(rows, LargeRing::kTileRows) * ceil_div(columns, kColumns<T>);
        for (int64_t first = 0; first < columns; first += kRoundedColumns) {
            RoundColumnsParams<T> p{f8_output(out), rows_of<T>(x),
                                    rows,           std::min(kRoundedColumns, columns - first),
                                    reads_vectors,  writes_vectors};
            p.out.values += first * rows;
            p.out.scales += first;
            p.x.data += first;
            if (large >= device.multiProcessorCount &&
                device.sharedMemPerBlockOptin >= sizeof(Shared<T, LargeRing>))
                round_columns<LargeRing>(ctx, p);
            else
                round_columns<SmallRing>(ctx, p);
        }
    });
}

}  // namespace pastur
