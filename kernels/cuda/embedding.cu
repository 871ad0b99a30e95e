#include "kernels/embedding.h"

#include <algorithm>
#include <bit>
#include <cub/device/device_radix_sort.cuh>

#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/numeric.cuh"

namespace pastur {

namespace {

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / kWarp;

/// out[n, :] = table[ids[n], :]. One warp per token; lane l copies vectors l, l + 32, ... of the row.
/// width is a multiple of kWidth; rows are aligned for Packed<T, kWidth>.
template <typename T, int kWidth>
__global__ void __launch_bounds__(kThreads)
    embedding_forward_kernel(T* out, const T* table, const int32_t* ids, int64_t tokens, int width) {
    using Pack = Packed<T, kWidth>;
    const int64_t token = static_cast<int64_t>(blockIdx.x) * kWarps + threadIdx.x / kWarp;
    if (token >= tokens) return;
    const T* from = table + static_cast<int64_t>(ids[token]) * width;
    T* to = out + token * width;
#pragma unroll 4
    for (int column = threadIdx.x % kWarp * kWidth; column < width; column += kWarp * kWidth)
        Pack::load(from + column).store(to + column);
}

/// The tokens of a batch, ordered by id and then by position.
struct SortedTokens {
    const int32_t* ids;          ///< [N], ascending
    const int32_t* position;     ///< [N]: index in the batch
    const int32_t *begin, *end;  ///< [V]: the range of each id in `ids`; both 0 if the id does not occur
};

/// x[i] = i.
__global__ void __launch_bounds__(kThreads) number_kernel(int32_t* x, int count) {
    const int i = static_cast<int>(blockIdx.x) * kThreads + threadIdx.x;
    if (i < count) x[i] = i;
}

/// begin[v] and end[v] of the ids that occur, each written by the thread at which the id changes.
__global__ void __launch_bounds__(kThreads)
    embedding_ranges_kernel(int32_t* begin, int32_t* end, const int32_t* ids, int count) {
    const int i = static_cast<int>(blockIdx.x) * kThreads + threadIdx.x;
    if (i >= count) return;
    const int32_t id = ids[i];
    if (i == 0 || ids[i - 1] != id) begin[id] = i;
    if (i == count - 1 || ids[i + 1] != id) end[id] = i + 1;
}

/// Ids with more tokens than this are left to the second kernel.
constexpr int kMany = 128;

/// dtable[v, :] = or += sum over the tokens n of id v of dout[n, :], in ascending n, for ids with at most
/// kMany tokens. One warp per id and 32 kWidth columns (blockIdx.y). A lane owns kWidth columns and loops
/// over the tokens. width is a multiple of kWidth; rows are aligned for Packed<., kWidth>.
template <typename T, int kWidth>
__global__ void __launch_bounds__(kThreads)
    embedding_backward_kernel(float* dtable, const T* dout, SortedTokens tokens, int vocab, int width,
                              bool accumulate) {
    using Floats = Packed<float, kWidth>;
    const int id = static_cast<int>(blockIdx.x) * kWarps + threadIdx.x / kWarp;
    const int column = (static_cast<int>(blockIdx.y) * kWarp + threadIdx.x % kWarp) * kWidth;
    if (id >= vocab || column >= width) return;
    const int begin = tokens.begin[id], end = tokens.end[id];
    if (end - begin > kMany || (accumulate && begin == end)) return;
    float* to = dtable + static_cast<int64_t>(id) * width + column;
    const Floats start = accumulate ? Floats::load(to) : Floats{};
    float sum[kWidth];
    for (int i = 0; i < kWidth; ++i) sum[i] = start[i];
#pragma unroll 4
    for (int t = begin; t < end; ++t) {
        const auto pack =
            Packed<T, kWidth>::load(dout + static_cast<int64_t>(tokens.position[t]) * width + column);
#pragma unroll
        for (int i = 0; i < kWidth; ++i) sum[i] += pack[i];
    }
    Floats::of([&](int i) { return sum[i]; }).store(to);
}

/// In the second kernel, columns per block, and tokens per tile in shared memory.
constexpr int kColumns = 64;
constexpr int kTileTokens = 128;

/// dtable as above, for ids with more than kMany tokens. A space or a full stop makes several percent of a
/// batch, and a single warp that waits for a few rows at a time would take longer than all other ids
/// together. Block (x, y) inspects the sorted token kMany x. If its id has more than kMany tokens and this is
/// the first inspected token of that id, the block sums the id's rows in the 64 columns from 64 y. All 256
/// threads load a tile of 128 rows while the first 64 add the previous tile from shared memory, each in its
/// own column and in ascending order.
template <typename T>
__global__ void __launch_bounds__(kThreads)
    embedding_backward_many_kernel(float* dtable, const T* dout, SortedTokens tokens, int width,
                                   bool accumulate) {
    constexpr int kRowsApart = kThreads / kColumns, kPerThread = kTileTokens / kRowsApart;
    __shared__ float tile[kTileTokens][kColumns];
    const int at = static_cast<int>(blockIdx.x) * kMany, id = tokens.ids[at];
    const int begin = tokens.begin[id], end = tokens.end[id];
    if (end - begin <= kMany || at - begin >= kMany) return;
    const int lane = threadIdx.x % kColumns, first_row = threadIdx.x / kColumns;
    const int column = static_cast<int>(blockIdx.y) * kColumns + lane;

    float next[kPerThread];
    const auto read = [&](int first) {
#pragma unroll
        for (int i = 0; i < kPerThread; ++i) {
            const int t = first + first_row + i * kRowsApart;
            next[i] = t < end && column < width
                          ? to_float(dout[static_cast<int64_t>(tokens.position[t]) * width + column])
                          : 0;
        }
    };
    float* to = dtable + static_cast<int64_t>(id) * width + column;
    const bool adds = threadIdx.x < kColumns && column < width;
    float sum = adds && accumulate ? *to : 0;
    read(begin);
    for (int first = begin; first < end; first += kTileTokens) {
#pragma unroll
        for (int i = 0; i < kPerThread; ++i) tile[first_row + i * kRowsApart][lane] = next[i];
        __syncthreads();
        read(first + kTileTokens);
        if (adds) {
            const int rows = min(kTileTokens, end - first);
#pragma unroll 16
            for (int row = 0; row < rows; ++row) sum += tile[row][lane];
        }
        __syncthreads();
    }
    if (adds) *to = sum;
}

/// cub::DeviceRadixSort is stable: equal ids keep their order.
void sort_tokens(void* temporary, size_t& temporary_bytes, const int32_t* ids, int32_t* sorted_ids,
                 const int32_t* positions, int32_t* sorted_positions, int64_t count, int64_t vocab,
                 cudaStream_t stream) {
    const int bits = std::max(1, static_cast<int>(std::bit_width(static_cast<uint64_t>(vocab - 1))));
    CUDA_CHECK(cub::DeviceRadixSort::SortPairs(temporary, temporary_bytes,
                                               reinterpret_cast<const uint32_t*>(ids),
                                               reinterpret_cast<uint32_t*>(sorted_ids), positions,
                                               sorted_positions, static_cast<int>(count), 0, bits, stream));
}

size_t sort_bytes(CudaContext& ctx, int64_t tokens, int64_t vocab) {
    CUDA_CHECK(cudaSetDevice(ctx.handles().device));
    size_t bytes = 0;
    sort_tokens(nullptr, bytes, nullptr, nullptr, nullptr, nullptr, tokens, vocab, ctx.handles().stream);
    return bytes;
}

/// Sorts the tokens in memory of `frame`.
SortedTokens sort_by_id(CudaContext& ctx, Arena::Frame& frame, const ConstTensor& ids, int64_t vocab) {
    const int64_t count = ids.numel();
    const cudaStream_t stream = ctx.handles().stream;
    const auto take = [&](int64_t numbers) { return frame.take(DType::kI32, {numbers}).data<int32_t>(); };
    int32_t *sorted_ids = take(count), *positions = take(count), *sorted_positions = take(count);
    int32_t* ranges = take(2 * vocab);
    size_t bytes = sort_bytes(ctx, count, vocab);
    void* temporary = take(ceil_div(static_cast<int64_t>(bytes), 4));

    launch(ctx, ceil_div(count, kThreads), kThreads, 0, number_kernel, positions, count);
    sort_tokens(temporary, bytes, ids.data<int32_t>(), sorted_ids, positions, sorted_positions, count, vocab,
                stream);
    CUDA_CHECK(cudaMemsetAsync(ranges, 0, static_cast<size_t>(2 * vocab) * sizeof(int32_t), stream));
    launch(ctx, ceil_div(count, kThreads), kThreads, 0, embedding_ranges_kernel, ranges, ranges + vocab,
           sorted_ids, count);
    return {sorted_ids, sorted_positions, ranges, ranges + vocab};
}

}  // namespace

void embedding_forward(CudaContext& ctx, Tensor out, ConstTensor table, ConstTensor ids) {
    const int64_t tokens = ids.numel(), width = table.size(1);
    visit_float_type(table.dtype(), [&]<typename T>() {
        const auto run = [&]<int kWidth>() {
            launch(ctx, ceil_div(tokens, kWarps), kThreads, 0, embedding_forward_kernel<T, kWidth>,
                   device_data<T>(out), device_data<T>(table), ids.data<int32_t>(), tokens, width);
        };
        if (width % kVector<T> == 0 && allows_vectors(out) && allows_vectors(table))
            run.template operator()<kVector<T>>();
        else
            run.template operator()<1>();
    });
}

void embedding_backward(CudaContext& ctx, Tensor dtable, ConstTensor dout, ConstTensor ids, Update update) {
    const int64_t tokens = ids.numel(), vocab = dtable.size(0), width = dtable.size(1);
    PASTUR_CHECK(tokens < INT32_MAX - kThreads && vocab < INT32_MAX - kThreads,
                 "embedding_backward: ids {}, dtable {}", describe(ids), describe(dtable));
    const bool accumulate = update == Update::kAccumulate;
    Arena::Frame frame(ctx.scratch(), "embedding_backward");
    const SortedTokens sorted = sort_by_id(ctx, frame, ids, vocab);
    visit_float_type(dout.dtype(), [&]<typename T>() {
        const auto run = [&]<int kWidth>() {
            const dim3 grid(ceil_div(vocab, kWarps), ceil_div(width, kWarp * kWidth));
            launch(ctx, grid, kThreads, 0, embedding_backward_kernel<T, kWidth>, dtable.data<float>(),
                   device_data<T>(dout), sorted, vocab, width, accumulate);
        };
        if (width % kVector<T> == 0 && allows_vectors(dtable) && allows_vectors(dout))
            run.template operator()<kVector<T>>();
        else
            run.template operator()<1>();
        const dim3 grid(ceil_div(tokens, kMany), ceil_div(width, kColumns));
        launch(ctx, grid, kThreads, 0, embedding_backward_many_kernel<T>, dtable.data<float>(),
               device_data<T>(dout), sorted, width, accumulate);
    });
}

int64_t embedding_backward_scratch_bytes(CudaContext& ctx, int64_t tokens, int64_t vocab) {
    const int64_t number = size_of(DType::kI32);
    return 3 * align_up(tokens * number) + align_up(2 * vocab * number) +
           align_up(static_cast<int64_t>(sort_bytes(ctx, tokens, vocab)) + number);
}

}  // namespace pastur
