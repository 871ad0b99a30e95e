// Checkpoints written in the background hold the state of training at the time of the request.
#include "engine/train/checkpoint/checkpoint_writer.h"

#include <fstream>
#include <thread>

#include "data/files.h"
#include "engine/io/manifest.h"
#include "engine/train/checkpoint/checkpoint.h"
#include "engine/train/checkpoint/optimizer_files.h"
#include "tests/support/checkpoint_files.h"
#include "tests/support/expect_error.h"
#include "tests/support/model_harness.h"
#include "tests/support/temp_folder.h"

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
        EXPECT_TRUE(writer_.allocate(ctx(), params(), optimizer_, 0, 1));
    }
    Parameters& params() { return model_.model().params(); }
    void start(int64_t step) {
        TrainState state;
        state.step = step;
        writer_.start(ctx(), params(), optimizer_, state, CheckpointWriter::Clock::now());
    }
    /// The bytes of a checkpoint's files.
    static std::string bytes(const fs::path& folder) {
        return read_file(folder / "model.safetensors", 1 << 20) +
               read_file(folder / "optimizer.rank0.safetensors", 1 << 20) +
               read_file(folder / "state.json", 1 << 20);
    }

    TempFolder folder_;
    Config config_;
    ModelUnderTest model_;
    Optimizer optimizer_;
    CheckpointStore store_{folder_.path() / "checkpoints", 0};
    CheckpointWriter writer_{store_, config_};
};

