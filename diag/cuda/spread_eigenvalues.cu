// Householder reduction to a tridiagonal matrix (Golub and Van Loan, Matrix Computations, section 8.3), then
// bisection. The lower triangle of a matrix lies in the shared memory of a team of blocks: row i belongs to
// member i mod members, so every member keeps an equal share of the trailing block. A step has one barrier of
// the team: each member publishes its part of p = A v and its entries of the next column, then every member
// computes the same next reflector. One pass over the triangle applies a reflector and multiplies by the
// next.
#include "diag/cuda/spread_eigenvalues.h"

#include <algorithm>
#include <cuda/atomic>

#include "diag/cuda/householder.cuh"
#include "diag/cuda/sturm.cuh"
#include "kernels/cuda/check.h"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/numeric.cuh"

namespace pastur {
namespace {

constexpr int kThreads = static_cast<int>(kSpreadEigenvalues);  ///< one per column
constexpr int kWarps = kThreads / kWarp;
constexpr int kFan = 4;          ///< threads per eigenvalue, which divide its interval into kFan + 1 parts
constexpr int kBisections = 24;  ///< 5^-24 is 2^-56, below earlier rounding errors

/// The packed rows i = row * members + member of one member.
struct Share {
    int n, members, member;
    __host__ __device__ int rows() const { return (n - member + members - 1) / members; }
    __host__ __device__ int index(int row) const { return row * members + member; }
    /// The offset of a row: each row r before it has index(r) + 1 entries.
    __host__ __device__ int begin(int row) const {
        return members * (row * (row - 1) / 2) + row * (member + 1);
    }
    /// Doubles that hold the rows, and later the tridiagonal matrix.
    __host__ __device__ int entries() const { return begin(rows()) > 2 * n ? begin(rows()) : 2 * n; }
    /// The first row whose index is at least i.
    __device__ int first(int i) const { return (i - member + members - 1) / members; }
};

/// Device memory through which the members of a team exchange vectors. There are two of each, by the parity
/// of the step, because a member may write the next step's while another still reads.
struct Exchange {
    double* base;
    unsigned* arrived;  ///< [members] barriers that each member has reached
    int n, members;

    /// [members, n] each member's part of p.
    __device__ double* parts(int step) const { return base + step % 2 * (members * n); }
    /// [n] the column of the next reflector.
    __device__ double* column(int step) const { return base + (2 * members + step % 2) * n; }
    __host__ __device__ static int64_t doubles(int64_t n, int64_t members) { return 2 * (members + 1) * n; }
};

/// A reflector's entries at one of the member's rows.
struct RowOfReflector {
    double v, w;
};

/// Dynamic shared memory.
struct Workspace {
    double* triangle;      ///< [share.entries()]
    double* v;             ///< [n] v of the current reflector
    RowOfReflector* last;  ///< [rows] the previous reflector
    double* row_sums;      ///< [rows]
    double* sums;          ///< [kWarps]
    double* broadcast;     ///< [2] values of one thread for all

    __device__ Workspace(double* base, const Share& share)
        : triangle(base),
          v(triangle + share.entries()),
          last(reinterpret_cast<RowOfReflector*>(v + share.n)),
          row_sums(v + share.n + 2 * share.rows()),
          sums(row_sums + share.rows()),
          broadcast(sums + kWarps) {}
    static int64_t bytes(const Share& share) {
        return (share.entries() + share.n + 3 * share.rows() + kWarps + 2) *
               static_cast<int64_t>(sizeof(double));
    }
};

/// One thread of a team, which works on column threadIdx.x.
struct Member {
    Share share;
    Exchange exchange;
    Workspace shared;
    unsigned barriers = 0;
    int column = static_cast<int>(threadIdx.x);
    double diagonal = 0, off_diagonal = 0;  ///< the tridiagonal matrix at this column

    __device__ bool owns_column() const { return column < share.n && column % share.members == share.member; }

    /// A barrier of the team. What each member wrote before it can then be read by all, bypassing L1.
    __device__ void team_barrier() {
        using Count = cuda::atomic_ref<unsigned, cuda::thread_scope_device>;
        __syncthreads();
        ++barriers;
        if (column == 0) Count(exchange.arrived[share.member]).store(barriers, cuda::memory_order_release);
        if (column < share.members) {
            while (Count(exchange.arrived[column]).load(cuda::memory_order_acquire) < barriers) {
            }
        }
        __syncthreads();
    }

    /// The sum over all threads, in a fixed order. Its scratch is free after a further __syncthreads().
    __device__ double sum(double value) const {
        value = warp_sum(value);
        if (column % kWarp == 0) shared.sums[column / kWarp] = value;
        __syncthreads();
        return warp_sum(shared.sums[column % kWarp]);
    }

