// Checks of configuration values, and their text.
#include <fmt/format.h>

#include <algorithm>

#include "engine/config/config_fields.h"
#include "engine/config/expected_value.h"
#include "engine/config/nearest_name.h"
#include "kernels/base/error.h"

namespace pastur {
namespace {

/// "a number above 0", "an integer from 1 to 65536".
std::string expectation(const Range& range, bool integer) {
    std::string text = integer ? "an integer" : "a number";
    const auto number = [](double x) { return fmt::format("{}", x); };
    const bool bounded = range.high < (integer ? 0x1p62 : kLargest);
    if (range.above) return fmt::format("{} above {}", text, number(range.low));
    if (!bounded) return fmt::format("{}, {} or more", text, number(range.low));
    if (range.below)
        return fmt::format("{} from {} to below {}", text, number(range.low), number(range.high));
    return integer ? fmt::format("{} from {} to {}", text, static_cast<int64_t>(range.low),
                                 static_cast<int64_t>(range.high))
                   : fmt::format("{} from {} to {}", text, number(range.low), number(range.high));
}

bool inside(const Range& range, double x) {
    const bool low = range.above ? x > range.low : x >= range.low;
    return low && (range.below ? x < range.high : x <= range.high);
}

void check_text(const std::string& text, const std::string& where) {
    const bool control = std::any_of(
        text.begin(), text.end(), [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; });
    if (control) fail(ExitCode::kUsage, "{}: expected text without control characters", where);
}

void check_value(const Field&, const std::string&, const std::string&) {}
void check_value(const Field&, bool, const std::string&) {}
template <typename Number>
requires(std::is_arithmetic_v<Number>) void check_value(const Field& field, Number value,
                                                        const std::string& where) {
    if (!inside(field.range, static_cast<double>(value)))
        fail(ExitCode::kUsage, "{}: expected {}", where,
             expectation(field.range, std::is_integral_v<Number>));
    if constexpr (std::is_floating_point_v<Number>) {
        // Kernels compute with it in fp32.
        const auto rounded = static_cast<float>(value);
        if (!inside(field.range, rounded))
            fail(ExitCode::kUsage, "{}: expected {}, also in fp32, where this is {}", where,
                 expectation(field.range, false), rounded);
    }
}
template <typename Item>
void check_value(const Field& field, const std::vector<Item>& list, const std::string& where) {
    for (const Item& item : list) check_value(field, item, where);
}

std::string quoted(const std::string& text) {
    std::string out = "\"";
    for (const char c : text) {
        if (c == '"' || c == '\\') out += '\\';
        out += c;
    }
    return out + '"';
}

std::string float_text(double x) {
    std::string text = fmt::format("{}", x);
    if (text.find_first_of(".en") == std::string::npos) text += ".0";
    return text;
}

std::string text_of(const std::string& text) {
    return quoted(text);
}
std::string text_of(double x) {
    return float_text(x);
}
template <typename Plain>
requires(std::is_integral_v<Plain>) std::string text_of(Plain value) {
    return fmt::format("{}", value);
}
template <typename Item>
std::string text_of(const std::vector<Item>& list) {
    std::vector<std::string> items;
    for (const Item& item : list) items.push_back(text_of(item));
    return fmt::format("[{}]", fmt::join(items, ", "));
}

std::string choice_text(const Field& field) {
    return fmt::format("\"{}\"", fmt::join(field.choices, "\", \""));
}

}  // namespace

std::string expected_value(const Field& field) {
    const auto of_number = [&]<typename T>(T& (*)(Config&)) {
        return expectation(field.range, std::is_integral_v<T>);
    };
    return std::visit(
        [&](auto access) -> std::string {
            using Access = decltype(access);
            if constexpr (std::is_same_v<Access, ChoiceAccess>) {
                return "one of " + choice_text(field);
            } else if constexpr (std::is_same_v<Access, ChoiceListAccess>) {
                return "a list of any of " + choice_text(field);
            } else if constexpr (std::is_same_v<Access, bool& (*)(Config&)>) {
                return "true or false";
            } else if constexpr (std::is_same_v<Access, std::vector<int64_t>& (*)(Config&)>) {
                return "a list, each " + expectation(field.range, true);
            } else if constexpr (std::is_same_v<Access, std::string& (*)(Config&)>) {
                return field.choices.empty() ? "text" : "one of " + choice_text(field);
            } else {
                return of_number(access);
            }
        },
        field.access);
}

size_t index_of_name(const std::string& text, const std::vector<std::string>& names,
                     const std::string& where) {
    const auto found = std::find(names.begin(), names.end(), text);
    if (found == names.end())
        fail(ExitCode::kUsage, "{}: expected one of \"{}\"; did you mean \"{}\"?", where,
             fmt::join(names, "\", \""), nearest_name(text, names));
    return static_cast<size_t>(found - names.begin());
}

void copy_field(const Field& field, const Config& from, Config& to) {
    std::visit(
        [&](auto access) {
            if constexpr (requires { access.get; })
                access.set(to, access.get(from));
            else
                access(to) = access(const_cast<Config&>(from));
        },
        field.access);
}

void set_text(const Field& field, Config& config, const std::string& text, const std::string& where) {
    check_text(text, where);
    if (const auto* choice = std::get_if<ChoiceAccess>(&field.access)) {
        const auto renamed = std::find_if(field.former.begin(), field.former.end(),
                                          [&](const auto& names) { return names.first == text; });
        choice->set(config, index_of_name(renamed == field.former.end() ? text : renamed->second,
                                          field.choices, where));
        return;
    }
    if (!field.choices.empty()) index_of_name(text, field.choices, where);
    std::get<std::string& (*)(Config&)>(field.access)(config) = text;
}

void set_texts(const Field& field, Config& config, const std::vector<std::string>& texts,
               const std::string& where) {
    std::vector<size_t> indices;
    for (const std::string& text : texts) {
        check_text(text, where);
        indices.push_back(index_of_name(text, field.choices, where));
    }
    std::get<ChoiceListAccess>(field.access).set(config, indices);
}

void check_field(const Field& field, const Config& config, const std::string& where) {
    visit_value(field, config, [&](const auto& value) { check_value(field, value, where); });
}

std::string value_text(const Field& field, const Config& config) {
    return visit_value(field, config, [](const auto& value) { return text_of(value); });
}

}  // namespace pastur
