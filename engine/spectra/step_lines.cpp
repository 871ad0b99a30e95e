#include "engine/spectra/step_lines.h"

#include <algorithm>
#include <fstream>

#include "engine/io/json_text.h"
#include "engine/io/logger.h"
#include "kernels/base/error.h"

namespace pastur {

int64_t StepLines::open(int64_t step) {
    make_folders(path_.parent_path());
    truncate_after(path_, step);
    file_ = std::make_unique<AppendFile>(path_);
    std::ifstream lines(path_, std::ios::binary);
    if (!lines) fail_io("cannot open", path_.string());
    int64_t last = -1;
    for (std::string line; std::getline(lines, line);)
        if (const nlohmann::json object = parse_json(line); object.is_object())
            last = std::max(last, integer_or_minus_one(object, "step"));
    if (lines.bad()) fail_io("cannot read", path_.string());
    return last;
}

void StepLines::append(const std::vector<nlohmann::ordered_json>& objects) {
    std::string text;
    for (const nlohmann::ordered_json& object : objects) text += metrics_line(object) + "\n";
    file_->write(text);
}

}  // namespace pastur
