#pragma once
// Cost of measuring spectra during training.
#include <functional>
#include <vector>

#include "engine/config/config.h"
#include "engine/model/parameters.h"
#include "engine/ranks/comm.h"

namespace pastur {

struct DiagnosticsCost {
    int64_t measurements = 0;  ///< 0: diagnostics decompose no weights, or too little memory
    double seconds = 0;        ///< by which a measurement lengthens the steps during it; median
    double steps_beside = 0;   ///< number of steps during a measurement; median
    int64_t every = 0;         ///< training steps between measurements
    /// Share of training time at this `every`; step_seconds: of a step without a measurement.
    double share(double step_seconds) const {
        return seconds / (seconds + static_cast<double>(every) * step_seconds);
    }
};

struct ScopeCost {
    Scope scope;
    double seconds;  ///< of a measurement of this scope alone; median
};

/// Measures the weights as `train` does, into a temporary folder, and calls step() (which takes step_seconds
/// without a measurement) until everything is written. Repeats this three times, or less often if it takes
/// more than a few seconds.
DiagnosticsCost measure_diagnostics(Context& ctx, Comm& comm, const Config& config, const Parameters& params,
                                    double step_seconds, const std::function<void()>& step);

/// measure_diagnostics() of each of the scopes positions, ov and overlap that config names, alone: DiagnosticsCost::seconds.
/// That of overlap includes the eigenvalues of the layers' forms, whose factors it loads. A scope for which there is too
/// little memory is left out.
std::vector<ScopeCost> measure_further_scopes(Context& ctx, Comm& comm, const Config& config,
                                              const Parameters& params, double step_seconds,
                                              const std::function<void()>& step);

}  // namespace pastur
