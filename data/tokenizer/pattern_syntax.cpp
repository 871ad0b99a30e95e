// From the syntax of tokenizer.json's regular expressions, Oniguruma's, to PCRE2's.
#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <vector>

#include "data/corpus/utf8.h"
#include "data/tokenizer/split_pattern.h"
#include "data/tokenizer/unicode_additions.h"
#include "kernels/base/error.h"

namespace pastur {
namespace {

constexpr size_t kLongestPattern = 4096;
constexpr int kMostRepetitions = 3;  // without a limit, in one alternative; n of them may take text^n steps
constexpr size_t kDeepestGroup = 16;

// PCRE2's \s also holds U+180E, which Unicode does not count as white space.
constexpr std::string_view kSpace = "\\t-\\r\\x{85}\\p{Z}";

class Translator {
  public:
    Translator(std::string_view pattern, const std::string& what) : in_(pattern), what_(what) {}

    std::string run() {
        if (in_.size() > kLongestPattern) refuse(fmt::format("more than {} bytes", kLongestPattern));
        if (!is_utf8(in_)) refuse("bytes that are not UTF-8");
        groups_.push_back({});
        while (!in_.empty()) item();
        if (groups_.size() > 1) refuse("a group without its end");
        return out_;
    }

  private:
    struct Group {
        int unlimited = 0;  ///< repetitions of the current alternative that have no limit
        int most = 0;       ///< of the alternatives before
        bool any = false;   ///< holds a repetition
    };

    [[noreturn]] void refuse(const std::string& found) const {
        fail(ExitCode::kCorruptData, "{}: the pattern has {}, which is not supported", what_, found);
    }
    char take() {
        if (in_.empty()) refuse("no end");
        const char c = in_.front();
        in_.remove_prefix(1);
        return c;
    }
    bool skip(std::string_view text) {
        if (!in_.starts_with(text)) return false;
        in_.remove_prefix(text.size());
        return true;
    }

    void item() {
        const char c = take();
        switch (c) {
            case '(':
                return open();
            case ')':
                return close();
            case '|':
                groups_.back().most = std::max(groups_.back().most, groups_.back().unlimited);
                groups_.back().unlimited = 0;
                out_ += c;
                return;
            case '[':
                bracket();
                return repetition({});
            case '\\':
                escape(false);
                return repetition({});
            case '.':
            case '*':
            case '+':
            case '?':
            case '{':
            case '}':
            case ']':
            case '^':
            case '$':
                refuse(fmt::format("`{}` here", c));
            default:
                out_ += c;
                while (!in_.empty() && (in_.front() & 0xc0) == 0x80) out_ += take();
                return repetition({});
        }
    }
    void open() {
        out_ += '(';
        if (skip("?i:")) {
            out_ += "?i:";
        } else if (skip("?:")) {
            out_ += "?:";
        } else if (skip("?=")) {
            out_ += "?=";
        } else if (skip("?!")) {
            out_ += "?!";
        } else if (in_.starts_with('?') || in_.starts_with('*')) {
            refuse(fmt::format("`({}`", utf8_prefix(in_, 3)));
        } else {
            out_ += "?:";
        }
        groups_.push_back({});
        if (groups_.size() > kDeepestGroup) refuse(fmt::format("groups deeper than {}", kDeepestGroup));
    }
    void close() {
        if (groups_.size() == 1) refuse("`)` here");
        Group group = groups_.back();
        groups_.pop_back();
        out_ += ')';
        group.unlimited = std::max(group.most, group.unlimited);
        groups_.back().any |= group.any;
        count(group.unlimited);
        repetition(group);
    }
    void count(int unlimited) {
        groups_.back().unlimited += unlimited;
        if (groups_.back().unlimited > kMostRepetitions)
            refuse(fmt::format("more than {} unlimited repetitions in one alternative", kMostRepetitions));
    }

    /// What follows an item: nothing, ?, *, +, {n}, {n,} or {n,m}; after the first three also ? or +.
    void repetition(const Group& repeated) {
        if (in_.empty()) return;
        const char c = in_.front();
        if (c == '*' || c == '+' || c == '?') {
            out_ += take();
            if (c != '?') unlimited(repeated);
            if (in_.starts_with('?') || in_.starts_with('+')) out_ += take();
        } else if (c == '{') {
            const size_t end = in_.find('}');
            const std::string_view range = in_.substr(1, std::min(end, in_.size()) - 1);
            const bool numbers = range.find_first_not_of("0123456789,") == range.npos &&
                                 std::count(range.begin(), range.end(), ',') <= 1 && range.size() <= 9;
            if (end == in_.npos || !numbers || range.empty() || range.front() == ',') refuse("`{` here");
            if (range.back() == ',') unlimited(repeated);
            if (repeated.any) refuse("a repetition of repetitions");
            groups_.back().any = true;
            out_ += in_.substr(0, end + 1);
            in_.remove_prefix(end + 1);
        } else {
            return;
        }
        if (!in_.empty() && std::string_view("*+?{").find(in_.front()) != std::string_view::npos)
            refuse(fmt::format("`{}` after a repetition", in_.front()));
    }
    void unlimited(const Group& repeated) {
        if (repeated.any) refuse("a repetition of repetitions");
        groups_.back().any = true;
        count(1);
    }

