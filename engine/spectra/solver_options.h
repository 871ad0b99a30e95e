#pragma once
// The eigensolver that diagnostics.solver asks for.
#include "diag/spectrum.h"
#include "engine/config/config.h"

namespace pastur {

inline SolverOptions solver_options(const Config& config) {
    return {.own_kernels = config.diagnostics.solver == Eigensolver::kAuto};
}

}  // namespace pastur
