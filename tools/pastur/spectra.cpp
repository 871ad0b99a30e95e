// pastur spectra: the diagnostics of a finished model.
#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>

#include "data/output.h"
#include "engine/config/nearest_name.h"
#include "engine/io/logger.h"
#include "engine/model/attention/variants.h"
#include "engine/model/probe_scopes.h"
#include "engine/model/recipe.h"
#include "engine/spectra/calibration.h"
#include "engine/spectra/missing_nulls.h"
#include "engine/spectra/spectra_files.h"
#include "engine/spectra/subspaces.h"
#include "engine/train/checkpoint/model_folder.h"
#include "tools/pastur/commands.h"
#include "tools/pastur/data/data_progress.h"
#include "tools/pastur/overrides.h"
#include "tools/pastur/print.h"
#include "tools/pastur/spectra/spectra_text.h"

namespace pastur {
namespace {

struct SpectraArguments {
    std::vector<std::string> paths;
    std::string json, npz, device = "auto";
    std::vector<std::string> scopes, nulls = {"product", "mp"};
    std::string mp_variance = "entries", solver = "auto";
    DiagnosticsConfig settings;  ///< with what the above name
    int64_t draws = 0;
    bool text = false, heads = false;
};

template <typename T>
std::vector<T> parse_choices(const char* option, const std::vector<std::string>& names) {
    std::vector<T> values;
    for (const std::string& name : names)
        values.push_back(parse_choice<T>(name, fmt::format("{} {}", option, name)));
    return values;
}

/// The scopes asked for, else the model's default ones.
std::vector<Scope> scopes_of(const Config& config, const std::vector<Scope>& asked) {
    const VariantInfo& variant = variant_of(config);
    for (const Scope scope : asked) {
        if (reads_probe(scope))
            fail(ExitCode::kUsage, "--scopes {}: expected scopes of weights; training measures activations",
                 name_of(scope));
        if (!variant.has_scope(scope))
            fail(ExitCode::kUsage, "--scopes {}: attention.variant \"{}\" has no such part", name_of(scope),
                 variant.name);
    }
    return asked.empty() ? std::vector<Scope>(variant.default_scopes) : asked;
}

/// Weights of a folder on the device, read when first asked for.
class DeviceWeights {
  public:
    DeviceWeights(Context& ctx, const ModelFolder& folder)
        : ctx_(ctx), folder_(folder), shapes_(folder.shapes()) {}

    const std::vector<NamedShape>& shapes() const { return shapes_; }
    ConstTensor get(const std::string& name) {
        const auto known = tensors_.find(name);
        if (known != tensors_.end()) return known->second;
        const std::vector<float> values = folder_.read(name);
        const auto entry = std::find_if(shapes_.begin(), shapes_.end(),
                                        [&](const NamedShape& shape) { return shape.name == name; });
        buffers_.push_back(allocate(ctx_, static_cast<int64_t>(values.size()) * size_of(DType::kF32)));
        const Tensor tensor(buffers_.back().data(), DType::kF32, entry->shape);
        upload(ctx_, tensor, as_tensor(std::span(values)));
        return tensors_.emplace(name, tensor).first->second;
    }

