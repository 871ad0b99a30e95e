// pastur verify: checks every byte of a checkpoint against its manifest, and whether training can continue
// from it.
#include <fmt/format.h>

#include "engine/io/manifest.h"
#include "engine/io/safetensors.h"
#include "engine/model/attention/variants.h"
#include "engine/model/model.h"
#include "engine/train/checkpoint/checkpoint.h"
#include "engine/train/checkpoint/checkpoint_store.h"
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

/// Throws (kCorruptData) unless `train --resume` can read the folder's files, whose bytes are intact.
void check_content(const fs::path& folder, const std::vector<FileReport>& files) {
    std::vector<std::string> names;
    for (const FileReport& file : files) {
        names.push_back(file.name);
        if (fs::path(file.name).extension() == ".safetensors") SafetensorsFile parsed(folder / file.name);
    }
    const Config config = read_checkpoint_config(folder);
    const Model model(config, DType::kF32, {1, config.data.seq_len});
    check_checkpoint_weights(folder, model.params().table());
    const TrainState state = read_checkpoint_state(folder);
    const ModelSize size = size_of_model(config, model.params().table());
    print_text("intact: step {} of {}, {} tokens, {} of {:.2f} M parameters\n", state.step,
               config.train.steps, state.tokens, name_of(config.attention.variant),
               static_cast<double>(size.parameters) / 1e6);
}

int verify(const std::string& path) {
    const fs::path folder = CheckpointStore::find(path);
    print_text("{}\n", printable(folder.string()));
    const std::vector<FileReport> files = inspect_manifest(folder);
    std::string first_problem;
    size_t damaged = 0;
    for (const FileReport& file : files) {
        print_text("{}", describe(file));
        if (file.problem.empty()) continue;
        ++damaged;
        if (first_problem.empty()) first_problem = file.problem;
    }
    if (damaged > 0)
        fail(ExitCode::kCorruptData, "{}{}", first_problem,
             damaged == 1 ? "" : fmt::format(" ({} of {} files are damaged)", damaged, files.size()));
    check_content(folder, files);
    return 0;
}

}  // namespace

void add_verify_command(CLI::App& app, std::function<int()>& run) {
    CLI::App* command =
        app.add_subcommand("verify", "Check every byte of a checkpoint and name damaged files and tensors");
    const auto path = std::make_shared<std::string>();
    command->add_option("checkpoint", *path, "Checkpoint folder, or a run folder (its newest checkpoint)")
        ->required()
        ->type_name("CHECKPOINT");
    command->footer("Exit codes: 0 intact; 65 damaged; 66 no checkpoint there.");
    command->callback([path, &run] { run = [path] { return verify(*path); }; });
}

}  // namespace pastur
