#pragma once
// What the spectra of many runs say together: statistics of every variant and arm over seeds, a verdict on each
// finding of arXiv 2507.09394, and what the parts of the design contribute. `pastur study` writes it to study.json,
// `pastur report` to its page, both under "analysis". Numbers have four significant digits, losses six, integers all.
// What no run has, or is not defined for any, is absent; a number that is not defined alone is null.
//
// MI is {"n", "mean", "low", "high"}: mean over n seeds and its 95 % interval by Student's t; one seed has no interval
// (low and high are null), and none goes beyond what the statistic can be, such as a share of 1. A "form" is a matrix of
// one layer (scope "layer") or one head (scope "head").
// Thresholds are keys as texts: "1.2", "2", "10" edges and "0.5", "0.25", "0.1" of a kept rank.
//
// {"v": 1,
//  "rules": {"spike": [1.2, 2, 10], "collapse": [0.5, 0.25, 0.1], "early_fraction": 0.05, ..., "text": {name: rule}},
//  "groups": [{"variant", "arm", "seeds", "runs": [name], "steps", "early_steps", "measurements", "val_loss": MI,
//    "matrices": {MATRIX: {SCOPE: FORMS}}}],
//          MATRIX: "qk" (whole), "qk_content", "qk_rope", "qk_literal", "qk@mean" (mean over pairs of positions),
//          "ov" (control: kept ranks and peaks alone); SCOPE: "layer", "head"; those that a run of the group measured
//          FORMS: {"layers", "forms",
//            "kept": {"step0": KEPT, "null": KEPT},
//              KEPT: {"initial": MI, "least": MI, "least_step": MI, "final": MI, "worst": MI}    kept_step0 or kept_null
//              as a mean over forms: at step 0, least over steps and where, at the end; "worst": least of one layer's
//            "collapse": {"0.5": ONSETS, ...},
//            "next_layer_overlap": {"value": MI, "random": MI},          at the end; only of forms that measured it
//            "nulls": {NULL: {                                           "product", "mp", "profile", "permuted"
//              "step0": {"beyond": {"1.2": MI, ...}, "peak_ratio": MI, "outliers": MI},    "beyond": share of forms
//              "spike": {"1.2": ONSETS, ...},
//                ONSETS: {"share", "early_share", "layers", "first_step", "median_step", "stays"}, each MI. "share":
//                forms with an onset; "early_share": with one in the first 5 % of the steps; "layers": layers of whose
//                forms at least half have an early onset; "stays": share of the forms with an onset that are beyond at
//                all later measurements
//              "peak_ratio": MI, "median_peak": MI, "final_ratio": MI,   largest of all forms and steps; median over
//                                                                        forms; largest of the forms at the end
//              "outliers": MI, "most_outliers": MI,                      mean over forms, at the end and its largest
//              "concentration": MI,                                      0: all layers alike, 1: one layer
//              "onset_depth": {"rho": MI, "p": number},                of the onset beyond 2 edges with the layer
//              "lag": {"0.5": {"both": MI, "measurements": MI, "steps": MI, "rho": MI, "p": number}, ...}}}}
//                by collapse threshold: collapse's onset less that of the spike beyond 2 edges, median over forms;
//                "both": forms with both onsets, of those with any; "p": by shuffled pairs
//  "attribution": [{"question", "kind": "rotation"|"compression"|"latent_gain", "from": {"variant", "arm"}, "to": {...},
//    "matrix", "scope", "statistic", "null", "difference": MI, "from_mean", "to_mean"}],   "matrix", "scope" are "" for
//          val_loss, "null" is "" but for log10_peak_ratio ("product", "mp"); statistics: "kept.step0.least", "kept.step0.final",
//          "kept.null.least", "kept.null.final", "log10_peak_ratio", "val_loss"; "to" less "from", Welch's interval; n is
//          the smaller group's. A variant that lacks the matrix is compared by its "qk"
//  "findings": [{"id": "i"|"ii"|"iii", "claim", "verdict", "depends_on": [dimension], "because": SENTENCE,
//    "tally": {"supported", "contradicted", "undecided"},                        choices
//    "by": {dimension: {value: {"supported", "contradicted", "undecided"}}},
//    "claims": [{"id", "variant", "text", "figure", "verdict", "depends_on": [dimension], "tally", "counts"}],
//          "counts": part of the finding; "figure": where in FORMS of the variant's group the claim's value is, with
//          dimensions in braces, "nulls/{null}/spike/{threshold}/share"; "": in the choice
//    "choices": [{dimension: value, ..., "verdict", "claims": {id: {"verdict", "value": MI}}}]}],
//          verdicts: "supported", "contradicted", "depends on", "undecided"; choices and their claims never "depend on".
//          Dimensions: "arm", "null", "matrix", "scope", "baseline" ("step0"|"null"), "threshold" (text), "moment"
//          ("least"|"final")
//  "sentences": [SENTENCE]}                                                      three to five
//          SENTENCE: {"text", "values": [{"shown", "value", "at"}]}: every number in the text, as it stands there, its
//          value, and the JSON pointer into the analysis where it comes from
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "engine/config/config.h"
#include "tools/pastur/analysis/run_statistics.h"

namespace pastur {

/// Runs in the order in which their groups are shown. The same runs give the same bytes.
nlohmann::ordered_json analyse(const std::vector<RunStatistics>& runs);

/// The settings that decide a run's results, and its steps, from its recipe.
void add_settings(RunStatistics& run, const Config& config);
/// Names the arms of runs that no design names: an arm is what tells a variant's runs apart but for the seed, such as
/// "lr=0.001,kv_rank=64"; empty if nothing does.
void name_arms(std::vector<RunStatistics>& runs);

/// The verdicts of an analysis for the console, a line for each finding.
std::string verdict_text(const nlohmann::ordered_json& analysis);

}  // namespace pastur
