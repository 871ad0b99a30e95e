// tools/peers/ratio.py, on files in the format of Pastur and its peers. Running the peers would need PyTorch.
#include <gtest/gtest.h>

#include <cstdlib>

#include "data/files.h"
#include "tests/support/data_files.h"
#include "tests/support/source_folder.h"
#include "tests/support/temp_folder.h"

namespace pastur {
namespace {

class PeerRatio : public testing::Test {
  protected:
    void SetUp() override {
        if (std::system("python3 -c 'import json' > /dev/null 2>&1") != 0)
            GTEST_SKIP() << "Python is not installed";
    }
    /// Returns the output of ratio.py for a peer's JSON lines and Pastur's bench files.
    std::string ratio(const std::string& peer, const std::vector<std::string>& benches) {
        const auto file = [&](const std::string& name) { return (folder_.path() / name).string(); };
        test::write_bytes(file("peer.jsonl"), peer);
        std::string command =
            "python3 '" + test::source_file("tools/peers/ratio.py") + "' " + file("peer.jsonl");
        for (size_t i = 0; i < benches.size(); ++i) {
            test::write_bytes(file(std::to_string(i)), benches[i]);
            command += " " + file(std::to_string(i));
        }
        EXPECT_EQ(std::system((command + " > " + file("out")).c_str()), 0);
        return read_file(file("out"), 1 << 20);
    }
    TempFolder folder_;
};

TEST_F(PeerRatio, OfStepsTakesTheBestRoundOfEach) {
    const auto bench = [](int rate) {
        return R"({"ops":[],"variants":[{"variant":"mha","tflops":5,"tokens_per_s":)" + std::to_string(rate) +
               R"(},{"variant":"mla-prerope","tflops":4,"tokens_per_s":7}]})";
    };
    const auto peer = [](int rate) {
        return R"({"peer":"torch","mode":"compiled","sdpa":"cudnn","variant":"mha","tflops":3,"tokens_per_s":)" +
               std::to_string(rate) + "}\n";
    };
    const std::string out =
        ratio(peer(300) + peer(400) + R"({"variant":"mla-prerope","error":"no"})", {bench(900), bench(1000)});
    EXPECT_NE(
        out.find("           1000        5            400        3   2.50  torch, compiled, sdpa cudnn"),
        std::string::npos)
        << out;
    EXPECT_NE(out.find("mla-prerope                 7        4  PyTorch failed"), std::string::npos) << out;
}

TEST_F(PeerRatio, OfAttentionTakesTheFastestBackendSustainedAndRested) {
    const std::string peer =
        R"({"op":"attention forward","shape":"S","sdpa":"cudnn","deterministic":false,"ms":4,"rested_ms":3}
{"op":"attention forward","shape":"S","sdpa":"flash","deterministic":false,"ms":5,"rested_ms":2}
{"op":"attention forward","shape":"S","sdpa":"flash","deterministic":true,"error":"none"}
)";
    const std::string bench =
        R"({"variants":[],"ops":[{"name":"rmsnorm","shape":"S","ms":1,"tflops":null,"rested_ms":1},)"
        R"({"name":"attention forward","shape":"S","ms":2,"tflops":300,"rested_ms":1.6}]})";
    const std::string out = ratio(peer, {bench});
    EXPECT_EQ(out.find("rmsnorm"), std::string::npos) << out;
    EXPECT_EQ(out.find("det."), std::string::npos) << "a backend that always failed has a column: " << out;
    EXPECT_NE(out.find("300.0 / 375.0     150.0 / 200.0     120.0 / 300.0    2.00    1.25"),
              std::string::npos)
        << out;
}

TEST_F(PeerRatio, OfAttentionOnACpuStandsAlone) {
    const std::string bench =
        R"({"variants":[],"ops":[{"name":"attention forward","shape":"S","ms":2,"tflops":0.3,"rested_ms":null}]})";
    const std::string out = ratio("", {bench, bench});
    EXPECT_NE(out.find("     300.0\n"), std::string::npos) << out;
    EXPECT_NE(out.find("GFLOP/s"), std::string::npos) << out;
}

}  // namespace
}  // namespace pastur
