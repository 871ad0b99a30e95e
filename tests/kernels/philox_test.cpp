// Known answers of Philox4x32-10, published with the Random123 library.
#include "kernels/base/philox.h"

#include <gtest/gtest.h>

#include "tests/ref/philox.h"

namespace pastur::test {
namespace {

struct KnownAnswer {
    ref::Counter counter;
    ref::Key key;
    ref::Counter result;
};

constexpr uint32_t kOnes = 0xffffffff;
const KnownAnswer kKnownAnswers[] = {
    {{0, 0, 0, 0}, {0, 0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
    {{kOnes, kOnes, kOnes, kOnes}, {kOnes, kOnes}, {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
    {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},  // the digits of pi
     {0xa4093822, 0x299f31d0},
     {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
};

TEST(Philox, GivesTheKnownAnswers) {
    for (const KnownAnswer& known : kKnownAnswers) {
        EXPECT_EQ(philox4x32(known.counter, known.key), known.result);
        EXPECT_EQ(ref::philox4x32_10(known.counter, known.key), known.result);
    }
}

TEST(Philox, CountsBlocksAndStreamsAsCurandDoes) {
    constexpr uint64_t kSeed = 0x299f31d0a4093822, kBlock = 0x85a308d3243f6a88, kStream = 0x0370734413198a2e;
    EXPECT_EQ(philox_block(kSeed, kStream, kBlock), kKnownAnswers[2].result);
    EXPECT_EQ(philox_block(0, 0, 0), kKnownAnswers[0].result);
}

TEST(Philox, UniformsLieAboveZeroAndUpToOne) {
    EXPECT_EQ(philox_uniform(0), 0x1p-33f);
    EXPECT_EQ(philox_uniform(kOnes), 1.0f);
    EXPECT_EQ(philox_uniform(1u << 31), 0.5f);
    // The smallest uniform gives the largest normal, which is finite.
    EXPECT_NEAR(philox_normals(0, kOnes / 4)[0], std::sqrt(66 * std::log(2.0)), 1e-5);
    EXPECT_EQ(std::abs(philox_normals(kOnes, 12345)[0]), 0.0f);
}

}  // namespace
}  // namespace pastur::test
