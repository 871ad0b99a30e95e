// `pastur bench` as several ranks.
#if defined(PASTUR_HAVE_MPI)
#include "tests/support/ranks.h"

namespace pastur::test {
namespace {

class ScalingBenchmark : public Ranks {
  protected:
    Result bench(int ranks, const std::string& more) const {
        return shell(launcher(ranks) + "'" + binary().string() + "' bench r.toml --device cpu --warmup 1 " +
                     more);
    }
    nlohmann::json report() const { return nlohmann::json::parse(read_file(file("s.json"), 1 << 20)); }
};

TEST_F(ScalingBenchmark, MeasuresOneRankAndThenAll) {
    const Result result =
        bench(2, "--steps 5 --strong --train.zero=1 --train.comm_dtype=bf16 --json s.json --csv s.csv");
    ASSERT_EQ(result.code, 0) << result.err;
    for (const char* part : {"2 ranks, 2 on this host (", "over MPI (Open MPI", "alone", "weak", "strong",
                             "train.zero = 1, train.comm_dtype = \"bf16\"", "measured"})
        EXPECT_NE(result.out.find(part), std::string::npos) << part << "\n" << result.out;
    EXPECT_EQ(std::count(result.out.begin(), result.out.end(), '\n'), 7) << "another rank than 0 printed";
    const nlohmann::json variant = report().at("scaling").at(0), alone = variant.at("alone");
    EXPECT_EQ(alone.at("tokens_per_step"), 8 * 16);
    ASSERT_EQ(variant.at("points").size(), 2u);
    for (const nlohmann::json& point : variant.at("points")) {
        const bool weak = point.at("kind") == "weak";
        EXPECT_EQ(point.at("global_batch"), weak ? 16 : 8);
        EXPECT_EQ(point.at("tokens_per_step"), (weak ? 16 : 8) * 16);
        EXPECT_EQ(point.at("micro_batch"), 2);
        EXPECT_EQ(point.at("step_ms").size(), 5u);
        ASSERT_EQ(point.at("silent_ms_of_ranks").size(), 2u);
        const double ms = point.at("ms_p50"), tokens_per_s = point.at("tokens_per_s");
        EXPECT_NEAR(tokens_per_s, point.at("tokens_per_step").get<double>() / ms * 1e3, 1e-6 * tokens_per_s);
        EXPECT_NEAR(point.at("efficiency").get<double>(),
                    tokens_per_s / 2 / alone.at("tokens_per_s").get<double>(), 1e-9);
        const double slowest = std::max(point.at("silent_ms_of_ranks")[0].get<double>(),
                                        point.at("silent_ms_of_ranks")[1].get<double>());
        EXPECT_GT(slowest, 0);
        EXPECT_NEAR(point.at("exposed_ms").get<double>(), ms - slowest, 1e-9);
        EXPECT_GT(point.at("predicted").at("exposed_ms").get<double>(), 0);
        EXPECT_LT(point.at("predicted").at("efficiency").get<double>(), 1);
        EXPECT_TRUE(point.at("planned").is_null()) << "plan assumes links of GPUs";
    }
    const std::string csv = read_file(file("s.csv"), 1 << 16);
    EXPECT_EQ(std::count(csv.begin(), csv.end(), '\n'), 4);
    std::istringstream lines(csv);
    for (std::string line; std::getline(lines, line);)
        EXPECT_EQ(std::count(line.begin(), line.end(), ','), 17) << line;
}

/// A step that sends every micro-batch's gradient costs more than one that sends nothing: the last one's time is not
/// that of a mistaken step with the exchange.
TEST_F(ScalingBenchmark, LeavesOutTheExchangeInStepsWithoutIt) {
    const Result result =
        bench(4,
              "--steps 20 --model.vocab=4096 --train.micro_batch=1 --train.deterministic_comm=true "
              "--json s.json");
    ASSERT_EQ(result.code, 0) << result.err;
    const nlohmann::json point = report().at("scaling").at(0).at("points").at(0);
    EXPECT_GT(point.at("exposed_ms").get<double>(), 0.1 * point.at("ms_p50").get<double>());
}

TEST_F(ScalingBenchmark, SaysOnceWhatItCannotMeasure) {
    const auto expect_once = [&](const std::string& more, const std::string& text) {
        const Result result = bench(3, more);
        EXPECT_EQ(result.code, 2) << result.err;
        ASSERT_EQ(own_lines(result.err).size(), 1u) << result.err;
        EXPECT_NE(own_lines(result.err)[0].find(text), std::string::npos) << result.err;
    };
    expect_once("--strong", "--strong: expected a train.global_batch that divides over 3 ranks: 8 sequences");
    expect_once("--ops", "--ops and --generate: expected one rank, not 3");
    expect_once("--train.stepz=3", "train.stepz");
    expect_once("--comm nccl", "--comm nccl needs GPUs");
    const Result alone = shell("'" + binary().string() + "' bench r.toml --device cpu --strong");
    EXPECT_EQ(alone.code, 2);
    EXPECT_NE(alone.err.find("--strong and --comm: expected several ranks"), std::string::npos) << alone.err;
}

}  // namespace
}  // namespace pastur::test
#endif
