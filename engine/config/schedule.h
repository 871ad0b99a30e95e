#pragma once
#include "engine/config/config.h"

namespace pastur {

/// Learning rate of a step, counted from 0. It rises linearly to lr over warmup_steps, then is, with
/// f = final_lr_fraction and p from 0 after the warm-up to 1 at the last step,
///   constant: lr;
///   cosine:   lr (f + (1 - f) (1 + cos(pi p)) / 2);
///   wsd:      lr, and over the last fifth of the steps linearly down to f lr (warmup-stable-decay,
///             arXiv 2404.06395).
double learning_rate(const TrainConfig& config, int64_t step);

}  // namespace pastur
