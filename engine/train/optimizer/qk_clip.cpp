#include "engine/train/optimizer/qk_clip.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "engine/model/attention/variants.h"
#include "kernels/fill.h"
#include "kernels/optimizer/qk_clip.h"

namespace pastur {

QkClip::QkClip(const Config& config, Context& ctx, Comm& comm, Model& model)
    : ctx_(ctx),
      comm_(comm),
      model_(model),
      limit_(config.train.qk_clip),
      layers_(config.model.layers),
      heads_(config.model.heads),
      rounding_{.param = config.train.weights == StateFormat::kBf16 ? Bf16Rounding::kStochastic
                                                                    : Bf16Rounding::kNearest,
                .seed = config.train.seed},
      clipped_(clipped_rows(variant_of(config).qk_form(config))),
      buffer_(allocate(ctx, planned_bytes(config, comm.size()))) {
    const int64_t count = layers_ * heads_;
    const Tensor all(buffer_.data(), DType::kF32, {kMaxLogitStride + comm.size() + 2, count});
    raised_ = all.slice(0, 0, kMaxLogitStride).reshape({count, kMaxLogitStride});
    max_logits_ = all.slice(0, kMaxLogitStride, comm.size());
    factors_ = all.slice(0, kMaxLogitStride + comm.size(), 2);
    begin_step();
    model.track_max_logits(
        Tensor(raised_.bytes(), DType::kF32, {layers_, heads_}, {heads_ * kMaxLogitStride, kMaxLogitStride}));
}

int64_t QkClip::planned_bytes(const Config& config, int ranks) {
    if (config.train.qk_clip == 0) return 0;
    return (kMaxLogitStride + ranks + 2) * config.model.layers * config.model.heads * size_of(DType::kF32);
}

void QkClip::begin_step() {
    fill(ctx_, raised_.flat(), -std::numeric_limits<float>::infinity());
}

std::vector<float> QkClip::gathered() {
    copy(ctx_, max_logits_.slice(0, comm_.rank(), 1).reshape({layers_ * heads_, 1}), own());
    if (comm_.size() > 1) {
        comm_.begin_all_gather(ctx_, max_logits_.flat());
        comm_.finish(ctx_);
    }
    std::vector<float> all(static_cast<size_t>(max_logits_.numel()));
    download(ctx_, as_tensor(std::span(all)), max_logits_.flat());
    const auto count = static_cast<size_t>(layers_ * heads_);
    std::vector<float> largest(all.begin(), all.begin() + static_cast<int64_t>(count));
    for (size_t i = count; i < all.size(); ++i) largest[i % count] = std::max(largest[i % count], all[i]);
    return largest;
}

int64_t QkClip::upload_factors(const std::vector<float>& max_logits) {
    std::vector<float> factors(2 * max_logits.size(), 1.0f);
    int64_t scaled = 0;
    for (size_t i = 0; i < max_logits.size(); ++i) {
        // An infinite logit comes with a loss that is not finite, so with no update.
        if (!(max_logits[i] > limit_) || !std::isfinite(max_logits[i])) continue;
        const double gamma = limit_ / max_logits[i];
        factors[i] = static_cast<float>(std::sqrt(gamma));
        factors[max_logits.size() + i] = static_cast<float>(gamma);
        ++scaled;
    }
    if (scaled > 0) upload(ctx_, factors_.flat(), as_tensor(std::span(factors)));
    return scaled;
}

void QkClip::scale(int64_t layer, const ClippedRows& clipped, int64_t step) {
    const Parameters& params = model_.params();
    const Param& param =
        params.table().named(fmt::format("model.layers.{}.self_attn.{}", layer, clipped.rows.weight));
    ScaledRows rows;
    rows.param = params.master(param);
    if (const Tensor compute = params.flat_compute(); !compute.empty())
        rows.compute = param.at(compute.slice(0, param.offset, param.stored()).bytes(), compute.dtype());
    rows.factors = factors_.slice(0, clipped.root ? 0 : 1, 1).flat().slice(0, layer * heads_, heads_);
    rows.heads = {clipped.rows.rows, clipped.rows.first, clipped.rows.stride};
    rows.rounding = rounding_;
    rows.rounding.first_element = param.offset;
    rows.step = step + 1;
    scale_head_rows(ctx_, rows);
}

QkClip::Result QkClip::end_step(int64_t step, bool updated) {
    const std::vector<float> max_logits = gathered();
    const Result result{*std::max_element(max_logits.begin(), max_logits.end()),
                        updated ? upload_factors(max_logits) : 0};
    if (result.heads_scaled == 0) return result;
    for (int64_t layer = 0; layer < layers_; ++layer) {
        const auto first = max_logits.begin() + layer * heads_;
        if (*std::max_element(first, first + heads_) <= limit_) continue;
        for (const ClippedRows& clipped : clipped_) scale(layer, clipped, step);
    }
    model_.params().refresh_fp8(ctx_);
    synchronize(ctx_);
    return result;
}

}  // namespace pastur
