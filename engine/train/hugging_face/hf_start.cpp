#include "engine/train/hugging_face/hf_start.h"

#include <tuple>

#include "engine/train/checkpoint/checkpoint.h"

namespace pastur {

std::vector<std::string> start_from_hugging_face(Context& ctx, const std::filesystem::path& path,
                                                 const Config& config, Parameters& params) {
    const ModelFolder folder(path);
    folder.check_computable();
    check_same_model(folder.config(), config);
    folder.read_weights(ctx, params);
    std::vector<std::string> lines = {fmt::format("starting from the weights of {}", path.string())};
    const ModelConfig &theirs = folder.config().model, &ours = config.model;
    for (const auto& [key, was, is] : {std::tuple("rope_theta", theirs.rope_theta, ours.rope_theta),
                                       std::tuple("norm_eps", theirs.norm_eps, ours.norm_eps)})
        if (was != is)
            lines.push_back(
                fmt::format("model.{} is {}, but the weights were trained with {}", key, is, was));
    return lines;
}

}  // namespace pastur
