// pastur verify: accepts intact checkpoints and names damaged files and tensors.
#include <nlohmann/json.hpp>

#include "engine/io/manifest.h"
#include "engine/io/safetensors.h"
#include "tests/support/training_line.h"

namespace pastur {
namespace {

namespace fs = std::filesystem;
using test::Result;

class Verify : public test::TrainingLine {
  protected:
    Verify() {
        const Result train = run("train r.toml --run run --device cpu");
        EXPECT_EQ(train.code, 0) << train.err;
    }
    static constexpr const char* kNewest = "run/checkpoints/step_00000004";

    std::string newest(const std::string& name) const { return file(std::string(kNewest) + "/" + name); }
    /// Flips a bit in the middle of a tensor.
    void damage(const std::string& name, const std::string& tensor) const {
        std::streamoff at = 0;
        {
            const SafetensorsFile safetensors(newest(name));
            const auto bytes = safetensors.entries().at(tensor).bytes;
            at = bytes.data() - safetensors.bytes().data() + static_cast<std::streamoff>(bytes.size() / 2);
        }
        std::fstream stream(newest(name), std::ios::in | std::ios::out | std::ios::binary);
        stream.seekg(at);
        const int byte = stream.get();
        stream.seekp(at);
        stream.put(static_cast<char>(byte ^ 4));
    }
};

TEST_F(Verify, SaysThatEveryByteIsRight) {
    for (const char* path : {"run", "run/checkpoints", "run/checkpoints/latest", kNewest}) {
        const Result result = run(std::string("verify ") + path);
        EXPECT_EQ(result.code, 0) << path << ": " << result.err;
        EXPECT_EQ(result.err, "");
        for (const char* part : {"step_00000004\n", "model.safetensors", "optimizer.rank0.safetensors",
                                 "state.json", "intact: step 4 of 4, 256 tokens, mha of 0.0"})
            EXPECT_NE(result.out.find(part), std::string::npos) << part << " in " << result.out;
    }
    EXPECT_NE(run("verify run/checkpoints/step_00000002").out.find("intact: step 2 of 4"), std::string::npos);
    expect_failure("verify none", 66, {"none: no such checkpoint"});
    expect_failure("verify corpus", 66, {"corpus: contains no checkpoint"});
    expect_failure("verify", 2, {"checkpoint is required", "pastur verify --help"});
}

TEST_F(Verify, NamesTheDamagedFileAndTensor) {
    const std::string model = std::string(kNewest) + "/model.safetensors";
    damage("model.safetensors", "model.layers.1.mlp.up_proj.weight");
    expect_failure("verify run", 65,
                   {model + ": XXH3 ", "damaged in tensor \"model.layers.1.mlp.up_proj.weight\"\n"});
    damage("model.safetensors", "model.layers.0.mlp.up_proj.weight");
    expect_failure("verify run", 65, {"\"model.layers.0.mlp.up_proj.weight\", \"model.layers.1.mlp.up_proj"});
    damage("optimizer.rank0.safetensors", "model.norm.weight.exp_avg");
    expect_failure("verify run", 65, {model, "(2 of 3 files are damaged)"});
    EXPECT_EQ(run("verify run/checkpoints/step_00000002").code, 0) << "the other checkpoint is intact";
    // Training resumes from the older checkpoint and prints that.
    const Result resumed = run("train r.toml --run run --device cpu --resume");
    EXPECT_EQ(resumed.code, 0) << resumed.err;
    EXPECT_NE(resumed.out.find("damaged in tensor"), std::string::npos) << resumed.out;
    EXPECT_NE(resumed.out.find("resuming after step 2"), std::string::npos) << resumed.out;
    EXPECT_EQ(run("verify run").code, 0) << "the resumed run replaced the damaged checkpoint";
}

TEST_F(Verify, ReadsManifestsOfTheFirstVersion) {
    auto manifest = nlohmann::json::parse(read_file(newest("MANIFEST.json"), 1 << 20));
    manifest["version"] = 1;
    manifest.erase("xxh3_128");
    for (auto& [name, record] : manifest["files"].items()) record.erase("tensors");
    write(std::string(kNewest) + "/MANIFEST.json", manifest.dump());
    EXPECT_EQ(run("verify run").code, 0);
    damage("model.safetensors", "lm_head.weight");
    expect_failure("verify run", 65, {"model.safetensors: XXH3"});
}

TEST_F(Verify, WantsACheckpointOfPasturInIntactBytes) {
    const auto expect_useless = [&](std::initializer_list<std::string> parts) {
        write_manifest(file(kNewest));
        expect_failure("verify run", 65, parts);
    };
    write(std::string(kNewest) + "/state.json", "{\"step\": 4}");
    expect_useless({"state.json", "tokens"});
    write(std::string(kNewest) + "/state.json", "{\"step\": ");
    expect_useless({"state.json"});
    const std::vector<float> values(4, 1.0f);
    const StringMap recipe = SafetensorsFile(newest("model.safetensors")).metadata();
    const std::vector<TensorSource> norm = {
        {"model.norm.weight", DType::kF32, {4}, [&] { return std::as_bytes(std::span(values)); }}};
    const auto replace_weights = [&](const StringMap& metadata) {
        fs::remove(newest("model.safetensors"));
        write_safetensors(newest("model.safetensors"), norm, metadata);
    };
    replace_weights({});
    expect_useless({"model.safetensors: expected a checkpoint of pastur, with \"recipe\" in its metadata"});
    replace_weights(recipe);
    expect_useless({"model.safetensors: no tensor"});
    replace_weights({{"recipe", "[model]\nheads = 0\n"}});
    expect_useless({"model.safetensors", "heads"});
}

}  // namespace
}  // namespace pastur
