#pragma once
// The text of a run folder's file .owner, and what it says about its process.
#include <cstdint>
#include <string>

namespace pastur {

struct OwnerRecord {
    std::string host, boot, pids;  ///< host name, id of the host's boot, name of the process's PID namespace
    int64_t pid = 0;
    uint64_t started = 0;  ///< start time of the process in clock ticks since boot
    int64_t claim = 0;     ///< RunOwner::token()
    int64_t beat = 0;      ///< grows while the process lives

    /// A process of this host and PID namespace; started is 0 if there is none.
    static OwnerRecord of_process(int64_t pid);
    static OwnerRecord of_this_process();
    /// Every field is 0 or empty if the text is not a record.
    static OwnerRecord parse(const std::string& text);
    /// One line of JSON, of the same length for every beat.
    std::string text() const;

    bool same_claim(const OwnerRecord& other) const {
        return host == other.host && boot == other.boot && pid == other.pid && claim == other.claim;
    }
    /// Whether the process runs under this kernel.
    bool on_this_kernel() const { return !boot.empty() && boot == of_this_process().boot; }
};

enum class ProcessState : uint8_t {
    kUnknown,  ///< of another host or PID namespace
    kGone,
    kEnding,  ///< it was killed or has ended and the kernel still closes its files
    kAlive,
};
ProcessState state_of_process(const OwnerRecord& record);

}  // namespace pastur
