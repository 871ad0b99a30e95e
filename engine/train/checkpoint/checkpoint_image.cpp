#include "engine/train/checkpoint/checkpoint_image.h"

#include <algorithm>

namespace pastur {
namespace {

/// Copies a [rows, columns] tensor whose rows are not contiguous to `packed`.
std::span<const std::byte> pack_rows(ConstTensor tensor, std::vector<std::byte>& packed) {
    packed.resize(static_cast<size_t>(tensor.nbytes()));
    const int64_t row_bytes = tensor.size(1) * size_of(tensor.dtype());
    for (int64_t row = 0; row < tensor.size(0); ++row)
        std::copy_n(tensor.slice(0, row, 1).bytes(), row_bytes, packed.data() + row * row_bytes);
    return packed;
}

}  // namespace

void write_host_tensors(const std::filesystem::path& file, const std::vector<HostTensor>& tensors,
                        const StringMap& metadata) {
    std::vector<std::byte> packed;
    std::vector<TensorSource> sources;
    for (const HostTensor& tensor : tensors) {
        TensorSource source;
        source.name = tensor.name;
        source.dtype = tensor.values.dtype();
        for (int i = 0; i < tensor.values.rank(); ++i) source.shape.push_back(tensor.values.size(i));
        source.bytes = [&packed, values = tensor.values] {
            if (!values.contiguous()) return pack_rows(values, packed);
            return std::span(values.bytes(), static_cast<size_t>(values.nbytes()));
        };
        sources.push_back(std::move(source));
    }
    write_safetensors(file, sources, metadata);
}

int64_t CheckpointImage::planned_bytes(const Parameters& params, const Optimizer& optimizer, int rank) {
    if (rank > 0 && optimizer.owns_all()) return 0;
    return (rank == 0 ? params.master_bytes() : 0) + optimizer.state_bytes();
}

CheckpointImage::CheckpointImage(const Parameters& params, const Optimizer& optimizer, int rank,
                                 Buffer memory)
    : memory_(std::move(memory)), divided_(!optimizer.owns_all()) {
    PASTUR_CHECK(memory_.bytes() >= planned_bytes(params, optimizer, rank), "{} bytes for a checkpoint of {}",
                 memory_.bytes(), planned_bytes(params, optimizer, rank));
    std::byte* at = memory_.data();
    const auto take_flat = [&](DType dtype, int64_t bytes) {
        const Tensor flat(at, dtype, {bytes / size_of(dtype)});
        at += bytes;
        return flat;
    };
    if (rank == 0) {
        masters_ = take_flat(params.master_dtype(), params.master_bytes());
        for (const Param& param : params.table().params())
            weights_.push_back({param.name, param.at(masters_.slice(0, param.offset, param.stored()).bytes(),
                                                     params.master_dtype())});
    }
    const std::vector<OptimizerState> states = optimizer.states();
    for (const OptimizerState& state : states) states_.push_back(take_flat(state.dtype, state.bytes()));
    name_moments(params.table(), states);
}

void CheckpointImage::name_moments(const ParamTable& table, const std::vector<OptimizerState>& states) {
    for (const Param& param : table.params()) {
        for (size_t i = 0; i < states.size(); ++i) {
            const std::string name = param.name + "." + states[i].name;
            for_each_overlap(
                states[i].ranges, {param.offset, param.stored()}, [&](const FlatRange& part, int64_t at) {
                    const Tensor values = states_[i].slice(0, at, part.count);
                    if (divided_)
                        moments_.push_back({fmt::format("{}@{}", name, part.begin - param.offset), values});
                    else
                        moments_.push_back({name, param.at(values.bytes(), values.dtype())});
                });
        }
    }
}

void CheckpointImage::take(Context& ctx, const Parameters& params, const Optimizer& optimizer) {
    if (!masters_.empty()) begin_download(ctx, masters_, params.flat_master());
    for (size_t i = 0; i < states_.size(); ++i) begin_download(ctx, states_[i], optimizer.values(i));
    synchronize(ctx);
}

}  // namespace pastur
