#pragma once
// English word forms by rule, and the irregular ones of the stories' lexicon.
#include <string>
#include <string_view>

namespace pastur {

std::string plural(std::string_view noun);              ///< "leaf" -> "leaves"
std::string third_person(std::string_view verb);        ///< "carry" -> "carries"
std::string past_tense(std::string_view verb);          ///< "drop" -> "dropped"
std::string past_participle(std::string_view verb);     ///< "take" -> "taken"
std::string present_participle(std::string_view verb);  ///< "hide" -> "hiding"
std::string comparative(std::string_view adjective);    ///< "happy" -> "happier", "patient" -> "more patient"
std::string superlative(std::string_view adjective);  ///< "happy" -> "happiest", "patient" -> "most patient"
/// Replaces the article "a" by "an" before a vowel sound.
std::string with_articles(std::string_view text);

}  // namespace pastur
