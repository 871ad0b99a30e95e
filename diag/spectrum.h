#pragma once
// Eigenvalues of M M^T (squared singular values of M) for a matrix M that is given as a product of factors. M
// itself is formed only where no smaller problem exists.
//
// M = F_1 F_2 ... F_L has dimensions N_0 ... N_L; its rank is at most n = min N_j. If b is the first index of
// that minimum, M = P^T S with P = (F_1 ... F_b)^T of size n x N_0 and S = F_{b+1} ... F_L of size n x N_L,
// so the nonzero eigenvalues of M M^T are those of (P P^T)(S S^T). With the pivoted Cholesky factorisation S
// S^T = B B^T, which exists for every rank, they are those of the symmetric n x n matrix B^T (P P^T) B. Where
// b is an end of the chain, one of the two Gram matrices is the identity and the other is the matrix. All
// arithmetic is fp64. Gram matrices square the condition number, so the absolute error of every eigenvalue is
// about 1e-15 |P|^2 |S|^2.
#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "diag/subspace.h"
#include "kernels/base/context.h"
#include "kernels/base/random.h"

namespace pastur {

/// Two rows of a factor that become cosine first - sine second and sine first + cosine second.
struct RotatedRows {
    int32_t first, second;
    double cosine, sine;
};

/// One factor of every item of a product: fp32 rows in the memory of the context, converted to fp64.
struct Factor {
    int64_t rows = 0;          ///< as stored; the factor is [columns, rows] when `transposed`
    int64_t columns = 0;       ///< length of a stored row plus unit_columns
    int64_t unit_columns = 0;  ///< U; 0 for an ordinary factor
    int64_t terms = 1;         ///< number of stored rows that add up to a row
    int64_t pieces = 1;        ///< number of pieces of equal length that a stored row consists of
    bool transposed = false;
    bool shared = false;  ///< one copy serves a whole group of items
    double scale = 1;     ///< of every stored number
    /// [copies][rows][terms][pieces], where copies = items, or items / group when shared. A row whose sources are
    /// null is a unit vector: the k-th such row of a copy has its 1 in column columns - U + k mod U and
    /// passes that number through.
    std::vector<const float*> sources = {};
    /// [copies] column j of the stored part is multiplied by gain[j]; empty: no gains.
    std::vector<const float*> gains = {};
    /// Rotations of rows of every copy, after gains and draws; a row takes part in one at most.
    std::vector<RotatedRows> rotations = {};
    /// [copies][rows] row i, also a unit vector, is multiplied by the number at this address; null: by 1;
    /// empty: no row gains.
    std::vector<const float*> row_gains = {};

    int64_t weight_columns() const { return columns - unit_columns; }
    int64_t piece_columns() const { return weight_columns() / pieces; }
    int64_t sources_per_row() const { return terms * pieces; }
};

/// Which rows of a factor are stored and which are unit vectors; equal for every copy.
struct FactorRows {
    explicit FactorRows(const Factor& factor);
    std::vector<int32_t> stored;  ///< indices of the stored rows, in order
    std::vector<int32_t> slots;   ///< [rows] index into `stored`, or -1 - column of a unit vector
};

/// Products of one shape, for example one item for every head of every layer.
struct FactorProduct {
    int64_t items = 0;
    int64_t group = 1;  ///< number of consecutive items that a shared factor serves; divides items
    std::vector<Factor> factors;
    /// Number of the first group in the whole product, of which this may be a rank's part.
    int64_t first_group = 0;
    int64_t leading_vectors = 0;  ///< that solve() finds of every item, next to its eigenvalues

