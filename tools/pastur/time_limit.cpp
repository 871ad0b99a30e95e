#include "tools/pastur/time_limit.h"

#include <algorithm>
#include <charconv>
#include <optional>
#include <string_view>
#include <vector>

#include "kernels/base/error.h"

namespace pastur {
namespace {

constexpr double kMinute = 60, kHour = 3600, kDay = 86400, kMost = 3650 * kDay;

/// Removes a decimal number from the beginning of `text`.
std::optional<double> take_number(std::string_view& text) {
    if (text.empty() || (text.front() != '.' && (text.front() < '0' || text.front() > '9')))
        return std::nullopt;
    double value = 0;
    const auto [end, error] =
        std::from_chars(text.data(), text.data() + text.size(), value, std::chars_format::fixed);
    if (error != std::errc()) return std::nullopt;
    text.remove_prefix(static_cast<size_t>(end - text.data()));
    return value;
}

std::optional<double> seconds_of_unit(std::string_view unit) {
    if (unit == "s" || unit == "sec") return 1;
    if (unit == "m" || unit == "min") return kMinute;
    if (unit == "h") return kHour;
    if (unit == "d") return kDay;
    return std::nullopt;
}

/// "1h30m": numbers with units that fall, or a single number of seconds.
std::optional<double> parse_units(std::string_view text) {
    double total = 0, smallest = kMost;
    bool first = true;
    while (!text.empty()) {
        const std::optional<double> number = take_number(text);
        if (!number) return std::nullopt;
        if (first && text.empty()) return *number;
        first = false;
        const size_t length = std::min(text.find_first_of("0123456789."), text.size());
        const std::optional<double> unit = seconds_of_unit(text.substr(0, length));
        if (!unit || *unit >= smallest) return std::nullopt;
        smallest = *unit;
        total += *number * *unit;
        text.remove_prefix(length);
    }
    return first ? std::nullopt : std::optional(total);
}

/// "30:00", "00:30:00", "1-12:00:00": whole numbers, below 60 after the first colon.
std::optional<double> parse_clock(std::string_view text) {
    double days = 0;
    if (const size_t dash = text.find('-'); dash != std::string_view::npos) {
        std::string_view front = text.substr(0, dash);
        const std::optional<double> number = take_number(front);
        if (!number || !front.empty()) return std::nullopt;
        days = *number;
        text.remove_prefix(dash + 1);
    }
    std::vector<int> parts;
    for (bool more = true; more;) {
        const size_t colon = std::min(text.find(':'), text.size());
        int value = 0;
        const auto [end, error] = std::from_chars(text.data(), text.data() + colon, value);
        if (error != std::errc() || end != text.data() + colon || text.front() == '-') return std::nullopt;
        if (!parts.empty() && value >= 60) return std::nullopt;
        parts.push_back(value);
        more = colon < text.size();
        text.remove_prefix(more ? colon + 1 : colon);
    }
    if (parts.size() < 2 || parts.size() > 3 || (days > 0 && parts.size() != 3)) return std::nullopt;
    double total = 0;
    for (const int part : parts) total = total * 60 + part;
    return days * kDay + total;
}

}  // namespace

double parse_time_limit(const std::string& text, const std::string& where) {
    const std::optional<double> seconds =
        text.find(':') == std::string::npos ? parse_units(text) : parse_clock(text);
    if (!seconds || *seconds <= 0 || *seconds > kMost)
        fail(ExitCode::kUsage, "{}: expected a time above 0 such as 1800 (seconds), 30m, 1h30m or 00:30:00",
             where);
    return *seconds;
}

}  // namespace pastur
