// Non-finite numbers in a checkpoint from which a run continues are detected before an update, named, and
// never written to another checkpoint.
#include <cstring>
#include <limits>
#include <nlohmann/json.hpp>

#include "engine/io/manifest.h"
#include "engine/io/safetensors.h"
#include "engine/model/attention/variants.h"
#include "tests/support/ranks.h"
#include "tests/support/training_line.h"

namespace pastur {
namespace {

namespace fs = std::filesystem;
using test::Result;
using Values = std::vector<float>;

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInfinity = std::numeric_limits<float>::infinity();

class NonFinite : public test::TrainingLine {
  protected:
    NonFinite() : TrainingLine(test::folder_in_memory()) {}

    /// The run from which make_run() takes its checkpoint of step 2.
    void train(const std::string& variant) {
        const Result result =
            run("train r.toml --run whole --device cpu --attention.variant=" + variant + kQuietly);
        ASSERT_EQ(result.code, 0) << result.err;
    }
    /// Makes a run at step 2 and applies `change` to its weights.
    void make_run(const std::function<void(std::map<std::string, Values>&)>& change) const {
        fs::remove_all(file("run"));
        fs::copy(file("whole"), file("run"), fs::copy_options::recursive);
        fs::remove_all(file("run/checkpoints/step_00000004"));
        const fs::path folder = file("run/checkpoints/step_00000002");
        std::map<std::string, Values> tensors = read(folder / "model.safetensors");
        change(tensors);
        StringMap metadata;
        std::map<std::string, std::vector<int64_t>> shapes;
        {
            const SafetensorsFile before(folder / "model.safetensors");
            metadata = before.metadata();
            for (const auto& [name, entry] : before.entries()) shapes[name] = entry.shape;
        }
        std::vector<TensorSource> sources;
        for (const auto& [name, values] : tensors)
            sources.push_back({name, DType::kF32, shapes[name],
                               [&values = values] { return std::as_bytes(std::span(values)); }});
        fs::remove(folder / "model.safetensors");
        write_safetensors(folder / "model.safetensors", sources, metadata);
        write_manifest(folder);
    }
    static std::map<std::string, Values> read(const fs::path& path) {
        const SafetensorsFile tensors(path);
        std::map<std::string, Values> all;
        for (const auto& [name, entry] : tensors.entries()) {
            all[name].resize(entry.bytes.size() / sizeof(float));
            std::memcpy(all[name].data(), entry.bytes.data(), entry.bytes.size());
        }
        return all;
    }
    static std::string resume(const std::string& variant, const std::string& more = "") {
        return "train r.toml --run run --device cpu --resume --attention.variant=" + variant + kQuietly +
               more;
    }
    void expect_no_new_checkpoint() const {
        EXPECT_EQ(run("verify run/checkpoints/step_00000002").code, 0);
        EXPECT_FALSE(fs::exists(file("run/checkpoints/step_00000004")));
    }
    static constexpr const char* kQuietly = " --diagnostics.every=0 --run.tensorboard=false";
};

TEST_F(NonFinite, EveryWeightIsNoticedBeforeTheUpdateAndNamed) {
    const std::vector<float> kinds = {kNan, kInfinity, -kInfinity};
    for (const std::string& variant : variant_names()) {
        train(variant);
        size_t next = 0;
        for (const auto& [name, values] : read(file("whole/checkpoints/step_00000002/model.safetensors"))) {
            // The tensors that variants share see every kind of number once.
            const bool everything = variant == "mha" || variant == "mtla";
            if (!everything && !name.starts_with("model.layers.0.self_attn.")) continue;
            // The first row of the embedding is byte 0, which no story contains.
            const bool unread = name == "model.embed_tokens.weight";
            for (size_t i = 0; i < (everything ? kinds.size() : 1); ++i) {
                make_run([&](auto& tensors) { tensors[name][0] = kinds[next++ % kinds.size()]; });
                expect_failure(resume(variant), 72,
                               {unread ? "step 4: " : "step 3: ", "weight " + name + " is not finite"});
                expect_no_new_checkpoint();
            }
        }
        fs::remove_all(file("whole"));
    }
}

/// A learning rate of 3e3, typed for 3e-3. The residual stream grows until its squares overflow in the norms.
/// If the norms turned it into zeros, the run would end with exit 0, the loss of a uniform guess and a
/// gradient norm of 0.
TEST_F(NonFinite, ALearningRateAMillionTimesTooLargeEndsTheRun) {
    write("nano.toml",
          "[model]\npreset = \"nano\"\n[data]\ndir = \"corpus\"\nseq_len = 16\n[train]\nsteps = 12\n"
          "global_batch = 2\nlr = 3e3\nval_tokens = 64\n");
    for (const std::string& variant : variant_names())
        for (const std::string clip : {"0", "1"}) {
            fs::remove_all(file("run"));
            expect_failure("train nano.toml --run run --device cpu --attention.variant=" + variant +
                               " --train.grad_clip=" + clip + kQuietly,
                           72, {"loss", "nan", "first non-finite gradient is model."});
        }
}

/// Finite weights for which the loss overflows, or only a gradient, or only its square.
struct Overflow {
    const char* what;
    std::function<void(std::map<std::string, Values>&)> change;
    std::vector<std::string> says;
};

TEST_F(NonFinite, LossesAndGradientsAreSkippedOrEndTheRun) {
    const std::vector<Overflow> overflows = {
        {"activations",
         [](auto& tensors) {
             for (float& value : tensors["model.layers.1.mlp.down_proj.weight"]) value = 3e38f;
             for (float& value : tensors["model.layers.1.mlp.up_proj.weight"]) value = 1e3f;
         },
         {"nan, gradient norm", "first non-finite gradient is model."}},
        // Norm and head cancel in the logits, which are +-12. The residual stream points along the norm's
        // first weight, so that weight's gradient has the head's magnitude and grows with every odd byte not
        // predicted.
        {"gradient",
         [](auto& tensors) {
             Values &embedding = tensors["model.embed_tokens.weight"], &head = tensors["lm_head.weight"];
             for (size_t i = 0; i < embedding.size(); ++i) embedding[i] = i % 16 == 0 ? 1000.0f : 0.0f;
             for (float& value : tensors["model.norm.weight"]) value = 1e-38f;
             for (size_t i = 0; i < head.size(); ++i) head[i] = i / 16 % 2 == 0 ? 3e38f : -3e38f;
         },
         {"first non-finite gradient is model.norm.weight's"}},
        // Logits of +-2e38: the loss of a wrong one exceeds fp32, but probabilities and gradients are finite.
        {"loss",
         [](auto& tensors) {
             Values &embedding = tensors["model.embed_tokens.weight"], &head = tensors["lm_head.weight"];
             for (size_t i = 0; i < embedding.size(); ++i) embedding[i] = i % 16 == 0 ? 1.0f : 0.0f;
             for (float& value : tensors["model.norm.weight"]) value = 100.0f;
             for (size_t i = 0; i < head.size(); ++i)
                 head[i] = i % 16 != 0 ? 0.0f : i / 16 % 2 == 0 ? 5e35f : -5e35f;
         },
         {"loss inf, gradient norm ", "every gradient is finite"}},
        // As in "gradient", but the gradient of 1e25 is finite and only its square is not. Adam's v would
        // become infinite, and because m / sqrt(inf) is 0, the weight would silently stay constant for the
        // rest of the run.
        {"squares",
         [](auto& tensors) {
             Values &embedding = tensors["model.embed_tokens.weight"], &head = tensors["lm_head.weight"];
             for (size_t i = 0; i < embedding.size(); ++i) embedding[i] = i % 16 == 0 ? 1000.0f : 0.0f;
             for (float& value : tensors["model.norm.weight"]) value = 1e-25f;
             for (size_t i = 0; i < head.size(); ++i) head[i] = i / 16 % 2 == 0 ? 3e25f : -3e25f;
         },
         {"every gradient is finite", "the fp32 sum of squared gradients"}},
    };
    train("mha");
    for (const Overflow& overflow : overflows) {
        SCOPED_TRACE(overflow.what);
        make_run(overflow.change);
        const auto weights = read(file("run/checkpoints/step_00000002/model.safetensors"));
        const auto moments = read(file("run/checkpoints/step_00000002/optimizer.rank0.safetensors"));
        const Result aborted = run(resume("mha"));
        EXPECT_EQ(aborted.code, 72) << aborted.err;
        EXPECT_NE(aborted.err.find("step 3: "), std::string::npos) << aborted.err;
        for (const std::string& part : overflow.says)
            EXPECT_NE(aborted.err.find(part), std::string::npos) << aborted.err;
        expect_no_new_checkpoint();

        const Result skipped = run(resume("mha", " --train.nonfinite=skip"));
        EXPECT_EQ(skipped.code, 0) << skipped.err;
        EXPECT_TRUE(read(file("run/checkpoints/step_00000004/model.safetensors")) == weights);
        EXPECT_TRUE(read(file("run/checkpoints/step_00000004/optimizer.rank0.safetensors")) == moments);
        const auto state =
            nlohmann::json::parse(read_file(file("run/checkpoints/step_00000004/state.json"), 1 << 20));
        EXPECT_EQ(state["skipped"], 2);
        EXPECT_EQ(state["step"], 4);
    }
#if defined(PASTUR_HAVE_MPI)
    // In the last case, each of two ranks would have updated its half.
    make_run(overflows.back().change);
    const auto weights = read(file("run/checkpoints/step_00000002/model.safetensors"));
    const Result skipped =
        shell(test::Ranks::launcher(2) + "'" + binary().string() + "' " +
              resume("mha", " --train.nonfinite=skip --train.zero=1 --train.micro_batch=2"));
    EXPECT_EQ(skipped.code, 0) << skipped.err;
    EXPECT_TRUE(read(file("run/checkpoints/step_00000004/model.safetensors")) == weights);
#endif
}

}  // namespace
}  // namespace pastur
