#include "engine/model/attention/head_norm.h"

#include "kernels/rmsnorm.h"

namespace pastur {

bool normalises_heads(const Config& config) {
    return config.attention.qk_norm == QkNorm::kHead;
}

std::string head_norm(const Config& config, const char* name) {
    return normalises_heads(config) ? std::string(name) + ".weight" : "";
}

HeadNorm::HeadNorm(const Config& config, Parameters& params, const std::string& prefix,
                   const std::vector<Part>& parts)
    : params_(params), eps_(static_cast<float>(config.model.norm_eps)) {
    if (!normalises_heads(config)) return;
    for (const Part& part : parts) {
        const GroupId weight = params.table().add_norm(prefix + part.name + ".weight", part.width);
        parts_.push_back({weight, width_, part.width, {}});
        width_ += part.width;
    }
}

void HeadNorm::plan(Context& ctx, Planner& planner, Planner::Temporaries& temporaries, int64_t tokens,
                    int64_t heads) {
    if (!on()) return;
    normalised_ = planner.keep(params_.compute_dtype(), {tokens, heads, width_});
    dnormalised_ = temporaries.take(params_.compute_dtype(), {tokens, heads, width_});
    for (Norm& part : parts_) {
        part.rstd = planner.keep(DType::kF32, {tokens, heads});
        planner.need_scratch(rmsnorm_backward_scratch_bytes(ctx, tokens * heads, part.width));
    }
}

void HeadNorm::forward(Context& ctx, ConstTensor x) {
    for (const Norm& part : parts_)
        rmsnorm_forward(ctx, normalised_.slice(2, part.first, part.width), part.rstd,
                        x.slice(2, part.first, part.width), params_.value(part.weight), eps_);
}

void HeadNorm::normalise(Context& ctx, Tensor out, Tensor rstd, ConstTensor x) const {
    for (const Norm& part : parts_)
        rmsnorm_forward(ctx, out.slice(2, part.first, part.width), rstd, x.slice(2, part.first, part.width),
                        params_.value(part.weight), eps_);
}

void HeadNorm::backward(Context& ctx, Tensor dx, ConstTensor x, Update update) {
    for (const Norm& part : parts_)
        rmsnorm_backward(ctx, {.dx = dx.slice(2, part.first, part.width),
                               .dweight = params_.grad(part.weight),
                               .dweight_update = update,
                               .dy = dnormalised_.slice(2, part.first, part.width),
                               .x = x.slice(2, part.first, part.width),
                               .rstd = part.rstd,
                               .weight = params_.value(part.weight)});
}

}  // namespace pastur
