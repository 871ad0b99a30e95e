// Checks of the GPUs, and of the eigensolver on the device that would train.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <numeric>
#include <optional>

#include "diag/spectrum.h"
#include "engine/train/gpu_telemetry.h"
#include "kernels/base/device_info.h"
#include "kernels/base/error.h"
#include "kernels/base/random.h"
#include "tools/pastur/doctor/checks.h"

namespace pastur {
namespace {

using State = CheckOutcome::State;

CheckOutcome check_gpu(int index) {
    const std::string what = fmt::format("gpu {}", index);
    try {
        Context ctx = make_context(Device::kCuda, index);
        const MemoryInfo memory = memory_info(ctx);
        const GpuTelemetry::Reading now = GpuTelemetry(pci_bus_id(ctx)).read();
        std::string text = fmt::format("{}, {} free", device_name(ctx), free_gib(memory));
        if (now.sm_clock_mhz) text += fmt::format(", {:.0f} MHz", *now.sm_clock_mhz);
        if (now.power_w) text += fmt::format(", {:.0f} W", *now.power_w);
        // What this process itself holds, a context and its libraries, stays below 1.5 GiB.
        if (memory.total_bytes - memory.free_bytes < int64_t{3} << 29) return {what, State::kGood, text};
        return {what, State::kWarning, text, "another process uses this GPU: see nvidia-smi"};
    } catch (const Error& error) {
        return {what, State::kBad, error.what(),
                "choose other GPUs with CUDA_VISIBLE_DEVICES, or use --device cpu"};
    }
}

std::vector<CheckOutcome> check_gpus(Device device) {
    std::vector<CheckOutcome> outcomes;
    const int count = cuda_device_count();
    for (int i = 0; i < count; ++i) outcomes.push_back(check_gpu(i));
    if (count > 0) return outcomes;
    if (device == Device::kCuda)
        return {
            {"gpu", State::kBad, "no GPU that this process can use",
             "build with CUDA on a machine with an NVIDIA driver (`pastur --version`), or use --device cpu"}};
    if (std::filesystem::exists("/dev/nvidia0"))
        return {
            {"gpu", State::kWarning, "this machine has one, but this process cannot use it",
             "build with CUDA (`pastur --version` says whether it is built in) and check the driver with nvidia-smi"}};
    return {{"gpu", State::kGood, "none: training runs on the CPU"}};
}

/// Random factors of a matrix of 384 x 192 x 384, in the memory of a context.
class RandomChain {
  public:
    explicit RandomChain(Context& ctx) : buffer_(allocate(ctx, 2 * kNumbers * size_of(DType::kF32))) {
        SplitMix random(1);
        for (float& value : values_)
            value = static_cast<float>(static_cast<double>(random.next() >> 40) * 0x1p-23 - 1);
        upload(ctx, Tensor(buffer_.data(), DType::kF32, {2 * kNumbers}),
               as_tensor(std::span(std::as_const(values_))));
        const auto* from = static_cast<const float*>(static_cast<const void*>(buffer_.data()));
        product_.items = 1;
        product_.factors = {factor(from, kOuter, kInner), factor(from + kNumbers, kInner, kOuter)};
    }
    /// Eigenvalues; empty if the solver failed.
    std::vector<double> solve(Context& ctx) const {
        const std::unique_ptr<SpectrumSolver> solver =
            make_spectrum_solver(ctx, std::span(&product_, 1), {.own_kernels = false});
        solver->follow(ctx);
        return solver->solve(std::span(&product_, 1)).at(0).at(0).eigenvalues;
    }
    /// The sum of the squares of the matrix's entries, which is that of the eigenvalues.
    double trace() const {
        double sum = 0;
        for (int64_t i = 0; i < kOuter; ++i)
            for (int64_t j = 0; j < kOuter; ++j) {
                double entry = 0;
                for (int64_t k = 0; k < kInner; ++k)
                    entry += double{values_[static_cast<size_t>(i * kInner + k)]} *
                             values_[static_cast<size_t>(kNumbers + k * kOuter + j)];
                sum += entry * entry;
            }
        return sum;
    }

  private:
    static constexpr int64_t kOuter = 384, kInner = 192, kNumbers = kOuter * kInner;
    static Factor factor(const float* from, int64_t rows, int64_t columns) {
        Factor factor;
        factor.rows = rows;
        factor.columns = columns;
        for (int64_t i = 0; i < rows; ++i) factor.sources.push_back(from + i * columns);
        return factor;
    }
    std::vector<float> values_ = std::vector<float>(static_cast<size_t>(2 * kNumbers));
    Buffer buffer_;
    FactorProduct product_;
};

CheckOutcome solver_outcome(const std::string& what, const char* measure, double error, double limit) {
    const std::string text = fmt::format("{} is {:.1e}", measure, error);
    if (error <= limit) return {what, State::kGood, text};
    return {what, State::kBad, text,
            "reinstall the library: its eigenvalues are wrong, and so would be the spectra"};
}

CheckOutcome check_solver(Device device) {
    CpuContext host;
    Context cpu(std::move(host));
    const RandomChain on_cpu(cpu);
    const std::vector<double> lapack = on_cpu.solve(cpu);
    const double trace = on_cpu.trace();
    const double sum = std::accumulate(lapack.begin(), lapack.end(), 0.0);
    if (lapack.empty() || device == Device::kCpu || cuda_device_count() == 0)
        return solver_outcome("LAPACK", "relative error of the eigenvalues' sum",
                              lapack.empty() ? INFINITY : std::abs(sum - trace) / trace, 1e-12);
    Context ctx = make_context(Device::kCuda);
    const std::vector<double> cusolver = RandomChain(ctx).solve(ctx);
    double error = cusolver.size() == lapack.size() ? 0 : INFINITY;
    for (size_t i = 0; i < std::min(cusolver.size(), lapack.size()); ++i)
        error = std::max(error, std::abs(cusolver[i] - lapack[i]) / lapack[0]);
    return solver_outcome("cuSOLVER", "largest difference from LAPACK, over the largest eigenvalue,", error,
                          1e-10);
}

}  // namespace

std::vector<CheckOutcome> check_devices(Device device) {
    std::vector<CheckOutcome> outcomes = check_gpus(device);
    const bool usable = std::none_of(outcomes.begin(), outcomes.end(), [](const CheckOutcome& outcome) {
        return outcome.state == State::kBad;
    });
    if (usable) outcomes.push_back(check_solver(device));
    return outcomes;
}

}  // namespace pastur
