// Several ranks of one run agree: to rounding, or to the bit where that is promised.
#if defined(PASTUR_HAVE_MPI)
#include "tests/support/ranks.h"
#include "engine/model/attention/variants.h"

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

TEST_F(Ranks, ValidateTogether) {
    // 56 sequences in 28 batches of 2, which 3 ranks cannot divide evenly.
    const std::string settings = "--train.global_batch=6";
    for (const int ranks : {1, 2, 3})
        expect_trained(ranks, fmt::format("run{}", ranks),
                       ranks == 2 ? settings + " --train.micro_batch=1" : settings);
    const std::vector<double> one = losses("run1", "val");
    ASSERT_EQ(one.size(), 3u);
    for (const int ranks : {2, 3}) {
        const std::vector<double> many = losses(fmt::format("run{}", ranks), "val");
        ASSERT_EQ(many.size(), one.size());
        EXPECT_NEAR(many[0], one[0], 1e-6) << "the same weights";
        for (size_t i = 1; i < one.size(); ++i) EXPECT_NEAR(many[i], one[i], 2e-5);
        EXPECT_EQ(events(fmt::format("run{}", ranks), "val")[0].at("tokens"),
                  events("run1", "val")[0].at("tokens"));
    }
}

TEST_F(Ranks, GiveTheSameBitsUnderDeterministicComm) {
    for (const std::string dtype : {"fp32", "bf16"}) {
        for (const int ranks : {1, 2, 4})
            expect_trained(ranks, fmt::format("{}{}", dtype, ranks),
                           "--train.deterministic_comm=true --train.comm_dtype=" + dtype);
        ASSERT_EQ(losses(dtype + "1").size(), static_cast<size_t>(kSteps));
        for (const std::string& run : {dtype + "2", dtype + "4"}) {
            EXPECT_EQ(losses(run), losses(dtype + "1"));
            EXPECT_EQ(weights(run), weights(dtype + "1"));
            for (size_t i = 0; i < kSteps; ++i)
                EXPECT_EQ(events(run, "train")[i].at("grad_norm"),
                          events(dtype + "1", "train")[i].at("grad_norm"));
        }
    }
    EXPECT_NE(weights("bf161"), weights("fp321")) << "a single rank rounds as several do";
}

TEST_F(Ranks, RoundWhatTheyExchangeInBf16AndNothingElse) {
    const std::string narrow = "--train.comm_dtype=bf16";
    for (const int ranks : {1, 2}) {
        expect_trained(ranks, fmt::format("fp32-{}", ranks));
        expect_trained(ranks, fmt::format("bf16-{}", ranks), narrow);
    }
    EXPECT_EQ(weights("bf16-1"), weights("fp32-1")) << "a single rank exchanges nothing";
    const std::vector<double> exact = losses("fp32-2"), rounded = losses("bf16-2");
    ASSERT_EQ(rounded.size(), exact.size());
    EXPECT_EQ(rounded.front(), exact.front()) << "the loss before the first exchange";
    EXPECT_NE(weights("bf16-2"), weights("fp32-2"));
    // Measured: at most 4.2e-4, where a step changes the loss by up to 0.3.
    for (size_t i = 0; i < exact.size(); ++i) EXPECT_NEAR(rounded[i], exact[i], 5e-3) << "step " << i + 1;
    const Result changed = train(2, "bf16-2", "--resume --train.comm_dtype=fp32");
    EXPECT_EQ(changed.code, 2) << changed.err;
    EXPECT_NE(changed.err.find("`comm_dtype = \"bf16\"` is now `comm_dtype = \"fp32\"`"), std::string::npos)
        << changed.err;
}

TEST_F(Ranks, GiveEveryVariantTheSameBitsUnderDeterministicComm) {
    for (const std::string& variant : variant_names()) {
        const std::string settings = "--train.deterministic_comm=true --attention.variant=" + variant;
        expect_trained(1, variant + "1", settings);
        expect_trained(2, variant + "2", settings + " --train.zero=1");
        EXPECT_EQ(losses(variant + "1").size(), static_cast<size_t>(kSteps)) << variant;
        EXPECT_EQ(losses(variant + "2"), losses(variant + "1")) << variant;
        EXPECT_EQ(weights(variant + "2"), weights(variant + "1")) << variant;
    }
}

