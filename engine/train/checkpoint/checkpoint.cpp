#include "engine/train/checkpoint/checkpoint.h"

#include <algorithm>
#include <limits>
#include <nlohmann/json.hpp>

#include "data/files.h"
#include "data/mixture.h"
#include "data/output.h"
#include "engine/config/schedule.h"
#include "engine/io/json_text.h"
#include "engine/io/safetensors.h"
#include "engine/model/recipe.h"
#include "engine/train/checkpoint/optimizer_files.h"
#include "kernels/fill.h"

namespace pastur {
namespace {

constexpr const char* kRecipeKey = "recipe";
constexpr int64_t kStateLimit = 1 << 20;

/// The other one of the two formats of weights.
DType other_than(DType dtype) {
    return dtype == DType::kF32 ? DType::kBF16 : DType::kF32;
}

/// Reads a weight and converts it to the dtype of `into`, which may differ only where a run starts from the
/// weights of another.
void read_tensor(Context& ctx, const SafetensorsFile& file, const std::string& name, Tensor into) {
    const auto entry = file.entries().find(name);
    const DType other = other_than(into.dtype());
    const char* const other_name = other == DType::kF32 ? "F32" : "BF16";
    if (entry == file.entries().end() || entry->second.dtype != other_name)
        return upload(ctx, into, file.tensor(name, into.dtype(), into.shape()));
    Context host = make_context(Device::kCpu);
    const Buffer memory = allocate(host, into.nbytes());
    const Tensor converted(memory.data(), into.dtype(), into.shape());
    cast(host, converted, file.tensor(name, other, into.shape()));
    upload(ctx, into, converted);
}

}  // namespace

StringMap checkpoint_metadata(const Config& config) {
    return {{"format", "pt"}, {kRecipeKey, to_toml(config)}};
}

void write_checkpoint_state(const std::filesystem::path& folder, const TrainState& state) {
    nlohmann::ordered_json json = {{"v", 1},
                                   {"step", state.step},
                                   {"tokens", state.tokens},
                                   {"skipped", state.skipped},
                                   {"data_fingerprint", state.data_fingerprint},
                                   {"val_fingerprint", state.val_fingerprint}};
    if (state.qk_clipped > 0) json["qk_clipped"] = state.qk_clipped;
    if (!state.source_fingerprints.empty()) json["source_fingerprints"] = state.source_fingerprints;
    if (!state.val_set_fingerprints.empty()) json["val_set_fingerprints"] = state.val_set_fingerprints;
    write_file_atomically(folder / kStateFile, json.dump(2) + "\n");
}

void write_checkpoint_files(const std::filesystem::path& folder, const Config& config,
                            const CheckpointImage& image, const TrainState& state,
                            const std::vector<TextFile>& hf_files) {
    write_host_tensors(folder / kModelFile, image.weights(), checkpoint_metadata(config));
    if (image.divided())
        write_moment_parts(folder, image, 0, state.step);
    else
        write_host_tensors(moments_file(folder, 0), image.moments(), {{"step", std::to_string(state.step)}});
    write_checkpoint_state(folder, state);
    write_text_files(folder, hf_files);
}

void check_checkpoint_weights(const std::filesystem::path& folder, const TrainConfig& config,
                              const ParamTable& table) {
    const SafetensorsFile file(folder / kModelFile);
    for (const Param& param : table.params()) file.tensor(param.name, dtype_of(config.weights), param.shape);
}

void read_checkpoint_weights(const std::filesystem::path& folder, Context& ctx, Parameters& params) {
    const SafetensorsFile file(folder / kModelFile);
    for (const Param& param : params.table().params())
        read_tensor(ctx, file, param.name, params.master(param));
    params.refresh_compute(ctx);
}

void read_checkpoint_files(const std::filesystem::path& folder, Context& ctx, Parameters& params,
                           Optimizer& optimizer, TrainState& state) {
    read_checkpoint_weights(folder, ctx, params);
    state = read_checkpoint_state(folder);
    read_moments(folder, ctx, params.table(), optimizer, state.step);
}

namespace {

/// A counter or a hash. A number that is negative, a fraction or too large is refused by name.
uint64_t whole_number(const nlohmann::json& state, const char* key, uint64_t most, const std::string& path) {
    const auto found = state.find(key);
    if (found == state.end()) fail(ExitCode::kCorruptData, "{}: expected \"{}\"", path, key);
    if (!found->is_number_unsigned() || found->get<uint64_t>() > most)
        fail(ExitCode::kCorruptData, "{}: \"{}\" is {}: expected a whole number from 0 to {}", path, key,
             found->dump(-1, ' ', true, nlohmann::json::error_handler_t::replace).substr(0, 40), most);
    return found->get<uint64_t>();
}

/// The fingerprints of several sources and validation sets; both are absent where there are none.
void read_fingerprints(const nlohmann::json& json, TrainState& state, const std::string& path) {
    const auto hashes = [&](const char* key, bool named) -> const nlohmann::json* {
        const auto found = json.find(key);
        if (found == json.end()) return nullptr;
        const bool right = named ? found->is_object() : found->is_array();
        const auto is_hash = [](const nlohmann::json& value) { return value.is_number_unsigned(); };
        if (!right || !std::all_of(found->begin(), found->end(), is_hash))
            fail(ExitCode::kCorruptData, "{}: \"{}\": expected {} of whole numbers", path, key,
                 named ? "an object" : "a list");
        return &*found;
    };
    if (const nlohmann::json* list = hashes("source_fingerprints", /*named=*/false))
        list->get_to(state.source_fingerprints);
    if (const nlohmann::json* sets = hashes("val_set_fingerprints", /*named=*/true))
        sets->get_to(state.val_set_fingerprints);
}

}  // namespace

TrainState read_checkpoint_state(const std::filesystem::path& folder) {
    const std::filesystem::path path = folder / kStateFile;
    const nlohmann::json json = parse_json(read_file(path, kStateLimit));
    if (!json.is_object()) fail(ExitCode::kCorruptData, "{}: expected a JSON object", path.string());
    const auto hash = [&](const char* key) {
        return whole_number(json, key, std::numeric_limits<uint64_t>::max(), path.string());
    };
    const auto counter = [&](const char* key) {
        constexpr int64_t kMost = std::numeric_limits<int64_t>::max();
        return static_cast<int64_t>(whole_number(json, key, kMost, path.string()));
    };
    TrainState state{counter("step"),
                     counter("tokens"),
                     counter("skipped"),
                     hash("data_fingerprint"),
                     json.contains("val_fingerprint") ? hash("val_fingerprint") : 0,
                     json.contains("qk_clipped") ? counter("qk_clipped") : 0};
    read_fingerprints(json, state, path);
    return state;
}

Config read_checkpoint_config(const std::filesystem::path& folder) {
    const std::filesystem::path path = folder / kModelFile;
    const SafetensorsFile file(path);
    const auto recipe = file.metadata().find(kRecipeKey);
    if (recipe == file.metadata().end())
        fail(ExitCode::kCorruptData, "{}: expected a checkpoint of pastur, with \"{}\" in its metadata",
             path.string(), kRecipeKey);
    try {
        return parse_config(recipe->second, path.string(), {});
    } catch (const Error& error) {  // not the fault of the command line
        fail(ExitCode::kCorruptData, "{}", error.what());
    }
}

namespace {

/// "`lr = 0.1` is now `lr = 0.2`" for every line in which the two configs differ; "": none.
std::string differences(const Config& then, const Config& now) {
    const std::string a = to_toml(then), b = to_toml(now);
    std::string text;
    size_t i = 0, j = 0;
    while (i < a.size() && j < b.size()) {
        const size_t end_a = a.find('\n', i), end_b = b.find('\n', j);
        const std::string line_a = a.substr(i, end_a - i), line_b = b.substr(j, end_b - j);
        if (line_a != line_b)
            text += fmt::format("{}`{}` is now `{}`", text.empty() ? "" : ", ", line_a, line_b);
        i = end_a + 1;
        j = end_b + 1;
    }
    return text;
}

/// The settings that must not change during a run: all except paths and how often to report.
Config comparable(Config config) {
    config.run = {};
    config.hw = {};
    config.checkpoint = {};
    config.diagnostics = {};
    config.data.dir = config.data.train = config.data.val = config.data.val_sets = "";
    // The fingerprints say whether the sources are the same; their weights are settings.
    if (!config.data.mixture.empty())
        config.data.mixture = place_mixture(config.data.mixture, [](const std::string&) { return "DIR"; });
    config.train.val_every = config.train.val_tokens = 0;
    config.train.micro_batch = 0;  // follows the number of ranks
    config.train.init_from = "";   // read at step 0 only
    config.train.nonfinite = {};
    config.train.recompute = {};
    config.train.zero = 0;
    if (config.train.precision != Precision::kFp8)
        config.train.fp8_min_outputs = config.train.fp8_min_gradient_side = 0;
    config.train.cuda_graph = false;
    config.train.comm_timeout_s = 0;
    return config;
}

}  // namespace

std::string check_same_run(const Config& then, const Config& now, int64_t step) {
    Config before = comparable(then);
    const Config after = comparable(now);
    const bool grows = after.train.steps > before.train.steps;
    if (grows) before.train.steps = after.train.steps;
    const std::string changes = differences(before, after);
    if (!changes.empty())
        fail(ExitCode::kUsage,
             "resume with the recipe of the checkpoint (only train.steps may grow) or choose another run "
             "folder with --run: {}",
             changes);
    if (!grows) return "";
    const double planned = learning_rate(then.train, step), rate = learning_rate(now.train, step);
    const std::string growth =
        fmt::format("train.steps grows from {} to {}", then.train.steps, now.train.steps);
    if (planned == rate && now.train.schedule != Schedule::kCosine) return growth;
    return fmt::format(
        "{}: the {} schedule is stretched, so the learning rate of the next step is {:.3g} instead of {:.3g}",
        growth, name_of(now.train.schedule), rate, planned);
}

void check_same_model(const Config& weights, const Config& model) {
    const auto architecture = [](const Config& config) {
        Config only;
        only.model = config.model;
        only.attention = config.attention;
        only.model.preset = "custom";
        // These may change, because no tensor's shape depends on them.
        only.model.rope_theta = ModelConfig().rope_theta;
        only.model.norm_eps = ModelConfig().norm_eps;
        return only;
    };
    const std::string changes = differences(architecture(weights), architecture(model));
    if (!changes.empty())
        fail(ExitCode::kUsage,
             "change [model] and [attention] to those of the checkpoint that "
             "train.init_from names: {}",
             changes);
}

}  // namespace pastur