TEST_P(Writer, WritesWhatTrainingHadWhenItWasAsked) {
    EXPECT_FALSE(writer_.poll());
    EXPECT_FALSE(writer_.drain());
    for (const int64_t step : {3, 4}) {
        // Nonzero moments.
        for (const Param& param : params().table().params()) {
            copy(ctx(), optimizer_.value(param, "exp_avg"), params().master(param));
            copy(ctx(), optimizer_.value(param, "exp_avg_sq"), params().master(param));
        }
        const fs::path expected = folder_.path() / "expected";
        fs::remove_all(expected);
        fs::create_directories(expected);
        TrainState state;
        state.step = step;
        write_checkpoint(expected, ctx(), config_, params(), optimizer_, state);
        start(step);
        params().initialise(ctx(), 10 + static_cast<uint64_t>(step));  // training continues
        const auto written = writer_.drain();
        ASSERT_TRUE(written);
        EXPECT_EQ(written->step, step);
        EXPECT_GT(written->blocking_ms, 0);
        EXPECT_GE(written->total_ms, written->blocking_ms);
        verify_manifest(written->path);
        EXPECT_TRUE(bytes(written->path) == bytes(expected));
        EXPECT_FALSE(writer_.drain()) << "reported twice";
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
    EXPECT_THROW(start(4), Error) << "two checkpoints at a time";
    while (true)
        if (const auto written = writer_.poll()) {
            EXPECT_EQ(written->step, 3);
            break;
        }
}

/// Moments divided over two ranks; both ranks' writers run in this process.
class DividedWriters : public Writer {
  protected:
    DividedWriters() : others_(config_.train, params()), other_writer_(store_, config_) {
        const int64_t all = params().table().total_elements(), half = all / 2;
        mine_.own({{0, half}});
        others_.own({{half, all - half}});
        for (Optimizer* optimizer : {&mine_, &others_}) {
            optimizer->allocate(ctx());
            for (const Tensor& moments : {optimizer->values(0), optimizer->values(1)})
                copy(ctx(), moments, params().flat_master().slice(0, 0, moments.numel()));
        }
        EXPECT_TRUE(root_writer_.allocate(ctx(), params(), mine_, 0, 2));
        EXPECT_TRUE(other_writer_.allocate(ctx(), params(), others_, 1, 2));
    }
    void start_on(CheckpointWriter& writer, const Optimizer& optimizer) {
        TrainState state;
        state.step = 7;
        writer.start(ctx(), params(), optimizer, state, CheckpointWriter::Clock::now());
    }
    Config impatient() const {
        Config config = config_;
        config.train.comm_timeout_s = 0.05;
        return config;
    }

    Optimizer mine_{config_.train, params()}, others_;
    CheckpointWriter root_writer_{store_, config_}, other_writer_;
};

TEST_P(DividedWriters, TheFirstWaitsForTheOthersFile) {
    store_.begin(7);
    start_on(root_writer_, mine_);
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    EXPECT_FALSE(root_writer_.poll());
    EXPECT_TRUE(store_.list().empty());
    start_on(other_writer_, others_);
    ASSERT_TRUE(other_writer_.drain());
    const auto written = root_writer_.drain();
    ASSERT_TRUE(written);
    verify_manifest(written->path);

    // Read by a rank that keeps all moments.
    Optimizer whole(config_.train, params());
    whole.allocate(ctx());
    TrainState state;
    read_checkpoint_files(written->path, ctx(), params(), whole, state);
    EXPECT_EQ(state.step, 7);
    const int64_t half = mine_.values(0).numel();
    const std::vector<double> moments = values_of(ctx(), whole.values(1));
    const std::vector<double> first = values_of(ctx(), mine_.values(1)),
                              second = values_of(ctx(), others_.values(1));
    for (const Param& param : params().table().params())
        for (int64_t i = param.offset; i < param.offset + param.stored(); ++i)
            ASSERT_EQ(moments[static_cast<size_t>(i)],
                      i < half ? first[static_cast<size_t>(i)] : second[static_cast<size_t>(i - half)])
                << param.name;
}

TEST_P(DividedWriters, EveryRanksMomentsAreThereAndOfOneStep) {
    store_.begin(7);
    start_on(root_writer_, mine_);
    start_on(other_writer_, others_);
    ASSERT_TRUE(other_writer_.drain());
    const fs::path checkpoint = root_writer_.drain()->path;
    const ParamTable& table = params().table();
    EXPECT_NO_THROW(check_moments(checkpoint, config_.train, table, 7));
    expect_error(ExitCode::kCorruptData,
                 {"optimizer.rank0.safetensors: step 7: expected step 8, as in state.json"},
                 [&] { check_moments(checkpoint, config_.train, table, 8); });
    fs::remove(checkpoint / "optimizer.rank1.safetensors");
    expect_error(ExitCode::kCorruptData, {"optimizer.rank*.safetensors end or overlap at element"},
                 [&] { check_moments(checkpoint, config_.train, table, 7); });
}

TEST_P(DividedWriters, APartThatNeverComesIsALostRank) {
    CheckpointWriter writer(store_, impatient());
    ASSERT_TRUE(writer.allocate(ctx(), params(), mine_, 0, 2));
    store_.begin(7);
    start_on(writer, mine_);
    expect_error(ExitCode::kRankLost, {"rank 1", "optimizer.rank1.safetensors"}, [&] { writer.drain(); });
    EXPECT_TRUE(store_.list().empty());
    EXPECT_FALSE(fs::exists(store_.temporary_folder(7)));
}

TEST_P(DividedWriters, ARankThatGivesUpDoesNotWait) {
    store_.begin(7);
    auto writer = std::make_unique<CheckpointWriter>(store_, config_);
    ASSERT_TRUE(writer->allocate(ctx(), params(), mine_, 0, 2));
    start_on(*writer, mine_);
    writer.reset();  // would take train.comm_timeout_s, five minutes, if it waited
    EXPECT_TRUE(store_.list().empty());
}

INSTANTIATE_TEST_SUITE_P(Checkpoints, DividedWriters, every_target<NoShape>({{}}), case_name<NoShape>);
INSTANTIATE_TEST_SUITE_P(Checkpoints, Writer, every_target<NoShape>({{}}), case_name<NoShape>);

}  // namespace
}  // namespace pastur::test
