#include "engine/spectra/monitor.h"

#include <algorithm>
#include <map>

namespace pastur {
namespace {

/// The matrices of a configuration by their sizes alone, and the parameters that they are made of.
struct Survey {
    std::vector<SpectralMatrix> matrices;
    std::vector<const Param*> used;
};
Survey survey(const Config& config, const ParamTable& table) {
    std::map<std::string, const Param*> used;
    static const std::byte nowhere{};  // never read: any address will do that is not null
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

int64_t Monitor::planned_bytes(Context& ctx, const Config& config, const ParamTable& table, int rank,
                               int ranks) {
    const Survey sizes = survey(config, table);
    const SpectraShare share = share_of_rank(sizes.matrices, rank, ranks);
    return (share.matrices.empty() ? 0 : solver_bytes(ctx, products_of(share.matrices))) +
           (is_cuda(ctx) ? snapshot_bytes(sizes.used) : 0);
}

Monitor::Monitor(Context& ctx, Comm& comm, const Config& config, const Parameters& params,
                 const std::filesystem::path& folder)
    : ctx_(ctx),
      comm_(comm),
      config_(config),
      params_(params),
      judge_(config.diagnostics),
      events_(config.diagnostics),
      files_(folder) {
    std::map<std::string, Tensor> copies;
    if (is_cuda(ctx)) {
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
                                      if (is_cuda(ctx)) return copies.at(name);
                                      return params.master(params.table().named(name));
                                  });
    share_ = share_of_rank(matrices_, comm.rank(), comm.size());
    if (!share_.matrices.empty()) {
        const std::vector<FactorProduct> products = products_of(share_.matrices);
        solver_ = make_spectrum_solver(ctx, products);
        solver_->prepare(ctx, products);
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
    files_.open(step, [this](const nlohmann::ordered_json& record) {
        events_.feed(record);
        const auto of = record.find("step");
        if (of != record.end() && of->is_number_integer()) last_step_ = of->get<int64_t>();
    });
}

uint64_t Monitor::shuffle_seed(int64_t step) const {
    return config_.train.seed * 0x9e3779b97f4a7c15u + static_cast<uint64_t>(step);
}

MeasuredSpectra Monitor::solve(int64_t step, const std::function<bool()>& give_up) {
    const DiagnosticsConfig& settings = config_.diagnostics;
    const bool shuffles =
        std::find(settings.nulls.begin(), settings.nulls.end(), "permuted") != settings.nulls.end();
    const auto failed = [&](const std::string& reason) {
        return failed_spectra(share_, shuffles ? settings.permutations : 0, reason);
    };
    if (!solver_) return failed("");
    // The others wait for this share, so that there has to be one.
    try {
        return solve_spectra(*solver_, share_.matrices, settings, shuffle_seed(step), give_up);
    } catch (const Error& error) {
        if (comm_.size() == 1) throw;
        return failed(error.what());
    }
}

std::shared_ptr<Monitor::Measurement> Monitor::meet() {
    std::shared_ptr<Measurement> all = std::move(solved_);
    if (all && comm_.size() > 1) all->spectra = gather_spectra(ctx_, comm_, matrices_, all->spectra);
    return comm_.is_root() ? all : nullptr;
}

void Monitor::start(std::unique_lock<std::mutex>& lock, std::function<void()> job) {
    job_ = std::move(job);
    lock.unlock();
    changed_.notify_all();
}

bool Monitor::observe_now(int64_t step, const std::function<bool()>& give_up) {
    bool gave_up = false;
    const auto asked = [&] { return gave_up = gave_up || give_up(); };
    const auto measured = std::make_shared<Measurement>(Measurement{step, solve(step, asked)});
    if (comm_.all_reduce_max(asked()) != 0) return false;
    solved_ = measured;
    std::unique_lock<std::mutex> lock(mutex_);
    const std::shared_ptr<Measurement> all = meet();
    if (all) start(lock, [this, all] { finish(all->step, all->spectra); });
    return true;
}

bool Monitor::observe(int64_t step, const std::function<bool()>& give_up) {
    if (comm_.all_reduce_max(give_up()) != 0) return false;
    std::unique_lock<std::mutex> lock(mutex_);
    wait_until_idle(lock);
    if (!is_cuda(ctx_)) {
        lock.unlock();
        return observe_now(step, give_up);
    }
    const std::shared_ptr<Measurement> before = meet();
    for (const auto& [copy_of, param] : copies_) copy(ctx_, copy_of, params_.master(*param));
    if (solver_) solver_->follow(ctx_);
    start(lock, [this, before, step] {
        if (before) finish(before->step, before->spectra);
        const auto measured = std::make_shared<Measurement>(Measurement{step, solve(step, {})});
        if (comm_.size() == 1)
            finish(step, measured->spectra);
        else
            solved_ = measured;
    });
    return true;
}

void Monitor::report_failures(int64_t step, const MeasuredSpectra& measured) {
    std::map<std::string, int> counts;
    for (const auto& matrix : measured.spectra)
        for (const Spectrum& spectrum : matrix)
            if (spectrum.status == Spectrum::Status::kSolverFailed) ++counts[spectrum.reason];
    const std::lock_guard<std::mutex> lock(mutex_);
    for (const auto& [reason, count] : counts)
        report_.messages.push_back(
            fmt::format("step {}: {} spectra could not be computed: {}", step, count, reason));
}

void Monitor::finish(int64_t step, const MeasuredSpectra& measured) {
    report_failures(step, measured);
    if (config_.diagnostics.spectra) files_.write_spectra(step, matrices_, measured.spectra);
    const std::vector<SpectrumRecord> judged = judge_.judge(matrices_, measured);
    std::vector<nlohmann::ordered_json> records, events;
    for (const SpectrumRecord& record : judged) {
        records.push_back(to_json(record, step));
        for (nlohmann::ordered_json& event : events_.feed(records.back())) events.push_back(std::move(event));
    }
    files_.append_summary(records);
    const std::lock_guard<std::mutex> lock(mutex_);
    report_.events.insert(report_.events.end(), events.begin(), events.end());
    const std::vector<Scalar> scalars = spectral_scalars(step, judged);
    report_.scalars.insert(report_.scalars.end(), scalars.begin(), scalars.end());
}

void Monitor::work() {
    std::unique_lock<std::mutex> lock(mutex_);
    for (;;) {
        changed_.wait(lock, [this] { return job_ || closing_; });
        if (!job_) return;
        lock.unlock();
        std::exception_ptr failure;
        std::string message;
        try {
            job_();
        } catch (const Error& error) {
            if (error.code() == ExitCode::kIo || error.code() == ExitCode::kMissingInput)
                failure = std::current_exception();
            else
                message = error.what();
        } catch (const std::exception& error) {
            message = error.what();
        }
        lock.lock();
        if (failure) failure_ = failure;
        if (!message.empty()) report_.messages.push_back("diagnostics failed: " + message);
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
    if (const std::shared_ptr<Measurement> all = meet()) {
        start(lock, [this, all] { finish(all->step, all->spectra); });
        lock.lock();
        wait_until_idle(lock);
    }
    if (comm_.is_root()) files_.sync();  // the others write none
    return std::exchange(report_, {});
}

}  // namespace pastur
