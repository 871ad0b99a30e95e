#pragma once
// Eigenvalues of the covariance of activations on the probe (SPECTRA: scope `latents`).
#include <future>
#include <memory>
#include <optional>

#include "diag/spectrum.h"
#include "engine/model/model.h"
#include "engine/spectra/probe/latent_records.h"

namespace pastur {

/// Keeps the probe's activations of all layers in fp32 and solves their covariances with the solver of spectra: on
/// CUDA in the background, on the CPU before start() returns. The tensors of a layer, as rows of tokens:
///   the latents of its variant, c_kv or c_k and c_v: what the up-projections read, after the latent's norm if it has
///   one;
///   keys and values: what the core reads of all key heads, keys rotated, with the key that heads share;
///   residual: the residual stream that enters the layer.
class LatentSpectra {
  public:
    /// Device memory for `tokens` tokens of the layers of a model, which is planned.
    static int64_t planned_bytes(Context& ctx, const Model& layers, int64_t tokens);
    /// Takes the memory. layers is planned.
    LatentSpectra(Context& ctx, const Model& layers, int64_t tokens);

    /// Keeps the activations of the first `sequences` of the batch that `block` saw last, from row `token` on. All
    /// tokens of all layers precede start(). Waits for the measurement before.
    void keep(int64_t layer, const Block& block, int64_t sequences, int64_t token);
    void start(int64_t step);

    struct Measured {
        int64_t step;
        std::vector<LatentRecord> records;
        std::vector<std::string> failures;  ///< of the solver
    };
    /// What start() began, once: none until it is finished, for which `wait` waits.
    std::optional<Measured> take(bool wait);
    /// Whether take() has nothing left to give.
    bool idle() const { return !solving_.valid(); }

    /// One tensor of all layers.
    struct Kept {
        std::string name;
        Tensor rows;  ///< f32 [L, tokens, width]
    };

  private:
    Measured solve(int64_t step);

    Context& ctx_;
    int64_t tokens_;
    Buffer buffer_;
    std::vector<Kept> kept_;
    std::vector<FactorProduct> products_;  ///< parallel to kept_: one factor, the rows of each layer
    std::unique_ptr<SpectrumSolver> solver_;
    std::future<Measured> solving_;  ///< last: its thread uses the members above
};

}  // namespace pastur
