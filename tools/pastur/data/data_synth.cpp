// pastur data synth: writes stories, to train on before any download.
#include "data/synth/synth.h"

#include <fmt/format.h>

#include "tools/pastur/data/data_command.h"
#include "tools/pastur/data/data_progress.h"
#include "tools/pastur/print.h"

namespace pastur {
namespace {

struct SynthOptions {
    int64_t documents = 0;
    uint64_t seed = 1;
    std::string out;
};

int run_synth(const SynthOptions& options) {
    int64_t bytes = 0;
    {
        ProgressLine line;
        bytes = write_synthetic_corpus(
            options.documents, options.seed, options.out, [&](int64_t documents, int64_t so_far) {
                if (!line.due()) return;
                line.show(
                    static_cast<double>(documents), static_cast<double>(options.documents),
                    fmt::format("{} stories  {}B", documents, with_prefix(static_cast<double>(so_far))));
            });
    }
    print_text("{}: {} stories, {}B (seed {})\n", printable(options.out), options.documents,
               with_prefix(static_cast<double>(bytes)), options.seed);
    return 0;
}

}  // namespace

void add_data_synth(CLI::App& data, std::function<int()>& run) {
    CLI::App& command = *data.add_subcommand("synth", "Write synthetic English stories");
    const auto options = std::make_shared<SynthOptions>();
    command.add_option("--docs", options->documents, "Number of stories (about 1.2 kB each)")
        ->required()
        ->check(CLI::PositiveNumber);
    command.add_option("--seed", options->seed, "The same seed gives the same bytes")->capture_default_str();
    command
        .add_option("--out", options->out,
                    "Text file with a line <|doc|> between stories; compressed for a name in .gz or .zst")
        ->required();
    command.callback([&run, options] { run = [options] { return run_synth(*options); }; });
}

}  // namespace pastur