TEST_F(Ranks, DivideSpectra) {
    // Four ranks for two layers, so one may have nothing to solve; every scope and null.
    const std::string settings =
        "--train.deterministic_comm=true --attention.variant=mla-decoupled --checkpoint.every=2 "
        "--diagnostics.scopes=head,layer,content,rope,weights,positions,ov,overlap "
        "--diagnostics.nulls=product,mp,permuted,profile";
    for (const int ranks : {1, 2, 4}) expect_trained(ranks, fmt::format("run{}", ranks), settings);
    const std::string summary = read_file(file("run1/spectra/summary.jsonl"), 1 << 24);
    EXPECT_GT(std::count(summary.begin(), summary.end(), '\n'), 3 * 3 * 4 * 3);
    for (const char* run : {"run2", "run4"}) {
        EXPECT_EQ(read_file(file(run + std::string("/spectra/summary.jsonl")), 1 << 24), summary) << run;
        for (const char* step : {"0", "3", "6"}) {
            const std::string name = fmt::format("/spectra/step_0000000{}.npz", step);
            EXPECT_EQ(read_file(file(run + name), 1 << 24), read_file(file("run1" + name), 1 << 24)) << name;
        }
    }
}

TEST_F(Ranks, ZeroChangesNoBitAndDividesTheMoments) {
    for (const std::string more :
         {"", " --train.deterministic_comm=true", " --train.optimizer=muon", " --train.comm_dtype=bf16",
          " --train.optimizer=muon --train.deterministic_comm=true --train.weights=bf16",
          " --train.moments=bf16 --train.weights=bf16",
          " --train.precision=fp8 --train.fp8_min_outputs=16 --train.fp8_min_gradient_side=16"}) {
        const std::string whole = "whole" + std::to_string(more.size()), parts = "parts" + whole;
        expect_trained(4, whole, more);
        const Result result = train(4, parts, "--train.zero=1" + more);
        ASSERT_EQ(result.code, 0) << result.err;
        EXPECT_NE(result.out.find("Adam moments, own parts"), std::string::npos) << result.out;
        EXPECT_EQ(losses(parts), losses(whole)) << more;
        EXPECT_EQ(weights(parts), weights(whole)) << more;
        uintmax_t bytes = 0;
        for (int rank = 0; rank < 4; ++rank)
            bytes +=
                fs::file_size(checkpoint(parts, kSteps) + fmt::format("/optimizer.rank{}.safetensors", rank));
        EXPECT_FALSE(fs::exists(checkpoint(parts, kSteps) + "/optimizer.rank4.safetensors"));
        EXPECT_LT(bytes, fs::file_size(checkpoint(whole, kSteps) + "/optimizer.rank0.safetensors") * 3 / 2);
    }
}

TEST_F(Ranks, ResumeOnAnotherNumberOfThem) {
    const std::string settings = "--train.zero=1 --checkpoint.every=1 --checkpoint.keep=0";
    expect_trained(4, "four", settings);
    expect_trained(8, "eight", settings + " --train.micro_batch=1");
    for (const auto& [from, ranks, more] :
         {std::tuple("four", 1, "--train.zero=0"), std::tuple("four", 1, "--train.zero=1"),
          std::tuple("four", 2, "--train.zero=1"), std::tuple("four", 2, "--train.zero=0"),
          std::tuple("four", 4, "--train.zero=1"), std::tuple("eight", 2, "--train.zero=1")}) {
        const std::string run = fmt::format("{}to{}{}", from, ranks, more);
        fs::copy(file(from), file(run), fs::copy_options::recursive);
        for (int64_t step = 4; step <= kSteps; ++step) fs::remove_all(checkpoint(run, step));
        expect_trained(ranks, run, fmt::format("--resume --checkpoint.every=1 {}", more));
        const std::vector<double> before = losses(from), after = losses(run);
        ASSERT_EQ(after.size(), before.size());
        for (size_t i = 0; i < before.size(); ++i)
            EXPECT_NEAR(after[i], before[i], i <= 3 ? 1e-6 : 2e-5) << run << " step " << i + 1;
        if (ranks == 4) {
            EXPECT_EQ(weights(run), weights("four"));
        }
    }
}

/// Under an order of summation that no number of ranks changes, equal bits mean that every step reads the samples that
/// it would have read.
TEST_F(Ranks, ResumeOfEightOnTwoReadsTheSameSamples) {
    const std::string settings = "--train.deterministic_comm=true --train.micro_batch=1 --train.zero=1 ";
    expect_trained(8, "eight", settings + "--checkpoint.every=3 --checkpoint.keep=0");
    fs::copy(file("eight"), file("two"), fs::copy_options::recursive);
    fs::remove_all(checkpoint("two", kSteps));
    expect_trained(2, "two", "--resume " + settings);
    EXPECT_EQ(losses("two"), losses("eight"));
    EXPECT_EQ(losses("two", "val"), losses("eight", "val"));
    EXPECT_EQ(weights("two"), weights("eight"));
}

