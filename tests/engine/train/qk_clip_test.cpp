// train.qk_clip: what it scales in every variant, that it bounds the logits of training, and that its bits do not depend on
// graphs and recomputation.
#include "engine/train/optimizer/qk_clip.h"

#include <algorithm>
#include <set>

#include "engine/model/recipe.h"
#include "engine/train/train_step.h"
#include "engine/train/training_setup.h"
#include "tests/support/expect_error.h"
#include "tests/support/model_harness.h"

namespace pastur::test {
namespace {

/// A variant, and the weights of attention that a clip changes.
struct ClipCase {
    std::string label, attention, model;
    std::set<std::string> scaled;  ///< names behind "self_attn."; empty: the recipe is refused
    int64_t rows;                  ///< that change for one head, over all of them
    std::string name() const { return label; }
};

const std::string kKvRank = "kv_rank = 7\n", kSplit = "nope_dim = 3\nrope_dim = 2\nv_dim = 5\n",
                  kNormed = "qk_norm = \"head\"\n";
const std::vector<ClipCase> kClipCases = {
    {"mha", "variant = \"mha\"", "", {"q_proj", "k_proj"}, 2 * 4},
    {"mha_grouped", "variant = \"mha\"", "kv_heads = 1", {"q_proj"}, 4},
    {"mha_qk_norm", "variant = \"mha\"\n" + kNormed, "", {}, 0},
    {"mha_nope", "variant = \"mha-nope\"", "head_dim = 5", {"q_proj", "k_proj"}, 2 * 5},
    {"shared_rope", "variant = \"mha-shared-rope\"\n" + kSplit, "", {"q_proj", "k_proj"}, 5 + 3},
    {"shared_rope_qk_norm", "variant = \"mha-shared-rope\"\n" + kSplit + kNormed, "", {}, 0},
    {"mla_nope",
     "variant = \"mla-nope\"\nv_dim = 4\n" + kKvRank,
     "head_dim = 5",
     {"q_proj", "kv_b_proj"},
     2 * 5},
    {"mla_rope", "variant = \"mla-rope\"\nv_dim = 5\n" + kKvRank, "", {"q_proj", "kv_b_proj"}, 2 * 4},
    {"mla_rope_q_rank",
     "variant = \"mla-rope\"\nq_rank = 5\n" + kKvRank,
     "",
     {"q_b_proj", "kv_b_proj"},
     2 * 4},
    {"mla_rope_qk_norm", "variant = \"mla-rope\"\n" + kKvRank + kNormed, "", {}, 0},
    {"prerope", "variant = \"mla-prerope\"\nk_rank = 5\nv_rank = 3", "", {"q_proj", "k_b_proj"}, 2 * 4},
    {"prerope_normed",
     "variant = \"mla-prerope\"\nk_rank = 5\nv_rank = 3\nlatent_norm = true\nlatent_gain = \"sqrt\"",
     "",
     {"q_proj", "k_b_proj"},
     2 * 4},
    {"prerope_qk_norm", "variant = \"mla-prerope\"\nk_rank = 5\nv_rank = 3\n" + kNormed, "", {"k_b_proj"}, 4},
    {"prerope_input",
     "variant = \"mla-prerope\"\nprerope_site = \"input\"\n" + kKvRank,
     "",
     {"q_proj", "k_b_proj"},
     2 * 4},
    {"decoupled", "variant = \"mla-decoupled\"\n" + kKvRank + kSplit, "", {"q_proj", "kv_b_proj"}, 5 + 3},
    {"decoupled_q_rank",
     "variant = \"mla-decoupled\"\nq_rank = 4\nlatent_gain = \"sqrt\"\n" + kKvRank + kSplit,
     "",
     {"q_b_proj", "kv_b_proj"},
     5 + 3},
    {"decoupled_qk_norm", "variant = \"mla-decoupled\"\n" + kKvRank + kSplit + kNormed, "", {}, 0},
    {"mtla", "variant = \"mtla\"\n" + kKvRank + kSplit, "", {"q_proj", "kv_b_proj"}, 5 + 3},
    {"mtla_stride_3",
     "variant = \"mtla\"\nstride = 3\n" + kKvRank + kSplit,
     "",
     {"q_proj", "kv_b_proj"},
     5 + 3},
};

constexpr int64_t kHeads = 3, kTime = 9;

Config clip_config(const ClipCase& shape, const std::string& more = "") {
    return parse_config(
        fmt::format(
            "[model]\npreset = \"nano\"\nvocab = 19\nd_model = 12\nlayers = 1\nheads = {}\nffn = 10\n{}\n"
            "[attention]\n{}\n[data]\nseq_len = {}\n[train]\nglobal_batch = 2\nmicro_batch = 2\n{}\n",
            kHeads, shape.model, shape.attention, kTime, more),
        "tiny", {});
}

class QkClipOf : public OpTest<ClipCase> {
  protected:
    /// The largest logit of each head of `subject` for a batch.
    std::vector<float> max_logits(ModelUnderTest& subject, const TokenBatch& batch) {
        std::vector<float> host(kHeads, -INFINITY);
        const Buffer buffer = allocate(ctx(), kHeads * size_of(DType::kF32));
        const Tensor largest(buffer.data(), DType::kF32, {1, kHeads});
        upload(ctx(), largest.flat(), as_tensor(std::span(host)));
        subject.model().track_max_logits(largest);
        subject.forward(batch);
        subject.model().track_max_logits({});
        download(ctx(), as_tensor(std::span(host)), largest.flat());
        return host;
    }
    /// Rows of each tensor that differ.
    static std::map<std::string, int64_t> changed_rows(const NamedValues& before, const NamedValues& after,
                                                       const ParamTable& table) {
        std::map<std::string, int64_t> changed;
        for (const Param& param : table.params()) {
            const std::vector<double>&a = before.at(param.name), &b = after.at(param.name);
            const int64_t width = param.shape[param.shape.rank() - 1];
            for (size_t row = 0; row < a.size() / static_cast<size_t>(width); ++row) {
                const auto begin = static_cast<int64_t>(row) * width;
                if (!std::equal(a.begin() + begin, a.begin() + begin + width, b.begin() + begin))
                    ++changed[param.name];
            }
        }
        return changed;
    }
};

TEST_P(QkClipOf, BringsTheHeadsBeyondTheLimitToItAndLeavesTheOthers) {
    if (shape().scaled.empty()) return;
    Config config = clip_config(shape());
    ModelUnderTest subject(config, ctx(), dtype(), {2, kTime});
    subject.set_weights(subject.random_weights(random_, dtype()));
    const TokenBatch batch = random_batch(random_, {2, kTime}, config.model.vocab);
    const std::vector<float> before = max_logits(subject, batch);
    std::vector<float> sorted(before);
    std::sort(sorted.begin(), sorted.end());
    ASSERT_GT(sorted[0], 0) << "a limit below every logit would be 0 or less";
    const NamedValues old_weights = subject.weights();
    for (const int64_t clipped : {1, 2}) {
        subject.set_weights(old_weights);
        const auto index = static_cast<size_t>(kHeads - clipped - 1);
        config.train.qk_clip = 0.5 * (sorted[index] + sorted[index + 1]);
        const std::unique_ptr<Comm> comm = make_single_comm();
        {
            QkClip clip(config, ctx(), *comm, subject.model());
            for (int pass = 0; pass < 2; ++pass) {
                clip.begin_step();
                subject.forward(batch);
                const QkClip::Result result = clip.end_step(0, /*updated=*/pass == 1);
                EXPECT_EQ(result.max_logit, sorted.back());
                EXPECT_EQ(result.heads_scaled, pass == 1 ? clipped : 0);
                EXPECT_EQ(subject.weights() == old_weights, pass == 0) << "a step without an update";
            }
        }
        const std::vector<float> after = max_logits(subject, batch);
        const double tolerance = dtype() == DType::kBF16 ? 3e-2 : 1e-5;
        for (size_t h = 0; h < before.size(); ++h) {
            if (before[h] > config.train.qk_clip)
                EXPECT_NEAR(after[h], config.train.qk_clip, tolerance * config.train.qk_clip) << "head " << h;
            else
                EXPECT_EQ(after[h], before[h]) << "head " << h;
        }
        std::set<std::string> names;
        int64_t rows = 0;
        for (const auto& [name, count] :
             changed_rows(old_weights, subject.weights(), subject.model().params().table())) {
            const std::string prefix = "model.layers.0.self_attn.", suffix = ".weight";
            ASSERT_TRUE(name.starts_with(prefix) && name.ends_with(suffix)) << name;
            names.insert(name.substr(prefix.size(), name.size() - prefix.size() - suffix.size()));
            rows += count;
        }
        EXPECT_EQ(names, shape().scaled);
        EXPECT_EQ(rows, clipped * shape().rows);
    }
}

TEST_P(QkClipOf, IsRefusedWhereNoWeightScalesALogit) {
    if (!shape().scaled.empty()) {
        EXPECT_NO_THROW(clip_config(shape(), "qk_clip = 30"));
        return;
    }
    EXPECT_NO_THROW(clip_config(shape()));
    expect_error(ExitCode::kUsage,
                 {"qk_clip = 30.0 (tiny:", "expected 0 with attention.qk_norm = \"head\" (tiny:"},
                 [&] { clip_config(shape(), "qk_clip = 30"); });
}

INSTANTIATE_TEST_SUITE_P(Train, QkClipOf, every_target(kClipCases), case_name<ClipCase>);

struct TrainCase {
    std::string label, attention, train;
    double limit = 0.5;  ///< exceeded after a few steps
    std::string name() const { return label; }
};

class QkClipTraining : public OpTest<TrainCase> {
  protected:
    struct Outcome {
        std::vector<double> losses, max_logits;
        int64_t scaled = 0;
        NamedValues weights;
    };
    /// A few steps with a learning rate at which logits grow.
    Outcome train(double limit, bool graph = true, const std::string& recompute = "none") {
        Config config = parse_config(
            fmt::format(
                "[model]\nvocab = 31\nd_model = 32\nlayers = 2\nheads = 2\nffn = 48\n[attention]\n{}\n"
                "[data]\nseq_len = 16\n[train]\nglobal_batch = 8\nmicro_batch = 4\nlr = 3e-2\n"
                "recompute = \"{}\"\n{}\n",
                shape().attention, recompute, shape().train),
            "recipe", {});
        config.train.qk_clip = limit;
        config.train.cuda_graph = graph;
        TrainingSetup setup(config, dtype());
        const std::unique_ptr<Comm> comm = make_single_comm();
        setup.allocate(ctx(), TrainingSetup::Purpose::kSteps);
        setup.params().initialise(ctx(), 1);
        TrainStep step(config, ctx(), *comm, setup.model(), setup.optimizer());
        Outcome outcome;
        Random tokens(7);
        for (int64_t i = 0; i < 30; ++i) {
            const TrainStep::Result result =
                step.run([&] { return random_batch(tokens, setup.model().shape(), config.model.vocab); }, i,
                         config.train.lr);
            outcome.losses.push_back(result.loss);
            EXPECT_EQ(result.qk_clip.has_value(), limit > 0);
            if (!result.qk_clip) continue;
            outcome.max_logits.push_back(result.qk_clip->max_logit);
            outcome.scaled += result.qk_clip->heads_scaled;
        }
        for (const Param& param : setup.table().params())
            outcome.weights[param.name] = values_of(ctx(), setup.params().master(param));
        return outcome;
    }
};

constexpr double kNever = 1e30;

TEST_P(QkClipTraining, BoundsTheLogits) {
    const double limit = shape().limit;
    const Outcome free = train(kNever), clipped = train(limit);
    EXPECT_EQ(free.scaled, 0);
    EXPECT_GT(clipped.scaled, 5);
    EXPECT_GT(free.max_logits.back(), 8 * limit);
    // The update after a clip may raise a logit beyond the limit.
    for (const double largest : clipped.max_logits) EXPECT_LT(largest, 6 * limit);
    EXPECT_TRUE(std::isfinite(clipped.losses.back()));
}

TEST_P(QkClipTraining, KeepsEveryBitWhereItScalesNothing) {
    const Outcome off = train(0), never = train(kNever);
    EXPECT_EQ(off.losses, never.losses);
    EXPECT_EQ(off.weights, never.weights);
}

TEST_P(QkClipTraining, IsTheSameBitsWithGraphsAndRecomputation) {
    const Outcome first = train(shape().limit, false);
    for (const char* recompute : {"none", "block"}) {
        const Outcome other = train(shape().limit, true, recompute);
        EXPECT_EQ(other.losses, first.losses) << recompute;
        EXPECT_EQ(other.max_logits, first.max_logits) << recompute;
        EXPECT_EQ(other.weights, first.weights) << recompute;
    }
}

INSTANTIATE_TEST_SUITE_P(Train, QkClipTraining,
                         every_target<TrainCase>({
                             {"mha", "variant = \"mha\"", ""},
                             {"mha_muon", "variant = \"mha\"", "optimizer = \"muon\"", 0.1},
                             {"decoupled_bf16", "variant = \"mla-decoupled\"", "weights = \"bf16\""},
                             {"prerope", "variant = \"mla-prerope\"", ""},
                             {"mtla", "variant = \"mtla\"", ""},
                         }),
                         case_name<TrainCase>);

TEST(QkClipMemory, IsPlanned) {
    Config config = clip_config(kClipCases.front(), "qk_clip = 30");
    const auto bytes = [&](int ranks) {
        TrainingSetup setup(config, DType::kF32, 0, ranks);
        int64_t found = 0;
        for (const MemoryPlan::Entry& entry :
             setup.plan(context(Device::kCpu), TrainingSetup::Purpose::kSteps).entries)
            if (entry.name == "largest logits") found = entry.bytes;
        return found;
    };
    EXPECT_EQ(bytes(1), (32 + 3) * kHeads * 4);
    EXPECT_EQ(bytes(2), (32 + 4) * kHeads * 4);
    config.train.qk_clip = 0;
    EXPECT_EQ(bytes(1), 0);
}

}  // namespace
}  // namespace pastur::test