    void bracket() {
        const bool negated = skip("^");
        out_ += negated ? "[^" : "[";
        if (in_.starts_with(']')) refuse("an empty `[]`");
        while (!skip("]")) {
            const char c = take();
            if (c == '[') refuse("`[` in brackets");
            if (c == '&' && in_.starts_with('&')) refuse("`&&` in brackets");
            if (c == '\\')
                escape(true);
            else
                out_ += c;
        }
        out_ += ']';
    }

    /// What a backslash stands for, in brackets or outside.
    void escape(bool in_brackets) {
        const char c = take();
        const auto either = [&](std::string_view set) {
            out_ += in_brackets ? std::string(set) : fmt::format("[{}]", set);
        };
        if (c == 's') return either(kSpace);
        if (c == 'S')
            return in_brackets ? either("\\S\\x{180e}") : (void)(out_ += fmt::format("[^{}]", kSpace));
        if (c == 'd') return either(category("Nd"));
        if (c == 'p' || c == 'P') {
            const size_t end = in_.find('}');
            if (!in_.starts_with('{') || end == in_.npos) refuse(fmt::format("`\\{}` without {{...}}", c));
            std::string_view name = in_.substr(1, end - 1);
            in_.remove_prefix(end + 1);
            const bool caret = name.starts_with('^');
            if (caret) name.remove_prefix(1);
            const std::string set = category(name);
            if (caret == (c == 'P')) return either(set);
            if (in_brackets) refuse(fmt::format("`\\P{{{}}}` in brackets", name));
            out_ += fmt::format("[^{}]", set);
            return;
        }
        if (c == 'x' || c == 'u') return code_point(c);
        const bool punctuation =
            static_cast<uint8_t>(c) < 0x80 && std::ispunct(static_cast<unsigned char>(c));
        if (!punctuation && std::string_view("rntf ").find(c) == std::string_view::npos)
            refuse(static_cast<uint8_t>(c) < 0x80 ? fmt::format("`\\{}`", c) : "a backslash here");
        out_ += '\\';
        out_ += c;
    }
    void code_point(char kind) {
        const bool braces = kind == 'x' && skip("{");
        const size_t digits = braces ? in_.find('}') : kind == 'x' ? 2 : 4;
        const std::string_view hex = in_.substr(0, digits);
        if (digits == in_.npos || hex.size() != digits || hex.empty() || hex.size() > 6 ||
            hex.find_first_not_of("0123456789abcdefABCDEF") != hex.npos)
            refuse(fmt::format("`\\{}` without digits", kind));
        // Oniguruma reads \x80 and above as bytes.
        if (kind == 'x' && !braces && hex.front() > '7') refuse(fmt::format("`\\x{}`", hex));
        out_ += fmt::format("\\x{{{}}}", hex);
        in_.remove_prefix(digits + (braces ? 1 : 0));
    }
    /// The characters of a general category, as part of a class.
    std::string category(std::string_view name) const {
        constexpr std::string_view kNames =
            "L Lu Ll Lt Lm Lo M Mn Mc Me N Nd Nl No P Pc Pd Ps Pe Pi Pf Po S Sm Sc "
            "Sk So Z Zs Zl Zp ";
        if (name.empty() || name.size() > 2 || kNames.find(fmt::format("{} ", name)) == kNames.npos)
            refuse(fmt::format("`\\p{{{}}}` (supported: general categories such as \\p{{L}})",
                               utf8_prefix(name, 40)));
        std::string set = fmt::format("\\p{{{}}}", name);
        for (const UnicodeRange& range : unicode_additions())
            if (std::string_view(range.category).starts_with(name))
                set += fmt::format("\\x{{{:x}}}-\\x{{{:x}}}", range.first, range.last);
        return set;
    }

    std::string_view in_;
    const std::string& what_;
    std::string out_;
    std::vector<Group> groups_;
};

}  // namespace

std::string translate_pattern(std::string_view pattern, const std::string& what) {
    return Translator(pattern, what).run();
}

std::string SplitPattern::escape(std::string_view text) {
    std::string pattern;
    for (const char c : text) {
        if (static_cast<uint8_t>(c) < 0x80 && std::ispunct(static_cast<unsigned char>(c))) pattern += '\\';
        pattern += c;
    }
    return pattern;
}

}  // namespace pastur
