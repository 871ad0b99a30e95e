#pragma once
// One process at a time uses a run folder: rank 0 claims it before the first look and keeps it to its end.
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <filesystem>
#include <mutex>
#include <string>
#include <thread>

#include "data/file_descriptor.h"

namespace pastur {

/// A claim on a run folder, made with the file .owner in it.
///
/// The kernel's lock on that file decides between processes of one host, and between hosts where the file
/// system hands locks to its server, as NFS does by default. The kernel drops the lock when the process ends,
/// however it ends. The file says who owns the folder: host, process and the process's start time.
///
/// A file system may grant locks that only its own host sees (NFS mounted with nolock or local_lock), or none.
/// On every file system that hosts may share, the owner therefore also writes a number to the file every
/// `beat`. A claim by a host that sees no lock, but the record of another host, waits for `patience` and is
/// refused if the record changes meanwhile. Of two simultaneous claims, the one whose record was overwritten
/// after `settle` is refused.
class RunOwner {
  public:
    struct Timing {
        std::chrono::milliseconds beat{2000}, patience{15000}, settle{2000};
        std::chrono::milliseconds ending{30000};  ///< wait for an owner that has been killed and is ending
    };
    enum class Sharing : uint8_t {
        kAsMounted,  ///< judged by the type of the file system
        kShared,     ///< other hosts may use the folder
    };

    /// Claims the folder and creates it if it is missing. Throws (kUsage) with host and process of the owner if
    /// another process that lives has claimed it; (kIo).
    explicit RunOwner(std::filesystem::path folder) : RunOwner(std::move(folder), Timing()) {}
    RunOwner(std::filesystem::path folder, const Timing& timing, Sharing sharing = Sharing::kAsMounted);
    /// Gives the folder up. Removes it if the claim created it and it is empty.
    ~RunOwner();
    RunOwner(const RunOwner&) = delete;
    RunOwner& operator=(const RunOwner&) = delete;

    /// A random number above 0 that names this claim.
    int token() const { return token_; }

    /// Throws (kIo) unless the folder is still there and this claim still stands. A claim can be lost while the
    /// process is stopped for longer than `patience` on a file system whose locks other hosts do not see.
    void check() const;
    /// Throws (kIo) if the last beat found the claim lost. Accesses no file.
    void check_last_beat() const;

  private:
    void claim();
    bool open_and_lock();
    [[noreturn]] void refuse(const std::string& record) const;
    void wait_for_signs_of_life();
    void write_record();
    bool may_remove() const;
    void release();
    void keep_beating();
    std::string read_record() const;

    std::filesystem::path folder_, path_;
    Timing timing_;
    bool shared_ = false, locked_ = false, made_folder_ = false;
    int token_ = 0;
    int64_t beats_ = 0;
    FileDescriptor file_;

    mutable std::mutex mutex_;
    std::condition_variable changed_;
    bool closing_ = false;
    std::string lost_;  ///< why the claim no longer stands; empty: it does
    std::thread beat_;
};

}  // namespace pastur
