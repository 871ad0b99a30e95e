// pastur convert: a trained model as another attention variant, without training.
#include "engine/convert/conversion.h"

#include <algorithm>

#include "data/output.h"
#include "engine/config/nearest_name.h"
#include "engine/convert/expansion.h"
#include "engine/model/recipe.h"
#include "engine/train/hugging_face/hf_export.h"
#include "tools/pastur/commands.h"
#include "tools/pastur/convert/convert_report.h"
#include "tools/pastur/print.h"

namespace pastur {
namespace {

using namespace convert;
namespace fs = std::filesystem;

struct ConvertArguments {
    std::string source, to = "mla-decoupled", out, json, rotation = "complex", device = "auto";
    ConvertOptions options;
    TextOptions text;
    bool latent_norm = false, dry_run = false;
};

void check_arguments(const ConvertArguments& arguments, bool compresses) {
    if (compresses && arguments.text.calibrate.empty())
        fail(ExitCode::kUsage,
             "--calibrate: expected token shards or text, on which covariances are measured");
    if (compresses && !arguments.dry_run && arguments.options.kv_rank == 0)
        fail(ExitCode::kUsage, "--kv-rank: expected the latent's width; --dry-run shows what ranks cost");
    if (arguments.dry_run && !compresses)
        fail(ExitCode::kUsage,
             "--dry-run: expected --to mla-decoupled: multiplying out has no ranks to choose");
    const ConvertOptions& sizes = arguments.options;
    if (!compresses &&
        (sizes.kv_rank || sizes.rope_dim || sizes.fold || sizes.q_rank || arguments.latent_norm))
        fail(
            ExitCode::kUsage,
            "--to {}: expected neither --kv-rank, --rope-dim, --fold, --q-rank nor --latent-norm: the model keeps "
            "its sizes",
            arguments.to);
    if (arguments.dry_run) return;
    if (arguments.out.empty()) fail(ExitCode::kUsage, "--out: expected the new checkpoint's folder");
    // Before the work; writing it checks again.
    if (fs::exists(arguments.out) && !(fs::is_directory(arguments.out) && fs::is_empty(arguments.out)))
        fail(ExitCode::kUsage, "{} exists already: give a new folder", arguments.out);
}

/// One call's source, and what every way of converting it needs.
class Session {
  public:
    explicit Session(const ConvertArguments& arguments)
        : arguments_(arguments),
          ctx_(make_context(parse_device(arguments.device))),
          source_(arguments.source) {
        source_.check_computable();
        read_ = [this](const std::string& name) { return source_.read(name); };
        report_.source = source_.path().string();
        report_.before = report_.after = source_.config();
    }

    int run() {
        const Variant to = variant_named(arguments_.to, "--to " + arguments_.to);
        const bool compresses = to == variant_named("mla-decoupled");
        if (!compresses) check_multiplies_out(source_.config(), to);
        check_arguments(arguments_, compresses);
        if (!compresses) return expand(to);
        report_.options = resolve(options(), source_.config());
        measure_source();
        return arguments_.dry_run ? show_trades() : compress();
    }

  private:
    ConvertOptions options() const {
        ConvertOptions options = arguments_.options;
        options.rotation = static_cast<RotationKind>(
            index_of_name(arguments_.rotation, {"real", "complex"}, "--rotation " + arguments_.rotation));
        return options;
    }
    TextOptions text_options() const {
        TextOptions options = arguments_.text;
        if (options.seq_len == 0) options.seq_len = source_.config().data.seq_len;
        return options;
    }

    double loss(const WeightSet& weights) {
        return ForwardModel(ctx_, weights, text_.eval.seq_len).loss(text_.eval);
    }
    void add_stage(const char* name, const ConvertedModel& model) {
        report_.stages.push_back({name, loss(model.weights(read_))});
    }

