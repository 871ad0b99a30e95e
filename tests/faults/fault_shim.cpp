// Tests preload this library into the program (LD_PRELOAD). It makes a file operation fail or fills the disk.
//
//     PASTUR_FAULT_UNDER  absolute folder: operations on files elsewhere are neither counted nor changed
//     PASTUR_FAULT_AT     number of the operation that fails, counted from 1
//     PASTUR_FAULT_KIND   eio: this operation fails with EIO, later ones work
//                         full: this operation and all later ones that take space fail with ENOSPC. If the
//                         first of them is a write, it writes half of its bytes, as on a disk that fills up
//                         nothing: this write and all later ones write no byte and set no error
//                         stop: from this operation on, a file STOP exists; only checks for STOP are counted
//                         kill: the process is killed (SIGKILL) before this operation; if it is a write, after
//                         half of its bytes
//                         record: no fault; every change and every fsync is appended to the log, and written
//                         bytes with it, for a replay of what a power loss may leave
//                         lockless: the kernel locks no file (ENOLCK), as some shared file systems
//     PASTUR_FAULT_LOG    file to which "<operation> <path>" is appended when the fault happens
//
// PASTUR_FAULT_SIGNAL=<number> raises a signal before main(). PASTUR_FAULT_THREADS=<n> lets n threads run at the same
// time, next to the main thread; starting another one fails with EAGAIN, as at the limit of processes.
// PASTUR_FAULT_MISSING=<end of a path>: opening such a file for reading fails with ENOENT.
//
// eio counts open (also fopen and openat), read, pread, write, pwrite, fsync, rename, mkdir, and close of a file
// that was written since its last fsync, because no other close can lose data. full counts open that may
// create a file, write, pwrite and mkdir. nothing counts write and pwrite. kill counts what changes a file or a
// folder: open that creates or empties a file, write, pwrite, ftruncate, rename, unlink, rmdir, mkdir.
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <climits>
#include <csignal>
#include <cstdarg>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <string>

