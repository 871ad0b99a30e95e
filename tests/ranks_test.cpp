// Several ranks of one run: what they agree on, and to which bit.
#if defined(PASTUR_HAVE_MPI)
#include "tests/ranks.h"

namespace pastur::test {
namespace {

TEST_F(Ranks, TrainToTheSameLossesToRounding) {
    for (const int ranks : {1, 2, 4}) expect_trained(ranks, fmt::format("run{}", ranks));
    const std::vector<double> one = losses("run1");
    ASSERT_EQ(one.size(), static_cast<size_t>(kSteps));
    EXPECT_LT(one.back(), one.front() - 0.1) << "nothing was learnt";
    for (const char* run : {"run2", "run4"}) {
        const std::vector<double> many = losses(run);
        ASSERT_EQ(many.size(), one.size());
        for (size_t i = 0; i < one.size(); ++i)
            EXPECT_NEAR(many[i], one[i], 2e-5) << run << " step " << i + 1;
    }
}

TEST_F(Ranks, GiveTheSameBitsUnderDeterministicComm) {
    for (const int ranks : {1, 2, 4})
        expect_trained(ranks, fmt::format("run{}", ranks), "--train.deterministic_comm=true");
    ASSERT_EQ(losses("run1").size(), static_cast<size_t>(kSteps));
    for (const char* run : {"run2", "run4"}) {
        EXPECT_EQ(losses(run), losses("run1"));
        EXPECT_EQ(weights(run), weights("run1"));
        for (size_t i = 0; i < kSteps; ++i)
            EXPECT_EQ(events(run, "train")[i].at("grad_norm"), events("run1", "train")[i].at("grad_norm"));
    }
}

}  // namespace
}  // namespace pastur::test
#endif
