// Checkpoints are complete or absent, verified, and survive crashes and damaged disks.
#include "engine/train/checkpoint/checkpoint_store.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <set>

#include "data/files.h"
#include "data/output.h"
#include "engine/io/manifest.h"
#include "engine/io/step_name.h"
#include "tests/support/expect_error.h"
#include "tests/support/temp_folder.h"

namespace pastur {
namespace {

namespace fs = std::filesystem;
using test::expect_error;

class Store : public testing::Test {
  protected:
    Store() { store_.prepare(); }

    fs::path dir() const { return folder_.path() / "checkpoints"; }
    static void fill(const fs::path& folder, const std::string& content) {
        std::ofstream(folder / "weights.bin") << content;
        std::ofstream(folder / "state.json") << "{}";
    }
    fs::path write(int64_t step, const std::string& content = "weights") {
        return store_.write(step, [&](const fs::path& folder) { fill(folder, content); });
    }
    std::set<std::string> names() const {
        std::set<std::string> all;
        for (const auto& entry : fs::directory_iterator(dir())) all.insert(entry.path().filename().string());
        return all;
    }
    /// The step of the newest checkpoint whose manifest verifies; -1: there is no checkpoint.
    int64_t newest(std::vector<std::string>& warnings) const {
        std::vector<int64_t> steps;
        for (const auto& checkpoint : store_.list()) steps.push_back(checkpoint.step);
        return store_.newest_that_loads(steps, verify_manifest, warnings).value_or(-1);
    }
    static std::string content(const fs::path& file) { return read_file(file, 1 << 20); }
    static void damage(const fs::path& file) {
        std::fstream stream(file, std::ios::in | std::ios::out | std::ios::binary);
        stream.seekp(2);
        stream.put('#');
    }

