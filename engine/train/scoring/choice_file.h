#pragma once
// Multiple-choice questions out of JSON lines.
#include <cstdint>
#include <string>
#include <vector>

namespace pastur {

/// What a line looks like, by its fields. Contexts and choices are those of lm-evaluation-harness.
enum class ChoiceFormat : uint8_t {
    kHellaSwag,  ///< activity_label, ctx_a and ctx_b (or ctx), endings, label: "<label>: <ctx>", without marks in brackets
    kArc,    ///< question, choices {text, label}, answerKey: "Question: <question>\nAnswer:"
    kPiqa,   ///< goal, sol1, sol2, label: "Question: <goal>\nAnswer:"
    kPlain,  ///< context, choices, answer (an index from 0)
};
const char* name_of(ChoiceFormat format);

/// All texts are valid UTF-8.
struct ChoiceDocument {
    int64_t line;  ///< of the file, from 1
    std::string context;
    std::vector<std::string> choices;        ///< at least two, none empty; what lengths are counted of
    std::vector<std::string> continuations;  ///< the choices as they follow the context, a space in front
    size_t answer;                           ///< index of the right choice
};

struct ChoiceFile {
    ChoiceFormat format;  ///< of every line
    std::vector<ChoiceDocument> documents;
};

/// The first `limit` questions of a file of JSON lines (0: all), plain, gzip or Zstandard; blank lines are passed over. In
/// kPlain a space goes between context and choice unless there is white space already. Lines have at most 1 MiB; memory is
/// about three times the text. Throws (kMissingInput, kIo), and (kCorruptData), naming file and line, for a line that is not
/// JSON, has not the fields of the first line's format, or names no choice as its answer, and for a file without questions.
ChoiceFile read_choices(const std::string& path, int64_t limit);

}  // namespace pastur
