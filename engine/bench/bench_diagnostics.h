#pragma once
// What measuring spectra in the loop costs a training step.
#include <functional>

#include "engine/config/config.h"
#include "engine/model/parameters.h"
#include "engine/ranks/comm.h"

namespace pastur {

struct DiagnosticsCost {
    int64_t measurements = 0;  ///< 0: diagnostics.every = 0, or no memory for them
    double seconds = 0;        ///< by which one lengthens the steps it runs beside: the median
    double steps_beside = 0;   ///< how many those are: the median
    int64_t every = 0;         ///< steps from one to the next in training
    /// Of training time, at `every`, which one step without takes `step_seconds`.
    double share(double step_seconds) const {
        return seconds / (seconds + static_cast<double>(every) * step_seconds);
    }
};

/// Measures the weights as `train` does, writing to a folder that is removed, while `step` (of step_seconds
/// without) goes on until all is written: three times, or fewer where that takes more than some seconds.
DiagnosticsCost measure_diagnostics(Context& ctx, Comm& comm, const Config& config, const Parameters& params,
                                    double step_seconds, const std::function<void()>& step);

}  // namespace pastur
