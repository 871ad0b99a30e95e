// Checks of the file system that run folders would lie on.
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cmath>
#include <cstring>
#include <ctime>

#include "tools/pastur/doctor/checks.h"

namespace pastur {
namespace {

using State = CheckOutcome::State;
using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point begin) {
    return std::chrono::duration<double>(Clock::now() - begin).count();
}

/// A file without a name after its construction, so nothing is left whatever happens.
class ProbeFile {
  public:
    explicit ProbeFile(const std::filesystem::path& folder) {
        std::string name = (folder / ".pastur-doctor-XXXXXX").string();
        file_ = mkostemp(name.data(), O_CLOEXEC);
        if (file_ >= 0) unlink(name.c_str());
    }
    ~ProbeFile() {
        if (file_ >= 0) close(file_);
    }
    ProbeFile(const ProbeFile&) = delete;
    ProbeFile& operator=(const ProbeFile&) = delete;

    bool is_open() const { return file_ >= 0; }
    bool append(const std::vector<char>& bytes) const {
        for (size_t done = 0; done < bytes.size();) {
            const ssize_t count = write(file_, bytes.data() + done, bytes.size() - done);
            if (count < 0 && errno != EINTR) return false;
            if (count > 0) done += static_cast<size_t>(count);
        }
        return true;
    }
    bool sync() const { return fsync(file_) == 0; }
    /// By how many seconds the file system's clock is ahead of this host's.
    double skew() const {
        struct stat at = {};
        if (fstat(file_, &at) != 0) return 0;
        const double now =
            std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
        return static_cast<double>(at.st_mtim.tv_sec) + static_cast<double>(at.st_mtim.tv_nsec) * 1e-9 - now;
    }

  private:
    int file_ = -1;
};

CheckOutcome failed(const std::filesystem::path& folder) {
    return {"disk", State::kBad, fmt::format("cannot write in {}: {}", folder.string(), std::strerror(errno)),
            "name a folder for runs with --dir"};
}

CheckOutcome check_space(const std::filesystem::path& folder) {
    struct statvfs at = {};
    if (statvfs(folder.c_str(), &at) != 0) return failed(folder);
    const double free = static_cast<double>(at.f_bavail) * static_cast<double>(at.f_frsize);
    const std::string text = fmt::format("{:.1f} GB are free in {}", free / 1e9, folder.string());
    if (free >= 5e9) return {"disk space", State::kGood, text};
    return {"disk space", State::kWarning, text,
            "a checkpoint has 12 bytes per parameter, and checkpoint.keep of them are kept"};
}

CheckOutcome check_write_speed(double megabytes_per_s) {
    const std::string text = fmt::format("{:.0f} MB/s, fsync included", megabytes_per_s);
    if (megabytes_per_s >= 50) return {"disk speed", State::kGood, text};
    return {
        "disk speed", State::kWarning, text,
        "keep run folders on a faster disk, or raise checkpoint.every: a checkpoint is written beside training"};
}

CheckOutcome check_fsync(double seconds) {
    const std::string text = fmt::format("{:.2f} ms for 4 KiB", seconds * 1e3);
    if (seconds < 0.1) return {"fsync", State::kGood, text};
    return {"fsync", State::kWarning, text, "keep run folders on a local disk, or raise run.log_every"};
}

CheckOutcome check_skew(double seconds) {
    const std::string text =
        fmt::format("{:.1f} s {} this host's", std::abs(seconds), seconds > 0 ? "ahead of" : "behind");
    if (std::abs(seconds) < 2) return {"clock of the disk", State::kGood, text};
    return {
        "clock of the disk", State::kWarning, text,
        "synchronise the clocks of this host and the file server: a run counts as ended when its log is old"};
}

}  // namespace

std::vector<CheckOutcome> check_disk(const std::filesystem::path& folder) {
    constexpr int kBlocks = 16, kSyncs = 11;
    const ProbeFile probe(folder);
    if (!probe.is_open()) return {failed(folder)};
    const std::vector<char> block(4 << 20, 'p'), page(4096, 'p');
    const Clock::time_point begin = Clock::now();
    for (int i = 0; i < kBlocks; ++i)
        if (!probe.append(block)) return {failed(folder)};
    if (!probe.sync()) return {failed(folder)};
    const double written = static_cast<double>(kBlocks) * static_cast<double>(block.size()) / 1e6;
    const double speed = written / seconds_since(begin);
    std::vector<double> times;
    for (int i = 0; i < kSyncs; ++i) {
        const Clock::time_point start = Clock::now();
        if (!probe.append(page) || !probe.sync()) return {failed(folder)};
        times.push_back(seconds_since(start));
    }
    std::nth_element(times.begin(), times.begin() + kSyncs / 2, times.end());
    return {check_space(folder), check_write_speed(speed), check_fsync(times[kSyncs / 2]),
            check_skew(probe.skew())};
}

}  // namespace pastur
