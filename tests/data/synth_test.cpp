// The synthetic stories are the same everywhere, English in form, and hold something to learn at every range.
#include "data/synth/synth.h"

#include <gtest/gtest.h>
#include <xxhash.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <set>
#include <sstream>

#include "data/synth/grammar.h"
#include "data/synth/morphology.h"
#include "data/synth/synth_words.h"
#include "tests/support/data_files.h"
#include "tests/support/expect_error.h"
#include "tests/support/temp_folder.h"

namespace pastur {
namespace {

std::vector<std::string> stories(int n, uint64_t seed = 1) {
    std::vector<std::string> texts;
    for (int i = 0; i < n; ++i) texts.push_back(synthetic_story(seed, static_cast<uint64_t>(i)));
    return texts;
}

/// Words and punctuation marks.
std::vector<std::string> words_of(const std::string& text) {
    std::vector<std::string> words;
    bool inside = false;
    for (const char c : text) {
        const bool letter = std::isalpha(static_cast<unsigned char>(c)) || c == '-' || c == '\'';
        if (letter && !inside) words.emplace_back();
        if (letter) words.back() += c;
        if (!letter && c != ' ') words.emplace_back(1, c);
        inside = letter;
    }
    return words;
}

template <typename Key>
double entropy(const std::map<Key, int64_t>& counts) {
    double total = 0, sum = 0;
    for (const auto& [key, count] : counts) total += static_cast<double>(count);
    for (const auto& [key, count] : counts) {
        const double p = static_cast<double>(count) / total;
        sum -= p * std::log(p);
    }
    return sum;
}

TEST(Synth, SameBytesEverywhere) {
    const test::TempFolder folder;
    const auto write = [&](int64_t n, uint64_t seed) {
        const auto path = folder.path() / "stories.txt";
        const int64_t bytes = write_synthetic_corpus(n, seed, path, [](int64_t, int64_t) {});
        const std::string text = test::read_bytes(path);
        EXPECT_EQ(std::ssize(text), bytes);
        return text;
    };
    const std::string text = write(200, 1);
    EXPECT_EQ(write(200, 1), text);
    EXPECT_NE(write(200, 2), text);
    EXPECT_TRUE(write(300, 1).starts_with(text)) << "more stories begin with the same ones";
    // This hash changes with grammar, lexicon and generator, and then so does every synthetic corpus.
    EXPECT_EQ(XXH3_64bits(text.data(), text.size()), 4645555401655232195ull);
}

TEST(Synth, ComesWhole) {
    const test::TempFolder folder;
    const auto path = folder.path() / "deep" / "stories.txt";
    EXPECT_THROW(write_synthetic_corpus(10, 1, path,
                                        [](int64_t done, int64_t) {
                                            if (done == 5) throw std::runtime_error("interrupted");
                                        }),
                 std::runtime_error);
    EXPECT_TRUE(std::filesystem::is_empty(path.parent_path()));
    write_synthetic_corpus(10, 1, path, [](int64_t, int64_t) {});
    EXPECT_EQ(std::distance(std::filesystem::directory_iterator(path.parent_path()), {}), 1);
    test::expect_error(ExitCode::kIo, {"/dev/full"}, [] {
        write_synthetic_corpus(10, 1, "/dev/full/stories.txt", [](int64_t, int64_t) {});
    });
}

TEST(Synth, LooksLikeEnglish) {
    for (const std::string& story : stories(500)) {
        std::istringstream stream(story);
        const auto words = std::distance(std::istream_iterator<std::string>(stream), {});
        EXPECT_GE(words, 100) << story;
        EXPECT_LE(words, 400) << story;
        EXPECT_EQ(story.find_first_of("{}|*_@"), story.npos) << story;
        EXPECT_EQ(story.find("  "), story.npos) << story;
        EXPECT_EQ(std::count(story.begin(), story.end(), '"') % 2, 0) << story;
        for (size_t i = 0; i + 2 < story.size(); ++i) {
            const bool sentence_ends = (story[i] == '.' || story[i] == '!') && story[i + 1] == ' ';
            ASSERT_FALSE(sentence_ends && std::islower(story[i + 2])) << story.substr(i, 20) << "\n" << story;
            const bool after_article = story.compare(i, 3, " a ") == 0 && i + 4 < story.size();
            ASSERT_FALSE(after_article && std::string("aeio").find(story[i + 3]) != std::string::npos &&
                         story.compare(i + 3, 3, "one") != 0)
                << story.substr(i, 20);
        }
    }
}

// Most stories name their hero and treasure from the first to the last paragraph.
TEST(Synth, CharactersAndThingsRecur) {
    std::set<std::string> names;
    for (const auto& list : {lexicon().women, lexicon().men}) names.insert(list.begin(), list.end());
    int at_both_ends = 0;
    double cast = 0;
    for (const std::string& story : stories(300)) {
        const std::string first = story.substr(0, story.find("\n\n")),
                          last = story.substr(story.rfind("\n\n"));
        std::set<std::string> in_first, in_last, anywhere;
        const auto collect = [&](const std::string& text, std::set<std::string>& found) {
            for (const std::string& word : words_of(text))
                if (names.count(word)) found.insert(word);
        };
        collect(first, in_first);
        collect(last, in_last);
        collect(story, anywhere);
        EXPECT_EQ(in_first.size(), 1u) << first;
        at_both_ends += in_last.count(*in_first.begin());
        cast += static_cast<double>(anywhere.size());
    }
    EXPECT_GT(at_both_ends, 270);
    EXPECT_NEAR(cast / 300, 2, 0.3) << "two people of a hundred, again and again";
}

// Words follow Zipf's law with a vocabulary of thousands; context makes them much more predictable.
TEST(Synth, HasWordsToLearnAndContextToLearnThemFrom) {
    std::map<std::string, int64_t> words;
    std::map<std::pair<std::string, std::string>, int64_t> pairs;
    for (const std::string& story : stories(3000)) {
        std::string before = "<s>";
        for (const std::string& word : words_of(story)) {
            ++words[word];
            ++pairs[{before, word}];
            before = word;
        }
    }
    EXPECT_GT(words.size(), 3000u);
    const double unigram = entropy(words), bigram = entropy(pairs) - unigram;
    EXPECT_GT(unigram, 5.3);
    EXPECT_LT(unigram, 6.5);
    EXPECT_LT(bigram, unigram - 2);
    std::vector<int64_t> counts;
    for (const auto& [word, count] : words) counts.push_back(count);
    std::sort(counts.rbegin(), counts.rend());
    // The log-log slope of frequency over rank between ranks 10 and 1000 is -1 by Zipf's law.
    const double slope =
        std::log(static_cast<double>(counts[1000]) / static_cast<double>(counts[10])) / std::log(100.);
    EXPECT_NEAR(slope, -1, 0.3);
}

TEST(Synth, TenseHoldsThroughAStory) {
    int mixed = 0;
    for (const std::string& story : stories(300)) {
        int past = 0, present = 0;
        bool quoted = false;
        for (const std::string& word : words_of(story)) {
            if (word == "\"") quoted = !quoted;
            if (quoted) continue;
            past += word == "was" || word == "were" || word == "had";
            present += word == "is" || word == "are" || word == "has";
        }
        mixed += std::min(past, present) > 1;
    }
    EXPECT_LT(mixed, 15);
}

TEST(Morphology, InflectsRegularAndIrregularWords) {
    EXPECT_EQ(plural("boat"), "boats");
    EXPECT_EQ(plural("berry"), "berries");
    EXPECT_EQ(plural("box"), "boxes");
    EXPECT_EQ(plural("leaf"), "leaves");
    EXPECT_EQ(plural("fisherman"), "fishermen");
    EXPECT_EQ(plural("monkey"), "monkeys");
    EXPECT_EQ(plural("potato"), "potatoes");
    EXPECT_EQ(past_tense("carry"), "carried");
    EXPECT_EQ(past_tense("drop"), "dropped");
    EXPECT_EQ(past_tense("play"), "played");
    EXPECT_EQ(past_tense("rain"), "rained");
    EXPECT_EQ(past_tense("paint"), "painted");
    EXPECT_EQ(past_tense("travel"), "travelled");
    EXPECT_EQ(past_tense("take"), "took");
    EXPECT_EQ(past_participle("take"), "taken");
    EXPECT_EQ(past_participle("mend"), "mended");
    EXPECT_EQ(present_participle("hide"), "hiding");
    EXPECT_EQ(present_participle("see"), "seeing");
    EXPECT_EQ(present_participle("tie"), "tying");
    EXPECT_EQ(present_participle("swim"), "swimming");
    EXPECT_EQ(third_person("go"), "goes");
    EXPECT_EQ(third_person("carry"), "carries");
    EXPECT_EQ(third_person("watch"), "watches");
    EXPECT_EQ(third_person("be"), "is");
    EXPECT_EQ(comparative("big"), "bigger");
    EXPECT_EQ(comparative("happy"), "happier");
    EXPECT_EQ(comparative("curious"), "more curious");
    EXPECT_EQ(superlative("wise"), "wisest");
    EXPECT_EQ(superlative("good"), "best");
    EXPECT_EQ(with_articles("a apple, a useful hour, a hour. A owl saw a \"a egg\""),
              "an apple, a useful hour, an hour. An owl saw a \"an egg\"");
}

TEST(Grammar, ExpandsRulesVariablesClassesAndForms) {
    const Grammar grammar(
        "Start: {^hero} {v walk} to {pl thing}{Mood_@mood}\n"
        "    and {vp run}.\n"
        "Mood_sad: , sadly,\n"
        "Coin: 9* heads | tails\n");
    Grammar::Scene scene(SplitMix(1));
    scene.variables = {{"hero", "tom"}, {"thing", "box"}, {"mood", "sad"}};
    const auto expand = [&](const std::string& rule) {
        std::string out;
        grammar.expand(rule, scene, out);
        return out;
    };
    EXPECT_EQ(expand("Start"), "Tom walked to boxes, sadly, and ran.");
    scene.past = false;
    EXPECT_EQ(expand("Start"), "Tom walks to boxes, sadly, and run.");
    int heads = 0;
    for (int i = 0; i < 1000; ++i) heads += expand("Coin") == "heads";
    EXPECT_NEAR(heads, 900, 60);  // standard deviation 9.5
    for (const char* wrong : {"No colon here", "A: {x", "A: b\nA: c", "A: 5 b"})
        EXPECT_THROW(Grammar{wrong}, Error);
    test::expect_error(ExitCode::kOther, {"Nowhere"}, [&] { expand("Nowhere"); });
}

}  // namespace
}  // namespace pastur
