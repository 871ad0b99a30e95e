#pragma once
// What `pastur doctor` looks at. Every check ends in outcomes; none throws for what it finds.
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "kernels/base/context.h"

namespace pastur {

struct CheckOutcome {
    enum class State : uint8_t {
        kGood,
        kWarning,  ///< training starts, but something is slower or less safe than it could be
        kBad,      ///< training cannot start
    };
    std::string what;  ///< such as "memory"
    State state;
    std::string text;         ///< what was found
    std::string advice = {};  ///< what to do about it; empty if good
};
const char* name_of(CheckOutcome::State state);

/// Such as "22.7 of 23.5 GiB": what is free of the whole.
std::string free_gib(const MemoryInfo& memory);

/// The program's version, and cores, memory, shared memory, clock, launchers and sockets of this host.
std::vector<CheckOutcome> check_machine();

/// Every GPU, and eigenvalues of one matrix on the device that `device` names against LAPACK's or, on the CPU, against
/// the trace. No GPU is bad if `device` is kCuda.
std::vector<CheckOutcome> check_devices(Device device);

/// Free space of the folder, its speed of writing and of fsync, and its clock against this host's. Writes a file of 64 MiB
/// there and removes it.
std::vector<CheckOutcome> check_disk(const std::filesystem::path& folder);

}  // namespace pastur
