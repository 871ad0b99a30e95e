#pragma once
// Settings that are one of a few words: an enum each, and one table of its names.
#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "diag/variance_estimate.h"

namespace pastur {

/// attention.prerope_site: what mla-prerope rotates.
enum class PreropeSite : uint8_t { kKeys, kInput };

/// attention.latent_gain: the factor of a normalised latent. kSqrt: sqrt(d_model / rank), which gives content
/// logits the variance that keys of full width have at initialisation.
enum class LatentGain : uint8_t { kNone, kSqrt };

/// attention.qk_norm. kHead: an RMS norm with gain over each head's queries and keys, before the rotation.
enum class QkNorm : uint8_t { kNone, kHead };

/// train.schedule: the learning rate after the warm-up (schedule.h).
enum class Schedule : uint8_t { kCosine, kConstant, kWsd };

/// train.precision: the number format of GEMMs. kAuto: bf16 on CUDA, fp32 on the CPU.
enum class Precision : uint8_t { kAuto, kBf16, kFp32, kFp8 };

/// Which activations the backward pass recomputes (Chen et al., arXiv 1604.06174). Each level recomputes what
/// the one before it does, and more. No level changes a bit of a gradient: the same ops see the same
/// operands.
enum class Recompute : uint8_t {
    kNone,
    kNorms,  ///< what costs one pass over memory: normalised inputs, the product in SwiGLU
    kFfn,    ///< also gate and up, by their GEMM
    kBlock,  ///< also the attention half: only a layer's input is kept
};
/// train.recompute; empty: `auto`, which decides by the device's memory.
using RecomputeSetting = std::optional<Recompute>;

/// train.optimizer: what updates the matrices of the layers; AdamW updates all other tensors.
enum class OptimizerKind : uint8_t { kAdamw, kMuon };

/// train.weights, train.moments: the number format of master weights and of AdamW's moments. kBf16 is rounded
/// stochastically by a counter-based generator, kBf16Nearest to nearest.
enum class StateFormat : uint8_t { kFp32, kBf16, kBf16Nearest };

/// train.comm_dtype: the number format in which ranks exchange gradients (gradient_sync.h).
enum class CommDtype : uint8_t { kFp32, kBf16 };

/// data.packing: what a training sequence is. kStream: consecutive tokens, across documents. kDocuments: whole documents;
/// only those longer than a sequence are cut. kPad: one document, truncated or padded. Padding does not count in the loss.
enum class Packing : uint8_t { kStream, kDocuments, kPad };

/// train.nonfinite: what happens on a non-finite loss or gradient.
enum class OnNonfinite : uint8_t { kAbort, kSkip };

/// diagnostics.scopes: what diagnostics measure. kLogits and kLatents run a forward pass on a fixed probe; the
/// others decompose products of weights.
enum class Scope : uint8_t {
    kHead,
    kLayer,
    kContent,
    kRope,
    kLiteral,
    kWeights,
    kPositions,
    kLogits,
    kOv,
    kLatents,
    kOverlap
};

/// diagnostics.nulls: what spectra are compared with.
enum class NullKind : uint8_t { kProduct, kMp, kPermuted, kProfile };

/// diagnostics.solver: kCusolver sends problems of every size through cuSOLVER.
enum class Eigensolver : uint8_t { kAuto, kCusolver };

template <typename T>
struct Choice {
    T value;
    const char* name;
};
/// The table of names of T, in the order that help lists them; empty for any other type.
template <typename T>
inline constexpr std::array<Choice<T>, 0> kChoices = {};
template <>
inline constexpr auto kChoices<PreropeSite> =
    std::to_array<Choice<PreropeSite>>({{PreropeSite::kKeys, "keys"}, {PreropeSite::kInput, "input"}});
template <>
inline constexpr auto kChoices<LatentGain> = std::to_array<Choice<LatentGain>>({{LatentGain::kNone, "none"},
                                                                                {LatentGain::kSqrt, "sqrt"}});
template <>
inline constexpr auto kChoices<QkNorm> = std::to_array<Choice<QkNorm>>({{QkNorm::kNone, "none"},
                                                                        {QkNorm::kHead, "head"}});
template <>
inline constexpr auto kChoices<OptimizerKind> =
    std::to_array<Choice<OptimizerKind>>({{OptimizerKind::kAdamw, "adamw"}, {OptimizerKind::kMuon, "muon"}});
template <>
inline constexpr auto kChoices<StateFormat> =
    std::to_array<Choice<StateFormat>>({{StateFormat::kFp32, "fp32"},
                                        {StateFormat::kBf16, "bf16"},
                                        {StateFormat::kBf16Nearest, "bf16-nearest"}});
template <>
inline constexpr auto kChoices<CommDtype> = std::to_array<Choice<CommDtype>>({{CommDtype::kFp32, "fp32"},
                                                                              {CommDtype::kBf16, "bf16"}});
template <>
inline constexpr auto kChoices<Eigensolver> =
    std::to_array<Choice<Eigensolver>>({{Eigensolver::kAuto, "auto"}, {Eigensolver::kCusolver, "cusolver"}});
template <>
inline constexpr auto kChoices<Schedule> = std::to_array<Choice<Schedule>>({{Schedule::kCosine, "cosine"},
                                                                            {Schedule::kConstant, "constant"},
                                                                            {Schedule::kWsd, "wsd"}});
template <>
inline constexpr auto kChoices<Precision> = std::to_array<Choice<Precision>>({{Precision::kAuto, "auto"},
                                                                              {Precision::kBf16, "bf16"},
                                                                              {Precision::kFp32, "fp32"},
                                                                              {Precision::kFp8, "fp8"}});
template <>
inline constexpr auto kChoices<RecomputeSetting> =
    std::to_array<Choice<RecomputeSetting>>({{{}, "auto"},
                                             {Recompute::kNone, "none"},
                                             {Recompute::kNorms, "norms"},
                                             {Recompute::kFfn, "ffn"},
                                             {Recompute::kBlock, "block"}});
template <>
inline constexpr auto kChoices<Packing> = std::to_array<Choice<Packing>>({{Packing::kStream, "stream"},
                                                                          {Packing::kDocuments, "documents"},
                                                                          {Packing::kPad, "pad"}});
template <>
inline constexpr auto kChoices<OnNonfinite> =
    std::to_array<Choice<OnNonfinite>>({{OnNonfinite::kAbort, "abort"}, {OnNonfinite::kSkip, "skip"}});
template <>
inline constexpr auto kChoices<Scope> = std::to_array<Choice<Scope>>({{Scope::kHead, "head"},
                                                                      {Scope::kLayer, "layer"},
                                                                      {Scope::kContent, "content"},
                                                                      {Scope::kRope, "rope"},
                                                                      {Scope::kLiteral, "literal"},
                                                                      {Scope::kWeights, "weights"},
                                                                      {Scope::kPositions, "positions"},
                                                                      {Scope::kLogits, "logits"},
                                                                      {Scope::kOv, "ov"},
                                                                      {Scope::kLatents, "latents"},
                                                                      {Scope::kOverlap, "overlap"}});
template <>
inline constexpr auto kChoices<NullKind> = std::to_array<Choice<NullKind>>({{NullKind::kProduct, "product"},
                                                                            {NullKind::kMp, "mp"},
                                                                            {NullKind::kPermuted, "permuted"},
                                                                            {NullKind::kProfile, "profile"}});
template <>
inline constexpr auto kChoices<VarianceEstimate> =
    std::to_array<Choice<VarianceEstimate>>({{VarianceEstimate::kEntries, "entries"},
                                             {VarianceEstimate::kMedian, "median"},
                                             {VarianceEstimate::kFit, "fit"}});

template <typename T>
concept ChoiceOfWords = !kChoices<T>.empty();

template <ChoiceOfWords T>
constexpr const char* name_of(const T& value) {
    for (const Choice<T>& choice : kChoices<T>)
        if (choice.value == value) return choice.name;
    return "";
}
inline const char* name_of(Recompute level) {
    return name_of(RecomputeSetting(level));
}

template <ChoiceOfWords T>
std::vector<std::string> names_of() {
    std::vector<std::string> names;
    for (const Choice<T>& choice : kChoices<T>) names.emplace_back(choice.name);
    return names;
}

/// The levels that train.recompute can name, in order.
inline constexpr std::array kRecomputeLevels = {Recompute::kNone, Recompute::kNorms, Recompute::kFfn,
                                                Recompute::kBlock};

/// The index of `text` in `names`. Throws (kUsage) "<where>: expected one of ...; did you mean ...?".
size_t index_of_name(const std::string& text, const std::vector<std::string>& names,
                     const std::string& where);

/// The value that `text` names; `where` begins the message if there is none (index_of_name).
template <ChoiceOfWords T>
T parse_choice(const std::string& text, const std::string& where) {
    return kChoices<T>[index_of_name(text, names_of<T>(), where)].value;
}

}  // namespace pastur
