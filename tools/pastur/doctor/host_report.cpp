#include "tools/pastur/doctor/host_report.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <omp.h>

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <sstream>

#include "engine/train/environment.h"
#include "engine/train/gpu_telemetry.h"
#include "kernels/base/device_info.h"

namespace pastur {
namespace {

using State = CheckOutcome::State;
using Facts = std::vector<std::pair<std::string, std::string>>;

/// "8 x A, 1 x B": each text and how often it is in the list.
std::string counted(const std::vector<std::string>& texts) {
    std::map<std::string, int> counts;
    for (const std::string& text : texts) ++counts[text];
    std::vector<std::string> parts;
    for (const auto& [text, count] : counts) parts.push_back(fmt::format("{} x {}", count, text));
    return fmt::format("{}", fmt::join(parts, ", "));
}

std::string in_unit(const std::optional<double>& value, const char* unit) {
    return value ? fmt::format("{:.0f} {}", *value, unit) : "unknown";
}

/// The number in "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.90.07  ...".
std::string driver_version(Context& ctx) {
    const nlohmann::json environment = describe_environment(ctx, 1);
    std::istringstream words(environment.at("libraries").value("nvidia_driver", ""));
    for (std::string word; words >> word;)
        if (word.find_first_not_of("0123456789.") == word.npos && word.find('.') != word.npos) return word;
    return "unknown";
}

void add_gpus(Facts& facts) {
    std::vector<std::string> names, clocks, powers;
    std::string driver = "unknown";
    for (int i = 0; i < cuda_device_count(); ++i) {
        Context ctx = make_context(Device::kCuda, i);
        const GpuTelemetry::Limits limits = GpuTelemetry(pci_bus_id(ctx)).limits();
        names.push_back(device_name(ctx));
        clocks.push_back(in_unit(limits.sm_clock_mhz, "MHz"));
        powers.push_back(in_unit(limits.power_w, "W"));
        driver = driver_version(ctx);
    }
    facts.emplace_back("gpus", names.empty() ? "none" : counted(names));
    if (names.empty()) return;
    facts.emplace_back("gpu clock limits", counted(clocks));
    facts.emplace_back("gpu power limits", counted(powers));
    facts.emplace_back("driver", driver);
}

/// "A on n1, n2; B on n3".
std::string values_by_host(const std::vector<HostReport>& hosts, const std::vector<std::string>& values) {
    std::map<std::string, std::vector<std::string>> hosts_of;
    for (size_t i = 0; i < hosts.size(); ++i) hosts_of[values[i]].push_back(hosts[i].host);
    std::vector<std::string> parts;
    for (const auto& [value, names] : hosts_of)
        parts.push_back(fmt::format("{} on {}", value, fmt::join(names, ", ")));
    return fmt::format("{}", fmt::join(parts, "; "));
}

std::string fact_of(const HostReport& host, const std::string& name) {
    for (const auto& [key, value] : host.facts)
        if (key == name) return value;
    return "unknown";
}

CheckOutcome compare_clocks(const std::vector<HostReport>& hosts) {
    const auto [first, last] =
        std::minmax_element(hosts.begin(), hosts.end(),
                            [](const HostReport& a, const HostReport& b) { return a.clock < b.clock; });
    const double apart = last->clock - first->clock;
    const std::string text =
        fmt::format("{:.2f} s apart at most{}", apart,
                    apart < 1 ? "" : fmt::format(": {} is behind, {} is ahead", first->host, last->host));
    if (apart < 1) return {"clocks of hosts", State::kGood, text};
    return {"clocks of hosts", State::kWarning, text, "synchronise the hosts' clocks (NTP, chrony)"};
}

}  // namespace

Facts host_facts(Device device) {
    Facts facts;
    std::istringstream versions(describe_version());
    for (std::string line; std::getline(versions, line);) {
        const size_t colon = line.find(": ");
        if (facts.empty())
            facts.emplace_back("program", line);
        else if (colon != line.npos)
            facts.emplace_back(line.substr(0, colon), line.substr(colon + 2));
    }
    CpuContext cpu;
    const std::string name = device_name(cpu);  // "model (2 threads)"
    facts.emplace_back("cpu", name.substr(0, name.rfind(" (")));
    facts.emplace_back("cores", std::to_string(omp_get_num_procs()));
    facts.emplace_back("threads", std::to_string(cpu.threads()));
    facts.emplace_back(
        "memory", fmt::format("{:.0f} GiB", static_cast<double>(host_memory_info().total_bytes) / (1 << 30)));
    if (device != Device::kCpu) add_gpus(facts);
    return facts;
}

std::vector<CheckOutcome> compare_hosts(const std::vector<HostReport>& hosts) {
    if (hosts.size() == 1) return {};
    std::vector<CheckOutcome> outcomes;
    std::vector<std::string> equal;
    for (const auto& [name, ignored] : hosts.front().facts) {
        std::vector<std::string> values;
        for (const HostReport& host : hosts) values.push_back(fact_of(host, name));
        if (std::equal(values.begin() + 1, values.end(), values.begin())) {
            equal.push_back(name);
            continue;
        }
        outcomes.push_back(
            {name, State::kWarning, values_by_host(hosts, values),
             "make the hosts alike: the slowest sets the speed of all, and versions may change bits"});
    }
    outcomes.insert(outcomes.begin(),
                    {"hosts", State::kGood,
                     fmt::format("{}, equal in {}", hosts.size(),
                                 equal.empty() ? "nothing" : fmt::format("{}", fmt::join(equal, ", ")))});
    outcomes.push_back(compare_clocks(hosts));
    return outcomes;
}

std::string pack(const HostReport& report) {
    nlohmann::json outcomes = nlohmann::json::array();
    for (const CheckOutcome& outcome : report.outcomes)
        outcomes.push_back({outcome.what, static_cast<int>(outcome.state), outcome.text, outcome.advice});
    const nlohmann::json json = {report.host,  report.ranks, report.gpus,
                                 report.clock, report.facts, std::move(outcomes)};
    return json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

HostReport unpack(const std::string& text) {
    const nlohmann::json json = nlohmann::json::parse(text);  // of a rank that has proved to be of this job
    HostReport report{json.at(0), json.at(1), json.at(2), json.at(3), json.at(4)};
    for (const nlohmann::json& outcome : json.at(5))
        report.outcomes.push_back(
            {outcome.at(0), static_cast<State>(outcome.at(1).get<int>()), outcome.at(2), outcome.at(3)});
    return report;
}

}  // namespace pastur