    void measure_source() {
        text_ = open_text(text_options(), source_);
        report_.calibrate_tokens = text_.calibrate.tokens();
        report_.eval_tokens = text_.eval.tokens();
        ForwardModel forward(ctx_, {source_.config(), read_}, text_.eval.seq_len);
        report_.stages.push_back({"source", forward.loss(text_.eval)});
        moments_ = input_moments(forward, source_.config(), text_.calibrate);
    }
    ConvertedModel converted(const ConvertOptions& options) const {
        return convert_to_decoupled(source_.config(), read_, moments_, options);
    }

    int compress() {
        ConvertOptions options = report_.options;
        const int64_t full = full_rank(source_.config(), options.rope_dim);
        const int64_t kv_rank = std::exchange(options.kv_rank, full),
                      q_rank = std::exchange(options.q_rank, 0);
        ConvertedModel model = converted(options);
        add_stage("partial RoPE", model);
        if (kv_rank < full) {
            options.kv_rank = kv_rank;
            model = converted(options);
            add_stage("kv_rank", model);
        }
        if (q_rank > 0) {
            options.q_rank = q_rank;
            model = converted(options);
            add_stage("q_rank", model);
        }
        if (arguments_.latent_norm) {
            normalise_latents(ctx_, model, read_, moments_, text_.calibrate);
            add_stage("latent norm", model);
        }
        return write(model);
    }

    int show_trades() {
        const int64_t width = source_.config().model.d_model;
        const int64_t full = full_rank(source_.config(), report_.options.rope_dim);
        std::vector<int64_t> ranks = {width / 8, width / 4, width / 2, width};
        if (arguments_.options.kv_rank > 0) ranks.push_back(arguments_.options.kv_rank);
        for (int64_t& rank : ranks) rank = std::clamp<int64_t>(rank, 1, full);
        std::sort(ranks.begin(), ranks.end());
        ranks.erase(std::unique(ranks.begin(), ranks.end()), ranks.end());
        std::vector<ConvertTrade> trades;
        print_text("{}", describe_trades(report_));
        for (const RotationKind rotation : {RotationKind::kReal, RotationKind::kComplex})
            for (const int64_t rank : ranks) {
                ConvertOptions options = report_.options;
                options.rotation = rotation;
                options.kv_rank = rank;
                ConvertedModel model = converted(options);
                if (arguments_.latent_norm) normalise_latents(ctx_, model, read_, moments_, text_.calibrate);
                trades.push_back({rotation, rank, cache_bytes(model.config), mean_of(model.layers),
                                  loss(model.weights(read_))});
                print_text("{}", describe(report_, trades.back()));
                std::fflush(stdout);  // a row of a large model takes minutes
            }
        if (!arguments_.json.empty())
            write_file_atomically(arguments_.json, to_json(report_, trades).dump(2) + "\n");
        return 0;
    }

    int expand(Variant to) {
        ConvertedModel model = multiply_out(source_.config(), read_, to);
        if (!arguments_.text.calibrate.empty() || !arguments_.text.eval.empty()) {
            TextOptions options = text_options();
            if (options.calibrate.empty()) options.calibrate = options.eval;
            text_ = open_text(options, source_);
            report_.eval_tokens = text_.eval.tokens();
            report_.stages.push_back({"source", loss({source_.config(), read_})});
            add_stage("multiplied out", model);
        }
        return write(model);
    }

    int write(ConvertedModel& model) {
        report_.after = model.config;
        report_.layers = model.layers;
        report_.out = arguments_.out;
        std::vector<NamedShape> parameters;
        const Model architecture(model.config, DType::kF32,
                                 {1, 1});  // for the shapes only; nothing is allocated
        for (const Param& param : architecture.params().table().params())
            parameters.push_back({param.name, param.shape});
        write_first_checkpoint({model.config, source_.tokens(), std::move(parameters),
                                model.weights(read_).read, source_.path()},
                               arguments_.out);
        print_text("{}", describe(report_));
        if (!arguments_.json.empty()) write_file_atomically(arguments_.json, to_json(report_).dump(2) + "\n");
        return 0;
    }

