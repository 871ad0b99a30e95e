#include "engine/train/run_owner.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <random>

#include "data/files.h"
#include "data/output.h"
#include "engine/train/owner_record.h"
#include "kernels/base/error.h"

namespace pastur {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

constexpr const char* kOwnerFile = ".owner";
constexpr int64_t kMostBytes = 4096;
/// For a record of a process that ended, while another one holds the lock and is about to write its own.
constexpr std::chrono::milliseconds kUnwritten(3000);

/// Types of file systems that one host uses alone.
bool is_local(const fs::path& folder) {
    constexpr int64_t kXfs = 0x58465342, kZfs = 0x2fc12fc1, kBcachefs = 0xca451a4e, kExfat = 0x2011bab0;
    struct statfs status {};
    if (::statfs(folder.c_str(), &status) != 0) return false;
    for (const int64_t type : std::array<int64_t, 11>{EXT4_SUPER_MAGIC, BTRFS_SUPER_MAGIC, TMPFS_MAGIC,
                                                      OVERLAYFS_SUPER_MAGIC, F2FS_SUPER_MAGIC, RAMFS_MAGIC,
                                                      MSDOS_SUPER_MAGIC, kXfs, kZfs, kBcachefs, kExfat})
        if (static_cast<int64_t>(status.f_type) == type) return true;
    return false;
}

/// Whether the name still leads to the open file.
bool is_at(const fs::path& path, const FileDescriptor& file) {
    struct stat named {
    }, open{};
    return ::stat(path.c_str(), &named) == 0 && ::fstat(file.get(), &open) == 0 &&
           named.st_dev == open.st_dev && named.st_ino == open.st_ino;
}

enum class Lock : uint8_t { kTaken, kHeld, kUnsupported };

/// Locks the file until its descriptor is closed; the lock belongs to the open file, not to a thread.
Lock lock_file(const FileDescriptor& file, const fs::path& path) {
    struct flock whole {};
    whole.l_type = F_WRLCK;
    whole.l_whence = SEEK_SET;
    int status = -1;
    do status = ::fcntl(file.get(), F_OFD_SETLK, &whole);
    while (status != 0 && errno == EINTR);
    if (status == 0) return Lock::kTaken;
    if (errno == EAGAIN || errno == EACCES) return Lock::kHeld;
    if (errno == ENOLCK || errno == EOPNOTSUPP || errno == ENOSYS || errno == EINVAL)
        return Lock::kUnsupported;
    fail_io("cannot lock", path.string());
}

std::string who(const OwnerRecord& record) {
    if (record.host.empty()) return "a process that has not written its name yet";
    return fmt::format("pid {} on host {}", record.pid, record.host);
}

}  // namespace

RunOwner::RunOwner(fs::path folder, const Timing& timing, Sharing sharing)
    : folder_(std::move(folder)), path_(folder_ / kOwnerFile), timing_(timing) {
    token_ = static_cast<int>(std::random_device()() >> 1) | 1;
    try {
        made_folder_ = !path_exists(folder_);
        make_folders(folder_);
        shared_ = sharing == Sharing::kShared || !is_local(folder_);
        do {
            claim();
            wait_for_signs_of_life();
        } while (!is_at(path_, file_));
        write_record();
        if (shared_) {
            std::this_thread::sleep_for(timing_.settle);
            if (const std::string last = read_record(); OwnerRecord::parse(last).claim != token_)
                refuse(last);
            beat_ = std::thread([this] { keep_beating(); });
        }
    } catch (...) {
        release();
        throw;
    }
}

RunOwner::~RunOwner() {
    {
        const std::lock_guard guard(mutex_);
        closing_ = true;
    }
    changed_.notify_all();
    if (beat_.joinable()) beat_.join();
    release();
}

