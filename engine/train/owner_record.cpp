#include "engine/train/owner_record.h"

#include <fmt/format.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <system_error>
#include <vector>

#include "engine/io/host_name.h"
#include "engine/io/json_text.h"

namespace pastur {
namespace {

namespace fs = std::filesystem;

std::string first_line(const char* path) {
    std::ifstream file(path);
    std::string line;
    std::getline(file, line);
    return line;
}

/// The fields of /proc/<pid>/stat from the third (state) on; empty if there is no such process.
std::vector<std::string> stat_fields(int64_t pid) {
    std::string line = first_line(fmt::format("/proc/{}/stat", pid).c_str());
    const size_t name_end = line.rfind(')');  // the name may contain blanks and parentheses
    if (name_end == std::string::npos) return {};
    std::istringstream rest(line.substr(name_end + 1));
    std::vector<std::string> fields;
    for (std::string field; rest >> field;) fields.push_back(field);
    return fields;
}

// Fields 3, 9, 22 and 31 of proc(5).
constexpr size_t kStateField = 0, kFlagsField = 6, kStartField = 19, kPendingField = 28;

uint64_t number(const std::string& text) {
    return std::strtoull(text.c_str(), nullptr, 10);
}

std::string text_member(const nlohmann::json& json, const char* key) {
    const auto value = json.find(key);
    return value != json.end() && value->is_string() ? value->get<std::string>() : "";
}

int64_t count_member(const nlohmann::json& json, const char* key) {
    const auto value = json.find(key);
    return value != json.end() && value->is_number_integer() ? value->get<int64_t>() : 0;
}

}  // namespace

OwnerRecord OwnerRecord::of_process(int64_t pid) {
    OwnerRecord record;
    record.host = host_name();
    record.boot = first_line("/proc/sys/kernel/random/boot_id");
    std::error_code ignored;
    record.pids = fs::read_symlink("/proc/self/ns/pid", ignored).string();
    record.pid = pid;
    const std::vector<std::string> fields = stat_fields(record.pid);
    record.started = fields.size() > kStartField ? number(fields[kStartField]) : 0;
    return record;
}

OwnerRecord OwnerRecord::of_this_process() {
    return of_process(::getpid());
}

OwnerRecord OwnerRecord::parse(const std::string& text) {
    const nlohmann::json json = parse_json(text);
    if (!json.is_object()) return {};
    OwnerRecord record;
    record.host = text_member(json, "host");
    record.boot = text_member(json, "boot");
    record.pids = text_member(json, "pids");
    record.pid = count_member(json, "pid");
    record.started = static_cast<uint64_t>(count_member(json, "started"));
    record.claim = count_member(json, "claim");
    record.beat = count_member(json, "beat");
    return record;
}

std::string OwnerRecord::text() const {
    const nlohmann::ordered_json fixed = {{"host", host}, {"pid", pid},   {"started", started},
                                          {"boot", boot}, {"pids", pids}, {"claim", claim}};
    std::string line = fixed.dump(-1, ' ', true, nlohmann::json::error_handler_t::replace);
    line.pop_back();
    return fmt::format("{}, \"beat\":{:>12}}}\n", line, beat);
}

ProcessState state_of_process(const OwnerRecord& record) {
    const OwnerRecord here = OwnerRecord::of_this_process();
    if (record.boot.empty() || record.boot != here.boot || record.pids != here.pids)
        return ProcessState::kUnknown;
    const std::vector<std::string> fields = stat_fields(record.pid);
    if (fields.size() <= kPendingField || number(fields[kStartField]) != record.started)
        return ProcessState::kGone;
    constexpr uint64_t kExiting = 4, kKilled = 1 << (SIGKILL - 1);  // PF_EXITING; a signal that is pending
    const bool ending = fields[kStateField] == "Z" || fields[kStateField] == "X" ||
                        (number(fields[kFlagsField]) & kExiting) != 0 ||
                        (number(fields[kPendingField]) & kKilled) != 0;
    return ending ? ProcessState::kEnding : ProcessState::kAlive;
}

}  // namespace pastur
