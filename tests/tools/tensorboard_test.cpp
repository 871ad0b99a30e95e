// What TensorBoard itself reads in a run folder.
#include <cmath>

#include "tests/support/ranks.h"

namespace pastur::test {
namespace {

class TensorboardPackage : public SmallRuns {
  protected:
    void SetUp() override {
        const std::string has =
            "python3 -c 'import importlib.util as u, sys; sys.exit(u.find_spec(\"tensorboard\") is None)'";
        if (std::system(has.c_str()) != 0) GTEST_SKIP() << "python3 has no tensorboard";
        SmallRuns::SetUp();
    }
};

TEST_F(TensorboardPackage, ReadsScalarsTextsAndHyperparameters) {
    const std::string line =
        "train r.toml --run run --device cpu --run.tensorboard=true --run.notes='two <b>notes</b>' ";
    ASSERT_EQ(run(line + "--train.steps=3 --train.schedule=constant").code, 0);
    ASSERT_EQ(run(line + "--resume --train.steps=6 --train.schedule=constant").code, 0);
    const Result read =
        shell("python3 '" + std::string(PASTUR_SOURCE_DIR) + "/tests/tools/read_tensorboard.py' run");
    ASSERT_EQ(read.code, 0) << read.err;
    const nlohmann::json found = nlohmann::json::parse(read.out);
    const std::vector<double> expected = losses("run");
    const nlohmann::json& loss = found.at("scalars").at("train/loss");
    ASSERT_EQ(loss.size(), 6u);
    for (size_t i = 0; i < loss.size(); ++i) {
        EXPECT_EQ(loss[i][0], i + 1);
        EXPECT_EQ(loss[i][1].get<float>(), static_cast<float>(expected[i]));
    }
    const std::string config = found.at("texts").at("config");
    EXPECT_EQ(config, "```toml\n" + read_file(file("run/config.toml"), 1 << 20) + "```\n");
    EXPECT_EQ(found.at("texts").at("notes"), "two <b>notes</b>");
    const nlohmann::json& hparams = found.at("hparams");
    EXPECT_EQ(hparams.at("train.lr"), 1e-2);
    EXPECT_EQ(hparams.at("attention.variant"), "mha");
    EXPECT_EQ(hparams.at("model.tie_embeddings"), false);
    EXPECT_GT(hparams.at("parameters"), 1000);
    EXPECT_EQ(found.at("columns").size(), hparams.size());
    EXPECT_EQ(found.at("metrics")[0], "val/loss");
    EXPECT_EQ(found.at("status"), 1) << "STATUS_SUCCESS";
}

}  // namespace
}  // namespace pastur::test