void RunOwner::claim() {
    const Clock::time_point begin = Clock::now();
    while (!open_and_lock()) {
        const std::string text = read_record();
        const OwnerRecord owner = OwnerRecord::parse(text);
        const ProcessState state = state_of_process(owner);
        const bool lives =
            state == ProcessState::kAlive || (state == ProcessState::kUnknown && !owner.host.empty());
        const auto patience = state == ProcessState::kEnding ? timing_.ending : kUnwritten;
        if (lives || Clock::now() - begin > patience) refuse(text);
        std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
}

/// False: another process holds the lock.
bool RunOwner::open_and_lock() {
    while (true) {
        file_ = open_descriptor(path_, O_RDWR | O_CREAT | O_NOFOLLOW | O_NONBLOCK);
        if (!file_ && errno == ENOENT) {  // the owner before has just removed the folder
            made_folder_ = true;
            make_folders(folder_);
            continue;
        }
        if (!file_) fail_io("cannot open", path_.string());
        struct stat status {};
        if (::fstat(file_.get(), &status) != 0) fail_io("cannot examine", path_.string());
        if (!S_ISREG(status.st_mode)) fail(ExitCode::kIo, "{}: expected a regular file", path_.string());
        const Lock lock = lock_file(file_, path_);
        locked_ = lock == Lock::kTaken;
        if (lock == Lock::kHeld) {
            file_.reset();
            return false;
        }
        if (is_at(path_, file_)) return true;  // otherwise the owner before has just removed it
    }
}

void RunOwner::refuse(const std::string& record) const {
    fail(ExitCode::kUsage,
         "end the other process first, or choose another folder with --run: run folder {} in use by {}",
         folder_.string(), who(OwnerRecord::parse(record)));
}

/// Returns once the process that the file names is known to have ended. Refuses the claim if it lives.
void RunOwner::wait_for_signs_of_life() {
    const Clock::time_point begin = Clock::now();
    const std::string first = read_record();
    const OwnerRecord owner = OwnerRecord::parse(first);
    if (first.empty() || (locked_ && (!shared_ || owner.on_this_kernel()))) return;
    while (Clock::now() - begin < timing_.patience) {
        const ProcessState state = state_of_process(owner);
        const std::string now = read_record();
        if (now.empty() || state == ProcessState::kGone) return;
        if (state == ProcessState::kAlive || now != first) refuse(now);
        std::this_thread::sleep_for(std::min(timing_.beat / 4, timing_.patience / 4));
    }
}

void RunOwner::write_record() {
    OwnerRecord record = OwnerRecord::of_this_process();
    record.claim = token_;
    record.beat = beats_++;
    const std::string text = record.text();
    // The record before may be longer. Beats have one length, so a reader never sees a shorter text.
    if (record.beat == 0 && ::ftruncate(file_.get(), static_cast<off_t>(text.size())) != 0)
        fail_io("cannot write", path_.string());
    ssize_t count = -1;
    do count = ::pwrite(file_.get(), text.data(), text.size(), 0);
    while (count < 0 && errno == EINTR);
    if (count >= 0 && static_cast<size_t>(count) < text.size()) errno = ENOSPC;
    if (count != static_cast<ssize_t>(text.size()) || ::fsync(file_.get()) != 0)
        fail_io("cannot write", path_.string());
}

/// The text at the name. Opened for each call, because NFS compares its cache with the server then. Empty if
/// there is no such file.
std::string RunOwner::read_record() const {
    const FileDescriptor file = open_descriptor(path_, O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
    if (!file && (errno == ENOENT || errno == ESTALE)) return "";
    if (!file) fail_io("cannot open", path_.string());
    std::array<char, kMostBytes> text{};
    std::string record(text.data(), read_some(file, text, path_));
    // A file that was extended, but not written yet, holds zeros.
    return record.find_first_not_of('\0') == std::string::npos ? "" : record;
}

void RunOwner::check() const {
    if (!is_at(path_, file_))
        fail(ExitCode::kIo, "the run folder {} was removed or replaced while this run used it",
             folder_.string());
    if (!shared_) return;
    if (const OwnerRecord now = OwnerRecord::parse(read_record()); now.claim != token_)
        fail(ExitCode::kIo, "the run folder {} was claimed by {} while this process did not run",
             folder_.string(), who(now));
}

void RunOwner::check_last_beat() const {
    const std::lock_guard guard(mutex_);
    if (!lost_.empty()) fail(ExitCode::kIo, "{}", lost_);
}

void RunOwner::keep_beating() {
    std::unique_lock lock(mutex_);
    while (!changed_.wait_for(lock, timing_.beat, [this] { return closing_; }) && lost_.empty()) {
        lock.unlock();
        std::string problem;
        try {
            check();
            write_record();
        } catch (const std::exception& error) {
            problem = error.what();
        }
        lock.lock();
        lost_ = problem;
    }
}

/// Whether the file at the name is this claim's to remove.
bool RunOwner::may_remove() const {
    if (!file_ || !is_at(path_, file_)) return false;
    if (locked_ && !shared_) return true;
    try {
        const std::string record = read_record();
        return record.empty() || OwnerRecord::parse(record).claim == token_;
    } catch (const Error&) {
        return false;
    }
}

void RunOwner::release() {
    if (may_remove()) ::unlink(path_.c_str());
    file_.reset();
    if (made_folder_) ::rmdir(folder_.c_str());
}

}  // namespace pastur
