#include "data/synth/morphology.h"

#include <algorithm>
#include <array>
#include <string>

namespace pastur {
namespace {

struct Irregular {
    std::string_view base, past, participle;
};
constexpr Irregular kIrregularVerbs[] = {
    {"be", "was", "been"},
    {"begin", "began", "begun"},
    {"bend", "bent", "bent"},
    {"blow", "blew", "blown"},
    {"break", "broke", "broken"},
    {"bring", "brought", "brought"},
    {"build", "built", "built"},
    {"buy", "bought", "bought"},
    {"catch", "caught", "caught"},
    {"choose", "chose", "chosen"},
    {"come", "came", "come"},
    {"creep", "crept", "crept"},
    {"cut", "cut", "cut"},
    {"dig", "dug", "dug"},
    {"do", "did", "done"},
    {"draw", "drew", "drawn"},
    {"drink", "drank", "drunk"},
    {"eat", "ate", "eaten"},
    {"fall", "fell", "fallen"},
    {"feed", "fed", "fed"},
    {"feel", "felt", "felt"},
    {"find", "found", "found"},
    {"fling", "flung", "flung"},
    {"fly", "flew", "flown"},
    {"forget", "forgot", "forgotten"},
    {"get", "got", "got"},
    {"give", "gave", "given"},
    {"go", "went", "gone"},
    {"grow", "grew", "grown"},
    {"hang", "hung", "hung"},
    {"have", "had", "had"},
    {"hear", "heard", "heard"},
    {"hide", "hid", "hidden"},
    {"hit", "hit", "hit"},
    {"hold", "held", "held"},
    {"keep", "kept", "kept"},
    {"kneel", "knelt", "knelt"},
    {"know", "knew", "known"},
    {"lead", "led", "led"},
    {"leap", "leapt", "leapt"},
    {"leave", "left", "left"},
    {"let", "let", "let"},
    {"lie", "lay", "lain"},
    {"light", "lit", "lit"},
    {"lose", "lost", "lost"},
    {"make", "made", "made"},
    {"meet", "met", "met"},
    {"put", "put", "put"},
    {"read", "read", "read"},
    {"ride", "rode", "ridden"},
    {"ring", "rang", "rung"},
    {"run", "ran", "run"},
    {"say", "said", "said"},
    {"see", "saw", "seen"},
    {"sell", "sold", "sold"},
    {"set", "set", "set"},
    {"shake", "shook", "shaken"},
    {"shine", "shone", "shone"},
    {"show", "showed", "shown"},
    {"sing", "sang", "sung"},
    {"sit", "sat", "sat"},
    {"sleep", "slept", "slept"},
    {"speak", "spoke", "spoken"},
    {"spread", "spread", "spread"},
    {"stand", "stood", "stood"},
    {"steal", "stole", "stolen"},
    {"sweep", "swept", "swept"},
    {"swim", "swam", "swum"},
    {"swing", "swung", "swung"},
    {"take", "took", "taken"},
    {"tell", "told", "told"},
    {"think", "thought", "thought"},
    {"throw", "threw", "thrown"},
    {"understand", "understood", "understood"},
    {"wake", "woke", "woken"},
    {"win", "won", "won"},
    {"wind", "wound", "wound"},
    {"write", "wrote", "written"},
};

struct Pair {
    std::string_view base, form;
};
constexpr Pair kIrregularPlurals[] = {
    {"man", "men"},           {"woman", "women"},       {"child", "children"}, {"mouse", "mice"},
    {"goose", "geese"},       {"foot", "feet"},         {"fish", "fish"},      {"sheep", "sheep"},
    {"deer", "deer"},         {"trout", "trout"},       {"leaf", "leaves"},    {"loaf", "loaves"},
    {"knife", "knives"},      {"shelf", "shelves"},     {"wolf", "wolves"},    {"calf", "calves"},
    {"scarf", "scarves"},     {"ferryman", "ferrymen"}, {"cactus", "cacti"},   {"oasis", "oases"},
    {"starfish", "starfish"},
};

constexpr bool is_vowel(char c) {
    return c == 'a' || c == 'e' || c == 'i' || c == 'o' || c == 'u';
}
char last(std::string_view word, size_t back = 0) {
    return word.size() > back ? word[word.size() - 1 - back] : '\0';
}

int syllables(std::string_view word) {
    int count = 0;
    bool in_vowels = false;
    for (size_t i = 0; i < word.size(); ++i) {
        const bool vowel = is_vowel(word[i]) || (word[i] == 'y' && i > 0);
        const bool silent = word[i] == 'e' && i + 1 == word.size() && count > 0;
        count += vowel && !in_vowels && !silent;
        in_vowels = vowel;
    }
    return count;
}

/// "drop", "big": the last consonant is doubled before a vowel ending.
bool doubles(std::string_view word) {
    const char c = last(word), v = last(word, 1), before = last(word, 2);
    if (word.ends_with("el") && syllables(word) == 2) return true;  // travelled, labelled
    const bool quoted_u = before == 'u' && last(word, 3) == 'q';
    return word.size() >= 3 && !is_vowel(c) && c != 'w' && c != 'x' && c != 'y' && is_vowel(v) &&
           (!is_vowel(before) || quoted_u) && syllables(word) == 1;
}

bool consonant_y(std::string_view word) {
    return last(word) == 'y' && !is_vowel(last(word, 1));
}

std::string with_ending(std::string_view word, std::string_view ending) {
    return std::string(word).append(ending);
}
std::string cut(std::string_view word, size_t letters, std::string_view ending) {
    return with_ending(word.substr(0, word.size() - letters), ending);
}

/// Ending -ed, -er, -est: "paint-ed", "nice-r", "happi-est", "bigg-er".
std::string with_e_ending(std::string_view word, std::string_view ending) {
    if (last(word) == 'e') return with_ending(word, ending.substr(1));
    if (consonant_y(word)) return cut(word, 1, "i").append(ending);
    if (doubles(word)) return with_ending(word, word.substr(word.size() - 1)).append(ending);
    return with_ending(word, ending);
}

std::string with_s(std::string_view word) {
    if (consonant_y(word)) return cut(word, 1, "ies");
    const bool hisses = last(word) == 's' || last(word) == 'x' || last(word) == 'z' || word.ends_with("ch") ||
                        word.ends_with("sh");
    return with_ending(word, hisses ? "es" : "s");
}

const Irregular* irregular(std::string_view verb) {
    const auto found = std::find_if(std::begin(kIrregularVerbs), std::end(kIrregularVerbs),
                                    [&](const Irregular& entry) { return entry.base == verb; });
    return found == std::end(kIrregularVerbs) ? nullptr : found;
}

bool short_adjective(std::string_view adjective) {
    return syllables(adjective) == 1 || (syllables(adjective) == 2 && last(adjective) == 'y');
}

}  // namespace

std::string plural(std::string_view noun) {
    for (const Pair& entry : kIrregularPlurals)
        if (entry.base == noun) return std::string(entry.form);
    if (noun.ends_with("man")) return cut(noun, 2, "en");
    if (noun == "potato" || noun == "tomato" || noun == "echo" || noun == "mosquito")
        return with_ending(noun, "es");
    return with_s(noun);
}

std::string third_person(std::string_view verb) {
    if (verb == "be") return "is";
    if (verb == "have") return "has";
    return last(verb) == 'o' ? with_ending(verb, "es") : with_s(verb);
}

std::string past_tense(std::string_view verb) {
    const Irregular* entry = irregular(verb);
    return entry ? std::string(entry->past) : with_e_ending(verb, "ed");
}

std::string past_participle(std::string_view verb) {
    const Irregular* entry = irregular(verb);
    return entry ? std::string(entry->participle) : with_e_ending(verb, "ed");
}

std::string present_participle(std::string_view verb) {
    if (verb == "be") return "being";
    if (verb.ends_with("ie")) return cut(verb, 2, "ying");
    if (last(verb) == 'e' && last(verb, 1) != 'e' && verb != "tiptoe") return cut(verb, 1, "ing");
    const bool stressed_end = verb == "begin" || verb == "forget";  // the doubled consonant needs stress
    if (doubles(verb) || stressed_end) return with_ending(verb, verb.substr(verb.size() - 1)).append("ing");
    return with_ending(verb, "ing");
}

std::string comparative(std::string_view adjective) {
    if (adjective == "good") return "better";
    return short_adjective(adjective) ? with_e_ending(adjective, "er") : "more " + std::string(adjective);
}

std::string superlative(std::string_view adjective) {
    if (adjective == "good") return "best";
    return short_adjective(adjective) ? with_e_ending(adjective, "est") : "most " + std::string(adjective);
}

std::string with_articles(std::string_view text) {
    std::string out;
    out.reserve(text.size() + 16);
    for (size_t i = 0; i < text.size(); ++i) {
        out += text[i];
        const bool alone = (text[i] == 'a' || text[i] == 'A') && i + 2 < text.size() && text[i + 1] == ' ' &&
                           (i == 0 || text[i - 1] == ' ' || text[i - 1] == '\n' || text[i - 1] == '"');
        if (!alone) continue;
        const std::string_view next = text.substr(i + 2);
        const bool sounds_y = next.starts_with("uni") || next.starts_with("use") || next.starts_with("one");
        const bool silent_h = next.starts_with("hour") || next.starts_with("honest");
        if ((is_vowel(next[0]) && !sounds_y) || silent_h) out += 'n';
    }
    return out;
}

}  // namespace pastur
