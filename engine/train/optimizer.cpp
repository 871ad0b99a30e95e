#include "engine/train/optimizer.h"

#include <algorithm>

#include "kernels/adamw.h"
#include "kernels/fill.h"

namespace pastur {

std::vector<FlatRange> AdamW::owned() const {
    if (owned_.empty()) return {{0, params_.table().total_elements()}};
    return owned_;
}

int64_t AdamW::owned_elements() const {
    int64_t elements = 0;
    for (const FlatRange& range : owned()) elements += range.count;
    return elements;
}

int64_t AdamW::state_bytes() const {
    return 2 * owned_elements() * size_of(DType::kF32);
}

Tensor AdamW::flat(const Buffer& buffer) const {
    return Tensor(buffer.data(), DType::kF32, {owned_elements()});
}

void AdamW::allocate(Context& ctx) {
    for (Buffer* buffer : {&first_, &second_}) {
        *buffer = pastur::allocate(ctx, state_bytes() / 2);
        fill(ctx, flat(*buffer), 0.0f);
    }
}

void AdamW::step(Context& ctx, int64_t step, double lr, ConstTensor sums) {
    AdamwParams update;
    update.lr = static_cast<float>(lr);
    update.beta1 = static_cast<float>(config_.beta1);
    update.beta2 = static_cast<float>(config_.beta2);
    update.eps = static_cast<float>(config_.eps);
    update.step = step + 1;
    update.max_norm = static_cast<float>(config_.grad_clip);

    const int64_t matrices = params_.table().matrix_elements();
    int64_t moment = 0;  // offset in the owned moments
    const auto update_range = [&](int64_t begin, int64_t end, bool matrix) {
        if (begin >= end) return;
        update.weight_decay = static_cast<float>(matrix ? config_.weight_decay : 0.0);
        const auto range = [&](Tensor flat) { return flat.slice(0, begin, end - begin); };
        const auto kept = [&](Tensor flat) { return flat.slice(0, moment, end - begin); };
        const Tensor compute = matrix ? params_.flat_compute() : Tensor();
        adamw_step(ctx, range(params_.flat_master()), kept(flat(first_)), kept(flat(second_)),
                   compute.empty() ? compute : range(compute), range(params_.flat_grad()), sums, update);
        moment += end - begin;
    };
    for (const FlatRange& range : owned()) {
        update_range(range.begin, std::min(range.end(), matrices), true);
        update_range(std::max(range.begin, matrices), range.end(), false);
    }
    // Parts of a matrix do not determine its largest value; share_weights() refreshes after gathering.
    if (owns_all()) params_.refresh_fp8(ctx);
}

bool AdamW::accepts(std::span<const double> sums) const {
    return adamw_accepts(sums.data(), std::ssize(sums), static_cast<float>(config_.grad_clip));
}

Tensor AdamW::first_moment(const Param& param) const {
    PASTUR_CHECK(owned_.empty(), "first_moment of {}: this rank keeps only parts", param.name);
    return param.in(flat(first_).bytes());
}

Tensor AdamW::second_moment(const Param& param) const {
    PASTUR_CHECK(owned_.empty(), "second_moment of {}: this rank keeps only parts", param.name);
    return param.in(flat(second_).bytes());
}

}  // namespace pastur