    std::vector<int64_t> dims() const;  ///< N_0 ... N_L
    int64_t count() const;              ///< n = min N_j, the number of eigenvalues
    int64_t copies(const Factor& factor) const { return factor.shared ? items / group : items; }
    /// Number of the factor's first copy in the whole product.
    int64_t first_copy(const Factor& factor) const {
        return factor.shared ? first_group : first_group * group;
    }
    /// Throws (kOther) if sizes do not match.
    void check() const;
};

/// The spectrum of one item.
struct Spectrum {
    enum class Status : uint8_t {
        kOk,
        kNonFinite,     ///< the factors hold NaN or infinity, or overflow fp64; no eigenvalues
        kSolverFailed,  ///< the library reported an error; no eigenvalues
    };
    Status status = Status::kOk;
    std::vector<double> eigenvalues = {};  ///< [n] descending, none negative; empty unless kOk
    std::string reason = {};               ///< the library's error if kSolverFailed
    /// [L] variance of each factor's entries, gains and scale included, unit rows and columns excluded.
    std::vector<double> variances = {};
    /// The product's leading_vectors first left singular vectors, as leading_eigenvectors() finds them
    /// (subspace_iteration.h). Empty where the product asks for none, of a draw, and unless kOk.
    Subspace leading = {};
};

/// The key of the random numbers of one draw, which do not depend on the backend.
struct DrawKey {
    uint64_t seed;
    uint64_t draw;
};

/// What a null draws in place of the stored part of every factor. Unit rows and columns stay.
struct FactorDraw {
    enum class Kind : uint8_t {
        /// The stored numbers in the order of shuffled_position(), gains included. Where a row is a sum of stored
        /// rows, these are shuffled before they are added up.
        kShuffled,
        /// Independent Gaussian numbers, profile_normal(), of the factor's own profile: entry (i, j) has the
        /// variance R_i C_j / S, where R_i, C_j and S are the sums of the squares of row i, of column j and of all
        /// entries. Their means are r_i c_j / mean for the mean squares r and c.
        kProfile
    };
    Kind kind;
    DrawKey key;
};

/// Where number i of the n stored numbers of a factor's copy, in the order of rows, terms and columns, comes
/// from under `key`: swap_or_not(n, key, factor, i), a bijection of [0, n) (Hoang, Morris & Rogaway, "An
/// Enciphering Scheme Based on a Card Shuffle", CRYPTO 2012).
constexpr uint64_t shuffled_position(uint64_t n, const DrawKey& key, uint64_t factor, uint64_t i) {
    int bits = 0;
    while (bits < 64 && (n >> bits) != 0) ++bits;
    uint64_t state = mix64(mix64(mix64(key.seed + kGoldenGamma) + key.draw) + factor);
    for (int round = 0; round < 16 + 4 * bits; ++round) {
        state += kGoldenGamma;
        const uint64_t word = mix64(state), pivot = word % n;
        const uint64_t partner = pivot >= i ? pivot - i : pivot + n - i;
        const uint64_t both = partner > i ? partner : i;
        if (mix64(both ^ (word * kGoldenGamma)) >> 63) i = partner;
    }
    return i;
}

/// Two uniform words for entry i of a factor's stored part in the order of rows and columns. `copy`: of the factor
/// in the whole product, of which ranks may solve parts.
constexpr std::array<uint64_t, 2> profile_words(const DrawKey& key, uint64_t factor, uint64_t copy,
                                                uint64_t i) {
    const uint64_t state =
        mix64(mix64(mix64(mix64(key.seed + kGoldenGamma) + key.draw) + factor) ^ (copy + kGoldenGamma));
    return {mix64(state + (2 * i + 1) * kGoldenGamma), mix64(state + (2 * i + 2) * kGoldenGamma)};
}
/// The standard normal number r cos(2 pi t) of Box and Muller from two words, with r^2 = -2 ln u, u in (0, 1] and t
/// in [0, 1).
double profile_normal(const std::array<uint64_t, 2>& words);
/// A uniform number k / 2^53, 0 <= k < 2^53.
constexpr double unit_interval(uint64_t word) {
    return static_cast<double>(word >> 11) * 0x1p-53;
}

/// Solves on one device, in its own memory and, on CUDA, with its own handles on a low-priority stream, so no
/// other computation changes by a bit. One thread at a time may call solve(); it need not be the one that
/// uses the context.
class SpectrumSolver {
  public:
    virtual ~SpectrumSolver() = default;
    /// Loads the kernels that solve() of such products calls. CUDA would load each at its first launch, for
    /// which it waits until the device is idle: during training that takes seconds for some twenty kernels.
    /// Reads none of the sources. Throws (kNoDevice).
    virtual void prepare(Context& ctx, std::span<const FactorProduct> products) = 0;
    /// Orders the work queued on ctx so far before the next solve().
    virtual void follow(Context& ctx) = 0;
    /// One Spectrum per item of each product. A matrix that cannot be solved gives a flagged Spectrum; throws
    /// (kNoDevice) only if the device itself is missing.
    virtual std::vector<std::vector<Spectrum>> solve(std::span<const FactorProduct> products,
                                                     const std::optional<FactorDraw>& draw = {}) = 0;
};

struct SolverOptions {
    /// CUDA: this folder's kernels solve problems of up to 1,024 rows; false: cuSOLVER solves every size. The CPU has
    /// LAPACK alone.
    bool own_kernels = true;
};

/// Allocates solver_bytes(ctx, products, options). The products that solve() gets may be fewer and have other sources,
/// but they may not be larger.
std::unique_ptr<SpectrumSolver> make_spectrum_solver(Context& ctx, std::span<const FactorProduct> products,
                                                     const SolverOptions& options = {});
int64_t solver_bytes(Context& ctx, std::span<const FactorProduct> products,
                     const SolverOptions& options = {});

std::unique_ptr<SpectrumSolver> make_spectrum_solver(CpuContext& ctx, std::span<const FactorProduct> products,
                                                     const SolverOptions& options);
int64_t solver_bytes(CpuContext& ctx, std::span<const FactorProduct> products, const SolverOptions& options);
#if defined(PASTUR_HAVE_CUDA)
std::unique_ptr<SpectrumSolver> make_spectrum_solver(CudaContext& ctx,
                                                     std::span<const FactorProduct> products,
                                                     const SolverOptions& options);
int64_t solver_bytes(CudaContext& ctx, std::span<const FactorProduct> products, const SolverOptions& options);
#endif

/// The sizes of the intermediate products and Gram matrices of one item.
struct ChainPlan {
    explicit ChainPlan(const FactorProduct& product);
    std::vector<int64_t> dims;
    size_t bottleneck;     ///< b
    int64_t n;             ///< N_b
    int64_t widest_left;   ///< largest of N_0 ... N_{b-1}, the width of a partial product of P; 0 when b = 0
    int64_t widest_right;  ///< largest of N_{b+1} ... N_L, the width of a partial product of S; 0 when b = L
};

/// The spectra that `solve` fills in, one per item of the product. An Error flags all of them
/// (kSolverFailed), except kNoDevice, which is passed on: without its device a solver has no results at all.
std::vector<Spectrum> solve_or_flag(const FactorProduct& product,
                                    const std::function<void(std::vector<Spectrum>&)>& solve);

/// Reverses to descending order and clamps negative values, which are rounding errors, to zero.
void finish_eigenvalues(std::vector<double>& ascending);
/// Variance of `count` entries from their sum and sum of squares.
double variance_from_sums(double sum, double sum_of_squares, int64_t count);

}  // namespace pastur
