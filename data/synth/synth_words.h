#pragma once
// The lexicon of the synthetic stories. Every list begins with its most frequent words.
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace pastur {

/// A setting and its words.
struct Topic {
    std::vector<std::string_view> places;
    std::vector<std::string_view> nouns;
    std::vector<std::string_view> roles;
};

struct Lexicon {
    std::vector<Topic> topics;
    std::vector<std::string_view> women, men, towns_front, towns_back, pets;
    std::vector<std::string_view> nouns;      ///< of any setting
    std::vector<std::string_view> treasures;  ///< the object that a story is about
    std::vector<std::string_view> materials, colours, foods, animals, virtues, feelings, numbers, dayparts,
        seasons;
    std::vector<std::string_view> adjectives, adverbs, intransitive, transitive;
};

const Lexicon& lexicon();

}  // namespace pastur
