#include "tools/pastur/data/data_command.h"

namespace pastur {

void add_data_commands(CLI::App& app, std::function<int()>& run) {
    CLI::App& data = *app.add_subcommand("data", "Make token shards and show what is in them");
    data.require_subcommand(1);
    add_data_prepare(data, run);
    add_data_synth(data, run);
    add_data_info(data, run);
}

}  // namespace pastur
