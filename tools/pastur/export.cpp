// pastur export: a model as a folder of Hugging Face transformers.
#include <fmt/format.h>

#include "engine/config/nearest_name.h"
#include "engine/train/hugging_face/hf_export.h"
#include "tools/pastur/commands.h"
#include "tools/pastur/print.h"

namespace pastur {
namespace {

struct ExportArguments {
    std::string checkpoint, out, dtype = "fp32", max_shard_size = "5GB";
};

WeightFormat parse_format(const std::string& text) {
    return static_cast<WeightFormat>(index_of_name(text, {"fp32", "bf16", "fp16"}, "--dtype " + text));
}

/// A number and a unit: 5GB, 500MB, 2GiB.
int64_t parse_bytes(const std::string& text) {
    constexpr std::pair<const char*, int64_t> kUnits[] = {
        {"KB", 1000},     {"MB", 1000 * 1000},       {"GB", 1000 * 1000 * 1000},
        {"KiB", 1 << 10}, {"MiB", int64_t{1} << 20}, {"GiB", int64_t{1} << 30}};
    const size_t digits = std::min(text.find_first_not_of("0123456789"), text.size());
    for (const auto& [unit, bytes] : kUnits)
        if (digits > 0 && digits <= 9 && text.substr(digits) == unit)
            if (const int64_t count = std::stoll(text.substr(0, digits)); count > 0) return count * bytes;
    fail(ExitCode::kUsage,
         "--max-shard-size {}: expected a number and KB, MB, GB, KiB, MiB or GiB, such as 5GB", text);
}

int run_export(const ExportArguments& arguments) {
    const ExportOptions options = {parse_format(arguments.dtype), parse_bytes(arguments.max_shard_size)};
    const ModelFolder model(arguments.checkpoint);
    export_hugging_face(model, arguments.out, options);
    print_text("{}: {} tensors of {} in {}\n", printable(arguments.out), model.parameters().size(),
               printable(model.path().string()), arguments.dtype);
    return 0;
}

}  // namespace

void add_export_command(CLI::App& app, std::function<int()>& run) {
    CLI::App* command =
        app.add_subcommand("export", "Write a checkpoint's model as a Hugging Face folder, in shards");
    const auto arguments = std::make_shared<ExportArguments>();
    command
        ->add_option("--checkpoint", arguments->checkpoint,
                     "Checkpoint folder, a run folder (its newest checkpoint) or a Hugging Face folder")
        ->required()
        ->type_name("DIR");
    command->add_option("--out", arguments->out, "New folder")->required()->type_name("DIR");
    command->add_option("--dtype", arguments->dtype, "fp32, bf16 or fp16 (both rounded to nearest)")
        ->capture_default_str();
    command
        ->add_option("--max-shard-size", arguments->max_shard_size,
                     "Bytes of weights in a file, with KB, MB, GB, KiB, MiB or GiB")
        ->type_name("SIZE")
        ->capture_default_str();
    command->callback([arguments, &run] { run = [arguments] { return run_export(*arguments); }; });
}

}  // namespace pastur
