#include "engine/train/scoring/choice_file.h"

#include <algorithm>
#include <charconv>
#include <optional>

#include "data/corpus/corpus.h"
#include "engine/io/json_text.h"
#include "engine/train/scoring/text_rules.h"
#include "kernels/base/error.h"
#include "kernels/base/printable.h"

namespace pastur {
namespace {

using nlohmann::json;

/// A line's object, and where it is.
struct Line {
    const std::string& path;
    int64_t number;
    json object = {};

    template <typename... Args>
    [[noreturn]] void fail(fmt::format_string<Args...> format, Args&&... args) const {
        pastur::fail(ExitCode::kCorruptData, "{}:{}: {}", path, number,
                     printable(fmt::format(format, std::forward<Args>(args)...)));
    }
    bool has(const char* key) const { return object.contains(key); }
    const json& at(const json& from, const char* key, const char* expected) const {
        const auto found = from.find(key);
        if (found == from.end()) fail("expected a field \"{}\", {}", key, expected);
        return *found;
    }
    std::string text(const char* key) const {
        const json& value = at(object, key, "a string");
        if (!value.is_string()) fail("expected a string in field \"{}\"", key);
        return value.get<std::string>();
    }
    std::vector<std::string> texts(const json& from, const char* key) const {
        const json& value = at(from, key, "a list of strings");
        std::vector<std::string> all;
        for (const json& item : value) {
            if (!value.is_array() || !item.is_string())
                fail("expected a list of strings in field \"{}\"", key);
            all.push_back(item.get<std::string>());
        }
        return all;
    }
    /// An index of `count` choices: a number or, as some files have it, its digits.
    size_t index(const char* key, size_t count) const {
        const json& value = at(object, key, "the index of the right choice");
        int64_t index = -1;
        if (value.is_number_integer()) index = value.get<int64_t>();
        if (value.is_string()) {
            const auto& digits = value.get_ref<const std::string&>();
            const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), index);
            if (error != std::errc{} || end != digits.data() + digits.size()) index = -1;
        }
        if (index < 0 || index >= static_cast<int64_t>(count))
            fail("expected an index from 0 to {} in field \"{}\", that of the right choice", count - 1, key);
        return static_cast<size_t>(index);
    }
};

ChoiceFormat format_of(const Line& line) {
    if (line.has("endings")) return ChoiceFormat::kHellaSwag;
    if (line.has("goal")) return ChoiceFormat::kPiqa;
    if (line.has("question")) return ChoiceFormat::kArc;
    if (line.has("context")) return ChoiceFormat::kPlain;
    line.fail(
        "expected the fields of HellaSwag (ctx_a, ctx_b, activity_label, endings, label), of ARC (question, choices, "
        "answerKey), of PIQA (goal, sol1, sol2, label), or context, choices, answer");
}

void replace_all(std::string& text, std::string_view from, std::string_view to) {
    std::string out;
    size_t begin = 0;
    for (size_t at; (at = text.find(from, begin)) != text.npos; begin = at + from.size()) {
        out.append(text, begin, at - begin);
        out += to;
    }
    text = out.append(text, begin);
}

/// Without the shortest parts from a bracket to the next closing one on the same line.
std::string without_brackets(const std::string& text) {
    std::string out;
    for (size_t at = 0; at < text.size();) {
        const size_t stop = text[at] == '[' ? text.find_first_of("]\n", at) : text.npos;
        if (stop != text.npos && text[stop] == ']') {
            at = stop + 1;
        } else {
            // No mark can begin before the end of this line, so none is searched for again.
            const size_t next =
                text[at] == '[' ? std::min(stop, text.size()) : std::min(text.find('[', at), text.size());
            out.append(text, at, next - at);
            at = next;
        }
    }
    return out;
}

/// What the harness makes of WikiHow's marks.
std::string clean(std::string_view text) {
    std::string out(stripped(text));
    replace_all(out, " [title]", ". ");
    out = without_brackets(out);
    replace_all(out, "  ", " ");
    return out;
}

void read_hellaswag(const Line& line, ChoiceDocument& document) {
    const bool parts = line.has("ctx_a") && line.has("ctx_b");
    const std::string context =
        parts ? line.text("ctx_a") + " " + capitalized(line.text("ctx_b")) : line.text("ctx");
    const std::string label = line.has("activity_label") ? line.text("activity_label") + ": " : "";
    document.context = clean(label + context);
    for (const std::string& ending : line.texts(line.object, "endings"))
        document.choices.push_back(clean(ending));
    document.answer = line.index("label", document.choices.size());
}

