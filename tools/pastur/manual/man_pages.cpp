#include "tools/pastur/manual/man_pages.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <sstream>

#include "engine/model/recipe.h"
#include "kernels/base/error.h"
#include "tools/pastur/manual/roff.h"

namespace pastur {
namespace {

struct Meaning {
    std::string what;
    const char* text;
};

std::string code_text(ExitCode code) {
    return std::to_string(static_cast<int>(code));
}

std::vector<Meaning> exit_codes() {
    return {{code_text(ExitCode::kOk), "Done."},
            {code_text(ExitCode::kUsage), "The command line or the recipe is wrong."},
            {code_text(ExitCode::kCorruptData), "A shard, tokenizer or checkpoint is damaged."},
            {code_text(ExitCode::kMissingInput), "An input file or folder does not exist."},
            {code_text(ExitCode::kNoDevice), "No usable device, or not enough memory."},
            {code_text(ExitCode::kRankLost), "A rank was lost, or a collective timed out."},
            {code_text(ExitCode::kNonFinite), "The loss, a gradient or a weight is not finite."},
            {code_text(ExitCode::kIo), "A read or write failed, for example on a full disk."},
            {code_text(ExitCode::kRequeue), "Stopped with a checkpoint: start again with --resume."},
            {code_text(ExitCode::kOther), "Any other failure."}};
}

std::vector<Meaning> variables() {
    return {
        {"RANK, WORLD_SIZE, LOCAL_RANK",
         "The rank, the number of ranks and the rank within its host, where neither MPI nor Slurm sets them."},
        {"MASTER_ADDR, MASTER_PORT", "Where rank 0 listens and the other ranks connect."},
        {"PASTUR_SECRET, PASTUR_SECRET_FILE",
         "What the ranks of a job recognise each other by: a text of at least 16 characters, or a file with it "
         "(default ~/.pastur_secret)."},
        {"OMP_NUM_THREADS", "Threads of a rank on the CPU."}};
}

std::string page_name(const CommandRow& command) {
    std::string name = command.name;
    std::replace(name.begin(), name.end(), ' ', '-');
    return name;
}

/// The text with a full stop, unless it ends in one.
std::string sentence(std::string text) {
    while (!text.empty() && std::isspace(static_cast<unsigned char>(text.back()))) text.pop_back();
    if (!text.empty() && std::string_view(".!?").find(text.back()) == std::string_view::npos) text += '.';
    return text;
}

/// "\fB\-\-run\fR \fIDIR\fR"
std::string usage_of(const OptionRow& option) {
    std::vector<std::string> names;
    for (const std::string& name : option.names)
        names.push_back(option.is_positional ? italic(name) : bold(name));
    std::string text = fmt::format("{}", fmt::join(names, ", "));
    if (!option.is_positional && !option.value.empty()) text += " " + italic(option.value);
    return text + (option.repeats && !option.is_list ? " ..." : "");
}

std::string details_of(const OptionRow& option) {
    std::string text = sentence(option.description);
    if (!option.choices.empty() && !option.is_positional && option.value.find('|') == std::string::npos)
        text +=
            fmt::format(" {}: {}.", option.is_list ? "Any of" : "One of", fmt::join(option.choices, ", "));
    if (!option.expected.empty()) text += fmt::format(" Expected: {}.", option.expected);
    if (!option.initial.empty()) text += fmt::format(" Default: {}.", option.initial);
    return text;
}

std::string synopsis(const CommandRow& command) {
    std::string text = bold(command.name);
    if (!command.commands.empty()) return text + " " + italic("COMMAND") + " [" + italic("arguments") + "]";
    for (const OptionRow& option : command.options)
        if (option.is_positional || option.is_required)
            text += option.is_required ? " " + usage_of(option) : " [" + usage_of(option) + "]";
    text += " [" + italic("options") + "]";
    if (command.takes_overrides)
        text += " [" + bold("--") + italic("section.key") + bold("=") + italic("value") + " ...]";
    return text;
}

/// The footer in paragraphs, without the list of keys, which pastur-recipe(5) has.
std::string footer_text(const CommandRow& command) {
    std::string footer = command.footer, text;
    const std::string keys = "\n" + describe_config_keys();
    if (const size_t at = footer.find(keys); at != std::string::npos)
        footer.replace(at, keys.size(), " see pastur-recipe(5).");
    std::istringstream lines(footer);
    for (std::string line; std::getline(lines, line);)
        if (!line.empty()) text += ".PP\n" + filled(roff(sentence(line)));
    return text;
}

std::string options_text(const CommandRow& command) {
    std::string arguments, options;
    for (const OptionRow& option : command.options)
        (option.is_positional ? arguments : options) += tagged(usage_of(option), roff(details_of(option)));
    if (!arguments.empty()) arguments = ".SH ARGUMENTS\n" + arguments;
    if (command.takes_overrides)
        options += tagged(bold("--") + italic("section.key") + bold("=") + italic("value"),
                          roff("Sets a key of the recipe: see pastur-recipe(5)."));
    return arguments + (options.empty() ? "" : ".SH OPTIONS\n" + options);
}

std::string tagged_list(const char* heading, const std::vector<Meaning>& meanings) {
    std::string text = fmt::format(".SH {}\n", heading);
    for (const auto& [what, meaning] : meanings) text += tagged(bold(what), roff(meaning));
    return text;
}

std::string see_also(const CommandRow& command, const CommandRow& program) {
    std::string text = ".SH SEE ALSO\n";
    std::vector<std::string> pages;
    for (const CommandRow* other : all_commands(program))
        if (other != &command) pages.push_back(bold(page_name(*other)) + "(1)");
    pages.push_back(bold("pastur-recipe") + "(5)");
    return text + filled(fmt::format("{}", fmt::join(pages, ", ")));
}

}  // namespace

ManPage command_page(const CommandRow& command, const CommandRow& program) {
    const std::string name = page_name(command);
    std::string brief = sentence(command.description);
    brief.pop_back();
    std::string text = title_line(name, 1);
    text += ".SH NAME\n" + filled(roff(name) + " \\- " + roff(brief));
    text += ".SH SYNOPSIS\n" + filled(synopsis(command));
    text += ".SH DESCRIPTION\n" + filled(roff(sentence(command.description))) + footer_text(command);
    if (!command.commands.empty()) {
        text += ".SH COMMANDS\n";
        for (const CommandRow& sub : command.commands)
            text += tagged(bold(sub.short_name()), roff(sentence(sub.description)));
    }
    text += options_text(command);
    text += tagged_list("EXIT STATUS", exit_codes());
    if (&command == &program) text += tagged_list("ENVIRONMENT", variables());
    return {name, 1, text + see_also(command, program)};
}

std::vector<ManPage> man_pages(const CommandRow& program) {
    std::vector<ManPage> pages;
    for (const CommandRow* command : all_commands(program)) pages.push_back(command_page(*command, program));
    pages.push_back(recipe_page());
    return pages;
}

}  // namespace pastur