    test::TempFolder folder_;
    CheckpointStore store_{dir(), 2};
};

TEST_F(Store, WritesACompleteFolderAndPointsToIt) {
    const fs::path path = write(100);
    EXPECT_EQ(path, dir() / "step_00000100");
    EXPECT_EQ(names(), (std::set<std::string>{"latest", "step_00000100"}));
    EXPECT_EQ(content(dir() / "latest"), "step_00000100\n");
    const auto manifest = nlohmann::json::parse(content(path / kManifestName));
    EXPECT_EQ(manifest["files"].size(), 2u);
    EXPECT_EQ(manifest["files"]["weights.bin"]["bytes"], 7);
    EXPECT_EQ(manifest["files"]["state.json"]["xxh3_128"], hash_file(path / "state.json"));
    verify_manifest(path);
    std::ofstream(path / "empty");
    EXPECT_EQ(hash_file(path / "empty"), "99aa06d3014798d86001c324468d497f");  // as xxh128sum prints it
}

TEST_F(Store, KeepsTheNewest) {
    for (const int64_t step : {10, 20, 30}) write(step);
    EXPECT_EQ(names(), (std::set<std::string>{"latest", "step_00000020", "step_00000030"}));
    CheckpointStore all(dir(), 0);
    for (const int64_t step : {40, 50}) all.write(step, [](const fs::path& folder) { fill(folder, "x"); });
    EXPECT_EQ(all.list().size(), 4u);
    CheckpointStore one(dir(), 1);
    one.write(60, [](const fs::path& folder) { fill(folder, "x"); });
    EXPECT_EQ(names(), (std::set<std::string>{"latest", "step_00000060"}));
    write(123456789012);  // longer than the padding
    EXPECT_EQ(store_.list().back().step, 123456789012);
}

TEST_F(Store, NeverPrunesTheOneJustWrittenAndDropsAbandonedOnesFirst) {
    write(100);
    write(200);
    write(150);  // resumed before 200, which then belongs to an abandoned continuation
    EXPECT_EQ(names(), (std::set<std::string>{"latest", "step_00000100", "step_00000150"}));
    EXPECT_EQ(content(dir() / "latest"), "step_00000150\n");
}

TEST_F(Store, ReplacesACheckpointOfTheSameStep) {
    write(100, "old");
    write(100, "new");
    EXPECT_EQ(content(dir() / "step_00000100" / "weights.bin"), "new");
    EXPECT_EQ(names(), (std::set<std::string>{"latest", "step_00000100"}));
}

TEST_F(Store, AnExceptionWhileWritingLeavesTheEarlierOnes) {
    write(100, "good");
    for (const int64_t step : {100, 200}) {
        EXPECT_THROW(store_.write(step,
                                  [](const fs::path& folder) {
                                      fill(folder, "half");
                                      throw std::runtime_error("killed");
                                  }),
                     std::runtime_error);
        EXPECT_EQ(names(), (std::set<std::string>{"latest", "step_00000100"}));
    }
    std::vector<std::string> warnings;
    EXPECT_EQ(newest(warnings), 100);
    EXPECT_EQ(content(dir() / "step_00000100" / "weights.bin"), "good");
    EXPECT_TRUE(warnings.empty());
}

TEST_F(Store, AFullDiskIsAnIoErrorAndLeavesTheEarlierOnes) {
    write(100);
    expect_error(ExitCode::kIo, {"cannot write", "No space left"}, [&] {
        store_.write(200, [](const fs::path& folder) {
            fill(folder, "half");
            FileWriter full("/dev/full");
            full.write("weights");
            full.finish();
        });
    });
    EXPECT_EQ(names(), (std::set<std::string>{"latest", "step_00000100"}));
}

TEST_F(Store, AnUnusableFolderIsAnIoError) {
    std::ofstream(folder_.path() / "file") << "x";
    expect_error(ExitCode::kIo, {"file"},
                 [&] { CheckpointStore(folder_.path() / "file" / "c", 1).prepare(); });
    expect_error(ExitCode::kIo, {"/proc/c"}, [&] { CheckpointStore("/proc/c", 1).prepare(); });
    expect_error(ExitCode::kIo, {"/proc"},
                 [&] { CheckpointStore("/proc/c", 1).write(1, [](const fs::path&) {}); });
    if (::geteuid() == 0) return;  // root may write to read-only folders
    write(100);
    fs::permissions(dir(), fs::perms::owner_read | fs::perms::owner_exec);
    expect_error(ExitCode::kIo, {"Permission denied"}, [&] { write(200); });
    fs::permissions(dir(), fs::perms::owner_all);
    EXPECT_EQ(store_.list().size(), 1u);
}

/// The state that a kill leaves between any two steps of write(): the next start finds a complete checkpoint.
TEST_F(Store, RecoversFromAKillAtAnyPoint) {
    const auto copy = [&](const char* from, const char* to) {
        fs::copy(dir() / from, dir() / to, fs::copy_options::recursive);
    };
    const auto expect_recovered = [&](int64_t step, const std::string& weights) {
        CheckpointStore next(dir(), 2);
        next.recover();
        std::vector<std::string> warnings;
        ASSERT_EQ(newest(warnings), step);
        next.prepare(step);
        const fs::path found = dir() / step_name(step);
        EXPECT_EQ(CheckpointStore::find(dir() / "latest"), found);
        EXPECT_EQ(content(found / "weights.bin"), weights);
        for (const std::string& name : names()) EXPECT_NE(name[0], '.') << name;
    };
    write(100, "good");
    fs::create_directory(dir() / ".tmp-step_00000200");  // while filling
    fill(dir() / ".tmp-step_00000200", "half");
    expect_recovered(100, "good");
    copy("step_00000100", ".tmp-step_00000100");  // a replacement, before its first rename
    expect_recovered(100, "good");
    fs::rename(dir() / "step_00000100", dir() / ".old-step_00000100");  // between its renames
    copy(".old-step_00000100", ".tmp-step_00000100");
    expect_recovered(100, "good");
    copy("step_00000100", ".old-step_00000100");  // after them
    expect_recovered(100, "good");
    copy("step_00000100", "step_00000200");  // before `latest` moved
    expect_recovered(200, "good");
    fs::rename(dir() / "step_00000100", dir() / ".drop-step_00000100");  // while pruning
    fs::remove(dir() / ".drop-step_00000100" / "state.json");
    expect_recovered(200, "good");
}

TEST_F(Store, FallsBackFromDamageAndSaysSo) {
    write(100);
    write(200);
    damage(dir() / "step_00000200" / "weights.bin");
    expect_error(ExitCode::kCorruptData, {"step_00000200/weights.bin", "XXH3", "expected"},
                 [&] { verify_manifest(dir() / "step_00000200"); });
    std::vector<std::string> warnings;
    EXPECT_EQ(newest(warnings), 100);
    ASSERT_EQ(warnings.size(), 1u);
    EXPECT_NE(warnings[0].find("step_00000200"), std::string::npos);
    EXPECT_NE(warnings[0].find("weights.bin"), std::string::npos);
    fs::remove(dir() / "step_00000100" / "state.json");
    warnings.clear();
    expect_error(ExitCode::kCorruptData, {"no checkpoint is intact", "step_00000200"},
                 [&] { newest(warnings); });
    EXPECT_EQ(warnings.size(), 2u);
}

TEST_F(Store, FindsNothingInAnEmptyRun) {
    std::vector<std::string> warnings;
    EXPECT_EQ(newest(warnings), -1);
    EXPECT_TRUE(CheckpointStore(folder_.path() / "absent", 2).list().empty());
    EXPECT_NO_THROW(CheckpointStore(folder_.path() / "absent", 2).recover());
    EXPECT_FALSE(fs::exists(folder_.path() / "absent"));
}

TEST_F(Store, VerifyNoticesEveryKindOfDamage) {
    const fs::path path = write(100), manifest = path / kManifestName, model = path / "weights.bin";
    const auto expect_corrupt = [&](std::initializer_list<std::string> parts) {
        expect_error(ExitCode::kCorruptData, parts, [&] { verify_manifest(path); });
    };
    fs::resize_file(model, 3);
    expect_corrupt({"weights.bin: 3 bytes: expected 7"});
    fs::remove(model);
    expect_corrupt({"weights.bin", "No such file"});
    std::ofstream(path / "stray") << "x";
    expect_corrupt({"step_00000100/stray: expected only files that MANIFEST.json lists"});
    fs::remove(path / "stray");
    fs::create_directory(path / "folder");
    expect_corrupt({"step_00000100/folder: expected only files"});
    fs::remove(path / "folder");
    for (const char* version : {"1", "3", "-2"}) {
        std::ofstream(manifest) << "{\"version\":" << version << ",\"files\":{}}";
        expect_corrupt({std::string("MANIFEST.json: expected version 2, not ") + version});
    }
    for (const char* text :
         {"", "{", "[]", "{}", R"({"version":2.5,"files":{}})", R"({"version":2,"files":[]})",
          R"({"version":2,"files":{"../x":{"bytes":1,"xxh3_128":""}}})",
          R"({"version":2,"files":{"x":{"bytes":-1,"xxh3_128":""}}})",
          R"({"version":2,"files":{"x":{"bytes":1}}})", R"({"version":2,"files":{"x":3}})",
          R"({"version":2,"files":{}})"}) {
        std::ofstream(manifest) << text;
        expect_corrupt({"MANIFEST.json: expected"});
    }
    fs::remove(manifest);
    expect_corrupt({"MANIFEST.json", "incomplete"});
    expect_error(ExitCode::kMissingInput, {"no such folder"}, [&] { verify_manifest(dir() / "none"); });
}

TEST_F(Store, FindsACheckpointByAnyOfItsNames) {
    write(100);
    const fs::path newest = write(200);
    for (const fs::path& path : {newest, dir(), folder_.path(), dir() / "latest"})
        EXPECT_EQ(CheckpointStore::find(path), newest) << path;
    EXPECT_EQ(CheckpointStore::find(dir() / "step_00000100"), dir() / "step_00000100");
    const auto expect_missing = [&](const fs::path& path, std::initializer_list<std::string> parts) {
        expect_error(ExitCode::kMissingInput, parts, [&] { CheckpointStore::find(path); });
    };
    expect_missing(folder_.path() / "none", {"none: no such checkpoint"});
    fs::create_directory(folder_.path() / "empty");
    expect_missing(folder_.path() / "empty", {"contains no checkpoint"});
    std::ofstream(folder_.path() / "empty" / "latest") << "../../etc\n";
    expect_missing(folder_.path() / "empty" / "latest", {"expected a checkpoint folder"});
    // A path one level too deep, to a file of any size.
    std::ofstream(dir() / "model.safetensors") << std::string(10'000, 'x');
    expect_missing(dir() / "model.safetensors", {"model.safetensors: expected a checkpoint folder"});
}

}  // namespace
}  // namespace pastur
