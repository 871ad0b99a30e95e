#include "tools/pastur/report/report_eigenvalues.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <map>
#include <nlohmann/json.hpp>

namespace pastur {
namespace {

using Json = nlohmann::ordered_json;

/// The steps with eigenvalues that also have metrics on the page, which hold the null's edge; if there are
/// none, all steps with eigenvalues.
std::vector<int64_t> steps_to_show(const EigenvalueFiles& files, const std::vector<int64_t>& measured) {
    std::vector<int64_t> both;
    std::set_intersection(files.steps().begin(), files.steps().end(), measured.begin(), measured.end(),
                          std::back_inserter(both));
    return both.empty() ? files.steps() : both;
}

/// The packed spectra of one group of one run, by step.
struct PackedGroup {
    const EigenvalueGroup* group;
    std::vector<int64_t> steps;
    std::map<int64_t, std::string> bytes;  ///< by step
};

/// One kind of matrix, as whole layers or as heads, in all runs. The number of its steps on the page is one for all of
/// them, so they stay comparable.
struct Share {
    double weight = 1;
    size_t steps = 0;  ///< largest number of steps of a run
    std::vector<std::vector<PackedGroup>> runs;

    /// The size as base64.
    size_t bytes() const {
        size_t sum = 0;
        for (const auto& groups : runs)
            for (const PackedGroup& group : groups)
                for (const int64_t step : spread(group.steps, steps))
                    sum += group.bytes.at(step).size() * 4 / 3 + 3;
        return sum;
    }
};
using Shares = std::map<std::pair<std::string, bool>, Share>;  ///< by matrix and whether it is of heads

/// Whole query-key forms matter most on the page, single weights and single pairs of positions least.
double weight_of(const EigenvalueGroup& group) {
    const bool form = group.matrix.starts_with("qk") && group.matrix.find('@') == std::string::npos;
    return (group.matrix == "qk" ? 8 : form ? 4 : 1) * (group.per_head ? 0.5 : 1);
}

/// Takes steps from the kind with the most bytes per weight until all fit. When every kind is down to two
/// steps, it drops the kind of the least weight.
void fit(Shares& shares, size_t budget) {
    for (;;) {
        size_t total = 0;
        double most_bytes_per_weight = 0;
        Share* largest = nullptr;
        Share* least = nullptr;
        for (auto& [kind, share] : shares) {
            const size_t bytes = share.bytes();
            total += bytes;
            const double bytes_per_weight = static_cast<double>(bytes) / share.weight;
            if (share.steps > 2 && bytes_per_weight > most_bytes_per_weight) {
                largest = &share;
                most_bytes_per_weight = bytes_per_weight;
            }
            if (share.steps > 0 && (!least || share.weight < least->weight)) least = &share;
        }
        if (total <= budget) return;
        if (largest)
            largest->steps -= std::max<size_t>(1, largest->steps / 16);
        else
            least->steps = 0;
    }
}

Shares pack(const std::vector<EigenvalueFiles>& runs, const std::vector<std::vector<int64_t>>& measured) {
    Shares shares;
    for (size_t run = 0; run < runs.size(); ++run) {
        const std::vector<int64_t> steps = steps_to_show(runs[run], measured[run]);
        for (const EigenvalueGroup& group : runs[run].groups()) {
            Share& share = shares[{group.matrix, group.per_head}];
            share.weight = weight_of(group);
            share.steps = std::max(share.steps, steps.size());
            share.runs.resize(runs.size());
            PackedGroup packed{&group, steps, {}};
            for (const int64_t step : packed.steps)
                packed.bytes[step] = pack_spectra(runs[run].read(group, step), group.n);
            share.runs[run].push_back(std::move(packed));
        }
    }
    return shares;
}

Json packed_json(const PackedGroup& packed, const std::vector<int64_t>& steps, Blobs& blobs) {
    std::string bytes;
    for (const int64_t step : steps) bytes += packed.bytes.at(step);
    return {{"matrix", packed.group->matrix},
            {"perHead", packed.group->per_head},
            {"layers", packed.group->layers},
            {"heads", packed.group->heads},
            {"n", packed.group->n},
            {"steps", steps},
            {"blob", blobs.add(std::as_bytes(std::span(bytes)))}};
}

}  // namespace

void add_eigenvalues(Json& runs, const std::vector<EigenvalueFiles>& files,
                     const std::vector<std::vector<int64_t>>& measured, size_t budget, Blobs& blobs,
                     std::vector<ReportRun>& sources) {
    Shares shares = pack(files, measured);
    fit(shares, budget);
    for (Json& run : runs) run["spectra"] = Json::array();
    for (const auto& [kind, share] : shares)
        for (size_t run = 0; run < share.runs.size(); ++run) {
            if (share.runs[run].empty()) continue;
            const std::vector<int64_t> steps = spread(share.runs[run].front().steps, share.steps);
            const size_t all = files[run].steps().size();
            if (steps.size() < all)
                sources[run].notes.push_back(
                    fmt::format("eigenvalues of {}{} at {} of {} measured steps are on this page", kind.first,
                                kind.second ? " by head" : "", steps.size(), all) +
                    "; all are in spectra/step_*.npz");
            for (const PackedGroup& packed : share.runs[run])
                if (!steps.empty()) runs[run]["spectra"].push_back(packed_json(packed, steps, blobs));
        }
}

}  // namespace pastur
