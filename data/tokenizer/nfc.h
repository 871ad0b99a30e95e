#pragma once
#include <string>
#include <string_view>

namespace pastur {

/// `text`, which is valid UTF-8, in Unicode's normalization form C, as Unicode 9.0 defined it: later marks do not combine.
/// Returns `text` itself where it is in that form,
/// otherwise a view of `scratch`. Takes memory for the normalised text, and 4 to 16 bytes for each character of the
/// longest run without one that never combines (ASCII, CJK and most others do not).
std::string_view to_nfc(std::string_view text, std::string& scratch);

}  // namespace pastur
