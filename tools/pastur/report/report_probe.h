#pragma once
// What the probe saw in a run, spectra/logits.jsonl and spectra/latents.jsonl, layer by layer for the page.
#include <filesystem>
#include <string>
#include <vector>

#include "tools/pastur/report/report_spectra.h"

namespace pastur {

/// One grid for the logits (matrix "logits"), whose metrics are taken over the heads of a layer, and one for each tensor
/// of the latents (matrix "c_kv", "keys", "values", "residual", ...). A grid has no null and no heads. Metrics:
///     logits: max_logit (largest), rms_logit (root mean square), entropy, entropy_ratio, content_share, rope_share,
///         covariance_share (means) and least_entropy_ratio (smallest)
///     latents: width, entropy_rank, participation_ratio, rank_90, rank_99
/// A missing file has no grids. Of two records of one place the later one counts. `notes` gets the number of lines that
/// could not be read.
std::vector<MetricGrid> read_probe_grids(const std::filesystem::path& spectra,
                                         std::vector<std::string>& notes);

}  // namespace pastur