    const ConvertArguments& arguments_;
    Context ctx_;
    ModelFolder source_;
    ReadTensor read_;
    ConvertReport report_;
    CalibrationText text_;
    std::vector<Matrix> moments_;
};

void add_sizes(CLI::App& command, ConvertArguments& arguments) {
    const auto sizes = CLI::Range(int64_t{0}, int64_t{1} << 20);
    command.add_option("--kv-rank", arguments.options.kv_rank, "Width of the latent of keys and values")
        ->check(sizes);
    command
        .add_option("--rope-dim", arguments.options.rope_dim,
                    "Width of the rotary key that all heads share; 0: of a head")
        ->check(sizes)
        ->capture_default_str();
    command
        .add_option("--rotation", arguments.rotation,
                    "real (as published) or complex: how each frequency is rotated across the heads")
        ->capture_default_str();
    command
        .add_option("--fold", arguments.options.fold,
                    "Adjacent frequencies rotated as one (FreqFold); 0: head width / rope-dim")
        ->check(sizes)
        ->capture_default_str();
    command.add_option("--q-rank", arguments.options.q_rank, "Width of the queries' latent; 0: none")
        ->check(sizes)
        ->capture_default_str();
    command.add_flag("--latent-norm", arguments.latent_norm,
                     "Normalise the latents, with gains that make the norm nearly an identity");
}

void add_texts(CLI::App& command, ConvertArguments& arguments) {
    const auto tokens = CLI::Range(int64_t{1}, int64_t{1} << 40);
    command
        .add_option("--calibrate", arguments.text.calibrate,
                    "Folder of `data prepare`, glob of .bin shards, or text: covariances are measured on it")
        ->type_name("DATA");
    command
        .add_option(
            "--eval", arguments.text.eval,
            "Held-out data for perplexities; default: the folder's validation shards, or the last tenth")
        ->type_name("DATA");
    command.add_option("--calibrate-tokens", arguments.text.calibrate_tokens, "Most tokens to measure on")
        ->check(tokens)
        ->capture_default_str();
    command.add_option("--eval-tokens", arguments.text.eval_tokens, "Most held-out tokens to read")
        ->check(tokens)
        ->capture_default_str();
    command
        .add_option(
            "--seq-len", arguments.text.seq_len,
            "Tokens of a sequence; 0: as in training, or the positions of a Hugging Face model, at most 2048")
        ->check(CLI::Range(int64_t{0}, int64_t{1} << 20))
        ->capture_default_str();
}

}  // namespace

void add_convert_command(CLI::App& app, std::function<int()>& run) {
    CLI::App* command = app.add_subcommand(
        "convert",
        "Turn a trained model into another attention variant: mha to mla-decoupled, latents to mha");
    const auto arguments = std::make_shared<ConvertArguments>();
    command
        ->add_option("source", arguments->source,
                     "Checkpoint folder, a run folder (its newest checkpoint) or a Hugging Face folder")
        ->required()
        ->type_name("DIR");
    command
        ->add_option(
            "--to", arguments->to,
            "mla-decoupled; without loss, for latents without norm: mha-shared-rope of mla-decoupled, mha of "
            "mla-rope, mha-nope of mla-nope")
        ->capture_default_str();
    command->add_option("--out", arguments->out, "New checkpoint folder")->type_name("DIR");
    add_sizes(*command, *arguments);
    add_texts(*command, *arguments);
    command->add_flag(
        "--dry-run", arguments->dry_run,
        "Write no checkpoint: show cache, energy and perplexity of several ranks with both rotations");
    command->add_option("--json", arguments->json, "Also write the report as JSON")->type_name("FILE");
    command->add_option("--device", arguments->device, "auto, cpu or cuda")->capture_default_str();
    command->callback([arguments, &run] { run = [arguments] { return Session(*arguments).run(); }; });
}

}  // namespace pastur
