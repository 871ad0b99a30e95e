#include "tools/pastur/bench/bench_generate.h"

#include <fmt/format.h>

#include <charconv>
#include <nlohmann/json.hpp>

#include "data/output.h"
#include "engine/model/attention/variants.h"
#include "engine/train/environment.h"
#include "tools/pastur/print.h"

namespace pastur {
namespace {

constexpr int64_t kMostSequences = 4096;

std::vector<int64_t> parse_batches(const std::string& text) {
    std::vector<int64_t> batches;
    for (size_t begin = 0; begin <= text.size();) {
        const size_t end = std::min(text.find(',', begin), text.size());
        int64_t number = 0;
        const auto [rest, error] = std::from_chars(text.data() + begin, text.data() + end, number);
        if (error != std::errc() || rest != text.data() + end || number < 1 || number > kMostSequences)
            fail(ExitCode::kUsage, "--batch {}: expected numbers of sequences from 1 to {}, such as 1,64",
                 text, kMostSequences);
        batches.push_back(number);
        begin = end + 1;
    }
    return batches;
}

std::string header() {
    return fmt::format("\n{:<17}{:>12}{:>7}{:>9}{:>17}{:>16}{:>14}{:>18}{:>14}\n", "variant", "weights MiB",
                       "batch", "context", "prefill tokens/s", "decode tokens/s", "ms per token",
                       "cache bytes/token", "cache MiB");
}

double to_mib(int64_t bytes) {
    return static_cast<double>(bytes) / (1 << 20);
}

std::string line(const GenerateBench& bench, const GenerateCell& cell) {
    return fmt::format("{:<17}{:>12.1f}{:>7}{:>9}{:>17.0f}{:>16.0f}{:>14.3f}{:>18.0f}{:>14.1f}\n",
                       name_of(bench.config.attention.variant), to_mib(bench.weight_bytes), cell.batch,
                       cell.context, cell.prefill_tokens_per_s(), cell.decode_tokens_per_s(),
                       cell.step_seconds_p50() * 1e3, cell.cache.used_per_token(),
                       to_mib(cell.cache.allocated));
}

nlohmann::ordered_json to_json(const GenerateBench& bench, const GenerateCell& cell) {
    return {{"variant", name_of(bench.config.attention.variant)},
            {"parameters", bench.parameters},
            {"weight_bytes", bench.weight_bytes},
            {"batch", cell.batch},
            {"context", cell.context},
            {"prefill_tokens_per_s", cell.prefill_tokens_per_s()},
            {"decode_tokens_per_s", cell.decode_tokens_per_s()},
            {"ms_per_token_p50", cell.step_seconds_p50() * 1e3},
            {"ms_per_token_p95", cell.step_seconds_p95() * 1e3},
            {"cache_bytes_per_token_used", cell.cache.used_per_token()},
            {"cache_bytes_per_token_allocated", cell.cache.allocated_per_token()},
            {"cache_bytes_used", cell.cache.used},
            {"cache_bytes_allocated", cell.cache.allocated},
            {"working_bytes", cell.working_bytes},
            {"graph_replays", cell.replays}};
}

}  // namespace

GenerateBenchOptions generate_options(const GenerateBenchArguments& arguments, int64_t steps, bool cuda) {
    GenerateBenchOptions options;
    options.batches = parse_batches(!arguments.batch.empty() ? arguments.batch : cuda ? "1,64" : "1,8");
    options.context = arguments.context > 0 ? arguments.context : cuda ? 1024 : 128;
    options.steps = steps > 0 ? steps : 32;
    return options;
}

void run_generate_bench(Context& ctx, std::vector<Config> configs, const GenerateBenchOptions& options,
                        const std::string& json) {
    if (configs.front().train.precision == Precision::kFp8) {
        for (Config& config : configs) config.train.precision = Precision::kAuto;
        print_note("train.precision = \"fp8\" is for training: generation is measured in {}\n",
                   is_cuda(ctx) ? "bf16" : "fp32");
    }
    nlohmann::ordered_json rows = nlohmann::ordered_json::array();
    const DType dtype = compute_dtype(configs.front().train, ctx);
    print_text("{}: {}, prompts of {} tokens, then {} passes of a token of each sequence\n", device_name(ctx),
               name_of(dtype), options.context, options.steps);
    print_text("{}", header());
    for (const Config& config : configs) {
        const GenerateBench bench = bench_generate(ctx, config, options);
        for (const GenerateCell& cell : bench.cells) {
            print_text("{}", line(bench, cell));
            rows.push_back(to_json(bench, cell));
        }
        std::fflush(stdout);
    }
    if (json.empty()) return;
    const nlohmann::ordered_json report = {{"v", 1},
                                           {"version", version()},
                                           {"git", git_revision()},
                                           {"backend", is_cuda(ctx) ? "cuda" : "cpu"},
                                           {"device", device_name(ctx)},
                                           {"dtype", name_of(dtype)},
                                           {"preset", configs.front().model.preset},
                                           {"steps", options.steps},
                                           {"generate", rows}};
    write_file_atomically(json, report.dump(2) + "\n");
}

}  // namespace pastur
