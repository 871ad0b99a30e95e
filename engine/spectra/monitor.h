#pragma once
// Spectra in the loop: measures the query-key forms of the weights while they train, and never changes a bit
// of them.
#include <condition_variable>
#include <exception>
#include <filesystem>
#include <functional>
#include <mutex>
#include <nlohmann/json.hpp>
#include <thread>

#include "engine/model/parameters.h"
#include "engine/ranks/comm.h"
#include "engine/spectra/spectra_files.h"
#include "engine/spectra/spectra_share.h"
#include "engine/spectra/spectral_events.h"
#include "engine/spectra/spectral_scalars.h"
#include "engine/spectra/spectrum_records.h"

namespace pastur {

/// On CUDA a measurement copies the weights it needs on the training stream; the eigenvalues are found on the
/// solver's own low-priority stream, driven by a worker thread, while training goes on. On the CPU the
/// training threads find them first: they would have to share the cores anyway. On both the worker computes
/// the metrics and writes the files.
///
/// Several ranks divide the matrices. What they found meets when all of them come by in one order: on the CPU
/// at once, on CUDA at the next measurement or drain(); rank 0 then writes it all.
class Monitor {
  public:
    /// Memory of the device that a monitor of this configuration takes.
    static int64_t planned_bytes(Context& ctx, const Config& config, const ParamTable& table, int rank,
                                 int ranks);

    /// Takes the memory; params are allocated, and outlive the monitor. config.diagnostics.every > 0.
    Monitor(Context& ctx, Comm& comm, const Config& config, const Parameters& params,
            const std::filesystem::path& folder);
    /// Waits for the measurement in progress.
    ~Monitor();
    Monitor(const Monitor&) = delete;
    Monitor& operator=(const Monitor&) = delete;

    /// Whether a measurement belongs after `step` finished steps (0: before the first).
    static bool due(const Config& config, int64_t step);

    /// Rank 0: makes the folder; moves aside what belongs to steps after `step` (-1: everything), and takes
    /// up the events where the rest left them. Throws (kIo).
    void open(int64_t step);

    /// The last step that rank 0 has in its files, those of the rest of the run included; -1: none.
    int64_t last_step() const { return last_step_; }

    /// Measures the weights as they are, waiting for the measurement before. Throws what that failed with.
    /// Every rank calls it, and drain(). Once give_up() is true on any rank it is false on all, and nothing
    /// was measured; what runs beside training is not given up, for its weights will be gone.
    bool observe(int64_t step, const std::function<bool()>& give_up);

    /// Whether this rank is done with what it observed last.
    bool idle();

    struct Report {
        std::vector<nlohmann::ordered_json> events;  ///< for metrics.jsonl
        std::vector<Scalar> scalars;                 ///< for TensorBoard
        std::vector<std::string> messages;           ///< of what failed
    };
    /// What has come up since the last call. Throws (kIo) when the files could not be written; nothing else
    /// that goes wrong in a measurement is more than a message.
    Report poll();
    /// The same when everything observed is written, and durable.
    Report drain();

  private:
    void wait_until_idle(std::unique_lock<std::mutex>& lock);
    void start(std::unique_lock<std::mutex>& lock, std::function<void()> job);
    MeasuredSpectra solve(int64_t step, const std::function<bool()>& give_up);
    bool observe_now(int64_t step, const std::function<bool()>& give_up);
    /// Of all matrices, what this rank's share and the others' hold; rank 0's to be finished.
    struct Measurement {
        int64_t step;
        MeasuredSpectra spectra;
    };
    std::shared_ptr<Measurement> meet();
    void work();
    void report_failures(int64_t step, const MeasuredSpectra& measured);
    void finish(int64_t step, const MeasuredSpectra& measured);
    uint64_t shuffle_seed(int64_t step) const;

    Context& ctx_;
    Comm& comm_;
    Config config_;
    const Parameters& params_;
    Buffer snapshot_;                                      ///< CUDA: copies of the weights used
    std::vector<std::pair<Tensor, const Param*>> copies_;  ///< and of what
    std::vector<SpectralMatrix> matrices_;
    SpectraShare share_;
    std::unique_ptr<SpectrumSolver> solver_;  ///< null: this rank has nothing to solve
    std::shared_ptr<Measurement> solved_;     ///< this rank's share, before it has met the others'
    SpectrumJudge judge_;
    SpectralEvents events_;
    SpectraFiles files_;
    int64_t last_step_ = -1;

    std::mutex mutex_;
    std::condition_variable changed_;
    std::function<void()> job_;  ///< empty: idle
    bool closing_ = false;
    std::exception_ptr failure_;
    Report report_;
    std::thread worker_;
};

}  // namespace pastur
