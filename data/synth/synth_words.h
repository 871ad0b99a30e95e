#pragma once
// The lexicon of the synthetic stories, most frequent words first in every list.
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace pastur {

/// A setting, and what one meets there.
struct Topic {
    std::vector<std::string_view> places;
    std::vector<std::string_view> nouns;
    std::vector<std::string_view> roles;
};

struct Lexicon {
    std::vector<Topic> topics;
    std::vector<std::string_view> women, men, towns_front, towns_back, pets;
    std::vector<std::string_view> nouns;      ///< of any setting
    std::vector<std::string_view> treasures;  ///< what a story is about
    std::vector<std::string_view> materials, colours, foods, animals, virtues, feelings, numbers, dayparts,
        seasons;
    std::vector<std::string_view> adjectives, adverbs, intransitive, transitive;
};

const Lexicon& lexicon();

}  // namespace pastur
