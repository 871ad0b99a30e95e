#pragma once
// Latency and bandwidth between the ranks of this job, measured.
#include "engine/bench/scaling_model.h"
#include "engine/ranks/comm.h"

namespace pastur {

/// alpha and B of the scaling model, from a short and a long all-reduce, the medians of nine each; `otherwise` on a
/// single rank. Every rank calls it. The bandwidth beyond a host is that which was measured.
Links measure_links(Context& ctx, Comm& comm, const Links& otherwise);

}  // namespace pastur
