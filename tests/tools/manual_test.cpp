// Manual pages and completion scripts, judged by groff, mandoc and the shells themselves.
#include <algorithm>

#include "engine/model/recipe.h"
#include "tests/support/command_line.h"
#include "tests/support/source_folder.h"

namespace pastur::test {
namespace {

bool have(const char* program) {
    return std::system(("command -v " + std::string(program) + " > /dev/null 2>&1").c_str()) == 0;
}

class Manual : public CommandLine {
  protected:
    /// What the shell's completion offers after `line`, sorted, joined by blanks.
    std::string bash_offers(const std::string& line) const {
        write("offers.sh",
              ". ./pastur.bash\nCOMP_LINE=$1 COMP_POINT=${#1}\n_pastur\n"
              "printf '%s\\n' \"${COMPREPLY[@]}\" | sort | paste -sd ' '\n");
        return shell("PATH='" + binary().parent_path().string() + "':$PATH bash offers.sh '" + line + "'")
            .out;
    }
    std::string fish_offers(const std::string& line) const {
        return shell("PATH='" + binary().parent_path().string() +
                     "':$PATH HOME=$PWD fish -c 'source pastur.fish; "
                     "complete -C \"" +
                     line + "\"' | cut -f1 | sort | paste -sd ' '")
            .out;
    }
    void write_completion(const std::string& sh) const {
        ASSERT_EQ(run("help --completion " + sh + " > pastur." + sh).code, 0);
    }
};

TEST_F(Manual, HasAPageForEveryCommandThatRendersWithoutWarnings) {
    ASSERT_EQ(run("help --man-pages pages").code, 0);
    for (const char* page : {"pastur.1", "pastur-train.1", "pastur-data-prepare.1", "pastur-recipe.5"})
        EXPECT_TRUE(fs::exists(file(std::string("pages/") + page))) << page;
    EXPECT_EQ(run("help train --man").out, read_file(file("pages/pastur-train.1"), 1 << 20));
    EXPECT_EQ(run("help recipe --man").out, read_file(file("pages/pastur-recipe.5"), 1 << 20));
    if (have("groff")) {
        const Result result = shell("for page in pages/*; do groff -man -ww -Tascii $page > $page.txt; done");
        EXPECT_EQ(result.err, "");
        EXPECT_NE(read_file(file("pages/pastur-train.1.txt"), 1 << 20).find("or a run folder, with --resume"),
                  std::string::npos);
    }
    if (have("mandoc")) {
        const Result result = shell("mandoc -T lint pages/*.[15]");
        EXPECT_EQ(result.out, "");
        EXPECT_EQ(result.code, 0);
    }
}

TEST_F(Manual, DescribesEveryKeyWithItsDefaultAndValues) {
    const std::string page = run("help recipe --man").out;
    for (const Field& field : config_fields()) {
        std::string tag = "\n\\fB" + std::string(field.key) + "\\fR\n";
        EXPECT_NE(page.find(tag), std::string::npos) << field.path();
    }
    std::string text = page;
    std::replace(text.begin(), text.end(), '\n', ' ');
    for (const char* part : {"Peak learning rate. Expected: a number above 0. Default: 0.001.",
                             "Expected: one of \"cosine\", \"constant\", \"wsd\". Default: \"cosine\".",
                             "Default: by model.preset.", "Read by mtla.", "model.d_model = 768"})
        EXPECT_NE(text.find(part), std::string::npos) << part;
    EXPECT_EQ(text.find("\\-inf"), std::string::npos) << "a number without a bound";
}

TEST_F(Manual, PagesHaveTheDateThatIsGiven) {
    const std::string head = ".TH PASTUR\\-PLAN 1 \"2001-09-09\"";
    EXPECT_EQ(run("help plan --man", "SOURCE_DATE_EPOCH=1000000000").out.substr(0, head.size()), head);
    EXPECT_EQ(run("help plan --man", "SOURCE_DATE_EPOCH=yesterday").code, 0);
}

TEST_F(Manual, BashCompletesCommandsOptionsKeysAndValues) {
    write_completion("bash");
    EXPECT_EQ(bash_offers("pastur tr"), "train\n");
    EXPECT_EQ(bash_offers("pastur data "), "info prepare synth\n");
    EXPECT_EQ(bash_offers("pastur data prepare --to"), "--tokenizer\n");
    EXPECT_EQ(bash_offers("pastur train --tr"), "--train.\n");
    EXPECT_EQ(bash_offers("pastur train r.toml --train.l"), "--train.lr=\n");
    EXPECT_EQ(bash_offers("pastur train --train.schedule=c"), "constant cosine\n");
    EXPECT_EQ(bash_offers("pastur train --train.schedule w"), "wsd\n");
    EXPECT_EQ(bash_offers("pastur train --device=c"), "cpu cuda\n");
    EXPECT_EQ(bash_offers("pastur train --device "), "auto cpu cuda\n");
    EXPECT_EQ(bash_offers("pastur spectra --nulls mp,pe"), "mp,permuted\n");
    EXPECT_EQ(bash_offers("pastur train --diagnostics.nulls=mp,pe"), "mp,permuted\n");
    EXPECT_EQ(bash_offers("pastur bench --variants mha,mt"), "mha,mtla\n");
    EXPECT_EQ(bash_offers("pastur help tr"), "train\n");
    EXPECT_EQ(bash_offers("pastur train --max-time "), "\n");
    fs::create_directory(file("a folder"));
    write("a file", "");
    EXPECT_EQ(bash_offers("pastur train --run a"), "a folder\n");
    EXPECT_EQ(bash_offers("pastur eval --tr"), "\n") << "it takes no keys";
    if (have("shellcheck")) {
        EXPECT_EQ(shell("shellcheck pastur.bash").code, 0);
    }
}

TEST_F(Manual, EveryDeviceIsCompleted) {
    const std::string script = run("help --completion bash").out;
    const std::string device = " --device']=";
    int found = 0;
    for (size_t at = script.find(device); at != std::string::npos; at = script.find(device, at + 1), ++found)
        EXPECT_EQ(script.substr(at + device.size(), 15), "'auto cpu cuda'") << script.substr(at - 20, 60);
    EXPECT_GE(found, 6);
}

TEST_F(Manual, FishCompletesCommandsOptionsKeysAndValues) {
    if (!have("fish")) GTEST_SKIP() << "no fish";
    write_completion("fish");
    EXPECT_EQ(fish_offers("pastur tr"), "train\n");
    EXPECT_EQ(fish_offers("pastur data "), "info prepare synth\n");
    EXPECT_EQ(fish_offers("pastur train --train.l"), "--train.lr\n");
    EXPECT_EQ(fish_offers("pastur train --device "), "auto cpu cuda\n");
    EXPECT_EQ(fish_offers("pastur spectra --nulls mp,pe"), "mp,permuted\n");
}

TEST_F(Manual, ZshReadsItsScript) {
    if (!have("zsh")) GTEST_SKIP() << "no zsh";
    write_completion("zsh");
    EXPECT_EQ(shell("zsh -n pastur.zsh").code, 0);
    EXPECT_EQ(read_file(file("pastur.zsh"), 1 << 20).substr(0, 16), "#compdef pastur\n");
}

/// Recipes that come with the program, from an installed tree or a checkout.
class RecipeNames : public CommandLine {};

TEST_F(RecipeNames, StandForTheRecipesThatComeWithTheProgram) {
    const std::string names = run("help --recipes").out;
    if (names.empty()) GTEST_SKIP() << "no recipes next to the program";
    EXPECT_NE(("\n" + names).find("\n130m-mla-decoupled\n"), std::string::npos) << names;
    const Result named = run("train nano-mtla --print-config");
    EXPECT_EQ(named.code, 0) << named.err;
    EXPECT_EQ(named.out,
              run("train '" + source_file("tools/recipes/nano-mtla.toml") + "' --print-config").out);
    EXPECT_EQ(run("plan nano-mtla.toml --device cpu").code, 0);
    // A file comes before a name, and a path is never a name.
    write("nano-mtla", "[model]\npreset = \"nano\"\nlayers = 1\n");
    EXPECT_NE(run("train nano-mtla --print-config").out.find("\nlayers = 1\n"), std::string::npos);
    expect_failure("train ./nano-mha --print-config", 66, {"cannot open recipe ./nano-mha: No such file"});
    expect_failure("train nano-mah --print-config", 66,
                   {"cannot open recipe nano-mah: No such file or directory; did you mean nano-mha?"});
    expect_failure("bench xyz.toml", 66, {"cannot open recipe xyz.toml", "`pastur help --recipes`"});
    expect_failure("study nana --out s", 66, {"did you mean nano?"});
}

/// `cmake --install` into a folder, which may then be moved.
class Installed : public CommandLine {};

TEST_F(Installed, TreeIsCompleteAndMovable) {
    const std::string build = binary().parent_path().string();
    if (!fs::exists(build + "/CMakeCache.txt") || !have("cmake")) GTEST_SKIP() << "no build folder";
    const Result result = shell("cmake --install '" + build + "' --prefix $PWD/made && mv made moved");
    ASSERT_EQ(result.code, 0) << result.err;
    for (const char* name :
         {"bin/pastur", "share/pastur/recipes/nano-mha.toml", "share/pastur/study/nano.toml",
          "share/pastur/slurm/train.sbatch", "share/man/man1/pastur.1", "share/man/man1/pastur-train.1",
          "share/man/man5/pastur-recipe.5", "share/bash-completion/completions/pastur",
          "share/zsh/site-functions/_pastur", "share/fish/vendor_completions.d/pastur.fish",
          "share/doc/pastur/LICENSE", "share/pastur/modulefiles/pastur"})
        EXPECT_TRUE(fs::exists(file(std::string("moved/") + name))) << name;
    EXPECT_EQ(shell("moved/bin/pastur help --recipes").out, run("help --recipes").out);
    EXPECT_EQ(shell("moved/bin/pastur train nano-mha --print-config").code, 0);
    if (have("readelf")) {
        EXPECT_NE(shell("readelf -d moved/bin/pastur").out.find("[$ORIGIN/../lib/pastur"), std::string::npos);
    }
}

}  // namespace
}  // namespace pastur::test
