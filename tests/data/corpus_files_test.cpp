// Which files an input names.
#include "data/corpus/corpus_files.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>

#include "tests/support/data_files.h"
#include "tests/support/expect_error.h"
#include "tests/support/temp_folder.h"

namespace pastur {
namespace {

namespace fs = std::filesystem;
using test::expect_error;
using test::write_bytes;
using Names = std::vector<std::string>;

class CorpusFiles : public testing::Test {
  protected:
    void put(const std::string& name) {
        const fs::path path = folder_.path() / name;
        fs::create_directories(path.parent_path());
        write_bytes(path, "text");
    }
    std::string at(const std::string& name) const { return folder_.path() / name; }
    /// The files that inputs below the folder name, relative to it.
    Names find(const Names& inputs) const {
        Names paths;
        for (const std::string& input : inputs) paths.push_back(at(input));
        Names names;
        for (const std::string& file : corpus_files(paths)) names.push_back(file.substr(at("").size()));
        return names;
    }
    test::TempFolder folder_;
};

TEST_F(CorpusFiles, FoldersHoldFilesOfKnownNames) {
    for (const char* name :
         {"tree/b.txt", "tree/a.jsonl.gz", "tree/deep/er/c.TXT.zst", "tree/d.ndjson", "tree/e.json.gz",
          "tree/readme.md", "tree/d.txt.bak", "tree/.hidden.txt", "tree/._b.txt", "tree/.git/f.txt"})
        put(name);
    EXPECT_EQ(find({"tree"}), (Names{"tree/a.jsonl.gz", "tree/b.txt", "tree/d.ndjson",
                                     "tree/deep/er/c.TXT.zst", "tree/e.json.gz"}));
    EXPECT_EQ(find({"tree/*.txt", "tree/"}).size(), 5u) << "each file once";
    EXPECT_EQ(find({"tree/readme.md", "tree/.hidden.txt"}), (Names{"tree/readme.md", "tree/.hidden.txt"}))
        << "named by the user";
    EXPECT_EQ(find({"tree/{b,d}.txt*"}), (Names{"tree/b.txt", "tree/d.txt.bak"}));
    expect_error(ExitCode::kMissingInput, {"nowhere.txt"}, [&] { find({"nowhere.txt"}); });
    expect_error(ExitCode::kMissingInput, {"*.csv"}, [&] { find({"tree/*.csv"}); });
    fs::create_directory(at("empty"));
    expect_error(ExitCode::kMissingInput, {"empty", ".jsonl"}, [&] { find({"empty"}); });
}

TEST_F(CorpusFiles, LinksLeadNowhereTwice) {
    put("tree/a.txt");
    put("tree/sub/b.txt");
    put("elsewhere/c.txt");
    fs::create_directory_symlink("..", at("tree/sub/up"));
    fs::create_directory_symlink(".", at("tree/loop"));
    fs::create_directory_symlink("sub", at("tree/again"));
    fs::create_directory_symlink("../elsewhere", at("tree/out"));
    fs::create_symlink("a.txt", at("tree/z.txt"));
    fs::create_hard_link(at("tree/a.txt"), at("tree/hard.txt"));
    EXPECT_EQ(find({"tree"}), (Names{"tree/a.txt", "tree/out/c.txt", "tree/sub/b.txt"}));
    EXPECT_EQ(find({"tree/z.txt", "tree"}), (Names{"tree/z.txt", "tree/out/c.txt", "tree/sub/b.txt"}));
    EXPECT_EQ(find({"tree/sub/../a.txt", "tree/a.txt"}), (Names{"tree/sub/../a.txt"}));
    fs::create_symlink("nothing", at("tree/readme"));
    EXPECT_EQ(find({"tree"}).size(), 3u);
    fs::create_symlink("nothing", at("tree/d.jsonl"));
    expect_error(ExitCode::kMissingInput, {"tree/d.jsonl", "link to nothing"}, [&] { find({"tree"}); });
}

TEST_F(CorpusFiles, APathThatExistsIsNotAPattern) {
    put("tok[v2]/a.txt");
    put("tokv/b.txt");
    put("x*.txt");
    put("xy.txt");
    EXPECT_EQ(find({"tok[v2]"}), (Names{"tok[v2]/a.txt"}));
    EXPECT_EQ(find({"tok[v]"}), (Names{"tokv/b.txt"}));
    EXPECT_EQ(find({"x*.txt"}), (Names{"x*.txt"}));
}

TEST_F(CorpusFiles, SumsSizes) {
    put("a.txt");
    put("b.txt");
    ASSERT_EQ(::mkfifo(at("pipe").c_str(), 0600), 0);
    EXPECT_EQ(total_bytes({at("a.txt"), at("b.txt"), at("pipe")}), 8);
}

}  // namespace
}  // namespace pastur
