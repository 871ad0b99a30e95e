#pragma once
// What the first rank of each host tells rank 0, and how hosts differ.
#include <string>
#include <utility>
#include <vector>

#include "tools/pastur/doctor/checks.h"

namespace pastur {

struct HostReport {
    std::string host;
    int ranks = 1;     ///< of the job, on this host
    int gpus = 0;      ///< that a rank can use
    double clock = 0;  ///< the host's time in seconds, taken at one moment on all hosts
    /// What should be equal on all hosts of a job, by name: versions, processors, GPUs and their limits.
    std::vector<std::pair<std::string, std::string>> facts = {};
    std::vector<CheckOutcome> outcomes = {};
};

/// The facts of this host. device: kCpu leaves out the GPUs.
std::vector<std::pair<std::string, std::string>> host_facts(Device device);

/// A warning for every fact that is not the same on all hosts, naming each value and its hosts; one good outcome that names
/// the equal ones; and the clocks. Nothing for one host. `hosts` is not empty.
std::vector<CheckOutcome> compare_hosts(const std::vector<HostReport>& hosts);

/// One text, for Sideband, and the report of such a text.
std::string pack(const HostReport& report);
HostReport unpack(const std::string& text);

}  // namespace pastur