  private:
    Context& ctx_;
    const ModelFolder& folder_;
    std::vector<NamedShape> shapes_;
    std::map<std::string, Tensor> tensors_;
    std::vector<Buffer> buffers_;
};

struct Result {
    std::vector<SpectralMatrix> matrices;
    MeasuredSpectra measured;
    std::vector<SpectrumRecord> records;
};

Result decompose(Context& ctx, const ModelFolder& folder, const SpectraArguments& arguments) {
    const Config& config = folder.config();
    const DiagnosticsConfig& settings = arguments.settings;
    DeviceWeights weights(ctx, folder);
    Result result;
    result.matrices = spectral_matrices(config, scopes_of(config, settings.scopes), weights.shapes(),
                                        [&](const std::string& name) { return weights.get(name); });
    const auto solver = make_spectrum_solver(ctx, products_of(result.matrices),
                                             {.own_kernels = settings.solver == Eigensolver::kAuto});
    solver->follow(ctx);
    for (const std::string& line : missing_nulls(settings.nulls, result.matrices))
        print_note("{}: {}\n", printable(folder.path().string()), line);
    result.measured = solve_spectra(*solver, result.matrices, settings, config.train.seed);
    result.records = SpectrumJudge(settings).judge(result.matrices, result.measured);
    LayerOverlaps().annotate(result.records, layer_subspaces(result.matrices, result.measured.spectra));
    return result;
}

/// The histograms of every matrix summed over heads, or of a weight, under the first null that it has; none of a matrix
/// without any.
std::string histograms(const Result& result) {
    std::string text;
    for (size_t m = 0; m < result.matrices.size(); ++m) {
        for (size_t i = 0; i < result.matrices[m].items.size(); ++i) {
            const auto [layer, head] = result.matrices[m].items[i];
            if (head >= 0) continue;
            const auto record = std::find_if(result.records.begin(), result.records.end(),
                                             [&, layer = layer](const SpectrumRecord& candidate) {
                                                 return candidate.matrix == result.matrices[m].name &&
                                                        candidate.layer == layer && candidate.head < 0;
                                             });
            if (record == result.records.end()) continue;
            text += '\n' + spectrum_histogram(result.measured.spectra[m][i].eigenvalues, *record, 72, 8);
        }
    }
    return text;
}

/// Random initialisations of recipes' models instead of finished ones.
int calibrate(Context& ctx, const SpectraArguments& arguments) {
    std::string json_lines;
    for (const std::string& path : arguments.paths) {
        Config config = load_recipe(path, {});
        config.diagnostics = arguments.settings;
        config.diagnostics.scopes = scopes_of(config, arguments.settings.scopes);
        ProgressLine progress;
        const Calibration calibration = calibrate_nulls(ctx, config, arguments.draws, [&](int64_t done) {
            if (progress.due())
                progress.show(static_cast<double>(done), static_cast<double>(arguments.draws),
                              fmt::format("{} of {} initialisations", done, arguments.draws));
        });
        for (const std::string& line : calibration.missing) print_note("{}: {}\n", printable(path), line);
        print_text("{}: {} random initialisations of a layer of {}\n{}", printable(path), arguments.draws,
                   name_of(config.attention.variant), calibration_table(calibration.lines));
        for (const NullCalibration& line : calibration.lines) {
            nlohmann::ordered_json json = {{"recipe", path}};
            json.update(to_json(line));
            json_lines += metrics_line(json) + "\n";
        }
    }
    if (!arguments.json.empty()) write_file_atomically(arguments.json, json_lines);
    return 0;
}

int spectra(SpectraArguments arguments) {
    const Device device = parse_device(arguments.device);
    arguments.settings.scopes = parse_choices<Scope>("--scopes", arguments.scopes);
    arguments.settings.nulls = parse_choices<NullKind>("--nulls", arguments.nulls);
    arguments.settings.mp_variance =
        parse_choice<VarianceEstimate>(arguments.mp_variance, "--mp-variance " + arguments.mp_variance);
    arguments.settings.solver = parse_choice<Eigensolver>(arguments.solver, "--solver " + arguments.solver);
    if (arguments.draws > 0) {
        Context ctx = make_context(device);
        return calibrate(ctx, arguments);
    }
    if (!arguments.npz.empty() && arguments.paths.size() > 1)
        fail(ExitCode::kUsage, "--npz holds the eigenvalues of one model: {} were given",
             arguments.paths.size());
    Context ctx = make_context(device);
    std::string json_lines;
    for (const std::string& path : arguments.paths) {
        const ModelFolder folder(path);
        const ModelConfig& model = folder.config().model;
        const Result result = decompose(ctx, folder, arguments);
        print_text("{}: {}, {} layers of {} heads, width {}\n{}", printable(folder.path().string()),
                   name_of(folder.config().attention.variant), model.layers, model.heads, model.d_model,
                   spectrum_table(result.records, arguments.heads));
        if (arguments.text) print_text("{}", histograms(result));
        for (const nlohmann::ordered_json& matrix : summary_lines(result.records, {})) {
            nlohmann::ordered_json line = {{"path", folder.path().string()}};
            line.update(matrix);
            json_lines += metrics_line(line) + "\n";
        }
        if (!arguments.npz.empty())
            write_file_atomically(arguments.npz, spectra_npz(result.matrices, result.measured.spectra));
    }
    if (!arguments.json.empty()) write_file_atomically(arguments.json, json_lines);
    return 0;
}

}  // namespace

void add_spectra_command(CLI::App& app, std::function<int()>& run) {
    CLI::App* command =
        app.add_subcommand("spectra", "Query-key spectra of finished models, against their nulls");
    const auto arguments = std::make_shared<SpectraArguments>();
    command
        ->add_option(
            "path", arguments->paths,
            "Checkpoint or run folder, or a Hugging Face folder of Llama or DeepSeek-V2/V3 shape; with "
            "--draws, a recipe")
        ->required()
        ->type_name("PATH...");
    command
        ->add_option("--json", arguments->json,
                     "Write every record here, one JSON object per matrix and line")
        ->type_name("FILE");
    command->add_option("--npz", arguments->npz, "Write every eigenvalue here, for numpy.load")
        ->type_name("FILE");
    command->add_flag("--text", arguments->text, "Draw the spectra of the layers in the terminal");
    command->add_flag("--heads", arguments->heads, "A line for every head, not one for the heads of a layer");
    command
        ->add_option("--scopes", arguments->scopes,
                     "head, layer, content, rope, literal, weights, positions, ov, overlap (default: as in "
                     "training)")
        ->delimiter(',')
        ->type_name("A,B");
    command->add_option("--nulls", arguments->nulls, "product, mp, permuted, profile")
        ->delimiter(',')
        ->type_name("A,B")
        ->capture_default_str();
    command
        ->add_option("--tw-quantile", arguments->settings.tw_quantile,
                     "Of Tracy-Widom: a null's edge beyond its bulk")
        ->check(CLI::Range(0.001, 0.9999))
        ->capture_default_str();
    command
        ->add_option("--mp-variance", arguments->mp_variance,
                     "How the mp null takes its variance from a matrix: entries, median or fit")
        ->capture_default_str();
    command
        ->add_option("--permutations", arguments->settings.permutations,
                     "Draws averaged by the nulls permuted and profile")
        ->check(CLI::Range(int64_t{1}, int64_t{1024}))
        ->capture_default_str();
    command
        ->add_option(
            "--draws", arguments->draws,
            "Calibrate the nulls instead: false alarms in so many random initialisations of a recipe's "
            "layer")
        ->check(CLI::Range(int64_t{1}, int64_t{1000000}));
    command
        ->add_option("--solver", arguments->solver,
                     "Of eigenvalues on CUDA: auto (own kernels up to 1024 rows) or cusolver")
        ->capture_default_str();
    command->add_option("--device", arguments->device, "auto, cpu or cuda")->capture_default_str();
    command->callback([arguments, &run] { run = [arguments] { return spectra(*arguments); }; });
}

}  // namespace pastur
