#pragma once
// A weighted context-free grammar with variables and English word forms.
//
// One rule a line: `Name: alternative | 3* alternative three times as likely | ...`; a line that begins with
// white space continues the rule. An alternative is text with slots:
//     {Rule}                  an expansion of the rule
//     {Rule_@var}             an expansion of the rule Rule_value, with the value of the variable
//     {var}                   the value of the variable
//     {class}                 a word of an open class; frequent ones, and companions of the last, more often
//     {pl x} {er x} {est x}   plural, comparative, superlative of a word, or of a variable's or class's
//     {v x} {vp x}            a verb in the tense of the story, third person singular and plural
//     {ed x} {ing x} {past x} past participle, present participle, past tense whatever the tense of the story
// `^` after the opening brace capitalises the first letter.
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "kernels/base/random.h"

namespace pastur {

class Grammar {
  public:
    /// `text` holds the rules. A mistake in it fails a PASTUR_CHECK.
    explicit Grammar(std::string_view text);

    /// The state of one text.
    struct Scene {
        explicit Scene(SplitMix source) : random(source) {}
        SplitMix random;
        bool past = true;  ///< tense
        std::unordered_map<std::string, std::string> variables;
        std::unordered_map<std::string, std::vector<std::string_view>> classes;  ///< most frequent first
        uint64_t company = 0;  ///< hash of the open-class word drawn last
    };
    /// Appends an expansion of the rule.
    void expand(const std::string& rule, Scene& scene, std::string& out) const;

  private:
    struct Piece {
        std::string text;  ///< literal, rule, variable, class or word
        bool slot = false;
        bool capital = false;
        std::string form;         ///< empty, or one of the forms
        std::string by_variable;  ///< the variable of {Rule_@var}
    };
    struct Alternative {
        uint64_t weight;
        std::vector<Piece> pieces;
    };
    static Alternative parse_alternative(std::string_view text);
    static Piece parse_slot(std::string_view text);
    void expand_slot(const Piece& piece, Scene& scene, std::string& out) const;
    std::unordered_map<std::string, std::vector<Alternative>> rules_;
};

/// Draws an index of [0, n) with a probability proportional to 1 / (index + 4): Zipf's law, in integers.
size_t draw_zipf(SplitMix& random, size_t n);

}  // namespace pastur
