// pastur help: help, manual pages and completion scripts, from the tables that the command line itself uses.
#include "tools/pastur/manual/help_command.h"

#include <fmt/format.h>

#include <filesystem>

#include "data/output.h"
#include "engine/model/recipe.h"
#include "kernels/base/error.h"
#include "tools/pastur/manual/completion.h"
#include "tools/pastur/manual/man_pages.h"
#include "tools/pastur/overrides.h"
#include "tools/pastur/recipe_files.h"

namespace pastur {
namespace {

struct HelpArguments {
    std::vector<std::string> names;
    bool man = false, recipes = false;
    std::string man_pages, completion;
};

bool is_recipe_topic(const HelpArguments& arguments) {
    return arguments.names == std::vector<std::string>{"recipe"};
}

const CLI::App& find_command(const CLI::App& app, const std::vector<std::string>& names) {
    const CLI::App* command = &app;
    for (const std::string& name : names) {
        const auto found =
            command->get_subcommands([&](const CLI::App* sub) { return sub->check_name(name); });
        if (found.empty()) fail_unknown(*command, name);
        command = found.front();
    }
    return *command;
}

ManPage page_of(const CLI::App& app, const HelpArguments& arguments) {
    if (is_recipe_topic(arguments)) return recipe_page();
    const std::string name = full_name(find_command(app, arguments.names));
    const CommandRow program = command_table(app);
    for (const CommandRow* command : all_commands(program))
        if (command->name == name) return command_page(*command, program);
    fail(ExitCode::kOther, "no manual page of `{}`", name);
}

void write_man_pages(const CommandRow& program, const std::filesystem::path& folder) {
    std::error_code error;
    std::filesystem::create_directories(folder, error);
    if (error) fail(ExitCode::kIo, "cannot make {}: {}", folder.string(), error.message());
    for (const ManPage& page : man_pages(program))
        write_file_atomically(folder / page.file_name(), page.text);
}

std::string completion_of(const CommandRow& program, const std::string& shell) {
    return shell == "bash"  ? bash_completion(program)
           : shell == "zsh" ? zsh_completion(program)
                            : fish_completion(program);
}

int help(const CLI::App& app, const HelpArguments& arguments) {
    if (!arguments.man_pages.empty()) {
        write_man_pages(command_table(app), arguments.man_pages);
    } else if (!arguments.completion.empty()) {
        fmt::print("{}", completion_of(command_table(app), arguments.completion));
    } else if (arguments.recipes) {
        for (const std::string& name : recipe_names()) fmt::print("{}\n", name);
    } else if (arguments.man) {
        fmt::print("{}", page_of(app, arguments).text);
    } else if (is_recipe_topic(arguments)) {
        fmt::print("Keys of a recipe, their defaults and meaning:\n{}", describe_config_keys());
    } else {
        const CLI::App& command = find_command(app, arguments.names);
        fmt::print("{}",
                   command.get_parent() ? command.help(full_name(*command.get_parent())) : command.help());
    }
    return 0;
}

}  // namespace

void add_help_command(CLI::App& app, std::function<int()>& run) {
    CLI::App* command = app.add_subcommand("help", "Help on a command, manual pages, completion for shells");
    const auto arguments = std::make_shared<HelpArguments>();
    command->add_option("command", arguments->names, "A command, for example: data prepare; or: recipe")
        ->type_name("COMMAND...");
    CLI::Option* man = command->add_flag("--man", arguments->man, "Print the manual page, for `man -l -`");
    CLI::Option* pages =
        command->add_option("--man-pages", arguments->man_pages, "Write all manual pages into this folder")
            ->type_name("DIR");
    CLI::Option* completion =
        command->add_option("--completion", arguments->completion, "Print the completion script of a shell")
            ->check(CLI::IsMember({"bash", "zsh", "fish"}));
    CLI::Option* recipes = command->add_flag("--recipes", arguments->recipes,
                                             "List the recipes that come with the program, by their names");
    for (CLI::Option* one : {man, pages, completion, recipes})
        for (CLI::Option* other : {man, pages, completion, recipes})
            if (one != other) one->excludes(other);
    command->callback([&app, arguments, &run] {
        run = [&app, arguments] {
            app.clear();  // else every help would be that of the parsed command, `help`
            return help(app, *arguments);
        };
    });
}

}  // namespace pastur
