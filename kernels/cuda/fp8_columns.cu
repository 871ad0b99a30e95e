// Quantises columns to e4m3, which become the rows of the transposed matrix. The scale of a column depends on
// its largest number, so each number is used twice, but it is read from memory once: all blocks of the launch
// process a group of columns at a time and together hold its tiles on chip until every column's maximum is
// known. Exchanging the maxima between blocks takes as long as several tiles, so speed depends on how many
// tiles a block can hold, and therefore it holds tiles in registers as well as in shared memory. (H200,
// 32,768 rows of 5,504 bf16 columns: 0.203 ms with 4 tiles of 32 KB in shared memory, 0.236 to 0.263 ms with
// 3 and 4 tiles of 16 KB and two blocks per multiprocessor, 0.182 ms with 4 tiles of 32 KB and 3 more in
// registers.)
#include <algorithm>

#include "kernels/cuda/fp8.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/mma.cuh"
#include "kernels/cuda/numeric.cuh"
#include "kernels/fp8.h"

namespace pastur {
namespace {

// A chunk is a run of columns that takes 128 bytes of a row: eight units of 16 bytes, one per thread. A tile
// is kTileRows rows of a chunk. A thread owns four rows of a unit, whose e4m3 numbers form one 32-bit word of
// a column.
constexpr int kAcross = 8;
template <typename T>
constexpr int kColumns = kAcross* kVector<T>;  ///< of a chunk
template <typename T>
constexpr int kPerWord = 4 / static_cast<int>(sizeof(T));  ///< numbers of x in a 32-bit word

/// The tiles of a block: kLoads are being loaded; kHeld have their maxima found and wait for those of other
/// blocks, the newest kInShared of them in shared memory and the kInRegisters older ones in registers.
template <int kWorkers_, int kLoads_, int kInShared_, int kInRegisters_, int kBlocks_>
struct Ring {
    static constexpr int kWorkers = kWorkers_, kLoads = kLoads_, kInShared = kInShared_,
                         kInRegisters = kInRegisters_;
    static constexpr int kBlocks = kBlocks_;  ///< per multiprocessor, as its registers allow
    static constexpr int kHeld = kInShared + kInRegisters;
    static constexpr int kWarps = kWorkers / kWarp, kTileRows = kWorkers / kAcross * 4;
    static constexpr int kThreads = kWorkers + 2 * kWarp;  ///< workers, a publishing and a fetching warp
    static constexpr int kSlots = kLoads + kInShared, kTileUnits = kTileRows * kAcross;
};
using LargeRing = Ring<512, 1, 4, 3, 1>;
/// For GPUs with little shared memory, and for matrices of few large tiles.
using SmallRing = Ring<256, 1, 2, 3, 2>;

/// Shared memory of a block.
template <typename T, typename R>
struct Shared {
    uint4 ring[R::kSlots][R::kTileUnits];
    uint4 transposed[2][kColumns<T>][R::kWarps];  ///< columns of a tile; double-buffered
    uint4 maxima[R::kHeld][R::kWarps][kAcross];
    float inverse[R::kHeld][kColumns<T>];
};

/// Largest number of chunks in a group. They are adjacent in memory and are read at about the same time.
constexpr int64_t kMaxSide = 4;
static_assert(kQuantizedColumns / kColumns<float> + kMaxSide <= kQuantizedChunks);

/// The order of tiles, of which a block takes every gridDim.x-th. Chunks form groups. Within a group, tiles
/// of the same rows are consecutive.
struct TileOrder {
    int tiles = 0, side = 0, groups = 0;  ///< tiles per chunk, chunks per group, number of groups

    int of_group() const { return tiles * side; }
    __host__ __device__ int total() const { return tiles * side * groups; }
    __device__ int chunk(int index) const { return index / (tiles * side) * side + index % side; }
    __device__ int tile(int index) const { return index % (tiles * side) / side; }
};

template <typename T>
struct QuantizeColumnsParams {
    F8Output out;
    Rows<const T> x;
    int64_t rows, columns;
    bool reads_vectors, writes_vectors;  ///< whether x and out are aligned for accesses of 16 bytes
    TileOrder order{};
    int* largest = nullptr;  ///< maxima of the columns, as the bits of fp32 numbers
    int* done = nullptr;     ///< per chunk, the number of tiles whose maxima are in `largest`
    bool finds_maxima = true, quantizes = true;  ///< the passes that this launch runs

