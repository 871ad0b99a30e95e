#pragma once
// The regular expressions by which tokenizer.json cuts text into pre-tokens.
#include <memory>
#include <string>
#include <string_view>

namespace pastur {

/// A pattern in the syntax of tokenizer.json (Oniguruma), compiled by PCRE2. Both agree on what is let through:
/// characters, classes, general categories (\p{L}), \s, groups, lookahead, and repetition without nesting. Anything
/// else is refused, because its meaning or its cost may differ. Thread-safe.
class SplitPattern {
  public:
    /// Throws (kCorruptData) "<what>: ..." for syntax that is not let through and patterns that match empty text.
    SplitPattern(std::string_view pattern, const std::string& what);
    /// Matches `text` itself.
    static std::string escape(std::string_view text);

    struct Match {
        size_t begin, end;
    };
    /// Searches one text after the other. One a thread.
    class Matcher {
      public:
        explicit Matcher(const SplitPattern& pattern);
        ~Matcher();
        Matcher(Matcher&&) noexcept;
        /// The first match in valid UTF-8 that begins at `from` or later; begin == text.size(): there is none. Throws
        /// (kCorruptData) if the search takes too many steps.
        Match find(std::string_view text, size_t from);

      private:
        struct State;
        std::unique_ptr<State> state_;
    };

  private:
    struct Code;
    std::shared_ptr<const Code> code_;
};

/// The pattern in the syntax of PCRE2; SplitPattern() compiles it. Throws as SplitPattern() does.
std::string translate_pattern(std::string_view pattern, const std::string& what);

}  // namespace pastur
