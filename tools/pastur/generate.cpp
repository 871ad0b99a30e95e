// pastur generate: continues prompts with a checkpoint or a Hugging Face folder.
#include <fmt/format.h>

#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

#include "data/corpus/utf8.h"
#include "data/files.h"
#include "data/output.h"
#include "engine/model/attention/variants.h"
#include "engine/model/decoding/generate.h"
#include "engine/train/checkpoint/model_folder.h"
#include "engine/train/scoring/model_tokenizer.h"
#include "tools/pastur/commands.h"
#include "tools/pastur/generate/text_stream.h"
#include "tools/pastur/precision_note.h"
#include "tools/pastur/print.h"

namespace pastur {
namespace {

struct GenerateArguments {
    std::string checkpoint, tokenizer, device = "auto", precision = "auto", json;
    std::vector<std::string> prompts, prompt_files, stops;
    int64_t max_tokens = 128, seq_len = 0, top_k = 0;
    double temperature = 0, top_p = 1;
    int64_t seed = 0;
    bool no_bos = false;
};

constexpr int64_t kMostPromptBytes = 16 << 20;

void check_numbers(const GenerateArguments& arguments) {
    if (!(arguments.temperature >= 0) || !std::isfinite(arguments.temperature))
        fail(ExitCode::kUsage, "--temperature {}: expected 0 (the most probable token) or more",
             arguments.temperature);
    if (!(arguments.top_p > 0 && arguments.top_p <= 1))
        fail(ExitCode::kUsage, "--top-p {}: expected more than 0, and at most 1 (all tokens)",
             arguments.top_p);
    for (const std::string& stop : arguments.stops)
        if (stop.empty() || !is_utf8(stop))
            fail(ExitCode::kUsage, "--stop: expected a text in UTF-8 that is not empty");
}

/// The prompts of the command line, then the lines of the files.
std::vector<std::string> prompts_of(const GenerateArguments& arguments) {
    std::vector<std::string> prompts = arguments.prompts;
    for (const std::string& file : arguments.prompt_files) {
        const std::string text = read_file(file, kMostPromptBytes);
        const size_t before = prompts.size();
        for (size_t begin = 0; begin < text.size();) {
            const size_t end = std::min(text.find('\n', begin), text.size());
            std::string line = text.substr(begin, end - begin);
            if (!line.empty() && line.back() == '\r') line.pop_back();
            if (!line.empty()) prompts.push_back(std::move(line));
            begin = end + 1;
        }
        if (prompts.size() == before)
            fail(ExitCode::kUsage, "--prompt-file {}: expected a prompt on each line, found none", file);
    }
    if (prompts.empty())
        fail(ExitCode::kUsage, "expected --prompt or --prompt-file (see `pastur generate --help`)");
    for (size_t i = 0; i < prompts.size(); ++i)
        if (!is_utf8(prompts[i])) fail(ExitCode::kUsage, "prompt {} is not UTF-8", i + 1);
    return prompts;
}

Config config_for(const GenerateArguments& arguments, Config config) {
    config.train.precision =
        parse_choice<Precision>(arguments.precision, "--precision " + arguments.precision);
    if (config.train.precision == Precision::kFp8)
        fail(ExitCode::kUsage, "--precision fp8: expected auto, bf16 or fp32 (the cache is not quantised)");
    if (arguments.seq_len > 0) config.data.seq_len = arguments.seq_len;
    return config;
}

/// The weights of a model that other models read, on the device.
std::unique_ptr<Model> read_model(const ModelFolder& folder, const Config& config, Context& ctx) {
    auto model = std::make_unique<Model>(config, compute_dtype(config.train, ctx), BatchShape{1, 1});
    Parameters& params = model->params();
    const int64_t bytes = params.master_bytes() + params.compute_bytes();
    if (const MemoryInfo memory = memory_info(ctx); bytes > memory.free_bytes)
        fail(ExitCode::kNoDevice, "not enough memory: {} MiB needed for the weights, {} MiB free",
             bytes >> 20, memory.free_bytes >> 20);
    params.allocate(ctx, /*with_gradients=*/false);
    folder.read_weights(ctx, params);
    return model;
}

struct Prompts {
    std::vector<std::string> texts;
    std::vector<std::vector<int32_t>> ids;
    int64_t longest = 0;
};

/// Training data separates documents by EOS, which is what a text begins after where the model has no BOS.
Prompts encode(const GenerateArguments& arguments, const ModelFolder& folder, const Tokenizer& tokenizer,
               int64_t seq_len) {
    Prompts prompts{prompts_of(arguments), {}, 0};
    const std::vector<int64_t>& bos = folder.tokens().bos;
    for (const std::string& text : prompts.texts) {
        std::vector<int32_t>& ids = prompts.ids.emplace_back();
        if (!arguments.no_bos)
            ids.push_back(bos.empty() ? tokenizer.eos_id() : static_cast<int32_t>(bos.front()));
        const std::vector<int32_t> encoded = tokenizer.encode(text);
        ids.insert(ids.end(), encoded.begin(), encoded.end());
        if (ids.empty())
            fail(ExitCode::kUsage, "prompt {} is empty: without --no-bos it is allowed", prompts.ids.size());
        prompts.longest = std::max<int64_t>(prompts.longest, std::ssize(ids));
        if (std::ssize(ids) >= seq_len)
            fail(
                ExitCode::kUsage,
                "prompt {} has {} tokens: expected fewer than {}, the tokens of a sequence (--seq-len; in training "
                "{})",
                prompts.ids.size(), ids.size(), seq_len, folder.config().data.seq_len);
    }
    return prompts;
}

GenerateOptions options_of(const GenerateArguments& arguments, const ModelFolder& folder,
                           const Tokenizer& tokenizer) {
    GenerateOptions options;
    options.sampling = {arguments.temperature, arguments.top_k, arguments.top_p,
                        static_cast<uint64_t>(arguments.seed)};
    options.max_tokens = arguments.max_tokens;
    options.vocab = tokenizer.vocab_size();
    options.eos = {tokenizer.eos_id()};
    for (const int64_t id : folder.tokens().eos) options.eos.push_back(static_cast<int32_t>(id));
    return options;
}

/// 0 where nothing was measured.
double rate(int64_t tokens, double seconds) {
    return seconds > 0 ? static_cast<double>(tokens) / seconds : 0;
}

void print_summary(const Generation& g, size_t prompts) {
    print_note(
        "prefill: {} tokens of {} prompt{} in {:.1f} ms ({:.0f} tokens/s); first token after {:.1f} ms\n",
        g.prompt_tokens, prompts, prompts == 1 ? "" : "s", g.prefill_seconds * 1e3,
        rate(g.prompt_tokens, g.prefill_seconds), g.first_token_seconds * 1e3);
    print_note("decoding: {} tokens in {:.1f} ms ({:.0f} tokens/s)\n", g.decoded_tokens,
               g.decode_seconds * 1e3, rate(g.decoded_tokens, g.decode_seconds));
    print_note(
        "cache: {:.0f} bytes per token used ({} tokens, {} bytes), {:.0f} allocated ({} tokens, {} bytes)\n",
        g.cache.used_per_token(), g.cache.tokens, g.cache.used, g.cache.allocated_per_token(), g.cache.room,
        g.cache.allocated);
}

nlohmann::ordered_json to_json(const GenerateArguments& arguments, const ModelFolder& folder, Context& ctx,
                               DType dtype, const Prompts& prompts, const std::vector<TextStream>& streams,
                               const Generation& g) {
    nlohmann::ordered_json results = nlohmann::ordered_json::array();
    for (size_t i = 0; i < streams.size(); ++i)
        results.push_back({{"prompt", prompts.texts[i]},
                           {"prompt_tokens", prompts.ids[i]},
                           {"text", streams[i].text()},
                           {"tokens", g.sequences[i].tokens},
                           {"stop", name_of(g.sequences[i].stop)}});
    return {{"checkpoint", folder.path().string()},
            {"variant", variant_of(folder.config()).name},
            {"device", device_name(ctx)},
            {"dtype", name_of(dtype)},
            {"temperature", arguments.temperature},
            {"top_k", arguments.top_k},
            {"top_p", arguments.top_p},
            {"seed", arguments.seed},
            {"results", results},
            {"prefill_tokens", g.prompt_tokens},
            {"prefill_tokens_per_s", rate(g.prompt_tokens, g.prefill_seconds)},
            {"first_token_ms", g.first_token_seconds * 1e3},
            {"decoded_tokens", g.decoded_tokens},
            {"decode_tokens_per_s", rate(g.decoded_tokens, g.decode_seconds)},
            {"cache",
             {{"bytes_used", g.cache.used},
              {"bytes_allocated", g.cache.allocated},
              {"tokens", g.cache.tokens},
              {"bytes_per_token_used", g.cache.used_per_token()},
              {"bytes_per_token_allocated", g.cache.allocated_per_token()}}}};
}

int run_generate(const GenerateArguments& arguments) {
    check_numbers(arguments);
    const Device device = parse_device(arguments.device);
    const ModelFolder folder(arguments.checkpoint);
    folder.check_computable();
    const Config config = config_for(arguments, folder.config());
    const auto tokenizer = required_tokenizer(folder, arguments.tokenizer);
    const Prompts prompts = encode(arguments, folder, *tokenizer, config.data.seq_len);

    Context ctx = make_context(device);
    const auto model = read_model(folder, config, ctx);
    note_precision(folder, config.train.precision, model->params().compute_dtype());
    Decoder decoder(ctx, *model,
                    {std::ssize(prompts.ids), prompts.longest,
                     std::min(config.data.seq_len, prompts.longest + arguments.max_tokens)});
    std::vector<TextStream> streams;
    for (const std::vector<int32_t>& ids : prompts.ids) streams.emplace_back(tokenizer, ids, arguments.stops);
    GenerateOptions options = options_of(arguments, folder, *tokenizer);
    const bool streaming = streams.size() == 1;
    const auto print_new = [&] {
        print_text("{}", streams[0].take());
        std::fflush(stdout);
    };
    options.on_token = [&](int64_t sequence, int32_t token) {
        const bool goes_on = streams[static_cast<size_t>(sequence)].push(token);
        if (streaming) print_new();
        return goes_on;
    };
    if (streaming) print_text("{}", prompts.texts[0]);
    const Generation generation = generate(decoder, prompts.ids, options);
    for (TextStream& stream : streams) stream.finish();
    if (streaming) {
        print_new();
        print_text("\n");
    } else {
        for (size_t i = 0; i < streams.size(); ++i)
            print_text("[{}] {}{}\n", i + 1, prompts.texts[i], streams[i].text());
    }
    if (!arguments.json.empty())
        write_file_atomically(arguments.json, to_json(arguments, folder, ctx, model->params().compute_dtype(),
                                                      prompts, streams, generation)
                                                      .dump(2) +
                                                  "\n");
    print_summary(generation, streams.size());
    return 0;
}

}  // namespace

void add_generate_command(CLI::App& app, std::function<int()>& run) {
    CLI::App* command = app.add_subcommand("generate", "Continue prompts with a model, from a cache");
    const auto arguments = std::make_shared<GenerateArguments>();
    command
        ->add_option("--checkpoint", arguments->checkpoint,
                     "Checkpoint folder, a run folder (its newest checkpoint) or a Hugging Face folder")
        ->required()
        ->type_name("DIR");
    command->add_option("--prompt", arguments->prompts, "Text to continue; several: repeat it")
        ->type_name("TEXT")
        ->allow_extra_args(false);
    command->add_option("--prompt-file", arguments->prompt_files, "File with a prompt on each line")
        ->type_name("FILE")
        ->allow_extra_args(false);
    command->add_option("--max-tokens", arguments->max_tokens, "Most tokens of a continuation")
        ->check(CLI::Range(int64_t{1}, int64_t{1} << 20))
        ->capture_default_str();
    command
        ->add_option("--temperature", arguments->temperature,
                     "Divides the logits before a token is drawn; 0: the most probable token")
        ->capture_default_str();
    command
        ->add_option("--top-k", arguments->top_k, "Draw from the most probable tokens, so many; 0: from all")
        ->check(CLI::Range(int64_t{0}, int64_t{1} << 30))
        ->capture_default_str();
    command
        ->add_option("--top-p", arguments->top_p,
                     "Draw from the fewest most probable tokens whose probabilities sum to this")
        ->capture_default_str();
    command
        ->add_option("--seed", arguments->seed,
                     "Of the draws: a token depends on it, the number of its prompt and the position")
        ->check(CLI::Range(int64_t{0}, std::numeric_limits<int64_t>::max()))
        ->capture_default_str();
    command->add_option("--stop", arguments->stops, "Text that ends a continuation; several: repeat it")
        ->type_name("TEXT")
        ->allow_extra_args(false);
    command
        ->add_option(
            "--seq-len", arguments->seq_len,
            "Most tokens of a sequence with its prompt; 0: as in training, or the positions of a Hugging "
            "Face model, at most 2048")
        ->check(CLI::Range(int64_t{0}, int64_t{1} << 20))
        ->capture_default_str();
    command
        ->add_option(
            "--tokenizer", arguments->tokenizer,
            "bytes, a tokenizer.model, a tokenizer.json or a folder of `data prepare` (default: the model's)")
        ->type_name("T");
    command->add_flag("--no-bos", arguments->no_bos,
                      "Do not begin prompts with the token that texts begin after");
    command->add_option("--device", arguments->device, "auto, cpu or cuda")->capture_default_str();
    command->add_option("--precision", arguments->precision, "auto, bf16 or fp32")->capture_default_str();
    command->add_option("--json", arguments->json, "Also write texts, tokens and measurements as JSON")
        ->type_name("FILE");
    command->callback([arguments, &run] { run = [arguments] { return run_generate(*arguments); }; });
}

}  // namespace pastur
