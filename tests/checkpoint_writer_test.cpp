// Checkpoints written beside training: what is in them is what training had when they were asked for.
#include "engine/checkpoint_writer.h"

#include <fstream>

#include "engine/checkpoint.h"
#include "engine/safetensors.h"
#include "tests/expect_error.h"
#include "tests/model_harness.h"
#include "tests/temp_folder.h"

namespace pastur::test {
namespace {

namespace fs = std::filesystem;

struct NoShape {
    std::string name() const { return "Tiny"; }
};

class Writer : public OpTest<NoShape> {
  protected:
    Writer()
        : config_(tiny_config("variant = \"mha\"")),
          model_(config_, ctx(), dtype(), {1, 4}),
          optimizer_(config_.train, params()) {
        params().initialise(ctx(), 1);
        optimizer_.allocate(ctx());
        store_.prepare();
        EXPECT_TRUE(writer_.allocate(ctx(), params()));
    }
    Parameters& params() { return model_.model().params(); }
    void start(int64_t step) {
        TrainState state;
        state.step = step;
        writer_.start(ctx(), params(), optimizer_, state, CheckpointWriter::Clock::now());
    }
    /// As a checkpoint that is written at once.
    static std::string bytes(const fs::path& folder) {
        return read_file(folder / "model.safetensors", 1 << 20) +
               read_file(folder / "optimizer.rank0.safetensors", 1 << 20) +
               read_file(folder / "state.json", 1 << 20);
    }

    TempFolder folder_;
    Config config_;
    ModelUnderTest model_;
    AdamW optimizer_;
    CheckpointStore store_{folder_.path() / "checkpoints", 0};
    CheckpointWriter writer_{store_, config_};
};

TEST_P(Writer, WritesWhatTrainingHadWhenItWasAsked) {
    EXPECT_FALSE(writer_.poll());
    EXPECT_FALSE(writer_.drain());
    for (const int64_t step : {3, 4}) {
        // Moments that are not zero.
        for (const Param& param : params().table().params()) {
            copy(ctx(), optimizer_.first_moment(param), params().master(param));
            copy(ctx(), optimizer_.second_moment(param), params().master(param));
        }
        const fs::path expected = folder_.path() / "expected";
        fs::create_directories(expected);
        TrainState state;
        state.step = step;
        write_checkpoint_files(expected, ctx(), config_, params(), optimizer_, state);
        start(step);
        params().initialise(ctx(), 10 + static_cast<uint64_t>(step));  // training goes on
        const auto written = writer_.drain();
        ASSERT_TRUE(written);
        EXPECT_EQ(written->step, step);
        EXPECT_GT(written->blocking_ms, 0);
        EXPECT_GE(written->total_ms, written->blocking_ms);
        CheckpointStore::verify(written->path);
        EXPECT_TRUE(bytes(written->path) == bytes(expected));
        EXPECT_FALSE(writer_.drain()) << "said once";
    }
}

TEST_P(Writer, ThrowsTheFailureLaterAndGoesOn) {
    fs::remove_all(folder_.path() / "checkpoints");
    std::ofstream(folder_.path() / "checkpoints") << "a file where the folder should be";
    start(1);
    expect_error(ExitCode::kIo, {"checkpoints"}, [&] { writer_.drain(); });
    fs::remove(folder_.path() / "checkpoints");
    store_.prepare();
    start(2);
    EXPECT_EQ(writer_.drain()->step, 2);
    start(3);
    EXPECT_THROW(start(4), Error) << "one at a time";
    while (true)
        if (const auto written = writer_.poll()) {
            EXPECT_EQ(written->step, 3);
            break;
        }
}

INSTANTIATE_TEST_SUITE_P(Checkpoints, Writer, every_target<NoShape>({{}}), case_name<NoShape>);

}  // namespace
}  // namespace pastur::test
