#pragma once
// How the ranks of a job find each other over TCP: every rank connects to rank 0, and both sides prove that
// they know the job's secret. Authentication only: what is sent afterwards is neither encrypted nor signed.
//
//   rank 0                                     rank r
//   challenge: random bytes            ->
//                                      <-      claim: r, world size, job, channel, own random bytes, proof
//   answer: welcome with proof,        ->
//           or refusal with the reason
//   begin, once every rank is there    ->
//
// A proof is an HMAC-SHA-256, keyed with the secret, of everything that was exchanged before.
#include <array>
#include <string>
#include <vector>

#include "engine/ranks/secret.h"
#include "engine/ranks/sockets.h"

namespace pastur {

/// Each rank has one connection per channel to rank 0.
enum class Channel : uint8_t {
    kSideband,  ///< what MPI or NCCL need to start
    kWatchdog,  ///< signs of life
    kData,      ///< tensors, without MPI and NCCL
};
inline constexpr size_t kChannels = 3;

/// The connections of one rank.
struct Connections {
    int rank = 0, size = 1;
    /// By channel. On rank 0: [r] is the connection to rank r, and [0] is empty. On other ranks: [0] alone.
    std::array<std::vector<FileDescriptor>, kChannels> sockets = {};
    /// "host n1, process 77" by rank. Ranks other than 0 know rank 0's alone.
    std::vector<std::string> places = {};

    std::vector<FileDescriptor>& of(Channel channel) { return sockets[static_cast<size_t>(channel)]; }
};

/// Rank 0: returns once every other rank has connected. Connections are served concurrently, so one that is
/// silent or lies delays no rank and does not extend the timeout. Refuses, with the reason: a wrong secret,
/// another job or world size, a rank that is out of range or that another process has claimed. A claim lasts
/// as long as its connection. Throws (kRankLost) naming the missing ranks and what was refused meanwhile.
Connections host_rendezvous(const Listener& listener, int size, const JobKey& key, double timeout_s);

/// Other ranks: connects to the first address that answers as this job's rank 0 and returns once every rank
/// is there. Throws (kUsage) with the reason as soon as rank 0 refuses, (kRankLost) if it is not found in
/// time or ends early.
Connections join_rendezvous(int rank, int size, const std::vector<std::string>& addresses, int port,
                            const JobKey& key, double timeout_s);

}  // namespace pastur
