#pragma once
// Text of manual pages in the macros of man(7).
#include <string>
#include <string_view>

namespace pastur {

/// The text with all that roff would interpret escaped.
std::string roff(std::string_view text);
std::string bold(std::string_view text);
std::string italic(std::string_view text);

/// `markup`, which is escaped, in lines of at most 78 characters and a line feed after the last.
std::string filled(const std::string& markup);

/// A tagged paragraph; both are markup.
std::string tagged(const std::string& tag, const std::string& body);

/// The head of a page: `.TH NAME SECTION DATE VERSION MANUAL` and how text is set. The date is today's, or that of SOURCE_DATE_EPOCH.
std::string title_line(const std::string& name, int section);

}  // namespace pastur
