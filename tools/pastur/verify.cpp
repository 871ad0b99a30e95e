// pastur verify: checks every byte of a checkpoint against its manifest, and whether training can continue
// from it.
#include <fmt/format.h>

#include "engine/model/attention/variants.h"
#include "engine/model/model.h"
#include "engine/train/checkpoint/checkpoint_check.h"
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

int verify(const std::string& path) {
    const fs::path folder = CheckpointStore::find(path);
    print_text("{}\n", printable(folder.string()));
    const auto [config, state] =
        check_checkpoint(folder, [](const FileReport& file) { print_text("{}", describe(file)); });
    const Model model(config, DType::kF32, {1, config.data.seq_len});
    const ModelSize size = size_of_model(config, model.params().table());
    print_text("intact: step {} of {}, {} tokens, {} of {:.2f} M parameters\n", state.step,
               config.train.steps, state.tokens, name_of(config.attention.variant),
               static_cast<double>(size.parameters) / 1e6);
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
