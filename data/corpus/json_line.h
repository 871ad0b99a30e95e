#pragma once
// The text field of one line of JSON. The field itself must be right; the rest of the line need not be.
#include <memory>
#include <string>
#include <string_view>

namespace pastur {

/// Bytes that must be readable behind a line given to JsonLineParser::parse().
extern const size_t kJsonPadding;

/// The text of a line, or why there is none.
struct JsonText {
    std::string_view text = {};  ///< valid UTF-8; until the parser's next call
    bool repaired = false;       ///< a lone surrogate or an ill-formed byte of it is now U+FFFD
    std::string problem = {};    ///< empty when there is a text
};

/// Reads the string `field` of the object on a line; the first of several counts. One a thread.
///
/// Lines of valid JSON are read by simdjson, up to 1 MiB, because it takes 14 times their memory. Otherwise a scanner
/// looks for the field, in the memory of the text alone: it accepts what others
/// write but JSON does not allow (NaN, numbers of any length, control characters, lone surrogates, bytes that
/// are not UTF-8), but not an object that does not end, brackets that do not match or text after the object.
class JsonLineParser {
  public:
    explicit JsonLineParser(std::string field);
    ~JsonLineParser();
    JsonText parse(std::string_view line);

  private:
    struct Simdjson;
    std::unique_ptr<Simdjson> simdjson_;
    std::string field_, scanned_;
};

/// True when the line holds one JSON object, as the scanner sees it, and nothing else.
bool is_json_object(std::string_view line);

}  // namespace pastur
