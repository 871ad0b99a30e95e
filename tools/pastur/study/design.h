#pragma once
// The design of a study: which runs it consists of.
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "engine/config/config.h"
#include "tools/pastur/study/study_data.h"

namespace pastur {

/// One run of a study.
struct StudyCell {
    std::string name;  ///< <variant>[-<arm>]-s<seed>, the name of its run folder
    std::string variant;
    std::string arm;  ///< empty: the study has no arms
    uint64_t seed = 1;
    std::string recipe;  ///< path
    /// Over the recipe: the variant where the recipe does not name it, the seed, the study's settings, the arm's.
    std::vector<Override> settings;
    Config config = {};  ///< recipe and settings, resolved
    std::string data_dir =
        {};  ///< of the data that the study makes; empty: data.dir of the recipe and settings
};

struct StudyDesign {
    std::string name, title, notes;
    std::optional<StudyData> data;  ///< what the study makes before its first run
    std::vector<StudyCell> cells;   ///< seed by seed, so the first of every variant comes early
};

/// What the command line says in place of a design file.
struct DesignOptions {
    std::vector<std::string> variants;  ///< empty: mha, mla-prerope, mla-decoupled
    std::vector<uint64_t> seeds;        ///< empty: 1
    std::vector<std::string> sets;      ///< "section.key=v1,v2": an arm each value, or combination of values
};

/// Has every run read the folder `data_dir`, which the study makes. Throws (kUsage) if a setting names other data.
void use_study_data(StudyDesign& design, const std::string& data_dir);

/// Whether the TOML file has a section [study]; otherwise it is a recipe. Throws (kMissingInput, kUsage).
bool is_study_design(const std::string& path);

/// Reads a design:
///
///     [study]
///     name = "rank"                          # default: the file's name
///     title = "..."  notes = "..."           # for the page
///     recipe = "nano-{variant}.toml"         # relative to the design; {variant} is replaced where it stands
///     variants = ["mha", "mla-decoupled"]
///     seeds = [1, 2, 3]
///     [data_prepare]                         # data.dir of every run, made once; study_data.h lists the keys
///     input = ["corpus/*.txt"]               # relative to the design
///     tokenizer = "train:2048"
///     [set]                                  # of every run: keys of the recipe
///     train.steps = 200
///     [arms.half]                            # runs with these settings over those
///     variants = ["mla-decoupled"]           # default: all
///     seeds = [1, 2]                         # default: the study's; or by variant: {mla-decoupled = [1, 2]}
///     attention.kv_rank = 64
///
/// With arms, the runs are those of the arms alone; an arm without settings is the recipe as it is. `overrides` are
/// further settings of every run. Throws (kMissingInput), and (kUsage) with the line, for an unknown key with the
/// nearest one, and for a run that its recipe refuses, before any run starts.
StudyDesign read_study_design(const std::string& path, const std::vector<Override>& overrides);
/// The same from a recipe and options.
StudyDesign design_from_recipe(const std::string& recipe, const DesignOptions& options,
                               const std::vector<Override>& overrides);

}  // namespace pastur