/// Muon's state is divided by whole matrices, and an update has the same bits on whichever rank it runs. So
/// has stochastic rounding.
TEST_F(Ranks, ResumeMuonAndBf16OnAnotherNumberOfThemWithTheSameBits) {
    const std::string settings =
        "--train.optimizer=muon --train.moments=bf16 --train.weights=bf16 --train.deterministic_comm=true "
        "--checkpoint.every=1 --checkpoint.keep=0";
    expect_trained(4, "four", settings + " --train.zero=1");
    for (const auto& [ranks, more] : {std::pair(1, "--train.zero=0"), std::pair(2, "--train.zero=1")}) {
        const std::string run = fmt::format("to{}", ranks);
        fs::copy(file("four"), file(run), fs::copy_options::recursive);
        for (int64_t step = 4; step <= kSteps; ++step) fs::remove_all(checkpoint(run, step));
        expect_trained(ranks, run, fmt::format("--resume {} {}", settings, more));
        EXPECT_EQ(weights(run), weights("four"));
        EXPECT_EQ(losses(run), losses("four"));
    }
}

TEST_F(Ranks, SayOnceWhichSettingTheVariantIgnores) {
    const Result result =
        train(2, "run", "--attention.kv_rank=8 --train.steps=2 --train.warmup_steps=1 --diagnostics.every=0");
    EXPECT_EQ(result.code, 0) << result.err;
    const size_t first = result.err.find("pastur: --attention.kv_rank: [attention] kv_rank = 8 is ignored");
    ASSERT_NE(first, std::string::npos) << result.err;
    EXPECT_EQ(result.err.find("is ignored", result.err.find("is ignored", first) + 1), std::string::npos)
        << result.err;
}

TEST_F(Ranks, RefuseAnMpiWithoutSupportForThreads) {
    const Result result = shell("PASTUR_FAULT_MPI_THREADS=1 LD_PRELOAD='" +
                                (binary().parent_path() / "libpastur_faults.so").string() + "' " +
                                launcher(2) + train_line("run"));
    EXPECT_EQ(result.code, 1) << result.err;
    EXPECT_EQ(own_lines(result.err).size(), 1u) << result.err;
    EXPECT_NE(result.err.find("pastur: this MPI grants MPI_THREAD_SINGLE"), std::string::npos) << result.err;
    EXPECT_FALSE(fs::exists(file("run")));
}

TEST_F(Ranks, TellAnErrorOfAllOnce) {
    const auto expect_once = [&](const std::string& more, int code, const std::string& text) {
        const Result result = train(3, "run", "--train.global_batch=6 " + more);
        EXPECT_EQ(result.code, code) << result.err;
        ASSERT_EQ(own_lines(result.err).size(), 1u) << result.err;
        EXPECT_NE(own_lines(result.err)[0].find(text), std::string::npos) << result.err;
        EXPECT_EQ(own_lines(result.err)[0].find("pastur: rank"), std::string::npos) << result.err;
    };
    expect_once("--nonsense", 2, "--nonsense");
    expect_once("--train.stepz=3", 2, "train.stepz");
    expect_once("--comm nccl", 2, "--comm nccl needs GPUs");
    expect_once("--data.dir=nowhere", 66, "nowhere");
}

TEST_F(Ranks, WriteNoEscapesUnlessAskedTo) {
    const Result plain = train(2, "run");  // mpirun gives rank 0 a terminal
    ASSERT_EQ(plain.code, 0) << plain.err;
    EXPECT_EQ(plain.out.find('\033'), std::string::npos) << plain.out;
    EXPECT_NE(plain.out.find(fmt::format("\nstep {}/{}  loss ", kSteps, kSteps)), std::string::npos)
        << plain.out;
    const Result status = train(2, "again", "--log tty --run.log_every=1000");
    ASSERT_EQ(status.code, 0) << status.err;
    EXPECT_NE(status.out.find("\r\033[K"), std::string::npos) << status.out;
}

TEST_F(Ranks, RefuseACheckpointThatLostAPart) {
    expect_trained(2, "run", "--train.zero=1 --train.steps=2 --train.warmup_steps=1");
    const std::string folder = checkpoint("run", 2);
    fs::remove(folder + "/optimizer.rank1.safetensors");
    const Result result = train(2, "run", "--resume --train.zero=1 --train.steps=2 --train.warmup_steps=1");
    EXPECT_EQ(result.code, 65) << result.err;
    EXPECT_NE(result.err.find("optimizer.rank1.safetensors"), std::string::npos) << result.err;
}

}  // namespace
}  // namespace pastur::test
#endif
