// pastur eval: loss and perplexity of a checkpoint or a Hugging Face folder on token shards.
#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "data/shard.h"
#include "engine/io/console.h"
#include "engine/train/checkpoint/model_folder.h"
#include "engine/train/evaluate.h"
#include "engine/train/training_setup.h"
#include "tools/pastur/commands.h"
#include "tools/pastur/eval_logits.h"
#include "tools/pastur/print.h"

namespace pastur {
namespace {

struct EvalArguments {
    std::string checkpoint, data, device = "auto", precision = "auto", logits;
    int64_t tokens = 0, seq_len = 0;
    bool json = false;
};

/// The model's config with the settings of the evaluation.
Config config_for(const EvalArguments& arguments, Config config) {
    config.train.precision =
        parse_choice<Precision>(arguments.precision, "--precision " + arguments.precision);
    config.train.recompute = Recompute::kBlock;  // needs the least memory; there is no backward pass
    if (arguments.seq_len > 0) {
        config.data.seq_len = arguments.seq_len;
        config.train.micro_batch =
            default_micro_batch(config.train.global_batch, arguments.seq_len, config.model.d_model);
    }
    if (!arguments.logits.empty()) config.train.micro_batch = 1;  // they are written sequence by sequence
    return config;
}

int eval(const EvalArguments& arguments) {
    const Device device = parse_device(arguments.device);
    const ModelFolder folder(arguments.checkpoint);
    folder.check_computable();
    const Config config = config_for(arguments, folder.config());
    const std::string glob =
        std::filesystem::is_directory(arguments.data) ? shard_glob(arguments.data, "val") : arguments.data;
    const TokenLoader data(glob, config.data.seq_len, config.model.vocab, config.train.seed);
    for (const std::string& note : data.notes()) Console::err().write(note + "\n");

    Context ctx = make_context(device);
    using Purpose = TrainingSetup::Purpose;
    TrainingSetup setup(config, compute_dtype(config.train, ctx));
    Model& model = setup.model();
    setup.plan(ctx, Purpose::kEvaluate).check_fits(memory_info(ctx), ctx, model);
    setup.allocate(ctx, Purpose::kEvaluate);
    folder.read_weights(ctx, model.params());
    DeviceBatch batch(ctx, model.shape());
    const auto to_the_end = [] { return false; };
    const Evaluation result =
        *evaluate(ctx, *make_single_comm(), model, batch, data, arguments.tokens, to_the_end);
    if (!arguments.logits.empty())
        write_logits(arguments.logits, ctx, model, batch, data, result.tokens / config.data.seq_len);

    if (arguments.json) {
        const nlohmann::ordered_json json = {{"checkpoint", folder.path().string()},
                                             {"loss", result.loss},
                                             {"ppl", result.perplexity()},
                                             {"tokens", result.tokens}};
        print_text("{}\n", json.dump());
    } else {
        print_text("{}: loss {:.6f} nats per token, perplexity {:.3f}, over {} tokens\n",
                   printable(folder.path().string()), result.loss, result.perplexity(), result.tokens);
    }
    return 0;
}

}  // namespace

void add_eval_command(CLI::App& app, std::function<int()>& run) {
    CLI::App* command = app.add_subcommand("eval", "Loss and perplexity of a model on token shards");
    const auto arguments = std::make_shared<EvalArguments>();
    command
        ->add_option("--checkpoint", arguments->checkpoint,
                     "Checkpoint folder, a run folder (its newest checkpoint) or a Hugging Face folder")
        ->required()
        ->type_name("DIR");
    command->add_option("--data", arguments->data, "Folder of val_*.bin shards, or a glob of shards")
        ->required()
        ->type_name("DIR");
    command->add_option("--tokens", arguments->tokens, "Most tokens to read; 0: all")
        ->check(CLI::Range(int64_t{0}, int64_t{1} << 40))
        ->capture_default_str();
    command
        ->add_option(
            "--seq-len", arguments->seq_len,
            "Tokens of a sequence; 0: as in training, or the positions of a Hugging Face model, at most "
            "2048")
        ->check(CLI::Range(int64_t{0}, int64_t{1} << 20))
        ->capture_default_str();
    command
        ->add_option("--logits", arguments->logits,
                     "Write tokens.<i> [T] and logits.<i> [T, V] of every sequence here, a safetensors file")
        ->type_name("FILE");
    command->add_option("--device", arguments->device, "auto, cpu or cuda")->capture_default_str();
    command->add_option("--precision", arguments->precision, "auto, bf16, fp32 or fp8")
        ->capture_default_str();
    command->add_flag("--json", arguments->json, "One JSON object instead of a sentence");
    command->callback([arguments, &run] { run = [arguments] { return eval(*arguments); }; });
}

}  // namespace pastur
