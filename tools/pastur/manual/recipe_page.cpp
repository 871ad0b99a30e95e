// pastur-recipe(5).
#include <fmt/format.h>

#include "engine/config/config_fields.h"
#include "tools/pastur/manual/key_table.h"
#include "tools/pastur/manual/man_pages.h"
#include "tools/pastur/manual/roff.h"

namespace pastur {
namespace {

constexpr const char* kDescription =
    "A recipe is a TOML file that says what `pastur train` trains. Every key may be left out. Its value is then that of "
    "the preset, for the sizes of the model, or the default given below. On the command line --section.key=value "
    "overrides a key, where texts need no quotes and lists are separated by commas. An unknown key is an error that "
    "names the nearest one. A key for which the attention variant has no use is ignored with one line, so one set of "
    "settings serves all variants. `pastur train RECIPE.toml --print-config` prints every key as it is used.";

constexpr const char* kExample = R"(.EX
[model]
preset = "130m"

[attention]
variant = "mla\-decoupled"

[train]
steps = 2000
lr = 1e\-3
.EE
)";

std::string first_upper(std::string text) {
    if (!text.empty()) text[0] = static_cast<char>(std::toupper(static_cast<unsigned char>(text[0])));
    return text;
}

std::string details_of(const KeyRow& row) {
    std::string text = first_upper(row.description) + ". Expected: " + row.expected + ".";
    text += row.initial.empty() ? " Default: by model.preset." : fmt::format(" Default: {}.", row.initial);
    if (!row.readers.empty()) text += fmt::format(" Read by {}.", row.readers);
    return text;
}

}  // namespace

ManPage recipe_page() {
    std::string text = title_line("pastur-recipe", 5);
    text += ".SH NAME\n" + filled(roff("pastur-recipe") + " \\- " + roff("settings of a training run"));
    text += ".SH DESCRIPTION\n" + filled(roff(kDescription)) + ".PP\n" + kExample + ".SH KEYS\n";
    std::string section;
    for (const KeyRow& row : key_table()) {
        if (row.section != section) text += fmt::format(".SS [{}]\n", roff(row.section));
        section = row.section;
        text += tagged(bold(row.key), roff(details_of(row)));
    }
    text += ".SH PRESETS\n";
    for (const std::string& preset : preset_names())
        text += tagged(bold(preset), roff(preset_text(preset) + "."));
    text += ".SH SEE ALSO\n" + filled(bold("pastur") + "(1), " + bold("pastur-train") + "(1)");
    return {"pastur-recipe", 5, text};
}

}  // namespace pastur
