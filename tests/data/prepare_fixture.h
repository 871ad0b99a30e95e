#pragma once
#include <gtest/gtest.h>

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "data/inspect.h"
#include "data/prepare.h"
#include "data/synth/synth.h"
#include "tests/support/data_files.h"
#include "tests/support/temp_folder.h"

namespace pastur::test {

namespace fs = std::filesystem;

/// prepare() with the bytes as tokens, into the folder "out" of a temporary folder.
class PrepareFixture : public testing::Test {
  protected:
    PrepareFixture() {
        options_.tokenizer = "bytes";
        options_.out = folder_.path() / "out";
        options_.threads = 2;
        options_.val_tokens = 0;  // documents decide, unless a test says otherwise
    }
    std::string put(const std::string& name, std::string_view bytes) {
        write_bytes(folder_.path() / name, bytes);
        return folder_.path() / name;
    }
    std::string put_stories(int n) {
        const fs::path path = folder_.path() / "stories.txt";
        write_synthetic_corpus(n, 11, path, [](int64_t, int64_t) {});
        return path;
    }
    PrepareResult run() {
        return prepare(options_, [](const PrepareProgress&) {});
    }
    PrepareResult run(const std::string& input) {
        options_.inputs = {input};
        return run();
    }
    PrepareResult run_again(const std::string& input) {
        options_.force = true;
        return run(input);
    }
    /// The contents of the files in the folder, by name.
    std::map<std::string, std::string> files() const {
        std::map<std::string, std::string> all;
        for (const auto& entry : fs::directory_iterator(options_.out))
            all[entry.path().filename()] = read_bytes(entry.path());
        return all;
    }
    std::vector<int32_t> tokens(const std::string& split) const {
        return inspect_shards(options_.out / (split + "_*.bin"), 1 << 30).at(0).head;
    }
    std::string glob(const std::string& split) const { return options_.out / (split + "_*.bin"); }

    TempFolder folder_;
    PrepareOptions options_;
};

}  // namespace pastur::test
