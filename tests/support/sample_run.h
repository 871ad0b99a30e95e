#pragma once
// Writes run folders without training, for tests of the programs that read them.
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace pastur::test {

struct NpzMember {
    std::string name;  ///< without ".npy"
    std::vector<int64_t> shape;
    std::vector<double> values;
};
/// The bytes of a float64 archive as numpy.savez (or savez_compressed) writes it.
std::string make_npz(const std::vector<NpzMember>& members, bool compressed);

struct SampleRun {
    std::string variant = "mha";
    int64_t steps = 40, layers = 2, heads = 3, head_dim = 8;
    std::vector<int64_t> measured = {0, 10, 20, 40};  ///< steps with spectra; empty: no spectra folder
    bool ended = true;
    bool probed = false;  ///< also spectra/logits.jsonl and latents.jsonl
    uint64_t seed = 1;
    std::string notes = "";  ///< run.notes
};
/// Writes the config.toml, env.json, metrics.jsonl and spectra/ of a training run of this shape.
void write_sample_run(const std::filesystem::path& folder, const SampleRun& run);

}  // namespace pastur::test
