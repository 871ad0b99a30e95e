#include "diag/cuda/spectrum_scratch.h"

#include <algorithm>

#include "diag/cuda/spectrum_kernels.h"

namespace pastur {
namespace {

/// Groups are processed together up to this size: every launch waits for a gap between training's, so fewer
/// launches are better.
constexpr int64_t kTogetherBytes = int64_t{128} << 20;

}  // namespace

int64_t SpectrumScratch::fitting_groups(const FactorProduct& product, DenseSolvers& solvers) {
    const int64_t groups = product.items / product.group;
    const int64_t one = SpectrumScratch(nullptr, product, solvers, 1).bytes;
    const int64_t two = SpectrumScratch(nullptr, product, solvers, 2).bytes;
    const int64_t fit = std::clamp<int64_t>(kTogetherBytes / std::max<int64_t>(two - one, 1), 1, groups);
    const int64_t rounds = (groups + fit - 1) / fit;
    return (groups + rounds - 1) / rounds;  // rounds of equal size
}

BlockShape block_shape(const FactorProduct& product, int64_t items) {
    const int64_t width = product.dims().front();
    return {items, block_rows(product.leading_vectors, width), width};
}

SpectrumScratch::SpectrumScratch(std::byte* base, const FactorProduct& product, DenseSolvers& solvers)
    : SpectrumScratch(base, product, solvers, fitting_groups(product, solvers)) {}

SpectrumScratch::SpectrumScratch(std::byte* base, const FactorProduct& product, DenseSolvers& solvers,
                                 int64_t at_once)
    : groups_at_once(at_once) {
    Carver carver(base);
    const ChainPlan plan(product);
    const int64_t items = at_once * product.group, n = plan.n;
    for (const Factor& factor : product.factors) {
        const int64_t copies = product.copies(factor);
        FactorTables& tables = factors.emplace_back();
        tables.sources = carver.take<const float*>(copies * factor.rows * factor.sources_per_row());
        tables.gains = carver.take<const float*>(copies);
        tables.rotations = carver.take<RotatedRows>(static_cast<int64_t>(factor.rotations.size()));
        tables.row_gains = carver.take<const float*>(copies * factor.rows);
        tables.slots = carver.take<int32_t>(factor.rows);
        tables.stored = carver.take<int32_t>(factor.rows);
        tables.values = carver.take<double>((factor.shared ? at_once : items) * factor.rows * factor.columns);
        tables.profile = carver.take<double>((factor.shared ? at_once : items) *
                                             profile_doubles(factor.rows, factor.columns));
        tables.moments = carver.take<double>(2 * kMomentParts * copies);
    }
    for (int i = 0; i < 2; ++i) {
        left[i] = carver.take<double>(items * n * plan.widest_left);
        right[i] = carver.take<double>(items * n * plan.widest_right);
    }
    for (double** gram : {&p, &s, &root}) *gram = carver.take<double>(items * n * n);
    half = s;
    cholesky = carver.take<std::byte>(solvers.cholesky.workspace_bytes(n, items));
    if (product.leading_vectors > 0) subspaces = SubspaceScratch(carver, block_shape(product, items), n);
    matrices = carver.take<double>(product.items * n * n);
    eigenvalues = carver.take<double>(product.items * n);
    flags = carver.take<int32_t>(product.items);
    infos = carver.take<int32_t>(product.items);
    eigensolver_bytes = solvers.eigensolver.workspace_bytes(n, product.items);
    eigensolver = carver.take<std::byte>(eigensolver_bytes);
    bytes = carver.used();
}

}  // namespace pastur
