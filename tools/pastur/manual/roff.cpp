#include "tools/pastur/manual/roff.h"

#include <fmt/chrono.h>
#include <fmt/format.h>

#include <cctype>
#include <charconv>
#include <cstdint>
#include <cstdlib>
#include <ctime>
#include <sstream>

#include "engine/train/environment.h"

namespace pastur {
namespace {

constexpr size_t kLineWidth = 78;

/// Builds of the same sources on other days can write the same pages.
std::time_t date_of_pages() {
    const std::string_view fixed = std::getenv("SOURCE_DATE_EPOCH") ? std::getenv("SOURCE_DATE_EPOCH") : "";
    int64_t seconds = 0;
    const auto [end, error] = std::from_chars(fixed.data(), fixed.data() + fixed.size(), seconds);
    constexpr int64_t kLastYear = 253402300799;  // 9999
    const bool usable = error == std::errc() && end == fixed.data() + fixed.size() && seconds >= 0 &&
                        seconds <= kLastYear && !fixed.empty();
    return usable ? static_cast<std::time_t>(seconds) : std::time(nullptr);
}

}  // namespace

std::string roff(std::string_view text) {
    std::string out;
    for (const char c : text) {
        if (c == '\\')
            out += "\\e";
        else if (c == '-')
            out += "\\-";
        else if (c == '`')
            out += "\\(ga";
        else if (c == '\'')
            out += "\\(aq";
        else if (c == '~')
            out += "\\(ti";
        else if (c == '^')
            out += "\\(ha";
        else
            out += c;
    }
    return out;
}

std::string bold(std::string_view text) {
    return "\\fB" + roff(text) + "\\fR";
}

std::string italic(std::string_view text) {
    return "\\fI" + roff(text) + "\\fR";
}

std::string filled(const std::string& markup) {
    std::string out, line;
    const auto end_line = [&] {
        // A line that begins with a dot would be a request.
        if (!line.empty()) out += (line[0] == '.' ? "\\&" : "") + line + "\n";
        line.clear();
    };
    std::istringstream words(markup);
    for (std::string word; words >> word;) {
        if (!line.empty() && line.size() + 1 + word.size() > kLineWidth) end_line();
        line += (line.empty() ? "" : " ") + word;
    }
    end_line();
    return out;
}

std::string tagged(const std::string& tag, const std::string& body) {
    return ".TP\n" + tag + "\n" + filled(body);
}

std::string title_line(const std::string& name, int section) {
    std::string upper = name;
    for (char& c : upper) c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
    // Without hyphenation and justification, so options and keys can be searched for.
    return fmt::format(".TH {} {} \"{:%Y-%m-%d}\" \"pastur {}\" \"Pastur\"\n.nh\n.ad l\n", roff(upper),
                       section, fmt::gmtime(date_of_pages()), version());
}

}  // namespace pastur
