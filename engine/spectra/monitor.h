#pragma once
// Spectra in the loop: measures the query-key forms of the weights during training without changing a bit of
// them.
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
#include "engine/spectra/subspaces.h"

namespace pastur {

/// On CUDA a measurement copies the weights it needs on the training stream; a worker thread then finds the
/// eigenvalues on the solver's own low-priority stream while training continues. On the CPU, where both would
/// share the cores, the training thread finds them before it continues. On both the worker thread computes
/// the metrics and writes the files.
///
/// Several ranks divide the matrices. Their results are gathered at the next point that all ranks reach in
/// the same order: on the CPU within observe(), on CUDA at the next observe() or drain(). Rank 0 then judges
/// and writes all of them. Whatever fails on one rank, every rank enters the same collectives.
class Monitor {
  public:
    /// The steps of a measurement. Training uses default_parts(); tests pass parts that fail.
    struct Parts {
        std::function<std::unique_ptr<SpectrumSolver>(Context&, std::span<const FactorProduct>)> make_solver;
        std::function<std::vector<SpectrumRecord>(const std::vector<SpectralMatrix>&, const MeasuredSpectra&)>
            judge;
        /// The worker thread solves, from a copy of the weights; otherwise the training thread does.
        bool in_background;
    };
    static Parts default_parts(const Context& ctx, const Config& config);

    /// Device memory that a monitor of this configuration takes.
    static int64_t planned_bytes(Context& ctx, const Config& config, const ParamTable& table, int rank,
                                 int ranks);

    /// Takes the memory. params are allocated and outlive the monitor; config.diagnostics.every > 0.
    Monitor(Context& ctx, Comm& comm, const Config& config, const Parameters& params,
            const std::filesystem::path& folder);
    Monitor(Context& ctx, Comm& comm, const Config& config, const Parameters& params,
            const std::filesystem::path& folder, Parts parts);
    /// Waits for the measurement in progress.
    ~Monitor();
    Monitor(const Monitor&) = delete;
    Monitor& operator=(const Monitor&) = delete;

    /// Whether to measure after `step` finished steps (0: before the first).
    static bool due(const Config& config, int64_t step);

    /// Rank 0 only: makes the folder, moves aside what belongs to steps after `step` (-1: everything), and
    /// restores the state of the events from the records that remain. Throws (kIo).
    void open(int64_t step);

    /// The last step in rank 0's files, those of an earlier part of the run included; -1: none.
    int64_t last_step() const { return last_step_; }

    /// Measures the current weights, after waiting for the measurement before; throws that one's I/O error.
    /// Every rank calls observe() and drain(). If give_up() is true on any rank, observe() returns false on
    /// every rank and nothing was measured. A measurement in the background is always completed, because its
    /// weights will be gone.
    bool observe(int64_t step, const std::function<bool()>& give_up);

    /// Whether this rank has finished its part of the last measurement.
    bool idle();

    struct Report {
        std::vector<nlohmann::ordered_json> events;  ///< onsets, for metrics.jsonl
        std::vector<Scalar> scalars;                 ///< for TensorBoard
        std::vector<std::string> changes;            ///< for the console: nulls without a law, then onsets
        std::vector<std::string> messages;           ///< failures
    };
    /// The results since the last call; on ranks other than 0, empty. Throws (kIo) when the files could not
    /// be written. Any other failure of a measurement, on any rank, is a message on rank 0.
    Report poll();
    /// As poll(), once everything observed is written and durable.
    Report drain();

  private:
    /// The spectra of one step: a rank's share, or after gather() all of them.
    struct Measurement {
        int64_t step;
        MeasuredSpectra spectra;
    };
    void wait_until_idle(std::unique_lock<std::mutex>& lock);
    void start(std::unique_lock<std::mutex>& lock, std::function<void()> job);
    /// This rank's share. A solver's failure is the reason in each spectrum, not an exception.
    MeasuredSpectra solve(int64_t step, const std::function<bool()>& give_up);
    void copy_weights();
    bool observe_now(int64_t step, const std::function<bool()>& give_up);
    /// All ranks' shares of the last measurement, if it was not gathered yet. Null on ranks other than 0.
    std::shared_ptr<Measurement> gather();
    void work();
    /// Runs a part of a job. Keeps an I/O error for the training thread; any other failure becomes a message.
    void attempt(const std::function<void()>& part);
    void report_failures(const Measurement& measured);
    /// Judges, writes and reports a whole measurement.
    void finish(const Measurement& measured);
    std::vector<FactorDraw> draws(int64_t step) const;
    uint64_t draw_seed(int64_t step) const;

    Context& ctx_;
    Comm& comm_;
    Config config_;
    const Parameters& params_;
    Parts parts_;
    Buffer snapshot_;  ///< in the background, or for weights in bf16: fp32 copies
    std::vector<std::pair<Tensor, const Param*>> copies_;  ///< each copy and its source
    std::vector<SpectralMatrix> matrices_;
    SpectraShare share_;
    std::unique_ptr<SpectrumSolver> solver_;     ///< null: this rank has nothing to solve
    std::shared_ptr<Measurement> share_solved_;  ///< filled by the job in progress; null: all is gathered
    LayerOverlaps overlaps_;
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
