#pragma once
// Cost of measuring activations on the probe during training.
#include <vector>

#include "engine/bench/bench_diagnostics.h"
#include "engine/model/batch.h"
#include "engine/model/model.h"

namespace pastur {

/// Measures each scope of config that reads the probe alone, as `train` does, into a temporary folder, until its records are
/// written: its share of a forward pass included. `read` gives the probe's sequences. A scope for which there is too little memory is left out.
std::vector<ScopeCost> measure_probe(Context& ctx, const Model& model, const DiagnosticsConfig& config,
                                     const ReadSequence& read);

}  // namespace pastur
