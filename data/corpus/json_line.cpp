#include "data/corpus/json_line.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <simdjson.h>

#include <algorithm>
#include <cctype>
#include <charconv>
#include <vector>

#include "data/corpus/utf8.h"

namespace pastur {

const size_t kJsonPadding = simdjson::SIMDJSON_PADDING;

namespace {

/// Walks over a line that JSON parsers refuse. Each step returns false where the line is not a JSON object.
class Scanner {
  public:
    explicit Scanner(std::string_view line) : in_(line) {}

    /// Visits the members of the object, which must be all there is: visit(key) is called at each value and
    /// walks over it.
    template <typename Visit>
    bool object(const Visit& visit) {
        space();
        if (!take('{')) return false;
        space();
        if (!take('}')) {
            std::string key;
            do {
                bool ignored = false;
                space();
                if (!string(&key, ignored)) return false;
                space();
                if (!take(':')) return false;
                space();
                if (!visit(key)) return false;
                space();
            } while (take(','));
            if (!take('}')) return false;
        }
        space();
        return in_.empty();
    }
    bool at_string() const { return in_.starts_with('"'); }

    /// A string; decodes it into `out` unless that is null. Sets `repaired` where a lone surrogate became
    /// U+FFFD.
    bool string(std::string* out, bool& repaired) {
        if (!take('"')) return false;
        if (out) out->clear();
        while (!in_.empty()) {
            const size_t end = in_.find_first_of("\"\\");
            if (end == in_.npos) return false;
            if (out) out->append(in_.substr(0, end));
            const bool closed = in_[end] == '"';
            in_.remove_prefix(end + 1);
            if (closed) return true;
            if (!escape(out, repaired)) return false;
        }
        return false;
    }

    /// Any value. Inside arrays and objects only strings and matching brackets are looked at.
    bool value() {
        bool ignored = false;
        if (at_string()) return string(nullptr, ignored);
        if (!in_.starts_with('{') && !in_.starts_with('[')) return word();
        std::string open;  // the closing brackets that are due
        do {
            if (in_.empty()) return false;
            if (at_string()) {
                if (!string(nullptr, ignored)) return false;
                continue;
            }
            const char c = in_.front();
            if (c == '{' || c == '[') open += c == '{' ? '}' : ']';
            if (c == '}' || c == ']') {
                if (c != open.back()) return false;
                open.pop_back();
            }
            in_.remove_prefix(1);
        } while (!open.empty());
        return true;
    }

  private:
    void space() { in_.remove_prefix(std::min(in_.find_first_not_of(" \t\r\n"), in_.size())); }
    bool take(char c) {
        if (!in_.starts_with(c)) return false;
        in_.remove_prefix(1);
        return true;
    }
    /// A number, true, false, null, and their kin: NaN, -Infinity, 0x1p3.
    bool word() {
        size_t length = 0;
        while (length < in_.size() && (std::isalnum(static_cast<unsigned char>(in_[length])) ||
                                       std::string_view("+-._").find(in_[length]) != std::string_view::npos))
            ++length;
        in_.remove_prefix(length);
        return length > 0;
    }
    /// The characters behind a backslash.
    bool escape(std::string* out, bool& repaired) {
        constexpr std::string_view kNames = "\"\\/bfnrt", kMeanings = "\"\\/\b\f\n\r\t";
        if (in_.empty()) return false;
        const char c = in_.front();
        in_.remove_prefix(1);
        if (c == 'u') return unicode_escape(out, repaired);
        const size_t which = kNames.find(c);
        if (which == kNames.npos) return false;
        if (out) *out += kMeanings[which];
        return true;
    }
    bool hex(uint32_t& value) {
        if (in_.size() < 4) return false;
        const auto [end, error] = std::from_chars(in_.data(), in_.data() + 4, value, 16);
        if (error != std::errc{} || end != in_.data() + 4) return false;
        in_.remove_prefix(4);
        return true;
    }
    bool unicode_escape(std::string* out, bool& repaired) {
        uint32_t unit = 0, low = 0;
        if (!hex(unit)) return false;
        const auto is_high = [](uint32_t u) { return u >= 0xd800 && u < 0xdc00; };
        const auto is_low = [](uint32_t u) { return u >= 0xdc00 && u < 0xe000; };
        if (is_high(unit) && in_.starts_with("\\u")) {
            const std::string_view before = in_;
            in_.remove_prefix(2);
            if (!hex(low)) return false;
            if (is_low(low)) {
                unit = 0x10000 + ((unit - 0xd800) << 10) + (low - 0xdc00);
            } else {
                in_ = before;
            }
        }
        if (is_high(unit) || is_low(unit)) {
            unit = 0xfffd;
            repaired = true;
        }
        if (out) append_utf8(*out, unit);
        return true;
    }
    std::string_view in_;
};

/// The front of a field's name, for a message.
std::string printable(std::string_view key) {
    std::string name = repair_utf8(utf8_prefix(key, 40));
    std::replace_if(
        name.begin(), name.end(), [](unsigned char c) { return c < 0x20 || c == 0x7f; }, '?');
    return name;
}

/// Reads the field by the scanner into `out`.
JsonText scan(std::string_view line, const std::string& field, std::string& out) {
    JsonText result;
    bool found = false, is_string = false;
    constexpr size_t kShown = 8;
    std::vector<std::string> strings;  // names of other fields that hold one
    Scanner scanner(line);
    const bool object = scanner.object([&](const std::string& key) {
        if (key != field || found) {
            if (scanner.at_string() && strings.size() < kShown) strings.push_back(printable(key));
            return scanner.value();
        }
        found = true;
        is_string = scanner.at_string();
        return is_string ? scanner.string(&out, result.repaired) : scanner.value();
    });
    if (!object) {
        result.problem = "not a JSON object on one line";
    } else if (found && !is_string) {
        result.problem = fmt::format("expected a string in field \"{}\"", field);
    } else if (!found) {
        result.problem = fmt::format("expected a field \"{}\"", field);
        if (!strings.empty())
            result.problem += fmt::format("; --field takes another, here: {}", fmt::join(strings, ", "));
    }
    if (!result.problem.empty()) return result;
    if (!is_utf8(out)) {
        out = repair_utf8(out);
        result.repaired = true;
    }
    result.text = out;
    return result;
}

}  // namespace

namespace {
constexpr size_t kMaxSimdjsonBytes = 1 << 20;
}

struct JsonLineParser::Simdjson {
    simdjson::dom::parser parser{kMaxSimdjsonBytes};
};

JsonLineParser::JsonLineParser(std::string field) : simdjson_(new Simdjson), field_(std::move(field)) {}
JsonLineParser::~JsonLineParser() = default;

JsonText JsonLineParser::parse(std::string_view line) {
    constexpr bool kCopyForPadding = false;
    JsonText result;
    simdjson::dom::element object;
    if (simdjson_->parser.parse(line.data(), line.size(), kCopyForPadding).get(object) == simdjson::SUCCESS &&
        object[field_].get(result.text) == simdjson::SUCCESS)
        return result;
    return scan(line, field_, scanned_);
}

bool is_json_object(std::string_view line) {
    Scanner scanner(line);
    return scanner.object([&](const std::string&) { return scanner.value(); });
}

}  // namespace pastur
