#pragma once
// The secret by which the ranks of a job recognise each other.
#include <cstdint>
#include <string>

namespace pastur {

/// What only the ranks of one job know.
struct JobKey {
    std::string secret = {};  ///< never sent
    uint64_t job = 0;         ///< Slurm's number of the job, or 0; not secret
};

/// Shortest secret that is accepted, in bytes.
inline constexpr size_t kShortestSecret = 16;

/// The secret of ranks that were started by variables: PASTUR_SECRET, else the contents of the file
/// PASTUR_SECRET_FILE, else those of ~/.pastur_secret. A missing file is created with a random secret and
/// mode 0600; of several processes that create it at a time, one does and the others read it. Throws (kUsage)
/// if the secret is too short, or if the file is not a regular file that only this user can read; (kIo).
std::string job_secret();
/// 32 random bytes in hexadecimal.
std::string random_secret();

}  // namespace pastur
