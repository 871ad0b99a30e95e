// Every kind of optimizer state trains, and survives stops and resumes bit for bit.
#include "engine/train/optimizer/optimizer.h"

#include <fstream>

#include "engine/io/safetensors.h"
#include "engine/io/step_name.h"
#include "engine/model/recipe.h"
#include "engine/ranks/comm.h"
#include "engine/train/trainer.h"
#include "engine/train/training_setup.h"
#include "tests/support/data_files.h"
#include "tests/support/expect_error.h"
#include "tests/support/model_harness.h"
#include "tests/support/temp_folder.h"

namespace pastur::test {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kVocab = 31, kSteps = 6;

struct StateCase {
    std::string label, train;
    std::string name() const { return label; }
};

Config recipe_of(const std::string& train, const std::string& folder = "") {
    return parse_config(
        fmt::format("[model]\nvocab = {}\nd_model = 32\nlayers = 2\nheads = 2\nffn = 44\n"
                    "[attention]\nvariant = \"mla-decoupled\"\n[data]\ndir = \"{}\"\nseq_len = 16\n"
                    "[train]\nsteps = {}\nglobal_batch = 8\nmicro_batch = 4\nlr = 1e-2\n"
                    "grad_clip = 1.0\nweight_decay = 0.1\n{}\n[checkpoint]\nevery = 1\nkeep = 0\n"
                    "[run]\nlog_every = 1\n[diagnostics]\nevery = 3\n",
                    kVocab, folder, kSteps, train),
        "recipe", {});
}

class OptimizerStates : public OpTest<StateCase> {
  protected:
    void SetUp() override {
        int64_t id = 0;
        for (const auto& [name, count] : {std::pair("train", 4000), std::pair("val", 500)}) {
            std::vector<uint16_t> ids;
            for (int i = 0; i < count; ++i) {
                id = random_.below(4) == 0 ? random_.below(kVocab) : (3 * id + 1) % kVocab;
                ids.push_back(static_cast<uint16_t>(id));
            }
            write_bytes((folder_.path() / (std::string(name) + "_000000.bin")).string(), shard_bytes(ids));
        }
    }
    Config recipe() const {
        Config config = recipe_of(shape().train, folder_.path().string());
        config.train.precision = dtype() == DType::kBF16 ? Precision::kBf16 : Precision::kFp32;
        return config;
    }
    void train(const Config& config, const std::string& run, bool resume = false) {
        const std::unique_ptr<Comm> comm = make_single_comm();
        EXPECT_EQ(Trainer(config, ctx(), *comm).run(folder_.path() / run, resume), ExitCode::kOk);
    }
    SafetensorsFile file(const std::string& run, const char* name, int64_t step = kSteps) const {
        return SafetensorsFile(folder_.path() / run / "checkpoints" / step_name(step) / name);
    }
    std::string tensor_bytes(const std::string& run) const {
        std::string bytes;
        for (const char* name : {"model.safetensors", "optimizer.rank0.safetensors"}) {
            const SafetensorsFile tensors = file(run, name);
            for (const auto& [tensor, entry] : tensors.entries())
                bytes.append(reinterpret_cast<const char*>(entry.bytes.data()), entry.bytes.size());
        }
        return bytes;
    }
    TempFolder folder_;
};

TEST_P(OptimizerStates, ResumeWithTheSameBits) {
    train(recipe(), "whole");
    for (const int64_t point : {1, 4}) {
        const std::string run = fmt::format("cut{}", point);
        fs::copy(folder_.path() / "whole", folder_.path() / run, fs::copy_options::recursive);
        for (int64_t step = point + 1; step <= kSteps; ++step)
            fs::remove_all(folder_.path() / run / "checkpoints" / step_name(step));
        train(recipe(), run, /*resume=*/true);
        EXPECT_EQ(tensor_bytes(run), tensor_bytes("whole")) << "resumed after step " << point;
    }
}

/// A checkpoint holds the states of each tensor and no others, in their shape.
TEST_P(OptimizerStates, AreInTheCheckpoint) {
    train(recipe(), "run");
    TrainingSetup setup(recipe(), compute_dtype(recipe().train, ctx()));
    const SafetensorsFile states = file("run", "optimizer.rank0.safetensors");
    size_t found = 0;
    for (const Param& param : setup.table().params()) {
        const bool muon = recipe().train.optimizer == OptimizerKind::kMuon && is_muon_matrix(param);
        for (const char* state : muon ? std::vector{"momentum"} : std::vector{"exp_avg", "exp_avg_sq"}) {
            const auto entry = states.entries().find(param.name + "." + state);
            ASSERT_NE(entry, states.entries().end()) << param.name << " " << state;
            EXPECT_EQ(std::ssize(entry->second.shape), param.shape.rank());
            EXPECT_EQ(entry->second.shape[0], param.shape[0]);
            const bool fp32 = recipe().train.moments == StateFormat::kFp32 || muon;
            EXPECT_EQ(entry->second.dtype, fp32 ? "F32" : "BF16");
            ++found;
        }
    }
    EXPECT_EQ(states.entries().size(), found);
    const SafetensorsFile weights = file("run", "model.safetensors");
    for (const auto& [name, entry] : weights.entries())
        EXPECT_EQ(entry.dtype, recipe().train.weights == StateFormat::kFp32 ? "F32" : "BF16") << name;
}

TEST_P(OptimizerStates, RefuseAnotherFormatOnResume) {
    train(recipe(), "run");
    const auto expect_refused = [&](const Config& config, const std::string& key) {
        const std::unique_ptr<Comm> comm = make_single_comm();
        expect_error(ExitCode::kUsage, {"resume with the recipe of the checkpoint", "`" + key + " = "},
                     [&] { Trainer(config, ctx(), *comm).run(folder_.path() / "run", /*resume=*/true); });
    };
    Config other = recipe();
    const bool muon = other.train.optimizer == OptimizerKind::kMuon;
    other.train.optimizer = muon ? OptimizerKind::kAdamw : OptimizerKind::kMuon;
    expect_refused(other, "optimizer");
    other = recipe();
    const bool nearest = other.train.moments == StateFormat::kBf16Nearest;
    other.train.moments = nearest ? StateFormat::kBf16 : StateFormat::kBf16Nearest;
    expect_refused(other, "moments");
    other = recipe();
    const bool narrow = other.train.weights == StateFormat::kBf16;
    other.train.weights = narrow ? StateFormat::kFp32 : StateFormat::kBf16;
    expect_refused(other, "weights");
}

TEST_P(OptimizerStates, OverfitOneBatch) {
    Config config = recipe();
    config.train.weight_decay = 0;
    config.train.micro_batch = config.train.global_batch = 2;
    TrainingSetup setup(config, compute_dtype(config.train, ctx()));
    const std::unique_ptr<Comm> comm = make_single_comm();
    setup.allocate(ctx(), TrainingSetup::Purpose::kSteps);
    setup.params().initialise(ctx(), 1);
    TrainStep step(config, ctx(), *comm, setup.model(), setup.optimizer());
    const TokenBatch batch = random_batch(random_, setup.model().shape(), kVocab);
    double loss = 0;
    for (int64_t i = 0; i < 150; ++i) loss = step.run([&] { return batch; }, i, 1e-2).loss;
    EXPECT_LT(loss, 0.05);
}

const std::vector<StateCase> kStates = {
    {"muon", "optimizer = \"muon\""},
    {"moments", "moments = \"bf16\""},
    {"nearest", "moments = \"bf16-nearest\""},
    {"weights", "weights = \"bf16\""},
    {"muon_bf16", "optimizer = \"muon\"\nmoments = \"bf16\"\nweights = \"bf16\""},
};
INSTANTIATE_TEST_SUITE_P(Train, OptimizerStates, every_target<StateCase>(kStates), case_name<StateCase>);

TEST(MuonShares, AreWholeMatricesAndEverythingOnce) {
    for (const int ranks : {1, 2, 3, 4, 7}) {
        const TrainingSetup setup(recipe_of("zero = 1\noptimizer = \"muon\""), DType::kF32, 0, ranks);
        const std::vector<FlatRanges> shares = muon_shares(setup.table(), ranks);
        std::vector<FlatRange> all;
        for (const FlatRanges& share : shares) {
            all.insert(all.end(), share.begin(), share.end());
            for (const Param& param : setup.table().params()) {
                const FlatRanges part = intersection(share, {{param.offset, param.stored()}});
                if (is_muon_matrix(param) && !part.empty()) {
                    EXPECT_EQ(elements_of(part), param.stored());
                }
            }
        }
        int64_t owned = 0, end = 0;
        for (const FlatRange& run : joined(all)) {
            EXPECT_GE(run.begin, end) << "owned twice";
            end = run.end();
            owned += run.count;
        }
        int64_t wanted = 0;
        for (const OptimizerState& state : optimizer_states(setup.config().train, setup.table()))
            if (state.name != "exp_avg_sq") wanted += elements_of(state.ranges);
        EXPECT_EQ(owned, wanted) << ranks << " ranks";
    }
}

TEST(MuonShares, AreBalanced) {
    const TrainingSetup setup(recipe_of("optimizer = \"muon\""), DType::kF32);
    std::vector<int64_t> elements;
    for (const FlatRanges& share : muon_shares(setup.table(), 2)) elements.push_back(elements_of(share));
    EXPECT_LT(std::abs(elements[0] - elements[1]), (elements[0] + elements[1]) / 8);
}

TEST(FlatRangeLists, SliceIntersectAndJoin) {
    const FlatRanges ranges = {{10, 5}, {20, 10}};
    const auto as_pairs = [](const FlatRanges& list) {
        std::vector<std::pair<int64_t, int64_t>> pairs;
        for (const FlatRange& range : list) pairs.emplace_back(range.begin, range.count);
        return pairs;
    };
    using Pairs = std::vector<std::pair<int64_t, int64_t>>;
    EXPECT_EQ(elements_of(ranges), 15);
    EXPECT_EQ(as_pairs(part_of_stream(ranges, 3, 4)), (Pairs{{13, 2}, {20, 2}}));
    EXPECT_EQ(as_pairs(part_of_stream(ranges, 5, 100)), (Pairs{{20, 10}}));
    EXPECT_EQ(as_pairs(part_of_stream(ranges, 15, 1)), Pairs{});
    EXPECT_EQ(as_pairs(intersection(ranges, {{0, 12}, {14, 7}})), (Pairs{{10, 2}, {14, 1}, {20, 1}}));
    EXPECT_EQ(as_pairs(joined({{20, 5}, {10, 10}, {30, 1}})), (Pairs{{10, 15}, {30, 1}}));
}

TEST(OptimizerMemory, MomentsInBf16TakeHalf) {
    TrainingSetup whole(recipe_of(""), DType::kF32), half(recipe_of("moments = \"bf16\""), DType::kF32);
    EXPECT_EQ(whole.optimizer().state_bytes(), 2 * half.optimizer().state_bytes());
    const MemoryPlan plan = half.plan(context(Device::kCpu), TrainingSetup::Purpose::kSteps);
    int64_t moments = 0;
    for (const MemoryPlan::Entry& entry : plan.entries)
        if (entry.name == "Adam moments (bf16)") moments = entry.bytes;
    EXPECT_EQ(moments, half.optimizer().state_bytes());
}

/// GEMMs in bf16 read masters in bf16; only vectors have copies.
TEST(OptimizerMemory, WeightsInBf16HaveNoSecondBuffer) {
    TrainingSetup whole(recipe_of(""), DType::kBF16), narrow(recipe_of("weights = \"bf16\""), DType::kBF16);
    const ParamTable& table = whole.table();
    const int64_t total = table.total_elements(), matrices = table.matrix_elements();
    EXPECT_EQ(whole.params().master_bytes() + whole.params().compute_bytes(), 4 * total + 2 * matrices);
    EXPECT_EQ(narrow.params().master_bytes() + narrow.params().compute_bytes(),
              2 * total + 4 * (total - matrices));
    EXPECT_EQ(narrow.params().grad_bytes(), whole.params().grad_bytes());
    const MemoryPlan plan = narrow.plan(context(Device::kCpu), TrainingSetup::Purpose::kSteps);
    EXPECT_EQ(plan.entries[0].name, "master weights (bf16)");
    EXPECT_EQ(plan.entries[0].bytes, 2 * total);
    EXPECT_EQ(plan.entries[1].name, "copies of weights (fp32)");
}

/// Muon keeps one number per element of its matrices instead of two.
TEST(OptimizerMemory, MuonSavesTheSecondMoments) {
    TrainingSetup adamw(recipe_of(""), DType::kF32), muon(recipe_of("optimizer = \"muon\""), DType::kF32);
    int64_t matrices = 0;
    for (const Param& param : muon.table().params())
        if (is_muon_matrix(param)) matrices += param.stored();
    EXPECT_EQ(adamw.optimizer().state_bytes() - muon.optimizer().state_bytes(), 4 * matrices);
    Context& ctx = context(Device::kCpu);
    const MemoryPlan plan = muon.plan(ctx, TrainingSetup::Purpose::kRun);
    int64_t momentum = 0;
    for (const MemoryPlan::Entry& entry : plan.entries)
        if (entry.name == "Muon momentum (fp32)") momentum = entry.bytes;
    EXPECT_EQ(momentum, 4 * matrices);
    EXPECT_GE(muon.model().measure(ctx).scratch_bytes(), muon.optimizer().scratch_bytes());
    EXPECT_GT(muon.optimizer().scratch_bytes(), 0);
}

}  // namespace
}  // namespace pastur::test
