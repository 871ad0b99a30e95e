#include "data/tokenizer/tokenizer_json.h"

#include <fmt/format.h>
#include <simdjson.h>

#include <algorithm>
#include <unordered_map>
#include <unordered_set>

#include "data/corpus/utf8.h"
#include "data/tokenizer/byte_characters.h"
#include "data/tokenizer/nfc.h"
#include "data/tokenizer/sentencepiece_model.h"
#include "kernels/base/error.h"

namespace pastur {
namespace {

using simdjson::dom::array;
using simdjson::dom::element;
using simdjson::dom::object;

constexpr size_t kMostMerges = 1 << 22;
constexpr size_t kMostSteps = 16, kMostAdded = 1 << 16;

std::string printable(std::string_view text) {
    std::string shown(utf8_prefix(text, 40));
    for (char& c : shown)
        if (static_cast<uint8_t>(c) < 0x20 || c == 0x7f) c = '?';
    return shown;
}

/// A value of the file, and where it is.
struct Field {
    element value;
    std::string name;
    const std::string* origin;

    [[noreturn]] void refuse(const std::string& expected) const {
        fail(ExitCode::kCorruptData, "{}: {}: expected {}", *origin, name, expected);
    }
    object as_object() const {
        object result;
        if (value.get(result) != simdjson::SUCCESS) refuse("an object");
        return result;
    }
    array as_array() const {
        array result;
        if (value.get(result) != simdjson::SUCCESS) refuse("a list");
        return result;
    }
    std::string_view as_text() const {
        std::string_view result;
        if (value.get(result) != simdjson::SUCCESS) refuse("a text");
        return result;
    }
    bool is_null() const { return value.is_null(); }

    /// The member, unless it is absent or null.
    std::optional<Field> find(std::string_view key) const {
        element member;
        if (as_object().at_key(key).get(member) != simdjson::SUCCESS || member.is_null()) return std::nullopt;
        return Field{member, fmt::format("{}{}{}", name, name.empty() ? "" : ".", key), origin};
    }
    Field at(std::string_view key) const {
        if (const auto member = find(key)) return *member;
        refuse(fmt::format("a member \"{}\"", key));
    }
    bool flag(std::string_view key, bool otherwise) const {
        const auto member = find(key);
        bool result = otherwise;
        if (member && member->value.get(result) != simdjson::SUCCESS) member->refuse("true or false");
        return result;
    }
    std::string_view type() const { return at("type").as_text(); }
    /// Calls visit(element, i) as fields of the list.
    template <typename Visit>
    void for_each(const Visit& visit) const {
        size_t i = 0;
        for (const element item : as_array()) visit(Field{item, fmt::format("{}[{}]", name, i++), origin});
    }
};

class Reader {
  public:
    Reader(const Field& root, TokenizerJson& result) : root_(root), result_(result) {}

    void run() {
        for (const char* key : {"truncation", "padding"})
            if (const auto field = root_.find(key)) field->refuse("null");
        if (const auto field = root_.find("normalizer")) normalizer(*field);
        const Field model = root_.at("model");
        check_model(model);
        vocabulary(model.at("vocab"));
        unknown_bytes(model);
        merges(model.at("merges"));
        if (const auto field = root_.find("added_tokens")) added_tokens(*field);
        bool byte_level = false;
        if (const auto field = root_.find("pre_tokenizer")) pre_tokenizer(*field, byte_level);
        if (!byte_level)
            Field{root_.value, "pre_tokenizer", root_.origin}.refuse(
                "ByteLevel (only byte-level BPE is supported; a SentencePiece model is read from its "
                "tokenizer.model)");
        if (const auto decoder = root_.find("decoder"); decoder && decoder->type() != "ByteLevel")
            decoder->refuse(fmt::format("ByteLevel, not {}", printable(decoder->type())));
    }

  private:
    void check_model(const Field& model) const {
        if (const auto type = model.find("type"); type && type->as_text() != "BPE")
            type->refuse(fmt::format("BPE, not {}", printable(type->as_text())));
        if (const auto dropout = model.find("dropout")) {
            double value = 0;
            if (dropout->value.get(value) != simdjson::SUCCESS || value != 0) dropout->refuse("null or 0");
        }
        for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"})
            if (const auto field = model.find(key); field && !field->as_text().empty())
                field->refuse("null or an empty text");
        if (model.flag("byte_fallback", false)) model.at("byte_fallback").refuse("false");
        result_.ignore_merges = model.flag("ignore_merges", false);
    }

