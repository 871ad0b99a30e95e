// pastur import: a folder of Hugging Face transformers as a checkpoint.
#include <fmt/format.h>

#include <algorithm>

#include "engine/model/attention/variants.h"
#include "engine/model/recipe.h"
#include "engine/train/hugging_face/hf_export.h"
#include "tools/pastur/commands.h"
#include "tools/pastur/print.h"

namespace pastur {
namespace {

struct ImportArguments {
    std::string folder, out;
};

/// Whether a recipe of the model should name the key: one of its variant's, or one that is not the default.
bool belongs(const Field& field, const Config& config) {
    const VariantInfo& variant = variant_of(config);
    if (const VariantKey* key = variant.find_key(field)) return !key->is_read || key->is_read(config);
    const bool of_others = std::any_of(variants().begin(), variants().end(), [&](const VariantInfo* other) {
        return other->find_key(field) != nullptr;
    });
    return !of_others && value_text(field, config) != value_text(field, Config());
}

/// The sections of a recipe that trains the model further.
std::string recipe_of(const Config& config, const std::string& checkpoint) {
    std::string text = "# The model of " + printable(checkpoint) + ", for a recipe that trains it further.\n";
    std::string section;
    for (const Field& field : config_fields()) {
        const std::string_view of = field.section;
        if ((of != "model" && of != "attention") || !belongs(field, config)) continue;
        if (section != of) text += fmt::format("{}[{}]\n", section.empty() ? "" : "\n", of);
        section = of;
        text += fmt::format("{} = {}\n", field.key, value_text(field, config));
    }
    return text + fmt::format("\n[data]\nseq_len = {}\n\n[train]\ninit_from = \"{}\"\n", config.data.seq_len,
                              printable(checkpoint));
}

int run_import(const ImportArguments& arguments) {
    const ModelFolder model(arguments.folder);
    import_hugging_face(model, arguments.out);
    print_text("{}", recipe_of(model.config(), arguments.out));
    return 0;
}

}  // namespace

void add_import_command(CLI::App& app, std::function<int()>& run) {
    CLI::App* command = app.add_subcommand(
        "import", "Make a checkpoint of a Hugging Face folder, and print a recipe of its model");
    const auto arguments = std::make_shared<ImportArguments>();
    command
        ->add_option(
            "folder", arguments->folder,
            "Folder of Llama, Mistral, Qwen3 or dense DeepSeek-V2/V3 shape, or one that pastur exported")
        ->required()
        ->type_name("HF_DIR");
    command->add_option("--out", arguments->out, "New checkpoint folder")->required()->type_name("DIR");
    command->callback([arguments, &run] { run = [arguments] { return run_import(*arguments); }; });
}

}  // namespace pastur
