#pragma once
// From eigenvalues to one record per matrix and null; summary_lines.h writes them to spectra/summary.jsonl.
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "diag/metrics.h"
#include "engine/spectra/qk_factors.h"

namespace pastur {

/// How much the leading left singular vectors of a layer's form have in common with others (diag/subspace.h).
struct SubspaceOverlap {
    std::optional<double> before = {};  ///< with those of the measurement before
    std::optional<double> next = {};    ///< with those of the next layer
    std::optional<double> random = {};  ///< what random subspaces have in the mean
};

struct SpectrumRecord {
    int64_t layer = -1, head = -1;  ///< as SpectralMatrix::Item
    std::string matrix;
    std::string null;
    std::vector<int64_t> dims;    ///< N_0 ... N_L
    double variance_product = 0;  ///< of the factors' entries
    /// The products that the null adds up, each with the name of the matrix it is of; empty for one product.
    std::vector<std::pair<std::string, GaussianChain>> terms = {};
    int64_t n = 0;                   ///< eigenvalues
    std::vector<std::string> flags;  ///< of SpectrumMetrics, or solver_failed
    SpectrumMetrics metrics{};
    std::optional<double> kept_step0 = {};  ///< stable_rank over its value at step 0, if that was measured
    std::optional<double> kept_null = {};   ///< stable_rank over the one that the product null expects
    std::optional<SubspaceOverlap> overlap = {};  ///< of qk of whole layers, with scope "overlap"
};

/// The draws of a measurement: diagnostics.permutations for each of the nulls permuted and profile that
/// diagnostics.nulls names.
std::vector<FactorDraw> draws_of(const DiagnosticsConfig& config, uint64_t seed);

/// Everything solved at one moment.
struct MeasuredSpectra {
    using Solved = std::vector<std::vector<Spectrum>>;  ///< [matrix][item]
    struct Drawn {
        FactorDraw::Kind kind;
        Solved spectra;
    };
    Solved spectra;
    std::vector<Drawn> drawn = {};  ///< in the order of draws_of()
};
/// Once give_up() is true, which is asked between the draws, some of them are missing.
MeasuredSpectra solve_spectra(SpectrumSolver& solver, const std::vector<SpectralMatrix>& matrices,
                              const DiagnosticsConfig& config, uint64_t seed,
                              const std::function<bool()>& give_up = {});

/// Compares spectra with nulls. Keeps the laws it has computed.
class SpectrumJudge {
  public:
    /// By nulls, tw_quantile and mp_variance.
    explicit SpectrumJudge(const DiagnosticsConfig& settings);
    /// Matrix by matrix, item by item, null by null; then the means over pairs of positions. A matrix that is neither a product of Gaussian factors
    /// nor a sum of such has no product null, nor has a sum whose terms were not measured beside it.
    std::vector<SpectrumRecord> judge(const std::vector<SpectralMatrix>& matrices,
                                      const MeasuredSpectra& measured);

  private:
    Null null_of(const SpectrumRecord& record, const Spectrum& spectrum,
                 const std::vector<std::vector<double>>& drawn);
    std::vector<NullKind> nulls_;
    double tw_quantile_;
    VarianceEstimate mp_variance_;
    std::map<std::vector<int64_t>, ProductLaw> laws_;
};

}  // namespace pastur
