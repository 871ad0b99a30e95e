#include "data/synth/synth.h"

#include "data/corpus/text_output.h"
#include "data/synth/grammar.h"
#include "data/synth/morphology.h"
#include "data/synth/synth_grammar.h"
#include "data/synth/synth_words.h"
#include "kernels/base/random.h"

namespace pastur {
namespace {

using Words = std::vector<std::string_view>;

const Grammar& grammar() {
    static const Grammar rules(kStoryGrammar);
    return rules;
}

std::string_view draw(SplitMix& random, const Words& words) {
    return words[draw_zipf(random, words.size())];
}

/// A word other than `other`.
std::string_view draw_other(SplitMix& random, const Words& words, std::string_view other) {
    std::string_view word = other;
    while (word == other) word = draw(random, words);
    return word;
}

/// A name and its pronouns under the given prefix ("" or "f").
void cast_person(Grammar::Scene& scene, const std::string& name_variable, const std::string& prefix,
                 bool woman, std::string_view not_this) {
    const Lexicon& lex = lexicon();
    auto& variables = scene.variables;
    variables[name_variable] = draw_other(scene.random, woman ? lex.women : lex.men, not_this);
    variables[prefix + "he"] = woman ? "she" : "he";
    variables[prefix + "him"] = woman ? "her" : "him";
    variables[prefix + "his"] = woman ? "her" : "his";
}

void cast_people(Grammar::Scene& scene, const Topic& topic) {
    SplitMix& random = scene.random;
    const bool hero_is_woman = random.chance(50);
    const bool friend_is_woman =
        random.chance(80) ? !hero_is_woman : hero_is_woman;  // mostly, pronouns tell the two apart
    cast_person(scene, "hero", "", hero_is_woman, {});
    cast_person(scene, "friend", "f", friend_is_woman, scene.variables["hero"]);
    auto& variables = scene.variables;
    variables["role"] = draw(random, topic.roles);
    variables["frole"] = draw_other(random, topic.roles, variables["role"]);
    const Lexicon& lex = lexicon();
    variables["town"] = std::string(draw(random, lex.towns_front)).append(draw(random, lex.towns_back));
    variables["pet"] = draw(random, lex.pets);
    variables["animal"] = draw(random, lex.animals);
}

void choose_things(Grammar::Scene& scene, const Topic& topic) {
    const Lexicon& lex = lexicon();
    SplitMix& random = scene.random;
    auto& variables = scene.variables;
    variables["place"] = draw(random, topic.places);
    // Some stories lead into another setting.
    const Topic& elsewhere = random.chance(40) ? lex.topics[random.below(lex.topics.size())] : topic;
    variables["far"] = draw_other(random, elsewhere.places, variables["place"]);
    variables["obj"] = draw(random, lex.treasures);
    variables["objadj"] = draw(random, lex.adjectives);
    variables["mat"] = draw(random, lex.materials);
    variables["food"] = draw(random, lex.foods);
    variables["virtue"] = draw(random, lex.virtues);
    variables["feeling"] = draw(random, lex.feelings);
    variables["num"] = draw(random, lex.numbers);
    variables["part"] = draw(random, lex.dayparts);
    variables["season"] = draw(random, lex.seasons);
    variables["weather"] = draw(random, {"sun", "rain", "wind", "snow", "fog"});
    variables["plot"] = draw(random, {"loss", "journey", "repair", "trade", "mystery", "contest"});
}

Grammar::Scene make_scene(uint64_t seed, uint64_t index) {
    const Lexicon& lex = lexicon();
    Grammar::Scene scene(SplitMix(seed, index));
    SplitMix& random = scene.random;
    scene.past = random.chance(75);
    const Topic& topic = lex.topics[random.below(lex.topics.size())];
    cast_people(scene, topic);
    choose_things(scene, topic);
    scene.classes = {
        {"n", topic.nouns},      {"noun", lex.nouns},    {"spot", topic.places},
        {"adj", lex.adjectives}, {"adv", lex.adverbs},   {"vi", lex.intransitive},
        {"vt", lex.transitive},  {"feel", lex.feelings}, {"hue", lex.colours},
    };
    return scene;
}

}  // namespace

std::string synthetic_story(uint64_t seed, uint64_t index) {
    Grammar::Scene scene = make_scene(seed, index);
    std::vector<std::string> paragraphs = {"Opening", "Start_" + scene.variables.at("plot"), "Visit"};
    if (scene.random.chance(60)) paragraphs.push_back("Travel");
    paragraphs.push_back("Trouble");
    if (scene.random.chance(25)) paragraphs.push_back("Again");
    paragraphs.push_back("Turn");
    paragraphs.push_back("Ending");

    std::string text;
    for (const std::string& rule : paragraphs) {
        if (!text.empty()) text += "\n\n";
        grammar().expand(rule, scene, text);
    }
    return with_articles(text);
}

int64_t write_synthetic_corpus(int64_t documents, uint64_t seed, const std::filesystem::path& path,
                               const std::function<void(int64_t, int64_t)>& report) {
    TextOutput file(path);
    int64_t bytes = 0;
    const auto write = [&](std::string_view text) {
        file.write(text);
        bytes += std::ssize(text);
    };
    for (int64_t i = 0; i < documents; ++i) {
        if (i > 0) write("<|doc|>\n");
        write(synthetic_story(seed, static_cast<uint64_t>(i)));
        write("\n");
        report(i + 1, bytes);
    }
    file.commit();
    return bytes;
}

}  // namespace pastur
