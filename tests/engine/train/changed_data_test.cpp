// Shards that change, or cannot be read, while a run uses them: the run ends with 65 or 74 after a checkpoint, on
// every rank, and continues bit for bit once the shards are restored.
#include <thread>

#include "engine/train/data_failure.h"
#include "tests/support/ranks.h"

namespace pastur {
namespace {

namespace fs = std::filesystem;
using test::Result;
using test::shard_bytes;
using test::write_bytes;

class ChangedData : public test::Ranks {
  protected:
    static constexpr int kAllSteps = 80;

    void SetUp() override {
        Ranks::SetUp();
        for (const char* split : {"train", "val"}) {
            std::vector<uint16_t> tokens(40000);  // five blocks, each checked where it is read
            for (size_t i = 0; i < tokens.size(); ++i) tokens[i] = static_cast<uint16_t>(i * i / 7 % 61);
            good_[split] = shard_bytes(tokens);
            write_bytes(shard(split), good_[split]);
        }
    }
    std::string shard(const std::string& split) const { return file("data/" + split + "_000000.bin"); }
    std::string options(int val_every) const {
        return fmt::format(
            "--train.steps={} --train.val_every={} --train.val_tokens=100000 --checkpoint.every=0 "
            "--diagnostics.every=0",
            kAllSteps, val_every);
    }
    /// Trains in the background, calls `change` after some steps and returns how the run ended.
    Result train_and_change(int ranks, const std::string& more, const std::function<void()>& change) const {
        Result result;
        std::thread training([&] { result = train(ranks, "run", more); });
        for (int i = 0; i < 3000 && losses_so_far() < 12; ++i)
            std::this_thread::sleep_for(std::chrono::milliseconds(5));
        change();
        training.join();
        return result;
    }
    int64_t losses_so_far() const {
        std::ifstream lines(file("run/metrics.jsonl"));
        int64_t count = 0;
        for (std::string line; std::getline(lines, line);) count += line.find("\"train\"") != line.npos;
        return count;
    }
    /// Expects exit `code` and a checkpoint of the last logged step, then resumes with the shards restored.
    void expect_stopped_and_resume(const Result& ended, int ranks, const std::string& more,
                                   const std::string& split, const std::string& why, int code = 65) const {
        EXPECT_EQ(ended.code, code) << ended.err;
        const std::vector<std::string> lines = own_lines(ended.err);
        ASSERT_FALSE(lines.empty()) << ended.err;
        for (const std::string& line : lines) {
            EXPECT_NE(line.find(split + "_000000.bin"), line.npos) << line;
            EXPECT_NE(line.find(why), line.npos) << line;
            EXPECT_NE(line.find("has a checkpoint"), line.npos) << line;
        }
        ASSERT_EQ(events("run", "end").size(), 1u);
        const nlohmann::json end = events("run", "end").back();
        EXPECT_EQ(end.at("status"), "data");
        const int64_t step = end.at("step").get<int64_t>();
        EXPECT_LT(step, kAllSteps);
        EXPECT_EQ(std::ssize(losses("run")), step) << "a step was not logged";
        EXPECT_TRUE(fs::exists(checkpoint("run", step))) << step;
        write_bytes(shard(split), good_.at(split));
        expect_trained(ranks, "run", more + " --resume");
        expect_trained(ranks, "whole", more);
        EXPECT_EQ(losses("run"), losses("whole"));
        EXPECT_EQ(losses("run", "val"), losses("whole", "val"));
    }
    void overwrite(const std::string& split, int64_t at, std::string_view bytes) const {
        std::fstream stream(shard(split), std::ios::in | std::ios::out | std::ios::binary);
        stream.seekp(at).write(bytes.data(), std::ssize(bytes));
    }
    std::map<std::string, std::string> good_;
};

TEST_F(ChangedData, AShardThatIsCutShortEndsTheRunWithACheckpoint) {
    const Result ended =
        train_and_change(1, options(0), [&] { fs::resize_file(shard("train"), 1024 + 20000); });
    expect_stopped_and_resume(ended, 1, options(0), "train", "cut short while it was in use");
}

TEST_F(ChangedData, OtherValidationTokensEndTheRunWithACheckpoint) {
    const Result ended =
        train_and_change(1, options(20), [&] { overwrite("val", 1024 + 40002, std::string(20, '\1')); });
    expect_stopped_and_resume(ended, 1, options(20), "val", "changed while it was in use");
}

TEST_F(ChangedData, ABlockThatCannotBeReadEndsTheRunWithACheckpoint) {
    // The run reads some 700 blocks of its training shard, and at its start two sequences for validation.
    const std::string more = fmt::format(
        "--train.steps={} --train.val_every=0 --train.val_tokens=32 --checkpoint.every=0 --diagnostics.every=0",
        kAllSteps);
    const std::string faults = fmt::format(
        "ASAN_OPTIONS=verify_asan_link_order=0 LD_PRELOAD='{}' PASTUR_FAULT_UNDER='{}' PASTUR_FAULT_AT=200 "
        "PASTUR_FAULT_KIND=eio PASTUR_FAULT_LOG='{}' OMP_NUM_THREADS=1 ",
        (binary().parent_path() / "libpastur_faults.so").string(), file("data"), file("fault"));
    const Result ended = shell(faults + train_line("run", more));
    EXPECT_EQ(read_file(file("fault"), 4096), "pread " + shard("train") + "\n");
    expect_stopped_and_resume(ended, 1, more, "train", "Input/output error", 74);
}

TEST(DataFailure, IsAgreedUponAsANumber) {
    EXPECT_EQ(failure_status(nullptr), 0);
    const auto thrown = [](auto error) { return std::make_exception_ptr(error); };
    EXPECT_EQ(failure_status(thrown(Error(ExitCode::kCorruptData, "x"))), 66);
    EXPECT_EQ(failure_status(thrown(Error(ExitCode::kOther, "x"))), 2) << "1 is a stop";
    EXPECT_EQ(failure_status(thrown(std::bad_alloc())), 70);
    try {
        fail_data(66, nullptr);
    } catch (const DataFailure& failure) {
        EXPECT_EQ(failure.code(), ExitCode::kCorruptData);
        EXPECT_STREQ(failure.what(), "");
    }
    try {
        fail_data(75, thrown(Error(ExitCode::kCorruptData, "here")));
    } catch (const DataFailure& failure) {
        EXPECT_EQ(failure.code(), ExitCode::kIo) << "the code is that of all ranks";
        EXPECT_STREQ(failure.what(), "here");
    }
}

#if defined(PASTUR_HAVE_MPI)
// A block that only one of the two ranks reads at first.
TEST_F(ChangedData, OneOfTwoRanksIsEnough) {
    const std::string more = options(0) + " --train.micro_batch=1";
    const Result ended =
        train_and_change(2, more, [&] { overwrite("train", 1024 + 70000, std::string(9, '\2')); });
    expect_stopped_and_resume(ended, 2, more, "train", "changed while it was in use");
}
#endif

}  // namespace
}  // namespace pastur