    void set_text(int64_t id, std::string text) {
        if (result_.texts.size() <= static_cast<size_t>(id))
            result_.texts.resize(static_cast<size_t>(id) + 1);
        result_.texts[static_cast<size_t>(id)] = std::move(text);
    }
    static int64_t id_of(const Field& field, int64_t limit) {
        int64_t id = 0;
        if (field.value.get(id) != simdjson::SUCCESS || id < 0 || id >= limit)
            field.refuse(fmt::format("an id from 0 to {}", limit - 1));
        return id;
    }

    void vocabulary(const Field& vocab) {
        result_.byte_ids.fill(-1);
        // Memory is that of the largest id.
        const int64_t limit =
            std::min(kMaxPieces, (1 << 16) + 4 * static_cast<int64_t>(vocab.as_object().size()));
        for (const auto& [key, value] : vocab.as_object()) {
            const int64_t id =
                id_of({value, fmt::format("{}[\"{}\"]", vocab.name, printable(key)), vocab.origin}, limit);
            if (!ids_.emplace(key, static_cast<int32_t>(id)).second)
                vocab.refuse(fmt::format("\"{}\" once", printable(key)));
            if (static_cast<size_t>(id) < result_.texts.size() && result_.texts[static_cast<size_t>(id)])
                vocab.refuse(fmt::format("one token of id {}", id));
            const std::optional<std::string> bytes = bytes_of_characters(key);
            if (bytes && bytes->size() == 1)
                result_.byte_ids[static_cast<uint8_t>(bytes->front())] = static_cast<int32_t>(id);
            if (bytes) result_.pieces.push_back(static_cast<int32_t>(id));
            set_text(id, bytes ? *bytes : std::string(key));
        }
    }

    /// A byte without a token is the unknown token, if there is one, and otherwise left out, as in the library.
    void unknown_bytes(const Field& model) {
        const auto missing = [](int32_t id) { return id < 0; };
        if (std::none_of(result_.byte_ids.begin(), result_.byte_ids.end(), missing)) return;
        const auto unknown = model.find("unk_token");
        if (!unknown) return;
        const auto found = ids_.find(unknown->as_text());
        if (found == ids_.end()) unknown->refuse("a token of model.vocab");
        if (model.flag("fuse_unk", false)) model.at("fuse_unk").refuse("false");
        std::replace_if(result_.byte_ids.begin(), result_.byte_ids.end(), missing, found->second);
    }

    void merges(const Field& list) {
        std::string merged;
        result_.merges.reserve(std::min(list.as_array().size(), kMostMerges));
        list.for_each([&](const Field& merge) {
            std::string_view left, right, both;
            if (merge.value.get(both) == simdjson::SUCCESS) {
                const size_t space = both.find(' ');
                if (space == both.npos || both.find(' ', space + 1) != both.npos)
                    merge.refuse("two tokens with a space between them");
                left = both.substr(0, space);
                right = both.substr(space + 1);
            } else {
                const array pair = merge.as_array();
                if (pair.size() != 2 || pair.at(0).get(left) != simdjson::SUCCESS ||
                    pair.at(1).get(right) != simdjson::SUCCESS)
                    merge.refuse("two tokens");
            }
            merged.assign(left).append(right);
            const auto id = [&](std::string_view text) {
                const auto found = ids_.find(text);
                if (found == ids_.end())
                    merge.refuse(fmt::format("tokens of model.vocab, which lacks \"{}\"", printable(text)));
                return found->second;
            };
            if (result_.merges.size() == kMostMerges)
                list.refuse(fmt::format("at most {} merges", kMostMerges));
            result_.merges.push_back({id(left), id(right), id(merged)});
        });
    }

