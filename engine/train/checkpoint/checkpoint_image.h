#pragma once
// A rank's share of a checkpoint in host memory: named tensors for the file writers.
#include <filesystem>
#include <string>
#include <vector>

#include "engine/io/safetensors.h"
#include "engine/train/optimizer/optimizer.h"

namespace pastur {

/// f32 or bf16 in host memory; if the model pads rows, they are not contiguous.
struct HostTensor {
    std::string name;
    ConstTensor values;
};

/// Writes a safetensors file, without padding between rows. Throws (kIo).
void write_host_tensors(const std::filesystem::path& file, const std::vector<HostTensor>& tensors,
                        const StringMap& metadata);

class CheckpointImage {
  public:
    /// Host memory of the image. Rank 0 holds the master weights and its optimizer state; other ranks hold
    /// their state, or nothing if rank 0 owns all state.
    static int64_t planned_bytes(const Parameters& params, const Optimizer& optimizer, int rank);

    /// Lays the image out in `memory`, host memory of planned_bytes().
    CheckpointImage(const Parameters& params, const Optimizer& optimizer, int rank, Buffer memory);

    /// Copies weights and optimizer state. params and optimizer are those of the constructor and must be
    /// allocated.
    void take(Context& ctx, const Parameters& params, const Optimizer& optimizer);

    /// Whether the optimizer state is divided over the ranks.
    bool divided() const { return divided_; }
    /// The master weights under their Hugging Face names; empty on ranks above 0.
    const std::vector<HostTensor>& weights() const { return weights_; }
    /// The optimizer state of this rank, with the names that optimizer_files.h describes.
    const std::vector<HostTensor>& moments() const { return moments_; }

  private:
    void name_moments(const ParamTable& table, const std::vector<OptimizerState>& states);
    Buffer memory_;
    bool divided_;
    Tensor masters_;              ///< flat, in memory_; empty on ranks above 0
    std::vector<Tensor> states_;  ///< flat, in memory_, by the index in Optimizer::states()
    std::vector<HostTensor> weights_, moments_;
};

}  // namespace pastur
