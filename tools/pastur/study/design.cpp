#include "tools/pastur/study/design.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <filesystem>
#include <functional>
#include <map>
#include <sstream>

#include "engine/config/config_text.h"
#include "engine/config/raw_recipe.h"
#include "engine/model/attention/variants.h"
#include "engine/model/recipe.h"
#include "kernels/base/error.h"
#include "tools/pastur/study/design_toml.h"

namespace pastur {
namespace {

namespace fs = std::filesystem;

constexpr size_t kMaxCells = 4096;
constexpr const char* kPlaceholder = "{variant}";

struct Arm {
    std::string name;
    std::vector<std::string> variants;                      ///< empty: all
    std::vector<uint64_t> seeds;                            ///< empty: the study's
    std::map<std::string, std::vector<uint64_t>> seeds_of;  ///< by variant, over `seeds`
    std::vector<Override> settings;
};

/// A design before it becomes runs.
struct Plan {
    StudyDesign head;  ///< without cells
    std::string recipe;
    std::vector<std::string> variants;
    std::vector<uint64_t> seeds;
    std::vector<Override> settings;
    std::vector<Arm> arms;  ///< empty: one without a name
};

toml::table parse(const std::string& path) {
    const std::string text = read_recipe_file(path);
    check_recipe_text(text, path);
    try {
        return toml::parse(text, path);
    } catch (const toml::parse_error& error) {
        fail(ExitCode::kUsage, "{}:{}: {}", path, error.source().begin.line, error.description());
    }
}

/// A setting's value as an override has it, lists in one line. What it may be, the recipe's table of keys decides.
std::string override_text(const toml::node& node) {
    if (const auto text = node.value_exact<std::string>()) return *text;
    std::ostringstream text;
    if (const toml::array* array = node.as_array()) {
        std::vector<std::string> items;
        for (const toml::node& item : *array) {
            const std::string value = override_text(item);
            items.push_back(item.is_string() ? "\"" + value + "\"" : value);
        }
        return fmt::format("[{}]", fmt::join(items, ", "));
    }
    node.visit([&](const auto& value) { text << value; });
    return text.str();
}

void append_settings(std::vector<Override>& settings, const toml::table& table, const std::string& prefix) {
    for (const auto& [key, node] : table) {
        const std::string name =
            prefix.empty() ? std::string(key.str()) : fmt::format("{}.{}", prefix, key.str());
        if (const toml::table* inner = node.as_table())
            append_settings(settings, *inner, name);
        else
            settings.emplace_back(name, override_text(node));
    }
}

void check_name(const std::string& name, const std::string& where) {
    const bool plain = !name.empty() && name.size() <= 64 && name[0] != '.' &&
                       std::all_of(name.begin(), name.end(), [](unsigned char c) {
                           return std::isalnum(c) || c == '-' || c == '_' || c == '.' || c == '=';
                       });
    if (!plain)
        fail(ExitCode::kUsage, "{}: \"{}\": expected a name of letters, digits and - _ . =", where, name);
}

std::vector<uint64_t> seeds_at(const toml::node& node, const std::string& name, const std::string& where) {
    std::vector<uint64_t> seeds;
    for (const int64_t seed : list_at<int64_t>(node, name, "integers", where)) {
        if (seed < 0)
            fail(ExitCode::kUsage, "{}: {}: expected seeds of 0 or more", place_of(where, node), seed);
        seeds.push_back(static_cast<uint64_t>(seed));
    }
    return seeds;
}

void read_study(Plan& plan, const toml::table& study, const std::string& path) {
    for (const auto& [key, node] : study) {
        const std::string name(key.str());
        check_key(name, {"name", "title", "notes", "recipe", "variants", "seeds"}, "study",
                  place_of(path, node));
        if (name == "name") plan.head.name = value_at<std::string>(node, name, "a text", path);
        if (name == "title") plan.head.title = value_at<std::string>(node, name, "a text", path);
        if (name == "notes") plan.head.notes = value_at<std::string>(node, name, "a text", path);
        if (name == "recipe")
            plan.recipe =
                (fs::path(path).parent_path() / value_at<std::string>(node, name, "a text", path)).string();
        if (name == "variants") plan.variants = list_at<std::string>(node, name, "texts", path);
        if (name == "seeds") plan.seeds = seeds_at(node, name, path);
    }
    if (plan.recipe.empty()) fail(ExitCode::kUsage, "{}: [study] needs a recipe", path);
}

/// A list for every variant of the arm, or a table of lists by variant.
void read_seeds(Arm& arm, const toml::node& node, const std::string& path) {
    const toml::table* table = node.as_table();
    if (!table) {
        arm.seeds = seeds_at(node, "seeds", path);
        return;
    }
    for (const auto& [variant, seeds] : *table)
        arm.seeds_of[std::string(variant.str())] =
            seeds_at(seeds, fmt::format("arms.{}.seeds.{}", arm.name, variant.str()), path);
}

Arm read_arm(const std::string& name, const toml::table& table, const std::string& path) {
    check_name(name, path + ": [arms]");
    Arm arm;
    arm.name = name;
    for (const auto& [key, node] : table) {
        if (key.str() == "variants") {
            arm.variants = list_at<std::string>(node, "variants", "texts", path);
        } else if (key.str() == "seeds") {
            read_seeds(arm, node, path);
        } else if (const toml::table* inner = node.as_table()) {
            append_settings(arm.settings, *inner, std::string(key.str()));
        } else {
            arm.settings.emplace_back(std::string(key.str()), override_text(node));
        }
    }
    return arm;
}

Plan read_plan(const std::string& path) {
    Plan plan;
    plan.head.name = fs::path(path).stem().string();
    const toml::table file = parse(path);
    for (const auto& [key, node] : file) {
        const std::string name(key.str());
        check_key(name, {"study", "data_prepare", "set", "arms"}, "", place_of(path, node));
        const toml::table& table = table_at(node, name, path);
        if (name == "study") read_study(plan, table, path);
        if (name == "data_prepare") plan.head.data = read_study_data(table, path);
        if (name == "set") append_settings(plan.settings, table, "");
        if (name == "arms")
            for (const auto& [arm, settings] : table)
                plan.arms.push_back(read_arm(std::string(arm.str()),
                                             table_at(settings, "arms." + std::string(arm.str()), path),
                                             path));
    }
    return plan;
}

/// The combinations of the values of each --set, as arms named by key and value.
std::vector<Arm> arms_of_sets(const std::vector<std::string>& sets) {
    std::vector<Arm> arms = {{}};
    for (const std::string& set : sets) {
        const size_t equals = set.find('='), dot = set.find('.');
        if (equals == std::string::npos || dot == std::string::npos || dot > equals ||
            equals + 1 == set.size())
            fail(ExitCode::kUsage, "--set {}: expected section.key=value,value", set);
        const std::string path = set.substr(0, equals), key = set.substr(dot + 1, equals - dot - 1);
        std::vector<Arm> extended;
        for (const Arm& arm : arms) {
            std::istringstream values(set.substr(equals + 1));
            for (std::string value; std::getline(values, value, ',');) {
                Arm& next = extended.emplace_back(arm);
                next.name += (arm.name.empty() ? "" : "-") + key + "=" + value;
                check_name(next.name, "--set " + set);
                next.settings.emplace_back(path, value);
            }
        }
        arms = std::move(extended);
    }
    if (sets.empty()) arms.clear();
    return arms;
}

/// Throws, naming the run, what its recipe throws.
void resolve(StudyCell& cell) {
    try {
        cell.config = load_config(cell.recipe, cell.settings);
    } catch (const Error& error) {
        fail(error.code(), "run {}: {}", cell.name, error.what());
    }
}

StudyCell make_cell(const Plan& plan, const std::string& variant, uint64_t seed, const Arm& arm,
                    const std::vector<Override>& overrides) {
    StudyCell cell{
        .name = {}, .variant = variant, .arm = arm.name, .seed = seed, .recipe = plan.recipe, .settings = {}};
    cell.name = arm.name.empty() ? fmt::format("{}-s{}", variant, seed)
                                 : fmt::format("{}-{}-s{}", variant, arm.name, seed);
    if (const size_t at = cell.recipe.find(kPlaceholder); at != std::string::npos)
        cell.recipe.replace(at, std::string_view(kPlaceholder).size(), variant);
    else
        cell.settings.emplace_back("attention.variant", variant);
    cell.settings.emplace_back("train.seed", std::to_string(seed));
    cell.settings.emplace_back("run.name", cell.name);
    for (const auto* more : {&plan.settings, &arm.settings, &overrides})
        cell.settings.insert(cell.settings.end(), more->begin(), more->end());
    return cell;
}

/// The seeds with which an arm runs a variant; none if it does not.
const std::vector<uint64_t>& seeds_for(const Plan& plan, const Arm& arm, const std::string& variant) {
    static const std::vector<uint64_t> kNone;
    if (!arm.variants.empty() &&
        std::find(arm.variants.begin(), arm.variants.end(), variant) == arm.variants.end())
        return kNone;
    if (const auto own = arm.seeds_of.find(variant); own != arm.seeds_of.end()) return own->second;
    return arm.seeds.empty() ? plan.seeds : arm.seeds;
}

/// Throws (kUsage) for a variant that an arm names and the study does not have.
void check_arm(const Plan& plan, const Arm& arm) {
    const std::string where = "arms." + arm.name;
    for (const std::string& variant : arm.variants) index_of_name(variant, plan.variants, where);
    for (const auto& [variant, seeds] : arm.seeds_of)
        index_of_name(variant, arm.variants.empty() ? plan.variants : arm.variants, where + ".seeds");
}

/// Seed by seed, so that the first run of every arm and variant comes early: those of the first entry of each list of
/// seeds, then of the second.
void append_cells(StudyDesign& design, const Plan& plan, const std::vector<Override>& overrides) {
    for (size_t turn = 0, more = 1; more > 0; ++turn) {
        more = 0;
        for (const Arm& arm : plan.arms)
            for (const std::string& variant : plan.variants) {
                const std::vector<uint64_t>& seeds = seeds_for(plan, arm, variant);
                if (turn >= seeds.size()) continue;
                ++more;
                design.cells.push_back(make_cell(plan, variant, seeds[turn], arm, overrides));
                if (design.cells.size() > kMaxCells)
                    fail(ExitCode::kUsage, "{}: more than {} runs", design.name, kMaxCells);
            }
    }
}

StudyDesign expand(Plan plan, const std::vector<Override>& overrides) {
    StudyDesign design = std::move(plan.head);
    check_name(design.name, "the study's name");
    if (plan.variants.empty()) plan.variants = {"mha", "mla-prerope", "mla-decoupled"};
    if (plan.seeds.empty()) plan.seeds = {1};
    for (const std::string& variant : plan.variants) variant_named(variant, "variants");
    for (const Arm& arm : plan.arms) check_arm(plan, arm);
    if (plan.arms.empty()) plan.arms.emplace_back();
    append_cells(design, plan, overrides);
    std::vector<std::string> names;
    for (const StudyCell& cell : design.cells) names.push_back(cell.name);
    std::sort(names.begin(), names.end());
    if (const auto twice = std::adjacent_find(names.begin(), names.end()); twice != names.end())
        fail(ExitCode::kUsage, "{}: two runs are named {}", design.name, *twice);
    for (StudyCell& cell : design.cells) resolve(cell);
    return design;
}

}  // namespace

void use_study_data(StudyDesign& design, const std::string& data_dir) {
    for (StudyCell& cell : design.cells) {
        for (const auto& [key, value] : cell.settings)
            if (key == "data.dir" || key == "data.train" || key == "data.val" || key == "data.mixture")
                fail(ExitCode::kUsage,
                     "run {}: {} = {} contradicts the data that the study makes: remove the setting, or "
                     "[data_prepare] and --input",
                     cell.name, key, value);
        cell.data_dir = data_dir;
    }
}

bool is_study_design(const std::string& path) {
    return parse(path).contains("study");
}

StudyDesign read_study_design(const std::string& path, const std::vector<Override>& overrides) {
    return expand(read_plan(path), overrides);
}

StudyDesign design_from_recipe(const std::string& recipe, const DesignOptions& options,
                               const std::vector<Override>& overrides) {
    Plan plan;
    plan.head.name = fs::path(recipe).stem().string();
    plan.recipe = recipe;
    plan.variants = options.variants;
    plan.seeds = options.seeds;
    plan.arms = arms_of_sets(options.sets);
    return expand(std::move(plan), overrides);
}

}  // namespace pastur