namespace {

template <typename Function>
Function* next(const char* name) {
    return reinterpret_cast<Function*>(dlsym(RTLD_NEXT, name));
}

using Open = int(const char*, int, ...);
using OpenAt = int(int, const char*, int, ...);

struct Plan {
    std::string under, log;
    long at = 0;
    bool full = false, nothing = false, stop = false, kill = false, record = false, lockless = false;
};
/// The settings. They are never destroyed, because files are still closed while the program exits.
const Plan& plan() {
    static const Plan* const kPlan = [] {
        const auto text = [](const char* name) {
            const char* value = std::getenv(name);
            return std::string(value ? value : "");
        };
        return new Plan{text("PASTUR_FAULT_UNDER"),
                        text("PASTUR_FAULT_LOG"),
                        std::atol(text("PASTUR_FAULT_AT").c_str()),
                        text("PASTUR_FAULT_KIND") == "full",
                        text("PASTUR_FAULT_KIND") == "nothing",
                        text("PASTUR_FAULT_KIND") == "stop",
                        text("PASTUR_FAULT_KIND") == "kill",
                        text("PASTUR_FAULT_KIND") == "record",
                        text("PASTUR_FAULT_KIND") == "lockless"};
    }();
    return *kPlan;
}

bool is_under(const std::string& path) {
    return !plan().under.empty() && path.compare(0, plan().under.size(), plan().under) == 0;
}

std::string path_of(int descriptor) {
    char target[PATH_MAX];
    const ssize_t length =
        readlink(("/proc/self/fd/" + std::to_string(descriptor)).c_str(), target, sizeof target);
    return {target, length > 0 ? static_cast<size_t>(length) : 0};
}

std::string absolute(int folder, const char* path) {
    if (path[0] == '/') return path;
    char here[PATH_MAX] = "";
    const std::string parent = folder != AT_FDCWD ? path_of(folder) : getcwd(here, sizeof here) ? here : "";
    return parent + "/" + path;
}

/// State of a descriptor: its file is outside the folder, or has no unsynced writes, or has unsynced writes.
enum Kind : char { kElsewhere, kClean, kDirty };
std::array<std::atomic<char>, 4096> kinds;

Kind kind_of(int descriptor) {
    return descriptor >= 0 && descriptor < static_cast<int>(kinds.size())
               ? static_cast<Kind>(kinds[static_cast<size_t>(descriptor)].load())
               : kElsewhere;
}
void set_kind(int descriptor, Kind kind) {
    if (descriptor >= 0 && descriptor < static_cast<int>(kinds.size()))
        kinds[static_cast<size_t>(descriptor)] = static_cast<char>(kind);
}

std::atomic<long> operations{0};

/// Counts an operation and returns its number; logs the operation that is to fail.
long count(const char* operation, const std::string& path) {
    const long number = ++operations;
    if (number == plan().at) {
        const std::string line = std::string(operation) + " " + path + "\n";
        const int log = next<Open>("open")(plan().log.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0666);
        if (next<decltype(::write)>("write")(log, line.data(), line.size()) < 0) abort();
        next<decltype(::close)>("close")(log);
    }
    return number;
}

/// Counts an operation. Returns whether it is to fail, and sets errno.
bool fails(const char* operation, const std::string& path, bool takes_space) {
    const bool other = plan().stop || plan().nothing || plan().kill || plan().record;
    if (plan().at <= 0 || other || (plan().full && !takes_space)) return false;
    const long number = count(operation, path);
    errno = plan().full ? ENOSPC : EIO;
    return plan().full ? number >= plan().at : number == plan().at;
}

void append_to_log(const std::string& text) {
    static const int log =
        next<Open>("open")(plan().log.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    for (size_t at = 0; at < text.size();) {
        const ssize_t count = next<decltype(::write)>("write")(log, text.data() + at, text.size() - at);
        if (count < 0) abort();
        at += static_cast<size_t>(count);
    }
}

std::mutex recording;

/// Performs a change of a file or folder. Under `kill`, ends the process instead; under `record`, logs it in the
/// order in which changes happen: fields separated by tabs and, for a write, the bytes after the line.
template <typename Call>
auto change(const std::string& operation, const std::string& path, Call call, const std::string& more = "",
            const std::string& bytes = "") {
    if (plan().kill && count(operation.c_str(), path) == plan().at) ::kill(::getpid(), SIGKILL);
    if (!plan().record) return call();
    const std::lock_guard guard(recording);
    const auto result = call();
    const int error = errno;
    if (result >= 0) append_to_log(operation + "\t" + path + "\t" + more + "\n" + bytes);
    errno = error;
    return result;
}

mode_t mode_of(int flags, va_list arguments) {
    return flags & (O_CREAT | O_TMPFILE) ? static_cast<mode_t>(va_arg(arguments, int)) : 0;
}

template <typename Call>
int open_or_fail(const std::string& path, int flags, Call call) {
    const bool under = is_under(path);
    const char* const missing = std::getenv("PASTUR_FAULT_MISSING");
    if (missing && (flags & O_ACCMODE) == O_RDONLY && path.ends_with(missing)) {
        errno = ENOENT;
        return -1;
    }
    if (under && fails("open", path, (flags & O_CREAT) != 0)) return -1;
    struct stat status {};
    const bool writes = (flags & O_ACCMODE) != O_RDONLY, exists = ::stat(path.c_str(), &status) == 0;
    const bool creates = writes && (flags & O_CREAT) && !exists,
               empties = writes && (flags & O_TRUNC) && exists;
    const int descriptor = under && creates   ? change("create", path, call)
                           : under && empties ? change("truncate", path, call, "0")
                                              : call();
    set_kind(descriptor, under ? kClean : kElsewhere);
    return descriptor;
}

/// Writes at `offset` (-1: at the end or the current position), as planned by `kill` and `record`.
template <typename Call>
ssize_t write_or_die(int descriptor, const void* buffer, size_t bytes, off_t offset, Call call) {
    const std::string path = path_of(descriptor);
    struct stat status {};
    if (offset < 0)
        offset = (::fcntl(descriptor, F_GETFL) & O_APPEND) != 0 && ::fstat(descriptor, &status) == 0
                     ? status.st_size
                     : ::lseek(descriptor, 0, SEEK_CUR);
    if (plan().kill && operations + 1 == plan().at) call(bytes / 2);
    return change(
        "write", path, [&] { return call(bytes); }, std::to_string(offset) + "\t" + std::to_string(bytes),
        plan().record ? std::string(static_cast<const char*>(buffer), bytes) : "");
}

/// Writes, or fails as planned: returns -1 or, for the first write on a full disk, writes half of the bytes.
template <typename Call>
ssize_t write_or_fail(int descriptor, const void* buffer, size_t bytes, off_t offset, Call call) {
    if (kind_of(descriptor) == kElsewhere) return call(bytes);
    if (plan().kill || plan().record) return write_or_die(descriptor, buffer, bytes, offset, call);
    set_kind(descriptor, kDirty);
    if (plan().nothing && count("write", path_of(descriptor)) >= plan().at) {
        errno = ENOENT;  // left behind by an earlier call
        return 0;
    }
    if (!fails("write", path_of(descriptor), true)) return call(bytes);
    const int error = errno;
    if (plan().full && operations == plan().at && bytes > 1) return call(bytes / 2);
    errno = error;
    return -1;
}

FILE* fopen_or_fail(const char* name, const char* path, const char* mode) {
    const std::string full = absolute(AT_FDCWD, path);
    const bool under = is_under(full), writes = std::strpbrk(mode, "wa+") != nullptr;
    if (under && fails("open", full, writes)) return nullptr;
    FILE* file = next<decltype(::fopen)>(name)(path, mode);
    if (file) set_kind(fileno(file), under ? kClean : kElsewhere);
    return file;
}

std::atomic<int> threads{0};

struct Start {
    void* (*body)(void*);
    void* argument;
};
void* run_counted(void* given) {
    const Start start = *static_cast<Start*>(given);
    delete static_cast<Start*>(given);
    void* const result = start.body(start.argument);
    --threads;
    return result;
}

[[gnu::constructor]] void raise_signal() {
    if (const char* number = std::getenv("PASTUR_FAULT_SIGNAL")) raise(std::atoi(number));
}

}  // namespace

extern "C" {

int pthread_create(pthread_t* thread, const pthread_attr_t* attributes, void* (*body)(void*),
                   void* argument) {
    const auto create = next<decltype(::pthread_create)>("pthread_create");
    const char* const most = std::getenv("PASTUR_FAULT_THREADS");
    if (!most) return create(thread, attributes, body, argument);
    if (++threads > std::atoi(most)) {
        --threads;
        return EAGAIN;
    }
    const int status = create(thread, attributes, run_counted, new Start{body, argument});
    if (status != 0) --threads;
    return status;
}

int open(const char* path, int flags, ...) {
    va_list arguments;
    va_start(arguments, flags);
    const mode_t mode = mode_of(flags, arguments);
    va_end(arguments);
    return open_or_fail(absolute(AT_FDCWD, path), flags,
                        [&] { return next<Open>("open")(path, flags, mode); });
}
int open64(const char* path, int flags, ...) {
    va_list arguments;
    va_start(arguments, flags);
    const mode_t mode = mode_of(flags, arguments);
    va_end(arguments);
    return open_or_fail(absolute(AT_FDCWD, path), flags,
                        [&] { return next<Open>("open64")(path, flags, mode); });
}
int openat(int folder, const char* path, int flags, ...) {
    va_list arguments;
    va_start(arguments, flags);
    const mode_t mode = mode_of(flags, arguments);
    va_end(arguments);
    return open_or_fail(absolute(folder, path), flags,
                        [&] { return next<OpenAt>("openat")(folder, path, flags, mode); });
}
FILE* fopen(const char* path, const char* mode) {
    return fopen_or_fail("fopen", path, mode);
}
FILE* fopen64(const char* path, const char* mode) {
    return fopen_or_fail("fopen64", path, mode);
}
ssize_t read(int descriptor, void* buffer, size_t bytes) {
    if (kind_of(descriptor) != kElsewhere && fails("read", path_of(descriptor), false)) return -1;
    return next<decltype(::read)>("read")(descriptor, buffer, bytes);
}

ssize_t pread(int descriptor, void* buffer, size_t bytes, off_t offset) {
    if (kind_of(descriptor) != kElsewhere && fails("pread", path_of(descriptor), false)) return -1;
    return next<decltype(::pread)>("pread")(descriptor, buffer, bytes, offset);
}
ssize_t write(int descriptor, const void* buffer, size_t bytes) {
    return write_or_fail(descriptor, buffer, bytes, -1, [&](size_t count) {
        return next<decltype(::write)>("write")(descriptor, buffer, count);
    });
}
ssize_t pwrite(int descriptor, const void* buffer, size_t bytes, off_t offset) {
    return write_or_fail(descriptor, buffer, bytes, offset, [&](size_t count) {
        return next<decltype(::pwrite)>("pwrite")(descriptor, buffer, count, offset);
    });
}
ssize_t pwrite64(int descriptor, const void* buffer, size_t bytes, off64_t offset) {
    return write_or_fail(descriptor, buffer, bytes, offset, [&](size_t count) {
        return next<decltype(::pwrite64)>("pwrite64")(descriptor, buffer, count, offset);
    });
}
int fsync(int descriptor) {
    if (kind_of(descriptor) != kElsewhere) {
        if (fails("fsync", path_of(descriptor), false)) return -1;
        set_kind(descriptor, kClean);
        if (plan().record)
            return change("fsync", path_of(descriptor),
                          [&] { return next<decltype(::fsync)>("fsync")(descriptor); });
    }
    return next<decltype(::fsync)>("fsync")(descriptor);
}
int close(int descriptor) {
    const Kind kind = kind_of(descriptor);
    const std::string path = kind == kDirty ? path_of(descriptor) : "";
    set_kind(descriptor, kElsewhere);
    const int status = next<decltype(::close)>("close")(descriptor);
    return kind == kDirty && fails("close", path, false) ? -1 : status;
}
int rename(const char* from, const char* to) {
    const std::string path = absolute(AT_FDCWD, to);
    if (!is_under(path)) return next<decltype(::rename)>("rename")(from, to);
    if (fails("rename", path, false)) return -1;
    return change(
        "rename", absolute(AT_FDCWD, from), [&] { return next<decltype(::rename)>("rename")(from, to); },
        path);
}
int ftruncate(int descriptor, off_t size) noexcept {
    const auto call = [&] { return next<decltype(::ftruncate)>("ftruncate")(descriptor, size); };
    return kind_of(descriptor) == kElsewhere
               ? call()
               : change("truncate", path_of(descriptor), call, std::to_string(size));
}
int unlink(const char* path) noexcept {
    const auto call = [&] { return next<decltype(::unlink)>("unlink")(path); };
    const std::string full = absolute(AT_FDCWD, path);
    return is_under(full) ? change("remove", full, call) : call();
}
int unlinkat(int folder, const char* path, int flags) noexcept {
    const auto call = [&] { return next<decltype(::unlinkat)>("unlinkat")(folder, path, flags); };
    const std::string full = absolute(folder, path);
    return is_under(full) ? change("remove", full, call) : call();
}
int rmdir(const char* path) noexcept {
    const auto call = [&] { return next<decltype(::rmdir)>("rmdir")(path); };
    const std::string full = absolute(AT_FDCWD, path);
    return is_under(full) ? change("remove", full, call) : call();
}
int remove(const char* path) noexcept {
    const auto call = [&] { return next<decltype(::remove)>("remove")(path); };
    const std::string full = absolute(AT_FDCWD, path);
    return is_under(full) ? change("remove", full, call) : call();
}
int fcntl64(int descriptor, int command, ...) {
    va_list arguments;
    va_start(arguments, command);
    void* const argument = va_arg(arguments, void*);  // as glibc does
    va_end(arguments);
    // The program calls fcntl before the C library knows the environment, which plan() reads once.
    if (command == F_OFD_SETLK && plan().lockless) {
        errno = ENOLCK;
        return -1;
    }
    return next<int(int, int, ...)>("fcntl64")(descriptor, command, argument);
}
int fcntl(int descriptor, int command, ...) {
    va_list arguments;
    va_start(arguments, command);
    void* const argument = va_arg(arguments, void*);
    va_end(arguments);
    return fcntl64(descriptor, command, argument);
}
int access(const char* path, int mode) noexcept {
    const std::string full = absolute(AT_FDCWD, path);
    if (plan().stop && is_under(full) && full.ends_with("/STOP"))
        return count("look for", full) >= plan().at ? 0 : -1;
    return next<decltype(::access)>("access")(path, mode);
}
int mkdir(const char* path, mode_t mode) noexcept {
    const std::string full = absolute(AT_FDCWD, path);
    if (!is_under(full)) return next<decltype(::mkdir)>("mkdir")(path, mode);
    if (fails("mkdir", full, true)) return -1;
    return change("mkdir", full, [&] { return next<decltype(::mkdir)>("mkdir")(path, mode); });
}

}  // extern "C"
