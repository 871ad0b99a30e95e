#include "engine/spectra/step_lines.h"

#include <fstream>

#include "engine/io/json_text.h"
#include "engine/io/logger.h"
#include "kernels/base/error.h"

namespace pastur {

void StepLines::open(int64_t step, const Use& use) {
    make_folders(path_.parent_path());
    truncate_after(path_, step);
    file_ = std::make_unique<AppendFile>(path_);
    std::ifstream lines(path_, std::ios::binary);
    if (!lines) fail_io("cannot open", path_.string());
    for (std::string line; std::getline(lines, line);) use(parse_json<nlohmann::ordered_json>(line));
    if (lines.bad()) fail_io("cannot read", path_.string());
}

void StepLines::append(const std::vector<nlohmann::ordered_json>& objects) {
    std::string text;
    for (const nlohmann::ordered_json& object : objects) text += metrics_line(object) + "\n";
    file_->write(text);
}

}  // namespace pastur
