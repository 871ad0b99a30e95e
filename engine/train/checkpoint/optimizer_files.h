#pragma once
// Adam's moments in a checkpoint. One rank with all moments writes whole tensors (<name>.exp_avg,
// <name>.exp_avg_sq) to optimizer.rank0.safetensors. If moments are divided over the ranks, each rank writes
// a file of parts. A part <name>.exp_avg@<first> holds the elements of the stored tensor from index <first>
// on. Both forms can be read on any number of ranks.
#include <algorithm>
#include <filesystem>

#include "engine/train/checkpoint/checkpoint_image.h"

namespace pastur {

inline constexpr const char* kMomentNames[] = {"exp_avg", "exp_avg_sq"};

/// Calls visit(overlap, offset of the overlap's first element among the owned elements) for every part of
/// `range` that lies in `owned`.
template <typename Visit>
void for_each_owned(const std::vector<FlatRange>& owned, const FlatRange& range, const Visit& visit) {
    int64_t kept = 0;
    for (const FlatRange& part : owned) {
        const int64_t begin = std::max(part.begin, range.begin), end = std::min(part.end(), range.end());
        if (begin < end) visit(FlatRange{begin, end - begin}, kept + begin - part.begin);
        kept += part.count;
    }
}

/// The file with the parts of a rank.
std::filesystem::path moments_file(const std::filesystem::path& folder, int64_t rank);

/// Writes the parts of `rank` to its file, which appears under its name once it is complete. Throws (kIo).
void write_moment_parts(const std::filesystem::path& folder, const CheckpointImage& image, int rank,
                        int64_t step);

/// Throws (kCorruptData) unless the files hold every moment of the table exactly once and were written at `step`;
/// (kMissingInput, kIo). Reads headers only.
void check_moments(const std::filesystem::path& folder, const ParamTable& table, int64_t step);

/// Reads the moments that the optimizer owns, from any number of files. Throws (kCorruptData) unless the
/// files hold every moment exactly once.
void read_moments(const std::filesystem::path& folder, Context& ctx, const ParamTable& table,
                  AdamW& optimizer);

}  // namespace pastur
