#pragma once
// Text from files, made safe for a terminal.
#include <string>
#include <string_view>

namespace pastur {

/// `text` with every character that may steer a terminal escaped as in JSON and TOML (\u001b, \n): ASCII and C1
/// controls, DEL, invisible characters and those that end a line or change the direction of text. A byte that is
/// not UTF-8 becomes \xff. Characters in `kept` stay. Other text, backslashes included, is unchanged, so a second
/// call changes nothing.
std::string printable(std::string_view text, std::string_view kept = "");

/// printable() that keeps line feeds and tabs, for text of several lines.
std::string printable_lines(std::string_view text);

}  // namespace pastur
