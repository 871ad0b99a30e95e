#include "engine/config/schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace pastur {
namespace {

constexpr double kWsdDecayShare = 0.2;

/// 0 at step `begin`, 1 at step `end`, clamped.
double progress(int64_t step, int64_t begin, int64_t end) {
    if (end <= begin) return step >= end ? 1.0 : 0.0;
    return std::clamp(static_cast<double>(step - begin) / static_cast<double>(end - begin), 0.0, 1.0);
}

}  // namespace

double learning_rate(const TrainConfig& config, int64_t step) {
    if (step < config.warmup_steps)
        return config.lr * static_cast<double>(step + 1) / static_cast<double>(config.warmup_steps);
    const int64_t last = config.steps - 1;
    const double final = config.final_lr_fraction;
    if (config.schedule == Schedule::kConstant) return config.lr;
    if (config.schedule == Schedule::kCosine) {
        const double p = progress(step, config.warmup_steps, last);
        return config.lr * (final + (1.0 - final) * 0.5 * (1.0 + std::cos(std::numbers::pi * p)));
    }
    const auto decay_steps = static_cast<int64_t>(kWsdDecayShare * static_cast<double>(config.steps));
    const double p = progress(step, std::max(config.warmup_steps, last - decay_steps), last);
    return config.lr * (1.0 - (1.0 - final) * p);
}

}  // namespace pastur
