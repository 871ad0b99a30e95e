// What may change between the parts of a run, what is said about it, and runs that start from the weights of
// others.
#include "tests/support/ranks.h"

namespace pastur::test {
namespace {

class Resumes : public SmallRuns {
  protected:
    Result train(const std::string& arguments) const { return run("train " + arguments + " --device cpu"); }
    Result expect_trained(const std::string& arguments) const {
        Result result = train(arguments);
        EXPECT_EQ(result.code, 0) << arguments << ": " << result.err;
        return result;
    }
    static bool says(const Result& result, const std::string& part) {
        return result.out.find(part) != std::string::npos;
    }
};

TEST_F(Resumes, MoreConstantStepsAreTheSameBits) {
    expect_trained("r.toml --run grown --train.schedule=constant --train.steps=4");
    const Result more = expect_trained("grown --resume --train.steps=6");
    EXPECT_TRUE(says(more, "train.steps grows from 4 to 6\n")) << more.out;
    expect_trained("r.toml --run whole --train.schedule=constant");
    EXPECT_EQ(weights("grown"), weights("whole"));
    EXPECT_EQ(losses("grown"), losses("whole"));
    const Result again = expect_trained("grown --resume");
    EXPECT_FALSE(says(again, "grows")) << "its config.toml has the new number";
}

TEST_F(Resumes, MoreStepsBeforeWsdDecaysAreTheSameBits) {
    expect_trained("r.toml --run grown --train.schedule=wsd --checkpoint.every=3 --checkpoint.keep=0");
    fs::remove_all(checkpoint("grown", 6));
    const Result more = expect_trained("grown --resume --train.steps=8");
    EXPECT_FALSE(says(more, "stretched")) << more.out;
    expect_trained("r.toml --run whole --train.schedule=wsd --train.steps=8");
    EXPECT_EQ(weights("grown", 8), weights("whole", 8));
    const Result decayed = expect_trained("grown --resume --train.steps=10");
    EXPECT_TRUE(says(
        decayed,
        "the wsd schedule is stretched, so the learning rate of the next step is 0.0055 instead of 0.001"))
        << decayed.out;
}

TEST_F(Resumes, MoreCosineStepsSayWhatChanges) {
    expect_trained("r.toml --run run");
    const Result more = expect_trained("run --resume --train.steps=8");
    EXPECT_TRUE(says(
        more,
        "train.steps grows from 6 to 8: the cosine schedule is stretched, so the learning rate of the next "
        "step is "))
        << more.out;
    EXPECT_TRUE(says(more, " instead of 0.001\n")) << more.out;
    expect_failure("train run --resume --device cpu --train.steps=7", 2,
                   {"only train.steps may grow", "`steps = 8` is now `steps = 7`"});
    expect_failure("train run --resume --device cpu --train.lr=0.5", 2, {"`lr = 0.01` is now `lr = 0.5`"});
}

TEST_F(Resumes, ANewRunMayStartFromWeights) {
    expect_trained("r.toml --run first");
    const Result second = expect_trained(
        "r.toml --run second --train.init_from=first --checkpoint.every=3 --checkpoint.keep=0");
    EXPECT_TRUE(says(second, "starting from the weights of first/checkpoints/step_00000006\n")) << second.out;
    EXPECT_EQ(losses("second", "val").front(), losses("first", "val").back());
    EXPECT_NE(losses("second"), losses("first"));
    const std::string whole = weights("second");
    // Its own checkpoints replace them.
    fs::rename(file("first"), file("away"));
    fs::remove_all(checkpoint("second", 6));
    expect_trained("second --resume");
    EXPECT_EQ(weights("second"), whole);
    expect_failure("train r.toml --run third --device cpu --train.init_from=first", 66, {"first"});
    expect_failure("train r.toml --run third --device cpu --train.init_from=away --model.layers=2", 2,
                   {"train.init_from", "`layers = 3` is now `layers = 2`"});
}

/// Weights are converted where the formats differ.
TEST_F(Resumes, ANewRunMayStartFromWeightsOfAnotherFormat) {
    expect_trained("r.toml --run wide");
    expect_trained("r.toml --run narrow --train.init_from=wide --train.weights=bf16 --train.steps=2");
    EXPECT_NE(losses("narrow", "val").front(), losses("wide", "val").back());
    EXPECT_NEAR(losses("narrow", "val").front(), losses("wide", "val").back(), 0.01);
    expect_trained("r.toml --run again --train.init_from=narrow --train.steps=2");
    EXPECT_EQ(losses("again", "val").front(), losses("narrow", "val").back()) << "exact";
    EXPECT_EQ(run("verify narrow").code, 0);
}

TEST_F(Resumes, NewValidationDataIsSaidAndNewTrainingDataRefused) {
    expect_trained("r.toml --run run --train.schedule=constant --train.steps=3");
    fs::rename(file("data/train_000000.bin"), file("data/train_000007.bin"));
    const Result renamed = expect_trained("run --resume --train.steps=4");
    EXPECT_FALSE(says(renamed, "validation data")) << renamed.out;
    fs::resize_file(file("data/val_000000.bin"), 0);
    write_bytes(file("data/val_000000.bin"), shard_bytes(std::vector<uint16_t>(900, 7)));
    const Result other = expect_trained("run --resume --train.steps=5");
    EXPECT_TRUE(says(other, "the validation data changed after step 4")) << other.out;
    EXPECT_FALSE(says(expect_trained("run --resume --train.steps=6"), "the validation data changed"))
        << "said once";
    write_bytes(file("data/train_000007.bin"), shard_bytes(std::vector<uint16_t>(6000, 7)));
    expect_failure("train run --resume --device cpu --train.steps=7", 65, {"training data"});
}

using DeterministicRanks = Ranks;

TEST_F(DeterministicRanks, TheirAutomaticMicroBatchGivesTheSameBits) {
    const char* more = "--train.micro_batch=0 --train.deterministic_comm=true";
    expect_trained(1, "one", more);
    expect_trained(2, "two", more);
    EXPECT_EQ(weights("two"), weights("one"));
    EXPECT_EQ(losses("two"), losses("one"));
}

#if defined(PASTUR_HAVE_MPI)
/// A rank that cannot read the newest checkpoint makes all ranks go back, instead of to continue from two steps.
TEST_F(DeterministicRanks, GoBackToTheSameCheckpoint) {
    expect_trained(2, "whole", "--checkpoint.every=3");
    fs::copy(file("whole"), file("run"), fs::copy_options::recursive);
    const std::string line = train_line("run", "--checkpoint.every=3 --resume ");
    const std::string shim = fmt::format(
        "env ASAN_OPTIONS=verify_asan_link_order=0 LD_PRELOAD='{}' PASTUR_FAULT_UNDER='{}' PASTUR_FAULT_AT=1 "
        "PASTUR_FAULT_KIND=eio PASTUR_FAULT_LOG='{}' ",
        (binary().parent_path() / "libpastur_faults.so").string(), checkpoint("run", 6), file("fault"));
    const Result resumed = shell(launcher(1) + line + " : -np 1 " + shim + line);
    EXPECT_EQ(resumed.code, 0) << resumed.err;
    EXPECT_TRUE(fs::exists(file("fault")));
    for (const char* part :
         {"checkpoint step_00000006 is damaged and skipped: another rank could not load it",
          "resuming after step 3"})
        EXPECT_NE(resumed.out.find(part), std::string::npos) << part << " in " << resumed.out;
    EXPECT_NE(resumed.err.find("pastur: rank 1: "), std::string::npos) << resumed.err;
    EXPECT_EQ(weights("run"), weights("whole"));
    EXPECT_EQ(losses("run"), losses("whole"));
}
#endif

}  // namespace
}  // namespace pastur::test
