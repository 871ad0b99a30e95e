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
    /// `verify` and `eval` refuse the newest checkpoint, and `train --resume` goes back to the one before, for
    /// the same reason.
    void expect_refused(const std::vector<std::string>& parts) const {
        const Result verify = run("verify run"),
                     eval = run("eval --checkpoint run --data corpus --device cpu");
        fs::remove_all(file("resumed"));
        fs::copy(file("run"), file("resumed"), fs::copy_options::recursive);
        const Result resume = run("train r.toml --run resumed --device cpu --resume");
        EXPECT_EQ(verify.code, 65) << verify.err;
        EXPECT_EQ(eval.code, 65) << eval.err;
        EXPECT_EQ(resume.code, 0) << resume.err;
        for (const std::string& part : parts) {
            EXPECT_NE(verify.err.find(part), std::string::npos) << part << " in " << verify.err;
            EXPECT_NE(eval.err.find(part), std::string::npos) << part << " in " << eval.err;
            EXPECT_NE(resume.out.find(part), std::string::npos) << part << " in " << resume.out;
        }
        EXPECT_NE(resume.out.find("resuming after step 2"), std::string::npos) << resume.out;
    }
    void expect_accepted() const {
        const Result verify = run("verify run");
        EXPECT_EQ(verify.code, 0) << verify.err;
    }
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
    expect_failure("verify run", 65, {model, "(2 of 5 files are damaged)"});
    EXPECT_EQ(run("verify run/checkpoints/step_00000002").code, 0) << "the other checkpoint is intact";
    // Training resumes from the older checkpoint and prints that.
    const Result resumed = run("train r.toml --run run --device cpu --resume");
    EXPECT_EQ(resumed.code, 0) << resumed.err;
    EXPECT_NE(resumed.out.find("damaged in tensor"), std::string::npos) << resumed.out;
    EXPECT_NE(resumed.out.find("resuming after step 2"), std::string::npos) << resumed.out;
    EXPECT_EQ(run("verify run").code, 0) << "the resumed run replaced the damaged checkpoint";
}

TEST_F(Verify, RefusesWhatResumeRefuses) {
    const std::string state = read_file(newest("state.json"), 4096);
    const auto with_state = [&](const std::string& key, const std::string& value) {
        auto json = nlohmann::json::parse(state);
        json[key] = nlohmann::json::parse(value);
        write(std::string(kNewest) + "/state.json", json.dump());
        write_manifest(file(kNewest));
    };
    for (const char* step : {"-5", "3.7", "9223372036854775808", "\"4\""}) {
        with_state("step", step);
        expect_refused(
            {"state.json: \"step\" is ", ": expected a whole number from 0 to 9223372036854775807"});
    }
    with_state("step", "2");
    expect_refused({"state.json: step 2: expected 4, as in the folder's name"});
    with_state("tokens", "255");
    expect_refused({"state.json: 255 tokens: expected 4 steps of 64"});
    with_state("skipped", "5");
    expect_refused({"state.json: 5 skipped steps: expected at most 4"});
    with_state("skipped", "0");
    expect_accepted();
}

TEST_F(Verify, WantsEveryFileAndNoOther) {
    const std::string manifest = read_file(newest("MANIFEST.json"), 1 << 20);
    for (const char* name : {"model.safetensors", "optimizer.rank0.safetensors", "state.json"}) {
        fs::rename(newest(name), file("away"));
        expect_refused({name, "No such file or directory"});
        write_manifest(file(kNewest));
        expect_refused({"MANIFEST.json: expected ", name, " in the list: it is missing"});
        fs::rename(file("away"), newest(name));
        write(std::string(kNewest) + "/MANIFEST.json", manifest);
    }
    expect_accepted();
    for (const char* stray : {"optimizer.rank2.safetensors", "notes.txt"}) {
        fs::copy_file(newest("optimizer.rank0.safetensors"), newest("stray"));
        fs::rename(newest("stray"), newest(stray));
        expect_refused({stray, "expected only files that MANIFEST.json lists"});
        if (std::string(stray) == "notes.txt") write(std::string(kNewest) + "/notes.txt", "x");
        write_manifest(file(kNewest));
        expect_refused({stray, ": expected only model.safetensors, state.json and optimizer.rank0"});
        fs::remove(newest(stray));
        write(std::string(kNewest) + "/MANIFEST.json", manifest);
    }
    // Moments of another step, in intact bytes.
    fs::copy_file(file("run/checkpoints/step_00000002/optimizer.rank0.safetensors"),
                  newest("optimizer.rank0.safetensors"), fs::copy_options::overwrite_existing);
    write_manifest(file(kNewest));
    expect_refused({"optimizer.rank0.safetensors: step 2: expected step 4, as in state.json"});
    auto first = nlohmann::json::parse(manifest);
    first["version"] = 1;
    first.erase("xxh3_128");
    write(std::string(kNewest) + "/MANIFEST.json", first.dump());
    expect_refused({"MANIFEST.json: expected version 2, not 1"});
}

TEST_F(Verify, WantsACheckpointOfPasturInIntactBytes) {
    const auto expect_useless = [&](std::initializer_list<std::string> parts) {
        write_manifest(file(kNewest));
        expect_failure("verify run", 65, parts);
    };
    const std::string state = read_file(newest("state.json"), 4096);
    write(std::string(kNewest) + "/state.json", "{\"step\": 4}");
    expect_useless({"state.json", "tokens"});
    write(std::string(kNewest) + "/state.json", "{\"step\": ");
    expect_useless({"state.json"});
    write(std::string(kNewest) + "/state.json", state);
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
