// A measurement that fails on any rank is a message on rank 0, and leaves every rank in the same collectives.
#include "engine/spectra/monitor.h"

#include <gtest/gtest.h>

#include <fstream>
#include <new>

#include "engine/model/model.h"
#include "tests/support/model_harness.h"
#include "tests/support/temp_folder.h"
#include "tests/support/thread_ranks.h"

namespace pastur::test {
namespace {

/// Throws at the given solve() instead of solving; -1: never.
class FailingSolver final : public SpectrumSolver {
  public:
    FailingSolver(Context& ctx, std::span<const FactorProduct> products, int64_t at,
                  std::function<void()> fail)
        : solver_(make_spectrum_solver(ctx, products)), at_(at), fail_(std::move(fail)) {}
    void prepare(Context& ctx, std::span<const FactorProduct> products) override {
        solver_->prepare(ctx, products);
    }
    void follow(Context& ctx) override { solver_->follow(ctx); }
    std::vector<std::vector<Spectrum>> solve(std::span<const FactorProduct> products,
                                             const std::optional<FactorDraw>& draw) override {
        if (calls_++ == at_) fail_();
        return solver_->solve(products, draw);
    }

  private:
    std::unique_ptr<SpectrumSolver> solver_;
    int64_t at_, calls_ = 0;
    std::function<void()> fail_;
};

class FailingMonitor : public testing::TestWithParam<bool> {
  protected:
    FailingMonitor() : config_(tiny_config("variant = \"mha\"")) {
        config_.diagnostics.scopes = {Scope::kHead, Scope::kLayer};
        config_.diagnostics.nulls = {NullKind::kProduct};
    }

    using Change = std::function<void(Monitor::Parts&)>;
    /// Measures steps 0, 10 and 20 on `ranks` ranks; the messages of each rank. `change` breaks parts of rank
    /// `failing`.
    std::vector<std::vector<std::string>> run(int ranks, int failing, const Change& change) {
        std::vector<std::vector<std::string>> messages(static_cast<size_t>(ranks));
        const std::vector<std::string> failures = run_ranks(ranks, [&](Comm& comm) {
            Context ctx = CpuContext();
            Model model(config_, DType::kF32, {1, 2});
            model.params().allocate(ctx, false);
            model.params().initialise(ctx, 1);
            Monitor::Parts parts = Monitor::default_parts(ctx, config_);
            parts.in_background = GetParam();
            if (comm.rank() == failing) change(parts);
            Monitor monitor(ctx, comm, config_, model.params(), folder_.path(), parts);
            if (comm.is_root()) monitor.open(-1);
            for (const int64_t step : {0, 10, 20}) EXPECT_TRUE(monitor.observe(step, [] { return false; }));
            messages[static_cast<size_t>(comm.rank())] = monitor.drain().messages;
        });
        for (const std::string& failure : failures) EXPECT_EQ(failure, "");
        return messages;
    }
    /// Fails at the second measurement.
    static Change failing_solver(std::function<void()> fail) {
        return [fail](Monitor::Parts& parts) {
            parts.make_solver = [fail](Context& ctx, std::span<const FactorProduct> products) {
                return std::make_unique<FailingSolver>(ctx, products, 1, fail);
            };
        };
    }
    /// Steps with a record of a matrix whose largest eigenvalue is known.
    std::map<int64_t, int> solved_records() const {
        std::map<int64_t, int> counts;
        std::ifstream lines(folder_.path() / "summary.jsonl");
        for (std::string line; std::getline(lines, line);) {
            const auto record = nlohmann::json::parse(line);
            counts[record.at("step").get<int64_t>()] += record.at("lambda_max").is_number();
        }
        return counts;
    }

    Config config_;
    TempFolder folder_;
};

TEST_P(FailingMonitor, KeepsTheRanksTogetherWhenRank0CannotJudge) {
    const auto messages = run(2, 0, [](Monitor::Parts& parts) {
        const auto judge = parts.judge;
        const auto calls = std::make_shared<int>(0);
        parts.judge = [judge, calls](const auto& matrices, const auto& measured) {
            if ((*calls)++ == 1) throw std::runtime_error("no law");
            return judge(matrices, measured);
        };
    });
    EXPECT_EQ(messages[0], std::vector<std::string>{"diagnostics failed: no law"});
    const std::map<int64_t, int> solved = solved_records();
    EXPECT_GT(solved.at(0), 0);
    EXPECT_FALSE(solved.contains(10));
    EXPECT_EQ(solved.at(20), solved.at(0));
}

TEST_P(FailingMonitor, KeepsTheRanksTogetherWhenASolverThrowsAnything) {
    for (const int failing : {0, 1}) {
        const auto messages = run(2, failing, failing_solver([] { throw std::bad_alloc(); }));
        const std::map<int64_t, int> solved = solved_records();
        EXPECT_LT(solved.at(10), solved.at(0));
        EXPECT_GT(solved.at(10), 0) << "the other rank's share";
        EXPECT_EQ(solved.at(20), solved.at(0));
        EXPECT_EQ(messages[0].size(), 1u);
    }
}

TEST_P(FailingMonitor, TellsRank0WhyAnotherRankFailed) {
    const auto messages =
        run(2, 1, failing_solver([] { fail(ExitCode::kNoDevice, "cusolverDnXsyevd: status 7"); }));
    ASSERT_EQ(messages[0].size(), 1u);
    EXPECT_NE(messages[0][0].find("step 10: "), std::string::npos) << messages[0][0];
    EXPECT_NE(messages[0][0].find("spectra could not be computed: rank 1: cusolverDnXsyevd: status 7"),
              std::string::npos)
        << messages[0][0];
    EXPECT_EQ(messages[1].size(), 0u);
}

TEST_P(FailingMonitor, ASolversErrorIsAMessageOnOneRankToo) {
    const auto messages = run(1, 0, failing_solver([] { fail(ExitCode::kNoDevice, "the solver's words"); }));
    ASSERT_EQ(messages[0].size(), 1u);
    EXPECT_NE(messages[0][0].find("spectra could not be computed: the solver's words"), std::string::npos)
        << messages[0][0];
    EXPECT_EQ(solved_records().at(10), 0);
}

TEST(Monitor, SaysThatTheCpuHasNoCusolver) {
    Config config = tiny_config("variant = \"mha\"");
    config.diagnostics.scopes = {Scope::kLayer};
    config.diagnostics.solver = Eigensolver::kCusolver;
    Context ctx = CpuContext();
    Model model(config, DType::kF32, {1, 2});
    model.params().allocate(ctx, false);
    const std::unique_ptr<Comm> comm = make_single_comm();
    const TempFolder folder;
    Monitor monitor(ctx, *comm, config, model.params(), folder.path());
    const std::vector<std::string> lines = monitor.poll().changes;
    ASSERT_EQ(lines.size(), 1u);
    EXPECT_NE(lines[0].find("diagnostics.solver"), std::string::npos) << lines[0];
}

INSTANTIATE_TEST_SUITE_P(Modes, FailingMonitor, testing::Bool(), [](const auto& mode) {
    return mode.param ? std::string("InTheBackground") : std::string("BetweenSteps");
});

}  // namespace
}  // namespace pastur::test
