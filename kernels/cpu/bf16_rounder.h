#pragma once
#include "kernels/optimizer/stochastic_rounding.h"

namespace pastur {

inline float as_float(float value) {
    return value;
}
inline float as_float(Bf16 value) {
    return to_float(value);
}

/// Stores one kind of number of an update. Fast for elements in ascending order, which share random bits.
class Bf16Rounder {
  public:
    Bf16Rounder(Bf16Rounding rounding, uint64_t seed, int64_t step, RoundedNumber number)
        : rounding_(rounding), number_(number), seed_(seed), step_(step) {}

    void store(float& to, float value, int64_t) const { to = value; }
    void store(Bf16& to, float value, int64_t element) {
        if (rounding_ == Bf16Rounding::kNearest) {
            to = to_bf16(value);
            return;
        }
        if (element / kElementsPerBlock != block_) {
            block_ = element / kElementsPerBlock;
            bits_ = rounding_bits(seed_, step_, number_, block_);
        }
        to.bits =
            round_stochastically(value, bits_of_lane(bits_, static_cast<int>(element % kElementsPerBlock)));
    }

  private:
    Bf16Rounding rounding_;
    RoundedNumber number_;
    uint64_t seed_;
    int64_t step_, block_ = -1;
    PhiloxBlock bits_{};
};

}  // namespace pastur