    /// Ids are those that Hugging Face tokenizers give, whatever the file says: a token of the vocabulary keeps its id,
    /// others are numbered from the vocabulary's size. A file that says otherwise is refused.
    void added_tokens(const Field& list) {
        int64_t next = std::ssize(ids_);
        std::unordered_set<std::string_view> contents;
        list.for_each([&](const Field& item) {
            AddedToken token;
            token.content = item.at("content").as_text();
            const int64_t id = id_of(item.at("id"), kMaxPieces);
            if (token.content.empty()) return;  // Hugging Face tokenizers pass over it as well
            if (!contents.insert(item.at("content").as_text()).second)
                item.refuse(fmt::format("\"{}\" once", printable(token.content)));
            if (contents.size() > kMostAdded) list.refuse(fmt::format("at most {} tokens", kMostAdded));
            if (item.flag("single_word", false)) item.at("single_word").refuse("false");
            token.special = item.flag("special", false);
            token.normalized = item.flag("normalized", !token.special);
            token.lstrip = item.flag("lstrip", false);
            token.rstrip = item.flag("rstrip", false);
            const auto found = ids_.find(token.content);
            const int64_t expected = found != ids_.end() ? found->second : next;
            next = std::max(next, expected + 1);
            const bool taken = found == ids_.end() && static_cast<size_t>(id) < result_.texts.size() &&
                               result_.texts[static_cast<size_t>(id)];
            if (id != expected || taken)
                item.at("id").refuse(fmt::format("{} for \"{}\"",
                                                 taken ? "an id that no token has" : fmt::to_string(expected),
                                                 printable(token.content)));
            token.id = static_cast<int32_t>(id);
            set_text(id, token.content);
            if (token.special) {
                result_.special.resize(result_.texts.size());
                result_.special[static_cast<size_t>(id)] = true;
            }
            if (token.normalized && result_.nfc) {
                std::string scratch;
                token.content = std::string(to_nfc(token.content, scratch));
            }
            result_.added.push_back(std::move(token));
        });
    }

    void normalizer(const Field& field) {
        const std::string_view type = field.type();
        if (type == "NFC") {
            result_.nfc = true;
        } else if (type == "Sequence") {
            field.at("normalizers").for_each([&](const Field& item) {
                if (item.type() != "NFC") item.refuse(fmt::format("NFC, not {}", printable(item.type())));
                result_.nfc = true;
            });
        } else {
            field.refuse(fmt::format("NFC or null, not {}", printable(type)));
        }
    }

    void pre_tokenizer(const Field& field, bool& byte_level) {
        const std::string_view type = field.type();
        if (byte_level) field.refuse("nothing after ByteLevel");
        if (result_.steps.size() == kMostSteps) field.refuse(fmt::format("at most {} steps", kMostSteps));
        const auto pattern = [&](std::string_view text) {
            return SplitPattern(text, fmt::format("{}: {}", *field.origin, field.name));
        };
        if (type == "Sequence") {
            if (field.name != "pre_tokenizer") field.refuse("no Sequence in a Sequence");
            field.at("pretokenizers").for_each([&](const Field& item) { pre_tokenizer(item, byte_level); });
        } else if (type == "ByteLevel") {
            byte_level = true;
            SplitStep step{field.flag("add_prefix_space", true), std::nullopt};
            if (field.flag("use_regex", true)) step.pattern = pattern(kByteLevelPattern);
            result_.steps.push_back(std::move(step));
        } else if (type == "Digits") {
            result_.steps.push_back(
                {false, pattern(field.flag("individual_digits", false) ? kDigit : kDigits)});
        } else if (type == "Split") {
            if (const Field behavior = field.at("behavior"); behavior.as_text() != "Isolated")
                behavior.refuse(fmt::format("Isolated, not {}", printable(behavior.as_text())));
            const Field given = field.at("pattern");
            if (const auto regex = given.find("Regex"))
                result_.steps.push_back({false, pattern(regex->as_text())});
            else
                result_.steps.push_back({false, pattern(SplitPattern::escape(given.at("String").as_text()))});
        } else {
            field.refuse(
                fmt::format("ByteLevel, Split, Digits or a Sequence of them, not {}", printable(type)));
        }
    }

    static constexpr std::string_view kByteLevelPattern =
        R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";
    // Digits follows Rust's standard library, which knows Unicode 17.0 already.
    static constexpr std::string_view kDigit = R"([\p{N}\x{11de0}-\x{11de9}\x{16ff4}-\x{16ff6}])";
    static constexpr std::string_view kDigits = R"([\p{N}\x{11de0}-\x{11de9}\x{16ff4}-\x{16ff6}]+)";

    const Field root_;
    TokenizerJson& result_;
    std::unordered_map<std::string_view, int32_t> ids_;  ///< of model.vocab; the keys are the parser's
};

}  // namespace

TokenizerJson parse_tokenizer_json(std::string_view json, const std::string& origin) {
    simdjson::dom::parser parser;
    element root;
    const auto error = parser.parse(json.data(), json.size()).get(root);
    if (error != simdjson::SUCCESS)
        fail(ExitCode::kCorruptData, "{}: not a tokenizer.json: {}", origin, simdjson::error_message(error));
    TokenizerJson result;
    Reader({root, "", &origin}, result).run();
    result.special.resize(result.texts.size());
    return result;
}

}  // namespace pastur