    __device__ int64_t first_column(int index) const { return int64_t{order.chunk(index)} * kColumns<T>; }
};

/// The four units of a tile that a worker thread owns.
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

/// Starts the load of a worker's units, which are zeros outside the matrix.
template <typename R, typename T>
__device__ void fill(const QuantizeColumnsParams<T>& p, const Units& units, int index) {
    const int64_t column = p.first_column(index) + threadIdx.x % kAcross * kVector<T>;
    const int64_t first = int64_t{p.order.tile(index)} * R::kTileRows + Units::first_row();
#pragma unroll
    for (int i = 0; i < 4; ++i) {
        const bool row_exists = first + i < p.rows;
        const T* from = p.x[first + i] + column;
        if (p.reads_vectors) {
            copy_async_16(shared_address(&units[i]), from, row_exists && column < p.columns);
        } else {
            auto* to = reinterpret_cast<T*>(&units[i]);
            for (int c = 0; c < kVector<T>; ++c)
                to[c] = row_exists && column + c < p.columns ? from[c] : from_float<T>(0);
        }
    }
}

/// The elementwise maximum of absolute values of two words. NaN is ignored.
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

/// to = the maxima of the columns over the warp's rows of a tile.
template <typename T>
__device__ void tile_maxima(uint4 (&to)[kAcross], const Units& units) {
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

/// Called by one warp: raises the maxima of a chunk to those of the tile. Maxima do not depend on the order,
/// and the bits of numbers that are not negative order as the numbers do.
template <typename T, int kWarps>
__device__ void publish(const QuantizeColumnsParams<T>& p, const uint4 (&largest)[kWarps][kAcross],
                        int index) {
    const int lane = threadIdx.x % kWarp;
    Packed<T, 2 * kPerWord<T>> most{};  // only its first word is used
#pragma unroll
    for (int w = 0; w < kWarps; ++w)
        most.words[0] = larger<T>(most.words[0], reinterpret_cast<const uint32_t*>(largest[w])[lane]);
#pragma unroll
    for (int i = 0; i < kPerWord<T>; ++i) {
        const int64_t column = p.first_column(index) + lane * kPerWord<T> + i;
        if (column < p.columns) atomicMax(p.largest + column, __float_as_int(most[i]));
    }
    __syncwarp();
    if (lane > 0) return;
    __threadfence();
    atomicAdd(p.done + p.order.chunk(index), 1);
}

/// Called by one warp: waits until the maxima of a chunk are complete and fetches its scales.
template <typename T>
__device__ void fetch_scales(const QuantizeColumnsParams<T>& p, float (&inverse)[kColumns<T>], int index) {
    const int lane = threadIdx.x % kWarp;
    if (lane == 0)
        while (load_acquire(p.done + p.order.chunk(index)) < p.order.tiles) {
        }
    __syncwarp();
#pragma unroll
    for (int i = 0; i < kPerWord<T>; ++i) {
        const int c = lane + i * kWarp;
        const int64_t column = p.first_column(index) + c;
        // Read from L2, because other blocks have written it.
        const Fp8Scale scale(column < p.columns ? __int_as_float(__ldcg(p.largest + column)) : 0.0f);
        inverse[c] = scale.inverse;
        if (column < p.columns && p.order.tile(index) == 0) p.out.scales[column] = scale.scale;
    }
}

/// Where a unit of a column is stored. A unit holds 16 rows. The eight threads that write a unit at the same
/// time have columns far apart, so each permutes the units of its columns differently, which avoids bank
/// conflicts.
template <typename T>
__device__ int place(int unit, int column) {
    return unit ^ column / kVector<T>;
}

/// Quantises a worker's numbers of a tile and stores them by columns.
template <typename T, int kWarps>
__device__ void quantize_tile(uint4 (&transposed)[kColumns<T>][kWarps],
                              const Packed<T, kVector<T>> (&packs)[4], const float (&inverse)[kColumns<T>]) {
    const int first = threadIdx.x % kAcross * kVector<T>, down = threadIdx.x / kAcross;
#pragma unroll
    for (int c = 0; c < kVector<T>; ++c) {
        auto* unit = reinterpret_cast<uint32_t*>(&transposed[first + c][place<T>(down / 4, first + c)]);
        store_f8<4>(reinterpret_cast<uint8_t*>(unit + down % 4),
                    [&](int i) { return packs[i][c] * inverse[first + c]; });
    }
}

template <typename R, typename T>
__device__ void write_columns(const QuantizeColumnsParams<T>& p,
                              const uint4 (&transposed)[kColumns<T>][R::kWarps], int index) {
    const int unit = threadIdx.x % R::kWarps;
    const int64_t row = int64_t{p.order.tile(index)} * R::kTileRows + 16 * unit;
#pragma unroll
    for (int c = threadIdx.x / R::kWarps; c < kColumns<T>; c += kWarp) {
        const int64_t column = p.first_column(index) + c;
        if (row >= p.rows || column >= p.columns) return;
        const uint4& from = transposed[c][place<T>(unit, c)];
        uint8_t* to = p.out.values + column * p.rows + row;
        if (p.writes_vectors)
            *reinterpret_cast<uint4*>(to) = from;
        else
            for (int i = 0; i < 16 && row + i < p.rows; ++i)
                to[i] = reinterpret_cast<const uint8_t*>(&from)[i];
    }
}

/// Named barriers of the block.
template <typename R>
struct Signals {
    static constexpr int kAll = R::kWorkers + kWarp, kTransposed = 1;

    __device__ static int maxima_found(int step) { return 2 + step % R::kHeld; }
    __device__ static int scales_ready(int step) { return 2 + R::kHeld + step % R::kHeld; }
    static_assert(2 + 2 * R::kHeld <= 16, "a block has 16 barriers");
};

/// A worker's loop over the block's tiles. The maxima of a tile are found kHeld steps before it is quantised.
template <typename R, typename T>
struct Worker {
    using Four = Packed<T, kVector<T>>[4];  ///< the worker's units of a tile

    const QuantizeColumnsParams<T>& p;
    Shared<T, R>& shared;
    const int count;
    Four kept[R::kInRegisters] = {};

    __device__ static int index_of(int step) { return static_cast<int>(blockIdx.x + step * gridDim.x); }
    __device__ Units units(int step) const { return Units{shared.ring[step % R::kSlots]}; }

    /// One step: quantises the oldest tile, in the registers `place`, moves a tile from shared memory to its
    /// registers, and loads the next tile into the slot that this frees.
    __device__ __forceinline__ void run(int step, Four& place) {
        const int oldest = step - R::kHeld, moved = step - R::kInShared;
        if (oldest >= 0) {
            barrier_wait(Signals<R>::scales_ready(oldest), Signals<R>::kAll);
            if (p.quantizes)
                quantize_tile<T>(shared.transposed[step % 2], place, shared.inverse[oldest % R::kHeld]);
        }
        if (moved >= 0) {
#pragma unroll
            for (int i = 0; i < 4; ++i) place[i] = units(moved).template pack<T>(i);
        }
        if (step + R::kLoads < count) fill<R>(p, units(step + R::kLoads), index_of(step + R::kLoads));
        copy_async_commit();
        copy_async_wait<R::kLoads>();
        if (step < count) {
            if (p.finds_maxima)
                tile_maxima<T>(shared.maxima[step % R::kHeld][threadIdx.x / kWarp], units(step));
            barrier_arrive(Signals<R>::maxima_found(step), Signals<R>::kAll);
        }
        if (p.quantizes && oldest >= 0) {
            barrier_wait(Signals<R>::kTransposed, R::kWorkers);
            write_columns<R>(p, shared.transposed[step % 2], index_of(oldest));
        }
    }

    __device__ void run() {
        for (int step = 0; step < R::kLoads; ++step) {
            if (step < count) fill<R>(p, units(step), index_of(step));
            copy_async_commit();
        }
        for (int step = 0; step < count + R::kHeld; step += R::kInRegisters)
#pragma unroll
            for (int i = 0; i < R::kInRegisters; ++i)
                if (step + i < count + R::kHeld) run(step + i, kept[i]);
    }
};

/// out = the columns of x [rows, columns], quantised: values [columns, rows] and scales [columns]. Where one
/// launch runs both passes, all blocks must be resident at once, and each block must reach the last tile of a
/// group at most kHeld - 1 steps after its first one: a worker then waits only for maxima of tiles that are
/// already held. The publishing and the fetching warp exchange numbers with other blocks, so workers never
/// wait for memory they do not own. A slot of shared.maxima is free when its next step begins, because the
/// scales of a step are fetched after its maxima were published.
template <typename R, typename T>
__global__ void __launch_bounds__(R::kThreads, R::kBlocks)
    quantize_columns_kernel(const QuantizeColumnsParams<T> p) {
    extern __shared__ uint4 memory[];
    auto& shared = *reinterpret_cast<Shared<T, R>*>(memory);
    const int stride = static_cast<int>(gridDim.x), first = static_cast<int>(blockIdx.x);
    const int count = (p.order.total() - first + stride - 1) / stride;
    if (threadIdx.x < R::kWorkers) {
        Worker<R, T>{p, shared, count}.run();
    } else if (threadIdx.x < R::kWorkers + kWarp) {
        for (int step = 0; p.finds_maxima && step < count; ++step) {
            barrier_wait(Signals<R>::maxima_found(step), Signals<R>::kAll);
            publish(p, shared.maxima[step % R::kHeld], first + step * stride);
            if (!p.quantizes) barrier_arrive(Signals<R>::scales_ready(step), Signals<R>::kAll);
        }
    } else {
        for (int step = 0; p.quantizes && step < count; ++step) {
            if (!p.finds_maxima) barrier_wait(Signals<R>::maxima_found(step), Signals<R>::kAll);
            fetch_scales(p, shared.inverse[step % R::kHeld], first + step * stride);
            barrier_arrive(Signals<R>::scales_ready(step), Signals<R>::kAll);
        }
    }
}

/// Number of blocks that are resident at once on `device`.
template <typename T, typename R>
int resident_blocks(const cudaDeviceProp& device) {
    constexpr size_t kReserved = 1024;  // shared memory that the driver reserves per block
    const auto by_memory =
        static_cast<int>(device.sharedMemPerMultiprocessor / (sizeof(Shared<T, R>) + kReserved));
    return device.multiProcessorCount * std::min(by_memory, R::kBlocks);
}

/// Quantises at most kQuantizedColumns columns.
template <typename R, typename T>
void quantize_columns_with(CudaContext& ctx, QuantizeColumnsParams<T> p) {
    int blocks = resident_blocks<T, R>(ctx.handles().properties);
    const int64_t chunks = ceil_div(p.columns, kColumns<T>);
    p.order.tiles = static_cast<int>(ceil_div(p.rows, R::kTileRows));
    p.order.side =
        static_cast<int>(std::clamp<int64_t>(blocks / p.order.tiles, 1, std::min(kMaxSide, chunks)));
    p.order.groups = static_cast<int>(ceil_div(chunks, p.order.side));
    // Blocks wait least for each other when all have the same number of tiles of each group. That number of
    // blocks is used if it is at least 90 % of those that fit.
    const int of_group = p.order.of_group(), each = static_cast<int>(ceil_div(of_group, blocks));
    const int even =
        of_group < blocks ? blocks - blocks % of_group : static_cast<int>(ceil_div(of_group, each));
    if (even >= blocks * 9 / 10) blocks = even;
    blocks = std::min(blocks, p.order.total());
    p.done = reinterpret_cast<int*>(ctx.handles().column_maxima.data());
    p.largest = p.done + kQuantizedChunks;
    CUDA_CHECK(cudaMemsetAsync(p.done, 0, static_cast<size_t>(p.largest + p.columns - p.done) * sizeof(int),
                               ctx.handles().stream));
    const auto run = [&](bool finds_maxima, bool quantizes) {
        p.finds_maxima = finds_maxima, p.quantizes = quantizes;
        launch_together(ctx, blocks, R::kThreads, sizeof(Shared<T, R>), quantize_columns_kernel<R, T>, p);
    };
    // Steps from a block's first tile of a group to the last tile of the group in any block.
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
        for (int64_t first = 0; first < columns; first += kQuantizedColumns) {
            QuantizeColumnsParams<T> p{.out = f8_output(out),
                                       .x = rows_of<T>(x),
                                       .rows = rows,
                                       .columns = std::min(kQuantizedColumns, columns - first),
                                       .reads_vectors = reads_vectors,
                                       .writes_vectors = writes_vectors};
            p.out.values += first * rows;
            p.out.scales += first;
            p.x.data += first;
            if (large >= device.multiProcessorCount &&
                device.sharedMemPerBlockOptin >= sizeof(Shared<T, LargeRing>))
                quantize_columns_with<LargeRing>(ctx, p);
            else
                quantize_columns_with<SmallRing>(ctx, p);
        }
    });
}

}  // namespace pastur
