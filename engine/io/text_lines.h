#pragma once
// Lines of text files that may hold anything.
#include <cstdint>
#include <filesystem>
#include <functional>
#include <string_view>

namespace pastur {

/// Calls use(line), without the newline, for every line of at most max_bytes; the last one needs no newline. Returns
/// the number of longer lines, which are passed over in blocks. Throws (kMissingInput, kIo).
int64_t for_each_line(const std::filesystem::path& file, size_t max_bytes,
                      const std::function<void(std::string_view)>& use);

}  // namespace pastur
