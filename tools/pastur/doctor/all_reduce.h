#pragma once
// Latency and bandwidth of an all-reduce between the ranks of a job.
#include <string>

#include "engine/ranks/comm.h"
#include "tools/pastur/doctor/checks.h"

namespace pastur {

struct AllReduceSpeed {
    std::string transport;  ///< "MPI", "NCCL", "TCP" or "none"
    int ranks = 0;
    double latency_us = 0;  ///< of 8 bytes, median
    double gbytes_per_s =
        0;  ///< of 64 MiB, median: bytes moved by each rank, 2 (ranks - 1) / ranks times those reduced
    bool exact = false;  ///< the sum of small integers is right in every element
};

/// Every rank calls it, and every rank gets its own times. Takes 64 MiB on ctx's device and on the host.
AllReduceSpeed measure_all_reduce(Context& ctx, Comm& comm);

/// Bad if the sum is wrong. what: the check's name.
CheckOutcome outcome_of(const std::string& what, const AllReduceSpeed& speed);

/// One line of JSON, which parse_speed() reads.
std::string to_json_line(const AllReduceSpeed& speed);
/// The last line of `output` that to_json_line() wrote; false if there is none.
bool parse_speed(const std::string& output, AllReduceSpeed& speed);

}  // namespace pastur
