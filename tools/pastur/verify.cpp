// pastur verify: checks every byte of a checkpoint against its manifest, and whether training can continue
// from it; or every tensor of a Hugging Face folder, which has no hashes.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "engine/model/attention/variants.h"
#include "engine/model/model.h"
#include "engine/train/checkpoint/checkpoint_check.h"
#include "engine/train/checkpoint/checkpoint_store.h"
#include "engine/train/checkpoint/model_folder.h"
#include "tools/pastur/commands.h"
#include "tools/pastur/print.h"

namespace pastur {
namespace {

namespace fs = std::filesystem;

std::string describe(const FileReport& file) {
    const std::string tensors = file.tensors == 0 ? "" : fmt::format("{} tensors", file.tensors);
    return fmt::format("  {:<32}{:>16} bytes  {:<14}{}\n", printable(file.name), file.bytes, tensors,
                       file.problem.empty() ? "ok" : "DAMAGED");
}

std::string describe(const Config& config) {
    const Model model(config, DType::kF32, {1, config.data.seq_len});
    const ModelSize size = size_of_model(config, model.params().table());
    return fmt::format("{} of {:.2f} M parameters", name_of(config.attention.variant),
                       static_cast<double>(size.parameters) / 1e6);
}

int verify_hugging_face(const fs::path& path) {
    const ModelFolder folder(path);
    print_text("{}\n", printable(path.string()));
    folder.check_computable();
    for (const auto& file : folder.files())
        print_text("{}", describe({.name = file->path().filename().string(),
                                   .bytes = file->bytes().size(),
                                   .tensors = file->entries().size(),
                                   .problem = ""}));
    for (const NamedShape& parameter : folder.parameters()) {
        const std::vector<float> values = folder.read(parameter.name);
        const auto bad =
            std::find_if(values.begin(), values.end(), [](float x) { return !std::isfinite(x); });
        if (bad != values.end())
            fail(ExitCode::kCorruptData, "{}: tensor {}: expected finite numbers: element {} is {}",
                 path.string(), parameter.name, bad - values.begin(), *bad);
    }
    print_text("complete: every tensor is there and finite, {}\n", describe(folder.config()));
    return 0;
}

int verify(const std::string& path) {
    if (is_hugging_face(path)) return verify_hugging_face(path);
    const fs::path folder = CheckpointStore::find(path);
    print_text("{}\n", printable(folder.string()));
    const auto [config, state] =
        check_checkpoint(folder, [](const FileReport& file) { print_text("{}", describe(file)); });
    print_text("intact: step {} of {}, {} tokens, {}\n", state.step, config.train.steps, state.tokens,
               describe(config));
    return 0;
}

}  // namespace

void add_verify_command(CLI::App& app, std::function<int()>& run) {
    CLI::App* command = app.add_subcommand(
        "verify", "Check every byte of a checkpoint, or a Hugging Face folder, and name what is damaged");
    const auto path = std::make_shared<std::string>();
    command
        ->add_option("checkpoint", *path,
                     "Checkpoint folder, a run folder (its newest checkpoint) or a Hugging Face folder")
        ->required()
        ->type_name("CHECKPOINT");
    command->footer("Exit codes: 0 intact; 65 damaged; 66 no checkpoint there.");
    command->callback([path, &run] { run = [path] { return verify(*path); }; });
}

}  // namespace pastur
