#pragma once
// The way back: latents without a norm multiplied out, which changes no logit beyond rounding.
#include "engine/convert/conversion.h"

namespace pastur::convert {

/// Throws (kUsage) unless multiply_out() can: for other pairs of variants, naming what `to` cannot express, for normalised
/// latents and for values that are not as wide as keys where `to` has one width.
void check_multiplies_out(const Config& source, Variant to);

/// A model with latents as the variant that does not compress: `mla-decoupled` as `mha-shared-rope`, `mla-rope` as `mha`,
/// `mla-nope` as `mha-nope`. Throws as check_multiplies_out() does.
ConvertedModel multiply_out(const Config& source, const ReadTensor& read, Variant to);

}  // namespace pastur::convert
