#include "engine/io/text_lines.h"

#include <algorithm>
#include <string>

#include "data/files.h"

namespace pastur {

int64_t for_each_line(const std::filesystem::path& file, size_t max_bytes,
                      const std::function<void(std::string_view)>& use) {
    std::string line;
    bool too_long = false;
    int64_t skipped = 0;
    const auto end_line = [&] {
        if (too_long)
            ++skipped;
        else
            use(line);
        line.clear();
        too_long = false;
    };
    read_in_chunks(file, [&](std::string_view block) {
        while (!block.empty()) {
            const size_t newline = block.find('\n');
            const std::string_view part = block.substr(0, newline);
            too_long = too_long || line.size() + part.size() > max_bytes;
            if (!too_long) line.append(part);
            block.remove_prefix(newline == block.npos ? block.size() : newline + 1);
            if (newline != block.npos) end_line();
        }
    });
    if (too_long || !line.empty()) end_line();
    return skipped;
}

}  // namespace pastur
