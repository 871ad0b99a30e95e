#pragma once
// What the spectra of many runs say together: statistics of every variant and arm over seeds, a verdict on each
// finding of arXiv 2507.09394, and what the parts of the design contribute. `pastur study` writes it to study.json,
// `pastur report` to its page, both under "analysis". Numbers are rounded to six digits. Whatever the runs do not
// have is null or absent: a null number was measured by no seed or is not defined.
//
// MI is {"n", "mean", "low", "high"}: mean over n seeds and its 95 % interval by Student's t; one seed has no interval
// (low and high are null). A "form" is a matrix of one layer (scope "layer") or one head (scope "head"). Matrices:
// "qk" (whole), "qk_content", "qk_rope", "qk_literal", "qk@mean" (mean over pairs of positions), "ov" (control).
// A threshold is a key of an object as text: "1.2", "2", "10" edges and "0.5", "0.25", "0.1" of a kept rank.
//
// {"v": 1,
//  "rules": {"spike": [1.2, 2, 10], "collapse": [0.5, 0.25, 0.1], "early_fraction": 0.05, ..., "text": {name: rule}},
//  "groups": [{"variant", "arm", "seeds", "runs": [name], "steps", "early_steps", "val_loss": MI,
//    "matrices": [{"matrix", "scope", "layers", "forms",
//      "kept": {"step0": KEPT, "null": KEPT},
//          KEPT: {"initial": MI, "least": MI, "least_step": MI, "final": MI, "worst": MI}   kept_step0 or kept_null as a
//          mean over forms: at step 0, least over steps and where, at the end; "worst": least of one layer's at any step
//      "collapse": {"0.5": ONSETS, ...},
//      "next_layer_overlap": {"value": MI, "random": MI},                        only for forms that measured it
//      "nulls": [{"null": "product"|"mp"|"profile"|"permuted",
//        "at_step0": {"beyond": {"1.2": MI, ...}, "peak_ratio": MI, "outliers": MI},    "beyond": share of forms
//        "spike": {"1.2": ONSETS, ...},
//          ONSETS: {"share", "early_share", "layers", "first_step", "median_step", "stays"}, each MI. "share": forms with
//          an onset; "early_share": with one within the first 5 % of the steps; "layers": layers half of whose forms
//          have an early onset; "stays": of those with an onset, the share beyond at all later measurements
//        "peak_ratio": MI, "median_peak": MI, "final_ratio": MI, "outliers": MI, "most_outliers": MI,
//        "concentration": MI,                                                0: all layers alike, 1: one layer
//        "onset_depth": {"rho": MI, "p"},
//        "lag": {"0.5": {"both": MI, "measurements": MI, "steps": MI, "rho": MI, "p"}, ...}}]}]}],  by collapse threshold
//  "attribution": [{"question", "kind": "rotation"|"compression"|"latent_gain", "from": {"variant", "arm"}, "to": {...},
//    "matrix", "scope", "statistic", "null", "difference": MI, "from_mean", "to_mean"}],    "matrix" is "" for val_loss,
//          "null" only for peak_ratio; statistics: "kept.step0.least", "kept.step0.final", "kept.null.least",
//          "kept.null.final", "log10_peak_ratio", "val_loss". The interval is Welch's; n is that of the smaller group
//  "findings": [{"id": "i"|"ii"|"iii", "claim", "verdict", "depends_on": [dimension], "decided", "because",
//    "claims": [{"id", "text", "verdict", "depends_on": [dimension], "counts"}],      "counts": part of the finding
//    "choices": [{dimension: value, ..., "verdict", "claims": {id: {"verdict", "value": MI}}}]}],
//          verdicts: "supported", "contradicted", "depends on", "undecided"; of a choice or one of its claims not
//          "depends on". Dimensions: "arm", "null", "matrix", "scope", "baseline" ("step0"|"null"), "threshold" (text),
//          "moment" ("least"|"final"). "decided": choices that are not undecided
//  "sentences": [{"text", "values": {name: number}}]}        three to five; every number of the text is in values, where
//          "at" names the place of each: {"at": {name: JSON pointer into the analysis}}
