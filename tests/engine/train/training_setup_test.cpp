// The parts of a rank and the entries of its memory plan for every purpose.
#include "engine/train/training_setup.h"

#include <map>

#include "engine/model/recipe.h"
#include "engine/ranks/comm.h"
#include "engine/train/train_step.h"
#include "tests/support/model_harness.h"

namespace pastur::test {
namespace {

using Purpose = TrainingSetup::Purpose;

class Setup : public testing::Test {
  protected:
    Config config(const std::string& train = "") const {
        return parse_config(
            "[model]\nvocab = 31\nd_model = 32\nlayers = 2\nheads = 2\nffn = 48\n"
            "[data]\nseq_len = 16\n[train]\nglobal_batch = 8\nmicro_batch = 2\n" +
                train,
            "recipe", {});
    }
    std::map<std::string, int64_t> entries(TrainingSetup& setup, Purpose purpose, bool here = true) {
        std::map<std::string, int64_t> bytes;
        for (const MemoryPlan::Entry& entry : setup.plan(ctx_, purpose, here).entries)
            bytes.emplace(entry.name, entry.bytes);
        return bytes;
    }
    Context& ctx_ = context(Device::kCpu);
};

TEST_F(Setup, CountsWhatThePurposeNeeds) {
    TrainingSetup setup(config(), DType::kF32);
    const auto evaluate = entries(setup, Purpose::kEvaluate), steps = entries(setup, Purpose::kSteps),
               run = entries(setup, Purpose::kRun), elsewhere = entries(setup, Purpose::kRun, false);
    EXPECT_EQ(evaluate.count("gradients (fp32)"), 0u);
    EXPECT_EQ(steps.size(), evaluate.size() + 2) << "gradients and moments";
    EXPECT_EQ(steps.count("diagnostics"), 0u);
    EXPECT_EQ(run.size(), steps.size() + 3) << "diagnostics, their probe and the checkpoint copy";
    EXPECT_EQ(run.at("checkpoint copy"), 3 * run.at("master weights (fp32)"));
    EXPECT_EQ(elsewhere.size(), run.size() - 1);
    EXPECT_EQ(elsewhere.count("checkpoint copy"), 0u) << "host memory of another machine";
}

TEST_F(Setup, DividesMomentsAndCountsTheSums) {
    TrainingSetup whole(config("zero = 1\ndeterministic_comm = true\n"), DType::kF32);
    EXPECT_TRUE(whole.optimizer().owns_all()) << "a single rank keeps all moments";
    EXPECT_GE(entries(whole, Purpose::kSteps).at("gradient sums"), whole.table().total_elements() * 4);
    int64_t moments = 0;
    for (const int rank : {0, 1}) {
        TrainingSetup half(config("zero = 1\n"), DType::kF32, rank, 2);
        EXPECT_FALSE(half.optimizer().owns_all());
        moments += half.optimizer().state_bytes();
        const auto run = entries(half, Purpose::kRun);
        EXPECT_EQ(run.at("checkpoint copy"),
                  half.optimizer().state_bytes() + (rank == 0 ? half.params().master_bytes() : 0));
        if (rank == 1) {
            EXPECT_EQ(moments, 2 * half.params().master_bytes());
        }
    }
}

TEST_F(Setup, CountsWhatTheExchangeBetweenRanksReceives) {
    const auto sums = [&](const char* train, Transport transport) {
        TrainingSetup setup(config(train), DType::kF32, 0, 2, transport);
        return entries(setup, Purpose::kSteps).at("gradient sums");
    };
    const char *const ordered = "deterministic_comm = true\n", *const unordered = "";
    const TrainingSetup two(config(), DType::kF32, 0, 2);
    const GradientBuckets buckets(two.table(), 2);
    int64_t bucket = 0;
    for (const FlatRange& range : buckets.ranges())
        bucket = std::max(bucket, range.count * size_of(DType::kF32));
    EXPECT_EQ(sums(ordered, Transport::kNccl) - sums(ordered, Transport::kNone), align_up(bucket));
    EXPECT_EQ(sums(unordered, Transport::kNccl), sums(unordered, Transport::kNone)) << "in place";
    const char* const narrow = "comm_dtype = \"bf16\"\n";
    EXPECT_EQ(sums(narrow, Transport::kNccl) - sums(narrow, Transport::kNone), 2 * align_up(bucket / 2));
    EXPECT_EQ(sums(unordered, Transport::kMpi) - sums(unordered, Transport::kNone), kMpiExchanges * bucket);
}

/// Steps run on it, and an evaluation has no gradients.
TEST_F(Setup, IsWhatAStepRunsOn) {
    TrainingSetup setup(config("deterministic_comm = true\n"), DType::kF32);
    const std::unique_ptr<Comm> comm = make_single_comm();
    setup.allocate(ctx_, Purpose::kSteps);
    setup.params().initialise(ctx_, 1);
    TrainStep step(setup.config(), ctx_, *comm, setup.model(), setup.optimizer());
    Random random(3);
    const auto next = [&] { return random_batch(random, setup.model().shape(), 31); };
    EXPECT_TRUE(step.run(next, 0, 1e-3).updated);
    TrainingSetup evaluation(config(), DType::kF32);
    evaluation.allocate(ctx_, Purpose::kEvaluate);
    EXPECT_THROW(evaluation.params().flat_grad(), Error);
}

}  // namespace
}  // namespace pastur::test
