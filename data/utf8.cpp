#include <cstdint>

#include "data/corpus.h"

namespace pastur {
namespace {

/// Length of the well-formed sequence at the front of `text` (Unicode table 3-7), or minus the length of the
/// ill-formed part that one U+FFFD stands for (the "maximal subpart").
int sequence_length(std::string_view text) {
    const auto byte = [&](size_t i) { return i < text.size() ? static_cast<uint8_t>(text[i]) : 0; };
    const uint8_t lead = byte(0);
    if (lead < 0x80) return 1;
    if (lead < 0xc2 || lead > 0xf4) return -1;
    const int length = lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
    // The second byte excludes overlong forms, surrogates and what lies beyond U+10FFFF.
    const uint8_t low = lead == 0xe0 ? 0xa0 : lead == 0xf0 ? 0x90 : 0x80;
    const uint8_t high = lead == 0xed ? 0x9f : lead == 0xf4 ? 0x8f : 0xbf;
    if (byte(1) < low || byte(1) > high) return -1;
    for (int i = 2; i < length; ++i)
        if ((byte(i) & 0xc0) != 0x80) return -i;
    return length;
}

}  // namespace

std::string repair_utf8(std::string_view text) {
    std::string out;
    out.reserve(text.size());
    while (!text.empty()) {
        const int length = sequence_length(text);
        if (length > 0) {
            out.append(text.substr(0, length));
        } else {
            out += "\xef\xbf\xbd";
        }
        text.remove_prefix(length > 0 ? length : -length);
    }
    return out;
}

}  // namespace pastur
