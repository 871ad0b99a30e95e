#pragma once
// Activations in the loop: measures a fixed probe, the first sequences of the validation data, during training without
// changing a bit of it (SPECTRA: scopes `logits`, `latents`).
#include <filesystem>

#include "engine/model/batch.h"
#include "engine/model/model.h"
#include "engine/model/probe_scopes.h"
#include "engine/spectra/monitor.h"
#include "engine/spectra/probe/latent_spectra.h"
#include "engine/spectra/probe/logit_records.h"
#include "engine/spectra/step_lines.h"

namespace pastur {

/// A measurement is a forward pass through the layers with the weights of the training model, in the precision of
/// training (fp8 included) and in activation memory of its own, in batches of at most train.micro_batch sequences. It
/// runs on the context's stream between two steps. Only rank 0 has a probe.
class Probe {
  public:
    /// Device memory that a probe of this model takes. It needs no more scratch than the model's training.
    static int64_t planned_bytes(Context& ctx, const Model& model, const DiagnosticsConfig& config);

    /// Takes the memory and reads the sequences: config.probe_sequences of the `available` ones. The model is
    /// allocated and outlives the probe.
    Probe(Context& ctx, const Model& model, const DiagnosticsConfig& config, const ReadSequence& read,
          int64_t available, const std::filesystem::path& folder);

    /// Makes the folder and moves aside the lines of steps after `step` (-1: everything). Throws (kIo).
    void open(int64_t step);
    /// Measures the current weights, unless the files hold this step. Covariances are solved in the background on
    /// CUDA. Throws (kIo).
    void observe(int64_t step);
    /// Whether everything observed is written.
    bool idle();

    /// As Monitor's.
    Monitor::Report poll();
    /// As poll(), once everything observed is durable. Throws (kIo).
    Monitor::Report drain();

  private:
    /// A file of records, and its last step, those of an earlier part of the run included; -1: none.
    struct Records {
        StepLines lines;
        int64_t last_step = -1;
    };
    BatchShape shape() const { return layers_.shape(); }
    int64_t passes() const;
    void upload_tokens(const ReadSequence& read);
    /// Runs one batch: takes the sums of its logits and keeps its activations.
    void run_pass(int64_t pass, bool logits, bool latents);
    /// Adds the pass's sums to those of each layer and head.
    void collect_sums(int64_t counted);
    void write_logits(int64_t step);
    /// Writes covariances that are solved; wait: that are being solved.
    void write_latents(bool wait);
    template <typename Record>
    void write(Records& file, int64_t step, const std::vector<Record>& records,
               const std::vector<Scalar>& scalars);

    Context& ctx_;
    int64_t sequences_;
    Model layers_;  ///< reads the weights of the training model
    Buffer buffer_;
    Tensor tokens_;      ///< i32 [passes, N]; the last batch is filled with copies of the last sequence
    Tensor logit_sums_;  ///< f64 [L, B H, tiles, kLogitSums]: one pass
    std::vector<std::vector<LogitSums>> sums_;  ///< [L H]: of the measurement in progress
    bool split_ = false;                        ///< whether heads have a rotary part of their own
    std::optional<Records> logits_, latents_;   ///< none: not a scope
    std::unique_ptr<LatentSpectra> latent_spectra_;
    Monitor::Report report_;
};

}  // namespace pastur
