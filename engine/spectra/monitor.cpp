#include "engine/spectra/monitor.h"

#include <algorithm>
#include <map>

#include "engine/spectra/missing_nulls.h"
#include "engine/spectra/solver_options.h"
#include "kernels/base/random.h"

namespace pastur {
namespace {

/// The matrices of a configuration, described by their sizes alone, and the parameters they are made of.
struct Survey {
    std::vector<SpectralMatrix> matrices;
    std::vector<const Param*> used;
};
Survey survey(const Config& config, const ParamTable& table) {
    std::map<std::string, const Param*> used;
    static const std::byte nowhere{};  // never read: any address that is not null would do
    Survey result;
    result.matrices =
        spectral_matrices(config, config.diagnostics.scopes, shapes_of(table), [&](const std::string& name) {
            const Param& param = table.named(name);
            used.emplace(name, &param);
            return ConstTensor(&nowhere, DType::kF32, param.shape);
        });
    for (const auto& [name, param] : used) result.used.push_back(param);
    return result;
}

int64_t snapshot_bytes(const std::vector<const Param*>& params) {
    int64_t bytes = 0;
    for (const Param* param : params) bytes += align_up(param->shape.numel() * size_of(DType::kF32));
    return bytes;
}

}  // namespace

Monitor::Parts Monitor::default_parts(const Context& ctx, const Config& config) {
    Parts parts;
    parts.make_solver = [options = solver_options(config)](Context& where,
                                                           std::span<const FactorProduct> products) {
        return make_spectrum_solver(where, products, options);
    };
    const auto judge = std::make_shared<SpectrumJudge>(config.diagnostics);
    parts.judge = [judge](const auto& matrices, const auto& measured) {
        return judge->judge(matrices, measured);
    };
    parts.in_background = is_cuda(ctx);
    return parts;
}

int64_t Monitor::planned_bytes(Context& ctx, const Config& config, const ParamTable& table, int rank,
                               int ranks) {
    const Survey sizes = survey(config, table);
    const SpectraShare share = share_of_rank(sizes.matrices, rank, ranks);
    return (share.matrices.empty() ? 0
                                   : solver_bytes(ctx, products_of(share.matrices), solver_options(config))) +
           (is_cuda(ctx) || config.train.weights != StateFormat::kFp32 ? snapshot_bytes(sizes.used) : 0);
}

Monitor::Monitor(Context& ctx, Comm& comm, const Config& config, const Parameters& params,
                 const std::filesystem::path& folder)
    : Monitor(ctx, comm, config, params, folder, default_parts(ctx, config)) {}

Monitor::Monitor(Context& ctx, Comm& comm, const Config& config, const Parameters& params,
                 const std::filesystem::path& folder, Parts parts)
    : ctx_(ctx),
      comm_(comm),
      config_(config),
      params_(params),
      parts_(std::move(parts)),
      events_(config.diagnostics),
      files_(folder) {
    std::map<std::string, Tensor> copies;
    // Factors are read in fp32.
    if (parts_.in_background || params.master_dtype() != DType::kF32) {
        const std::vector<const Param*> used = survey(config, params.table()).used;
        snapshot_ = allocate(ctx, snapshot_bytes(used));
        int64_t offset = 0;
        for (const Param* param : used) {
            const Tensor copy(snapshot_.data() + offset, DType::kF32, param->shape);
            offset += align_up(copy.nbytes());
            copies_.emplace_back(copy, param);
            copies.emplace(param->name, copy);
        }
    }
    matrices_ = spectral_matrices(config, config.diagnostics.scopes, shapes_of(params.table()),
                                  [&](const std::string& name) -> ConstTensor {
                                      if (!copies.empty()) return copies.at(name);
                                      return params.master(params.table().named(name));
                                  });
    share_ = share_of_rank(matrices_, comm.rank(), comm.size());
    if (!share_.matrices.empty()) {
        const std::vector<FactorProduct> products = products_of(share_.matrices);
        solver_ = parts_.make_solver(ctx, products);
        solver_->prepare(ctx, products);
    }
    if (comm.is_root()) {
        report_.changes = missing_nulls(config.diagnostics.nulls, matrices_);
        if (config.diagnostics.solver == Eigensolver::kCusolver && !is_cuda(ctx))
            report_.changes.push_back(
                "diagnostics.solver = \"cusolver\" is ignored on the CPU, which uses LAPACK");
    }
    worker_ = std::thread([this] { work(); });
}

Monitor::~Monitor() {
    {
        const std::lock_guard<std::mutex> lock(mutex_);
        closing_ = true;
    }
    changed_.notify_all();
    worker_.join();
}

bool Monitor::due(const Config& config, int64_t step) {
    const DiagnosticsConfig& d = config.diagnostics;
    if (d.every == 0) return false;
    return step % d.every == 0 || step == config.train.steps ||
           std::find(d.early.begin(), d.early.end(), step) != d.early.end();
}

void Monitor::open(int64_t step) {
    files_.open(step, [this](LoggedRecord logged) {
        events_.feed(logged.step, logged.record);
        last_step_ = logged.step;
    });
    attempt([&] { overlaps_.restore(files_.spectra_file(last_step_)); });
}

uint64_t Monitor::draw_seed(int64_t step) const {
    return config_.train.seed * kGoldenGamma + static_cast<uint64_t>(step);
}

std::vector<FactorDraw> Monitor::draws(int64_t step) const {
    return draws_of(config_.diagnostics, draw_seed(step));
}

MeasuredSpectra Monitor::solve(int64_t step, const std::function<bool()>& give_up) {
    std::string reason;
    try {
        if (solver_)
            return solve_spectra(*solver_, share_.matrices, config_.diagnostics, draw_seed(step), give_up);
    } catch (const std::exception& error) {
        reason = error.what();
    }
    return failed_spectra(share_, draws(step), reason);
}

std::shared_ptr<Monitor::Measurement> Monitor::gather() {
    std::shared_ptr<Measurement> all = std::move(share_solved_);
    if (all && comm_.size() > 1)
        all->spectra = gather_spectra(ctx_, comm_, matrices_, all->spectra, draws(all->step));
    return comm_.is_root() ? all : nullptr;
}

void Monitor::start(std::unique_lock<std::mutex>& lock, std::function<void()> job) {
    job_ = std::move(job);
    lock.unlock();
    changed_.notify_all();
}

void Monitor::copy_weights() {
    for (const auto& [copy, param] : copies_) params_.read_master(ctx_, copy, *param);
}

bool Monitor::observe_now(int64_t step, const std::function<bool()>& give_up) {
    bool gave_up = false;
    const auto asked = [&] { return gave_up = gave_up || give_up(); };
    copy_weights();
    const auto measured = std::make_shared<Measurement>(Measurement{step, solve(step, asked)});
    if (comm_.all_reduce_max(asked()) != 0) return false;
    share_solved_ = measured;
    const std::shared_ptr<Measurement> all = gather();
    if (!all) return true;
    std::unique_lock<std::mutex> lock(mutex_);
    start(lock, [this, all] { attempt([&] { finish(*all); }); });
    return true;
}

bool Monitor::observe(int64_t step, const std::function<bool()>& give_up) {
    if (comm_.all_reduce_max(give_up()) != 0) return false;
    std::unique_lock<std::mutex> lock(mutex_);
    wait_until_idle(lock);
    if (!parts_.in_background) {
        lock.unlock();
        return observe_now(step, give_up);
    }
    const std::shared_ptr<Measurement> before = gather();
    copy_weights();
    if (solver_) solver_->follow(ctx_);
    const auto share = std::make_shared<Measurement>(Measurement{step, {}});
    if (comm_.size() > 1) share_solved_ = share;
    start(lock, [this, before, share] {
        if (before) attempt([&] { finish(*before); });
        attempt([&] { share->spectra = solve(share->step, {}); });
        if (comm_.size() == 1) attempt([&] { finish(*share); });
    });
    return true;
}

void Monitor::report_failures(const Measurement& measured) {
    std::map<std::string, int> counts;
    for (const auto& matrix : measured.spectra.spectra)
        for (const Spectrum& spectrum : matrix)
            if (spectrum.status == Spectrum::Status::kSolverFailed) ++counts[spectrum.reason];
    const std::lock_guard<std::mutex> lock(mutex_);
    for (const auto& [reason, count] : counts)
        report_.messages.push_back(
            fmt::format("step {}: {} spectra could not be computed: {}", measured.step, count, reason));
}

void Monitor::finish(const Measurement& measured) {
    const int64_t step = measured.step;
    report_failures(measured);
    if (config_.diagnostics.spectra) files_.write_spectra(step, matrices_, measured.spectra.spectra);
    std::vector<SpectrumRecord> records = parts_.judge(matrices_, measured.spectra);
    overlaps_.annotate(records, layer_subspaces(matrices_, measured.spectra.spectra));
    std::vector<Onset> onsets;
    for (SpectrumRecord& record : records)
        for (Onset& onset : events_.feed(step, record)) onsets.push_back(std::move(onset));
    files_.append_summary(step, records);
    const std::vector<Scalar> scalars = spectral_scalars(step, records);
    const std::string summary = events_.describe_measurement(step, records, onsets);
    const std::lock_guard<std::mutex> lock(mutex_);
    report_.scalars.insert(report_.scalars.end(), scalars.begin(), scalars.end());
    if (!summary.empty()) report_.changes.push_back(summary);
    for (const Onset& onset : onsets) {
        report_.events.push_back(to_json(onset));
        if (config_.run.log_events) report_.changes.push_back(describe(onset));
    }
}

void Monitor::attempt(const std::function<void()>& part) {
    std::exception_ptr failure;
    std::string message;
    try {
        part();
    } catch (const Error& error) {
        if (error.code() == ExitCode::kIo || error.code() == ExitCode::kMissingInput)
            failure = std::current_exception();
        else
            message = error.what();
    } catch (const std::exception& error) {
        message = error.what();
    }
    const std::lock_guard<std::mutex> lock(mutex_);
    if (failure) failure_ = failure;
    if (!message.empty()) report_.messages.push_back("diagnostics failed: " + message);
}

void Monitor::work() {
    std::unique_lock<std::mutex> lock(mutex_);
    for (;;) {
        changed_.wait(lock, [this] { return job_ || closing_; });
        if (!job_) return;
        lock.unlock();
        job_();
        lock.lock();
        job_ = nullptr;
        changed_.notify_all();
    }
}

void Monitor::wait_until_idle(std::unique_lock<std::mutex>& lock) {
    changed_.wait(lock, [this] { return !job_; });
    if (failure_) std::rethrow_exception(std::exchange(failure_, nullptr));
}

bool Monitor::idle() {
    const std::lock_guard<std::mutex> lock(mutex_);
    return !job_;
}

Monitor::Report Monitor::poll() {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (failure_) std::rethrow_exception(std::exchange(failure_, nullptr));
    return std::exchange(report_, {});
}

Monitor::Report Monitor::drain() {
    std::unique_lock<std::mutex> lock(mutex_);
    wait_until_idle(lock);
    if (const std::shared_ptr<Measurement> all = gather()) {
        start(lock, [this, all] { attempt([&] { finish(*all); }); });
        lock.lock();
        wait_until_idle(lock);
    }
    if (comm_.is_root()) files_.sync();  // no other rank writes any
    return std::exchange(report_, {});
}

}  // namespace pastur
