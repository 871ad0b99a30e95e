// Recipes damaged at random, and the nearest valid name.
#include <gtest/gtest.h>

#include <random>

#include "engine/config/nearest_name.h"
#include "tests/engine/config/parse_recipe.h"

namespace pastur::test {
namespace {

// A fixed set of damaged recipes: each is read or refused, and what is read can be written.
TEST(ConfigProperty, AnyMutationIsReadOrRefused) {
    std::string whole = to_toml(parse(variant("mla-decoupled"), {{"data.dir", "d"}}));
    const std::string alphabet = "\"'[]{}=.,#\\\n\t -+_019aeEftx\xff\x80\xc3";
    std::mt19937 random(20);
    const auto below = [&](size_t n) { return std::uniform_int_distribution<size_t>(0, n - 1)(random); };
    int read = 0, refused = 0;
    for (int trial = 0; trial < 800; ++trial) {
        std::string text = whole;
        for (size_t edits = 1 + below(3); edits > 0; --edits) {
            const size_t at = below(text.size()), length = below(std::min<size_t>(12, text.size() - at) + 1);
            switch (below(4)) {
                case 0:
                    text[at] = alphabet[below(alphabet.size())];
                    break;
                case 1:
                    text.erase(at, length);
                    break;
                case 2:
                    text.insert(at, text.substr(below(text.size()), length));
                    break;
                default:
                    text.insert(at, 1, alphabet[below(alphabet.size())]);
            }
        }
        try {
            const Config c = parse(text);
            EXPECT_TRUE(parse(to_toml(c)) == c) << text;
            ++read;
        } catch (const Error& error) {
            EXPECT_EQ(error.code(), ExitCode::kUsage) << error.what();
            ++refused;
        }
    }
    EXPECT_GT(read, 20);
    EXPECT_GT(refused, 200);
}

TEST(NearestName, CountsEdits) {
    EXPECT_EQ(edit_distance("", "abc"), 3);
    EXPECT_EQ(edit_distance("trian", "train"), 1);  // neighbours swapped
    EXPECT_EQ(edit_distance("kitten", "sitting"), 3);
    EXPECT_EQ(edit_distance("LR", "lr"), 0);
    EXPECT_EQ(nearest_name("learning_rate", {"nonfinite", "final_lr_fraction", "lr"}), "lr");
    EXPECT_EQ(nearest_name("num_layers", {"heads", "layers"}), "layers");
    EXPECT_EQ(nearest_name("__", {"lr"}), "lr");
    EXPECT_EQ(nearest_name("step", {"lr", "steps", "stops"}), "steps");
    EXPECT_EQ(nearest_name("x", {}), "");
}

}  // namespace
}  // namespace pastur::test
