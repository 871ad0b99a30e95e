#include "engine/train/checkpoint/optimizer_files.h"

#include <algorithm>
#include <charconv>
#include <deque>

#include "data/files.h"
#include "data/output.h"
#include "engine/io/safetensors.h"

namespace pastur {
namespace fs = std::filesystem;
namespace {

/// A run of a moment's values in a file, and its place in the flat buffers.
struct Piece {
    FlatRange range;
    ConstTensor values;  ///< flat
};

/// Appends a tensor that was written whole; padding separates its rows in the flat buffer.
void append_whole(std::vector<Piece>& pieces, const Param& param, ConstTensor values) {
    if (param.stored() == values.numel()) {
        pieces.push_back({{param.offset, values.numel()}, values.flat()});
        return;
    }
    const int64_t columns = values.size(1);
    for (int64_t row = 0; row < values.size(0); ++row)
        pieces.push_back(
            {{param.offset + row * param.stored_columns, columns}, values.slice(0, row, 1).flat()});
}

/// Appends the parts of one tensor's moment from all files.
void append_parts(std::vector<Piece>& pieces, const Param& param, const std::string& prefix, DType dtype,
                  const std::deque<SafetensorsFile>& files, const fs::path& folder) {
    const size_t before = pieces.size();
    for (const SafetensorsFile& file : files) {
        for (auto entry = file.entries().lower_bound(prefix);
             entry != file.entries().end() && entry->first.starts_with(prefix); ++entry) {
            int64_t first = -1;
            const char* const end = entry->first.data() + entry->first.size();
            std::from_chars(entry->first.data() + prefix.size(), end, first);
            const auto count = static_cast<int64_t>(entry->second.bytes.size()) / size_of(dtype);
            pieces.push_back({{param.offset + first, count}, file.tensor(entry->first, dtype, {count})});
        }
    }
    std::sort(pieces.begin() + static_cast<int64_t>(before), pieces.end(),
              [](const Piece& a, const Piece& b) { return a.range.begin < b.range.begin; });
    int64_t next = param.offset;
    for (size_t i = before; i < pieces.size(); next = pieces[i++].range.end())
        if (pieces[i].range.begin != next) break;
    if (next != param.offset + param.stored())
        fail(ExitCode::kCorruptData,
             "{}: the parts of {} in optimizer.rank*.safetensors end or overlap at element {} of {}",
             folder.string(), prefix.substr(0, prefix.size() - 1), next - param.offset, param.stored());
}

std::vector<Piece> pieces_of(const std::deque<SafetensorsFile>& files, const ParamTable& table,
                             const OptimizerState& state, const fs::path& folder) {
    std::vector<Piece> pieces;
    for (const Param& param : table.params()) {
        if (intersection(state.ranges, {{param.offset, param.stored()}}).empty()) continue;
        const std::string name = param.name + "." + state.name;
        if (files.size() == 1 && files.front().metadata().count("parts") == 0)
            append_whole(pieces, param, files.front().tensor(name, state.dtype, param.shape));
        else
            append_parts(pieces, param, name + "@", state.dtype, files, folder);
    }
    return pieces;
}

}  // namespace

fs::path moments_file(const fs::path& folder, int64_t rank) {
    return folder / fmt::format("optimizer.rank{}.safetensors", rank);
}

void write_moment_parts(const fs::path& folder, const CheckpointImage& image, int rank, int64_t step) {
    const fs::path file = moments_file(folder, rank);
    fs::path unfinished = file;
    unfinished += ".part";
    write_host_tensors(unfinished, image.moments(), {{"parts", "1"}, {"step", std::to_string(step)}});
    rename_durably(unfinished, file);
}

namespace {

/// The files of the moments, in a deque because pieces of moments refer to its elements. An imported checkpoint, which is
/// at step 0, has no such file; the deque is then empty.
std::deque<SafetensorsFile> open_moments(const fs::path& folder, int64_t step) {
    std::deque<SafetensorsFile> files;
    if (step == 0 && !path_exists(moments_file(folder, 0))) return files;
    do files.emplace_back(moments_file(folder, static_cast<int64_t>(files.size())));
    while (path_exists(moments_file(folder, static_cast<int64_t>(files.size()))));
    return files;
}

}  // namespace

void check_moments(const fs::path& folder, const TrainConfig& config, const ParamTable& table, int64_t step) {
    const std::deque<SafetensorsFile> files = open_moments(folder, step);
    if (files.empty()) return;
    for (const SafetensorsFile& file : files) {
        const auto written = file.metadata().find("step");
        const std::string found = written == file.metadata().end() ? "no step" : "step " + written->second;
        if (found != "step " + std::to_string(step))
            fail(ExitCode::kCorruptData, "{}: {}: expected step {}, as in state.json", file.path().string(),
                 found, step);
    }
    for (const OptimizerState& state : optimizer_states(config, table))
        pieces_of(files, table, state, folder);
}

void read_moments(const fs::path& folder, Context& ctx, const ParamTable& table, Optimizer& optimizer,
                  int64_t step) {
    const std::deque<SafetensorsFile> files = open_moments(folder, step);
    const std::vector<OptimizerState> all = optimizer_states(optimizer.config(), table);
    const std::vector<OptimizerState> kept = optimizer.states();
    if (files.empty())
        fail(
            ExitCode::kMissingInput,
            "{}: start a run with train.init_from: an imported checkpoint has no optimizer state to resume from",
            folder.string());
    for (size_t i = 0; i < all.size(); ++i)
        for (const Piece& piece : pieces_of(files, table, all[i], folder))
            for_each_overlap(kept[i].ranges, piece.range, [&](const FlatRange& part, int64_t at) {
                upload(ctx, optimizer.values(i).slice(0, at, part.count),
                       piece.values.slice(0, part.begin - piece.range.begin, part.count));
            });
}

}  // namespace pastur
