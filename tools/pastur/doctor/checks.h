#pragma once
// What `pastur doctor` looks at. Every check ends in outcomes; none throws for what it finds.
#include <cstdint>
#include <filesystem>
#include <string>
#include <utility>
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
    std::string text;                                          ///< what was found
    std::string advice = {};                                   ///< what to do about it; empty if good
    std::vector<std::pair<std::string, double>> numbers = {};  ///< what was measured, by name and unit
    int ranks = 0;                                             ///< that it was measured between
};
const char* name_of(CheckOutcome::State state);

/// The file of a program on PATH; empty: there is none.
std::string on_path(const std::string& name);

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

/// An all-reduce between two processes of this host that `mpirun` starts: over MPI on CPUs and, unless `device` is kCpu, over
/// NCCL between two GPUs. A process group that has not finished after `timeout_s` counts as hung and is ended. Where there is
/// no mpirun, or fewer than two GPUs, the outcome says so.
std::vector<CheckOutcome> check_all_reduce(Device device, double timeout_s);

}  // namespace pastur
