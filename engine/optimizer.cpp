#include "engine/optimizer.h"

#include "kernels/adamw.h"
#include "kernels/fill.h"

namespace pastur {

Tensor AdamW::flat(const Buffer& buffer) const {
    return Tensor(buffer.data(), DType::kF32, {params_.table().total_elements()});
}

void AdamW::allocate(Context& ctx) {
    for (Buffer* buffer : {&first_, &second_}) {
        *buffer = pastur::allocate(ctx, params_.master_bytes());
        fill(ctx, flat(*buffer), 0.0f);
    }
}

void AdamW::step(Context& ctx, int64_t step, double lr, ConstTensor grad_sum_squares) {
    AdamwParams update;
    update.lr = static_cast<float>(lr);
    update.beta1 = static_cast<float>(config_.beta1);
    update.beta2 = static_cast<float>(config_.beta2);
    update.eps = static_cast<float>(config_.eps);
    update.step = step + 1;
    update.max_norm = static_cast<float>(config_.grad_clip);

    const int64_t matrices = params_.table().matrix_elements();
    const int64_t norms = params_.table().total_elements() - matrices;
    const auto update_range = [&](int64_t begin, int64_t count, double decay, Tensor compute) {
        update.weight_decay = static_cast<float>(decay);
        const auto range = [&](Tensor flat) { return flat.slice(0, begin, count); };
        adamw_step(ctx, range(params_.flat_master()), range(flat(first_)), range(flat(second_)), compute,
                   range(params_.flat_grad()), grad_sum_squares, update);
    };
    update_range(0, matrices, config_.weight_decay, params_.flat_compute());
    update_range(matrices, norms, 0.0, {});
}

Tensor AdamW::first_moment(const Param& param) const {
    return param.in(flat(first_).bytes());
}

Tensor AdamW::second_moment(const Param& param) const {
    return param.in(flat(second_).bytes());
}

}  // namespace pastur
