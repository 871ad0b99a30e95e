// The keyed permutation that orders training sequences, and the random integers it is made of.
#include "data/permutation.h"

#include <gtest/gtest.h>

#include <numeric>
#include <set>
#include <vector>

#include "kernels/base/random.h"

namespace pastur {
namespace {

std::vector<uint64_t> images(uint64_t n, uint64_t key) {
    const Permutation permutation(n, key);
    std::vector<uint64_t> values(n);
    for (uint64_t i = 0; i < n; ++i) values[i] = permutation(i);
    return values;
}

TEST(Permutation, IsABijectionForEveryLength) {
    for (const uint64_t n : {1, 2, 3, 4, 5, 31, 32, 33, 1000, 65535, 65536, 65537}) {
        std::vector<bool> seen(n);
        for (const uint64_t image : images(n, 7)) {
            ASSERT_LT(image, n);
            ASSERT_FALSE(seen[image]) << n << " maps two places to " << image;
            seen[image] = true;
        }
    }
}

TEST(Permutation, DependsOnTheKeyAlone) {
    EXPECT_EQ(images(1000, 1), images(1000, 1));
    EXPECT_NE(images(1000, 1), images(1000, 2));
}

TEST(Permutation, ReachesEveryOrderOfThree) {
    std::set<std::vector<uint64_t>> orders;
    for (uint64_t key = 0; key < 200; ++key) orders.insert(images(3, key));
    EXPECT_EQ(orders.size(), 6u);
}

// Over many keys the image of an element is uniform: chi-square of 64 cells has 63 degrees of freedom, mean
// 63 and standard deviation 11; 130 is six of them away.
TEST(Permutation, SpreadsEachPlaceEvenly) {
    constexpr uint64_t kN = 64, kKeys = 6400;
    for (const uint64_t place : {0, 1, 31, 63}) {
        std::vector<double> landed(kN);
        for (uint64_t key = 0; key < kKeys; ++key) ++landed[Permutation(kN, key)(place)];
        double chi_square = 0;
        for (const double count : landed) chi_square += (count - 100) * (count - 100) / 100;
        EXPECT_LT(chi_square, 130) << "place " << place;
        EXPECT_GT(chi_square, 20) << "place " << place << " is too even to be random";
    }
}

// A shuffle leaves about one element in place and about half of the neighbours in ascending order.
TEST(Permutation, LeavesNoTraceOfTheOldOrder) {
    constexpr uint64_t kN = 10000;
    const std::vector<uint64_t> values = images(kN, 3);
    int fixed = 0, ascending = 0;
    for (uint64_t i = 0; i < kN; ++i) {
        fixed += values[i] == i;
        ascending += i > 0 && values[i] > values[i - 1];
    }
    EXPECT_LT(fixed, 10);
    EXPECT_NEAR(ascending, kN / 2, 200);  // standard deviation sqrt(n / 12) = 29
}

TEST(Permutation, WorksBeyondThirtyTwoBits) {
    constexpr uint64_t kN = (1ull << 40) + 9;
    const Permutation permutation(kN, 5);
    std::set<uint64_t> seen;
    for (uint64_t i = 0; i < 1000; ++i) {
        const uint64_t image = permutation(kN - 1 - i);
        EXPECT_LT(image, kN);
        seen.insert(image);
    }
    EXPECT_EQ(seen.size(), 1000u);
    EXPECT_GT(*seen.rbegin() - *seen.begin(), kN / 2);
}

// The first outputs of the public reference generator SplitMix64 for state 1234567.
TEST(SplitMix, MatchesItsReference) {
    uint64_t state = 1234567;
    const auto next = [&] { return mix64(state += kGoldenGamma); };
    EXPECT_EQ(next(), 6457827717110365317ull);
    EXPECT_EQ(next(), 3203168211198807973ull);
    EXPECT_EQ(next(), 9817491932198370423ull);
}

TEST(SplitMix, StreamsDiffer) {
    EXPECT_NE(SplitMix(1, 0).next(), SplitMix(1, 1).next());
    EXPECT_NE(SplitMix(1, 0).next(), SplitMix(2, 0).next());
    SplitMix random(1);
    for (int i = 0; i < 1000; ++i) EXPECT_LT(random.below(7), 7u);
}

}  // namespace
}  // namespace pastur
