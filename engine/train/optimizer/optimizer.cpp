#include "engine/train/optimizer/optimizer.h"

#include <algorithm>

#include "kernels/fill.h"
#include "kernels/optimizer/adamw.h"
#include "kernels/optimizer/muon.h"

namespace pastur {
namespace {

// Indices of optimizer_states().
constexpr size_t kFirst = 0, kSecond = 1, kMomentum = 2;

RoundingParams rounding(const TrainConfig& config) {
    const auto of_format = [](StateFormat format) {
        return format == StateFormat::kBf16 ? Bf16Rounding::kStochastic : Bf16Rounding::kNearest;
    };
    return {of_format(config.moments), of_format(config.weights), config.seed};
}

}  // namespace

std::vector<OptimizerState> Optimizer::states() const {
    std::vector<OptimizerState> states = optimizer_states(config_, params_.table());
    if (!owns_all())
        for (OptimizerState& state : states) state.ranges = intersection(state.ranges, owned_);
    return states;
}

int64_t Optimizer::state_bytes() const {
    int64_t bytes = 0;
    for (const OptimizerState& state : states()) bytes += state.bytes();
    return bytes;
}

int64_t Optimizer::scratch_bytes() const {
    int64_t bytes = 0;
    if (config_.optimizer != OptimizerKind::kMuon) return bytes;
    for (const Param& param : params_.table().params())
        if (is_muon_matrix(param))
            bytes =
                std::max(bytes, muon_scratch_bytes(param.shape[0], param.shape[1], params_.compute_dtype()));
    return bytes;
}

void Optimizer::allocate(Context& ctx) {
    states_ = states();
    buffers_.clear();
    for (const OptimizerState& state : states_) {
        buffers_.push_back(pastur::allocate(ctx, state.bytes()));
        fill(ctx, values(buffers_.size() - 1), 0.0f);
    }
}

Tensor Optimizer::values(size_t index) const {
    PASTUR_CHECK(index < buffers_.size(), "optimizer state used before allocate()");
    return Tensor(buffers_[index].data(), states_[index].dtype, {elements_of(states_[index].ranges)});
}

Tensor Optimizer::value(const Param& param, const std::string& name) const {
    PASTUR_CHECK(owns_all(), "{} of {}: this rank keeps only parts", name, param.name);
    Tensor found;
    for (size_t i = 0; i < states_.size(); ++i)
        if (states_[i].name == name)
            for_each_overlap(
                states_[i].ranges, {param.offset, param.stored()}, [&](const FlatRange& part, int64_t at) {
                    found = param.at(values(i).slice(0, at, part.count).bytes(), states_[i].dtype);
                });
    PASTUR_CHECK(!found.empty(), "{} has no {}", param.name, name);
    return found;
}

void Optimizer::step(Context& ctx, int64_t step, double lr, ConstTensor sums) {
    AdamwParams update;
    update.lr = static_cast<float>(lr);
    update.beta1 = static_cast<float>(config_.beta1);
    update.beta2 = static_cast<float>(config_.beta2);
    update.eps = static_cast<float>(config_.eps);
    update.step = step + 1;
    update.max_norm = static_cast<float>(config_.grad_clip);
    update.rounding = rounding(config_);
    step_adamw(ctx, update, sums);
    if (config_.optimizer == OptimizerKind::kMuon) step_muon(ctx, step, lr, sums);
    // Parts of a matrix do not determine its largest value; share_weights() refreshes after gathering.
    if (owns_all()) params_.refresh_fp8(ctx);
}

void Optimizer::step_adamw(Context& ctx, const AdamwParams& settings, ConstTensor sums) {
    AdamwParams update = settings;
    const int64_t matrices = params_.table().matrix_elements();
    int64_t moment = 0;  // offset in the owned moments
    const auto update_range = [&](int64_t begin, int64_t end, bool matrix) {
        if (begin >= end) return;
        update.weight_decay = static_cast<float>(matrix ? config_.weight_decay : 0.0);
        update.rounding.first_element = begin;
        const auto range = [&](Tensor flat) { return flat.slice(0, begin, end - begin); };
        const auto kept = [&](size_t index) { return values(index).slice(0, moment, end - begin); };
        Tensor compute = matrix ? params_.flat_compute() : params_.flat_vectors();
        if (!compute.empty()) compute = compute.slice(0, begin - (matrix ? 0 : matrices), end - begin);
        adamw_step(ctx, range(params_.flat_master()), kept(kFirst), kept(kSecond), compute,
                   range(params_.flat_grad()), sums, update);
        moment += end - begin;
    };
    for (const FlatRange& range : states_[kFirst].ranges) {
        update_range(range.begin, std::min(range.end(), matrices), true);
        update_range(std::max(range.begin, matrices), range.end(), false);
    }
}

void Optimizer::step_muon(Context& ctx, int64_t step, double lr, ConstTensor sums) {
    MuonParams update;
    update.lr = static_cast<float>(lr);
    update.weight_decay = static_cast<float>(config_.weight_decay);
    update.max_norm = static_cast<float>(config_.grad_clip);
    update.gemm_dtype = params_.compute_dtype();
    update.step = step + 1;
    update.rounding = rounding(config_);
    const Tensor compute = params_.flat_compute();
    for (const Param& param : params_.table().params()) {
        if (!is_muon_matrix(param)) continue;
        for_each_overlap(states_[kMomentum].ranges, {param.offset, param.stored()},
                         [&](const FlatRange& part, int64_t at) {
                             PASTUR_CHECK(part.count == param.stored(),
                                          "Muon of {}: this rank owns only parts", param.name);
                             update.rounding.first_element = param.offset;
                             MuonTensors tensors;
                             tensors.param = params_.master(param);
                             tensors.momentum =
                                 param.at(values(kMomentum).slice(0, at, part.count).bytes(), DType::kF32);
                             tensors.grad = params_.grad(param);
                             if (!compute.empty())
                                 tensors.compute = param.at(
                                     compute.slice(0, param.offset, param.stored()).bytes(), compute.dtype());
                             muon_step(ctx, tensors, sums, update);
                         });
    }
}

bool Optimizer::accepts(std::span<const double> sums) const {
    return adamw_accepts(sums.data(), std::ssize(sums), static_cast<float>(config_.grad_clip));
}

}  // namespace pastur
