// Runs on mixtures, on packed and padded documents, and with several validation sets.
#include "data/meta.h"
#include "tests/support/ranks.h"

namespace pastur {
namespace {

namespace fs = std::filesystem;
using test::Result;
using test::shard_bytes;
using test::write_bytes;

class DataSets : public test::Ranks {
  protected:
    static constexpr uint16_t kEos = 60;

    void SetUp() override {
        Ranks::SetUp();
        fs::create_directory(file("more"));
        put("more", "train_000000.bin", 2000, 7);
        put("more", "val_000000.bin", 700, 11);
    }
    /// Tokens that a model learns in a few steps, with a period that depends on `factor`.
    void put(const std::string& folder, const std::string& name, int count, int factor) const {
        std::vector<uint16_t> ids;
        for (int i = 0; i < count; ++i) ids.push_back(static_cast<uint16_t>(i * factor % 53));
        write_bytes(file(folder + "/" + name), shard_bytes(ids));
    }
    /// Documents of `length(i)` tokens with their EOS, and a meta.json that names it.
    void put_documents(const std::string& folder, int documents,
                       const std::function<int(int)>& length) const {
        fs::create_directory(file(folder));
        std::vector<uint16_t> ids;
        for (int d = 0; d < documents; ++d) {
            for (int i = 0; i + 1 < length(d); ++i) ids.push_back(static_cast<uint16_t>((d + i * 5) % 53));
            ids.push_back(kEos);
        }
        write_bytes(file(folder + "/a.bin"), shard_bytes(ids));
        DataMeta meta;
        meta.tokenizer = "bytes";
        meta.vocab_size = 61;
        meta.eos_id = kEos;
        write_bytes(file(folder + "/" + kMetaFile), to_json(meta));
    }
    static std::string documents_of(const std::string& folder) {
        return fmt::format("--data.dir= --data.train={0}/a.bin --data.val={0}/a.bin --diagnostics.every=0 ",
                           folder);
    }
    std::string out_of(int ranks, const std::string& run, const std::string& more) const {
        const Result result = train(ranks, run, more);
        EXPECT_EQ(result.code, 0) << result.err;
        return result.out;
    }
    void expect_near(const std::string& run, const std::string& other, double within) const {
        for (const char* event : {"train", "val"}) {
            const std::vector<double> a = losses(run, event), b = losses(other, event);
            ASSERT_EQ(a.size(), b.size());
            for (size_t i = 0; i < a.size(); ++i)
                EXPECT_NEAR(a[i], b[i], within) << run << " " << event << " " << i;
        }
    }
    /// Trains on 2 and on 4 ranks, in NAME2 and NAME4; the results must be those of NAME1.
    void expect_same_on_ranks(const std::string& name, const std::string& settings) const {
        for (const int ranks : {2, 4}) {
            const std::string run = name + std::to_string(ranks);
            expect_trained(ranks, run, settings);
            EXPECT_EQ(losses(run), losses(name + "1"));
            EXPECT_EQ(losses(run, "val"), losses(name + "1", "val"));
            EXPECT_EQ(weights(run), weights(name + "1"));
        }
    }
    /// Removes the last checkpoint of `run` and resumes on `ranks` ranks; the results must be those of before.
    void expect_resumed(const std::string& run, int ranks, const std::string& settings) const {
        const std::vector<double> whole = losses(run);
        const std::string trained = weights(run);
        fs::remove_all(checkpoint(run, kSteps));
        expect_trained(ranks, run, settings + " --resume");
        EXPECT_EQ(losses(run), whole) << ranks << " ranks";
        EXPECT_EQ(weights(run), trained) << ranks << " ranks";
    }
    const std::string every_ = "--train.deterministic_comm=true --checkpoint.every=3 --checkpoint.keep=0 ";
    const std::string mixture_ = "--data.dir= --data.mixture='data=0.7, more=0.3' ";
};

TEST_F(DataSets, AMixtureIsTheSameOnAnyNumberOfRanks) {
    const std::string out = out_of(1, "run1", every_ + mixture_);
    EXPECT_NE(out.find("70.0 % of the sequences from data: 0.01 M tokens, 0.09 epochs in 6 steps\n"),
              out.npos)
        << out;
    EXPECT_NE(out.find("30.0 % of the sequences from more: 0.00 M tokens, 0.11 epochs in 6 steps\n"),
              out.npos)
        << out;
    for (const int ranks : {2, 4}) {
        const std::string run = fmt::format("run{}", ranks);
        expect_trained(ranks, run, every_ + mixture_);
        EXPECT_EQ(losses(run), losses("run1"));
        EXPECT_EQ(losses(run, "val"), losses("run1", "val"));
    }
    expect_resumed("run1", 2, every_ + mixture_);
    expect_trained(1, "alone", every_);
    EXPECT_NE(losses("alone"), losses("run1"));
    expect_trained(1, "one", every_ + "--data.dir= --data.mixture=data=2");
    EXPECT_EQ(losses("one"), losses("alone")) << "a mixture of one folder is the folder";
}

TEST_F(DataSets, AMixtureResumesFromElsewhereWithItsDataOnly) {
    expect_trained(1, "run", every_ + mixture_);
    fs::remove_all(checkpoint("run", kSteps));
    // The run's own recipe has absolute paths.
    fs::create_directory(file("sub"));
    const Result moved = shell("cd sub && '" + binary().string() + "' train ../run --resume --device cpu");
    EXPECT_EQ(moved.code, 0) << moved.err;
    expect_failure(
        "train r.toml --run run --resume --device cpu --data.dir= --data.mixture='data=0.6, more=0.4' " +
            every_,
        2, {"DIR=0.7, DIR=0.3", "DIR=0.6, DIR=0.4"});
    put("more", "train_000000.bin", 2000, 9);
    expect_failure("train r.toml --run run --resume --device cpu " + every_ + mixture_, 65,
                   {"training data", "different in more"});
}

TEST_F(DataSets, AMixtureMustBePossible) {
    const auto refuses = [&](const std::string& settings, int code,
                             std::initializer_list<std::string> parts) {
        expect_failure("train r.toml --device cpu --run none " + settings, code, parts);
    };
    refuses("--data.mixture=data=1", 2, {"mixture = \"data=1\"", "dir = \"data\"", "exclude each other"});
    refuses("--data.dir= --data.mixture=data", 2, {"data: mixture = \"data\" (", "DIR=WEIGHT"});
    refuses("--data.dir= --data.mixture=data=1,none=1", 66, {"none"});
    fs::remove(file("more/val_000000.bin"));
    refuses(mixture_, 66, {"set data.val", "more"});
    expect_trained(1, "run", mixture_ + "--data.val='data/val_*.bin'");
    DataMeta meta;
    meta.tokenizer = "bytes";
    meta.vocab_size = 257;
    meta.eos_id = 256;
    for (const char* folder : {"data", "more"})
        fs::rename(file(folder + std::string("/train_000000.bin")), file(folder + std::string("/a.bin")));
    write_bytes(file("data/meta.json"), to_json(meta));
    meta.tokenizer = "sentencepiece";
    write_bytes(file("more/meta.json"), to_json(meta));
    refuses("--data.dir= --data.mixture=data/a.bin=1,more/a.bin=1", 2,
            {"one tokenizer", "bytes", "sentencepiece"});
}

TEST_F(DataSets, NamedValidationSetsStandBesideTheDefaultOne) {
    expect_trained(1, "plain");
    const std::string out =
        out_of(1, "run",
               "--data.val_sets='same=data/val_*.bin, more=more' --run.tensorboard=true --checkpoint.every=3 "
               "--checkpoint.keep=0");
    EXPECT_NE(out.find("step 3: validation loss of more "), out.npos) << out;
    EXPECT_EQ(losses("run"), losses("plain")) << "validation changes nothing";
    std::map<std::string, std::vector<double>> by_set;
    for (const nlohmann::json& event : events("run", "val"))
        by_set[event.value("set", "")].push_back(event.at("loss").get<double>());
    ASSERT_EQ(by_set.size(), 3u);
    EXPECT_EQ(by_set[""], losses("plain", "val"));
    EXPECT_EQ(by_set["same"], by_set[""]);
    EXPECT_EQ(by_set["more"].size(), by_set[""].size());
    EXPECT_NE(by_set["more"], by_set[""]);
    std::string scalars;
    for (const auto& entry : fs::directory_iterator(file("run")))
        if (entry.path().filename().string().starts_with("events.out.tfevents"))
            scalars += test::read_bytes(entry.path());
    for (const char* tag : {"val/loss", "val/same/loss", "val/more/loss"})
        EXPECT_NE(scalars.find(tag), scalars.npos) << tag;
    // Readers take the default set.
    const Result compared = this->run("compare run plain --json both.json");
    EXPECT_EQ(compared.code, 0) << compared.err;
    const nlohmann::json both = nlohmann::json::parse(test::read_bytes(file("both.json")));
    const std::string text = both.dump();
    EXPECT_EQ(text.find(fmt::format("{}", by_set["more"].back())), text.npos);
    EXPECT_NE(text.find(nlohmann::json(by_set[""].back()).dump()), text.npos) << text;
    // A resumed run says which set changed.
    put("more", "val_000000.bin", 700, 13);
    fs::remove_all(checkpoint("run", kSteps));
    const std::string resumed = out_of(1, "run", "--data.val_sets='more=more, same=data/val_*.bin' --resume");
    EXPECT_NE(resumed.find("the validation set more changed after step 3"), resumed.npos) << resumed;
    EXPECT_EQ(resumed.find("set same changed"), resumed.npos) << resumed;
    expect_failure("train r.toml --device cpu --run none --data.val_sets=more", 2,
                   {"data: val_sets = \"more\"", "NAME=GLOB"});
    expect_failure("train r.toml --device cpu --run none --data.val_sets=x=none", 66, {"none"});
}

TEST_F(DataSets, PackedDocumentsAgreeOnRanksAndMicroBatches) {
    put_documents("docs", 300, [](int d) { return 1 + d * d % 23; });
    for (const std::string packing : {"documents", "pad"}) {
        SCOPED_TRACE(packing);
        const std::string settings = every_ + documents_of("docs") + "--data.packing=" + packing + " ";
        const std::string out = out_of(1, packing + "1", settings);
        EXPECT_NE(out.find("of all positions are padding"), out.npos) << out;
        expect_same_on_ranks(packing, settings);
        for (const int micro : {1, 4, 8}) {
            const std::string run = fmt::format("{}-micro{}", packing, micro);
            expect_trained(1, run, settings + fmt::format("--train.micro_batch={}", micro));
            expect_near(run, packing + "1", 2e-5);
        }
        const std::vector<nlohmann::json> steps = events(packing + "1", "train");
        EXPECT_LT(steps.back().at("tokens").get<int64_t>(), kSteps * 8 * 16 + (packing == "documents"))
            << "padding is no token";
        EXPECT_GT(steps.back().at("tokens").get<int64_t>(), kSteps * 8);
        expect_resumed(packing + "1", 2, settings);
        EXPECT_EQ(this->run("verify " + packing + "1").code, 0);
    }
}

TEST_F(DataSets, MaskedDocumentsAgreeOnRanksAndAfterAResume) {
    put_documents("docs", 300, [](int d) { return 1 + d * d % 23; });
    for (const std::string packing : {"stream", "documents"}) {
        SCOPED_TRACE(packing);
        const std::string whole = every_ + documents_of("docs") + "--data.packing=" + packing + " ";
        const std::string settings = whole + "--data.mask_documents=true ";
        expect_trained(1, packing + "1", settings);
        expect_same_on_ranks(packing, settings);
        expect_resumed(packing + "1", 2, settings);
        expect_trained(1, packing + "-whole", whole);
        EXPECT_NE(losses(packing + "-whole"), losses(packing + "1"));
        EXPECT_NE(losses(packing + "-whole", "val"), losses(packing + "1", "val"));
        expect_failure("train r.toml --device cpu --resume --run " + packing + "1 " + whole, 2,
                       {"mask_documents = true", "mask_documents = false"});
    }
}

TEST_F(DataSets, EvaluationMasksDocumentsAsTrainingDid) {
    put_documents("docs", 300, [](int d) { return 1 + d * d % 23; });
    const std::string settings = documents_of("docs") + "--train.val_tokens=3000 ";
    const auto evaluated = [&](const std::string& run) {
        const Result result = this->run("eval --checkpoint " + run +
                                        " --data docs/a.bin --max-tokens 3000 --device cpu --json");
        EXPECT_EQ(result.code, 0) << result.err;
        return nlohmann::json::parse(result.out).at("loss").get<double>();
    };
    expect_trained(1, "masked", settings + "--data.mask_documents=true");
    expect_trained(1, "whole", settings);
    EXPECT_NEAR(evaluated("masked"), losses("masked", "val").back(), 2e-6);
    EXPECT_NEAR(evaluated("whole"), losses("whole", "val").back(), 2e-6);
    EXPECT_GT(std::abs(losses("masked", "val").back() - losses("whole", "val").back()), 1e-4);
    // Where nothing says which token ends a document, that is an error.
    fs::remove(file("docs/meta.json"));
    expect_failure("eval --checkpoint masked --data docs/a.bin --device cpu", 2,
                   {"data.mask_documents = true", "--tokenizer"});
    expect_failure("train r.toml --device cpu --run none --data.mask_documents=true " + settings, 2,
                   {"data.mask_documents = false", "meta.json", "docs/a.bin"});
    EXPECT_NE(evaluated("whole"), 0);
}

// Attention is causal and padding is behind the document, so longer sequences change nothing.
TEST_F(DataSets, PaddingChangesNoLoss) {
    put_documents("docs", 200, [](int d) { return 3 + d % 7; });
    const std::string settings = documents_of("docs") + "--data.packing=pad --train.val_tokens=10000 ";
    expect_trained(1, "short", settings + "--data.seq_len=8");
    expect_trained(1, "long", settings + "--data.seq_len=24");
    ASSERT_EQ(losses("long").size(), static_cast<size_t>(kSteps));
    for (size_t i = 0; i < kSteps; ++i) {
        EXPECT_NEAR(losses("long")[i], losses("short")[i], 2e-5);
        EXPECT_EQ(events("long", "train")[i].at("tokens"), events("short", "train")[i].at("tokens"));
        EXPECT_NEAR(events("long", "train")[i].at("grad_norm").get<double>(),
                    events("short", "train")[i].at("grad_norm").get<double>(), 1e-4);
    }
}

}  // namespace
}  // namespace pastur