    __device__ double load(const double* matrix);
    __device__ double apply_and_multiply(int k, double v, double w);
    __device__ void multiply_rows(int k);
    __device__ void reduce(double column_entry);
    __device__ void bisect(double* eigenvalues, double scale);
};

/// Copies this member's rows, divided by the largest magnitude of the whole matrix, and returns that
/// magnitude (1 for the zero matrix). Publishes its entries of column 0, which are not divided.
__device__ double Member::load(const double* matrix) {
    double largest = 0;
    for (int row = 0; row < share.rows(); ++row) {
        const int i = share.index(row);
        if (column > i) continue;
        const double value = matrix[static_cast<int64_t>(i) * share.n + column];
        shared.triangle[share.begin(row) + column] = value;
        largest = fmax(largest, fabs(value));
        if (column == 0) exchange.column(0)[i] = value;
    }
    largest = block_max<kThreads>(largest, shared.sums);
    if (column == 0) exchange.parts(1)[share.member] = largest;
    team_barrier();
    for (int member = 0; member < share.members; ++member)
        largest = fmax(largest, __ldcg(exchange.parts(1) + member));
    if (largest == 0) largest = 1;
    for (int i = column; i < share.begin(share.rows()); i += kThreads) shared.triangle[i] /= largest;
    return largest;
}

/// Step k: replaces the trailing block after row k by A - v_last w_last^T - w_last v_last^T, where v and w
/// are this column's entries, publishes its column k + 1, and returns the part of this column's p = A v, with
/// the new v, that comes from entries below the diagonal.
__device__ double Member::apply_and_multiply(int k, double v, double w) {
    constexpr int kRows = 4;  // rows whose entries are read before the first is written
    const int rows = share.rows(), warp_begins = column / kWarp * kWarp;
    double p = 0;
    for (int first = share.first(max(k + 1, warp_begins)); first < rows; first += kRows) {
        double* const entry = shared.triangle + share.begin(first) + column;
        const int begins = share.index(first);
        const auto behind = [&](int r) { return r * (begins + 1) + share.members * (r * (r - 1) / 2); };
        const auto mine = [&](int r) {
            return first + r < rows && column > k && column <= begins + r * share.members;
        };
        double entries[kRows];
#pragma unroll
        for (int r = 0; r < kRows; ++r) entries[r] = mine(r) ? entry[behind(r)] : 0;
#pragma unroll
        for (int r = 0; r < kRows; ++r) {
            const int i = begins + r * share.members;
            if (!mine(r)) continue;
            const RowOfReflector last = shared.last[first + r];
            entries[r] = entries[r] - last.v * w - last.w * v;
            if (column < i) p += entries[r] * shared.v[i];
            if (column == k + 1) exchange.column(k + 1)[i] = entries[r];
        }
#pragma unroll
        for (int r = 0; r < kRows; ++r)
            if (mine(r)) entry[behind(r)] = entries[r];
    }
    return p;
}

/// The part of p from entries up to the diagonal: each row times v, one warp per row.
__device__ void Member::multiply_rows(int k) {
    for (int row = share.first(k + 1) + column / kWarp; row < share.rows(); row += kWarps) {
        const double* entries = shared.triangle + share.begin(row);
        double product = 0;
        for (int j = k + 1 + column % kWarp; j <= share.index(row); j += kWarp)
            product += entries[j] * shared.v[j];
        product = warp_sum(product);
        if (column % kWarp == 0) shared.row_sums[row] = product;
    }
}

/// Householder steps: H = 1 - tau v v^T turns column k below the diagonal into (beta, 0, ...); then A becomes
/// H A H = A - v w^T - w v^T with w = p - (tau / 2) (p^T v) v and p = tau A v, which the next step applies.
/// Every member computes the same v, w and p.
__device__ void Member::reduce(double column_entry) {
    const int n = share.n;
    double v = 0, w = 0;  // the previous reflector at this column
    if (column == 0) shared.broadcast[0] = 0;
    __syncthreads();
    for (int k = 0;; ++k) {
        const double x = column_entry - v * shared.broadcast[0] - w;  // v is 1 at row k
        if (column == k) diagonal = x;
        if (k == n - 1) return;
        if (column == k + 1) shared.broadcast[1] = x;
        const bool below = column > k + 1 && column < n;
        const double squares = sum(below ? x * x : 0);
        const Reflector h(shared.broadcast[1], squares);
        const double factor = h.tau == 0 ? 0 : 1 / h.pivot;
        if (column == k) off_diagonal = h.beta;
        const double next_v = column == k + 1 ? 1 : below ? x * factor : 0;
        if (column < n) shared.v[column] = next_v;
        if (owns_column()) shared.last[column / share.members] = {v, w};
        __syncthreads();

        double p = apply_and_multiply(k, v, w);
        __syncthreads();
        multiply_rows(k);
        __syncthreads();
        const bool left = column > k && column < n;
        if (left && owns_column()) p += shared.row_sums[column / share.members];
        double* const parts = exchange.parts(k);
        if (left) parts[share.member * n + column] = p;
        team_barrier();

        p = 0;
        if (left) {
            column_entry = __ldcg(exchange.column(k + 1) + column);
#pragma unroll 4
            for (int member = 0; member < share.members; ++member) p += __ldcg(parts + member * n + column);
        }
        p *= h.tau;
        v = next_v;
        w = p - h.tau / 2 * sum(p * v) * v;
        if (column == k + 1) shared.broadcast[0] = w;
        __syncthreads();
    }
}

/// Finds the eigenvalues whose indices are those of the member's rows.
__device__ void Member::bisect(double* eigenvalues, double scale) {
    const int n = share.n;
    __syncthreads();
    if (column < n) {
        shared.triangle[column] = diagonal;
        shared.triangle[n + column] = off_diagonal;
    }
    __syncthreads();
    if (column / kWarp * kWarp / kFan >= share.rows()) return;
    const Tridiagonal reduced{shared.triangle, shared.triangle + n, n};
    const int index = share.index(column / kFan), part = column % kFan;
    double low, high;
    reduced.bounds(low, high);
    for (int step = 0; step < kBisections; ++step) {
        const double width = high - low;
        const bool above = reduced.count_below(low + width * (part + 1) / (kFan + 1)) > index;
        const unsigned votes = __ballot_sync(kAllLanes, above) >> (column % kWarp - part);
        const int below = kFan - __popc(votes & ((1u << kFan) - 1));
        high = low + width * (below + 1) / (kFan + 1);
        low = low + width * below / (kFan + 1);
    }
    if (part == 0 && index < n) eigenvalues[index] = (low + (high - low) / 2) * scale;
}

__global__ void __launch_bounds__(kThreads, 1)
    spread_eigenvalues_kernel(double* eigenvalues, const double* matrices, int n, int count, int members,
                              double* exchanges, unsigned* arrived) {
    extern __shared__ double dynamic[];
    const int team = static_cast<int>(blockIdx.x) / members;
    const int teams = static_cast<int>(gridDim.x) / members;
    const Share share{n, members, static_cast<int>(blockIdx.x) % members};
    const Exchange exchange{exchanges + team * Exchange::doubles(n, members), arrived + team * members, n,
                            members};
    Member member{share, exchange, Workspace(dynamic, share)};
    for (int matrix = team; matrix < count; matrix += teams) {
        member.team_barrier();  // no member still reads the previous matrix
        const double scale = member.load(matrices + static_cast<int64_t>(matrix) * n * n);
        __syncthreads();
        member.reduce(member.column < n ? __ldcg(exchange.column(0) + member.column) / scale : 0);
        member.bisect(eigenvalues + static_cast<int64_t>(matrix) * n, scale);
    }
}

int attribute(cudaDeviceAttr name) {
    int device = 0, value = 0;
    CUDA_CHECK(cudaGetDevice(&device));
    CUDA_CHECK(cudaDeviceGetAttribute(&value, name, device));
    return value;
}

}  // namespace

SpreadPlan SpreadPlan::make(int64_t n, int64_t count) {
    const int64_t available = attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin);
    const int processors = attribute(cudaDevAttrMultiProcessorCount);
    if (attribute(cudaDevAttrCooperativeLaunch) == 0) return {};
    for (int members = 1; members <= processors; ++members) {
        int64_t bytes = 0;
        for (int member = 0; member < members; ++member)
            bytes = std::max(bytes, Workspace::bytes({static_cast<int>(n), members, member}));
        if (bytes > available || ceil_div(n, members) * kFan > kThreads) continue;
        SpreadPlan plan;
        plan.members = members;
        plan.teams = static_cast<int>(std::min<int64_t>(count, processors / members));
        plan.shared_bytes = bytes;
        plan.workspace_bytes =
            plan.teams * (Exchange::doubles(n, members) * static_cast<int64_t>(sizeof(double)) +
                          members * static_cast<int64_t>(sizeof(unsigned)));
        return plan;
    }
    return {};
}

void spread_eigenvalues(cudaStream_t stream, const SpreadPlan& plan, double* eigenvalues,
                        const double* matrices, int64_t n, int64_t count, void* workspace) {
    const auto* kernel = reinterpret_cast<const void*>(spread_eigenvalues_kernel);
    auto* exchanges = static_cast<double*>(workspace);
    auto* arrived = reinterpret_cast<unsigned*>(exchanges + plan.teams * Exchange::doubles(n, plan.members));
    const auto blocks = static_cast<unsigned>(plan.teams * plan.members);
    CUDA_CHECK(cudaMemsetAsync(arrived, 0, blocks * sizeof *arrived, stream));
    // One value for every plan: a change would wait until training leaves the device.
    CUDA_CHECK(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                    attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin)));
    int rows = static_cast<int>(n), matrices_count = static_cast<int>(count), members = plan.members;
    void* arguments[] = {&eigenvalues, &matrices, &rows, &matrices_count, &members, &exchanges, &arrived};
    // A cooperative launch: a waiting member must not keep another from starting.
    CUDA_CHECK(cudaLaunchCooperativeKernel(kernel, blocks, kThreads, arguments,
                                           static_cast<size_t>(plan.shared_bytes), stream));
}

}  // namespace pastur