void read_arc(const Line& line, ChoiceDocument& document) {
    document.context = "Question: " + line.text("question") + "\nAnswer:";
    const json& choices = line.at(line.object, "choices", "an object of two lists, text and label");
    document.choices = line.texts(choices, "text");
    const std::vector<std::string> labels = line.texts(choices, "label");
    if (labels.size() != document.choices.size())
        line.fail("expected as many labels as texts of choices, {}: there are {}", document.choices.size(),
                  labels.size());
    const std::string key = line.text("answerKey");
    const auto found = std::find(labels.begin(), labels.end(), key);
    if (found == labels.end())
        line.fail("expected the label of a choice in field \"answerKey\": it is \"{}\"", key);
    document.answer = static_cast<size_t>(found - labels.begin());
}

void read_piqa(const Line& line, ChoiceDocument& document) {
    document.context = "Question: " + line.text("goal") + "\nAnswer:";
    document.choices = {line.text("sol1"), line.text("sol2")};
    document.answer = line.index("label", 2);
}

void read_plain(const Line& line, ChoiceDocument& document) {
    document.context = line.text("context");
    document.choices = line.texts(line.object, "choices");
    document.answer = line.index("answer", document.choices.size());
}

ChoiceDocument read_document(const Line& line, ChoiceFormat format) {
    ChoiceDocument document{line.number, {}, {}, {}, 0};
    switch (format) {
        case ChoiceFormat::kHellaSwag:
            read_hellaswag(line, document);
            break;
        case ChoiceFormat::kArc:
            read_arc(line, document);
            break;
        case ChoiceFormat::kPiqa:
            read_piqa(line, document);
            break;
        case ChoiceFormat::kPlain:
            read_plain(line, document);
            break;
    }
    if (document.choices.size() < 2)
        line.fail("expected two choices or more: there are {}", document.choices.size());
    const std::string& context = document.context;
    const bool ends_in_space = length_without_space(context) < context.size();
    for (const std::string& choice : document.choices) {
        if (choice.empty()) line.fail("expected text in choice {}", document.continuations.size());
        const bool begins_with_space = stripped(choice).data() != choice.data();
        const bool joined =
            format == ChoiceFormat::kPlain && (context.empty() || ends_in_space || begins_with_space);
        document.continuations.push_back(joined ? choice : " " + choice);
    }
    return document;
}

}  // namespace

const char* name_of(ChoiceFormat format) {
    switch (format) {
        case ChoiceFormat::kHellaSwag:
            return "HellaSwag";
        case ChoiceFormat::kArc:
            return "ARC";
        case ChoiceFormat::kPiqa:
            return "PIQA";
        case ChoiceFormat::kPlain:
            return "plain";
    }
    return "";
}

namespace {

/// The question on a line; empty for a blank line. `format` is set by the first one.
std::optional<ChoiceDocument> read_line(const std::string& path, int64_t number, std::string_view text,
                                        std::optional<ChoiceFormat>& format) {
    constexpr std::string_view kByteOrderMark = "\xef\xbb\xbf";
    if (number == 1 && text.starts_with(kByteOrderMark)) text.remove_prefix(kByteOrderMark.size());
    if (text.find_first_not_of(" \t\r") == text.npos) return std::nullopt;
    Line line{path, number};
    if (text.size() > kMaxJsonBytes) line.fail("expected a line of at most 1 MiB");
    line.object = parse_json(text);
    if (!line.object.is_object()) line.fail("expected a JSON object on one line");
    if (!format) format = format_of(line);
    return read_document(line, *format);
}

}  // namespace

ChoiceFile read_choices(const std::string& path, int64_t limit) {
    constexpr int64_t kBatchBytes = 1 << 20;
    const auto most = static_cast<size_t>(limit > 0 ? limit : INT64_MAX);
    CorpusFormat lines;
    lines.format = DocumentFormat::kJsonLines;
    CorpusReader reader({path}, lines);
    RawDocuments batch;
    std::optional<ChoiceFormat> format;
    std::vector<ChoiceDocument> documents;
    while (documents.size() < most && reader.next(batch, kBatchBytes))
        for (size_t i = 0; i < batch.documents.size() && documents.size() < most; ++i) {
            const RawDocuments::Span& span = batch.documents[i];
            const std::string_view text = std::string_view(batch.bytes).substr(span.begin, span.size);
            if (std::optional<ChoiceDocument> document = read_line(path, span.line, text, format))
                documents.push_back(std::move(*document));
        }
    if (!format) fail(ExitCode::kCorruptData, "{}: expected a question: it has none", path);
    return {*format, std::move(documents)};
}

}  // namespace pastur
