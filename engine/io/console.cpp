#include "engine/io/console.h"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <cstdlib>
#include <mutex>
#include <system_error>
#include <thread>

#include "kernels/base/printable.h"

namespace pastur {
namespace {

/// Bytes of one write(2): a page, which a pipe with any room takes at once.
constexpr size_t kPiece = 4096;
constexpr std::chrono::seconds kPatience(1);

bool is_file(int descriptor) {
    struct stat status {};
    return ::fstat(descriptor, &status) == 0 && S_ISREG(status.st_mode);
}

bool shows_status(int descriptor) {
    const char* const terminal = std::getenv("TERM");
    return ::isatty(descriptor) == 1 && terminal && std::string_view(terminal) != "dumb";
}

size_t terminal_width(int descriptor) {
    winsize size{};
    return ::ioctl(descriptor, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
}

/// Returns the errno of a failure, else 0.
int write_all(int descriptor, std::string_view text) {
    while (!text.empty()) {
        const ssize_t written = ::write(descriptor, text.data(), text.size());
        if (written < 0 && errno == EINTR) continue;
        if (written < 0) return errno;
        text.remove_prefix(static_cast<size_t>(written));
    }
    return 0;
}

}  // namespace

/// Shared with the thread, which stays in write(2) for ever if nothing is read any more.
struct Console::Queue {
    std::mutex mutex;
    std::condition_variable changed;
    std::string waiting;  ///< from `taken` on
    size_t taken = 0;
    int64_t left_out = 0;  ///< texts
    std::string status;    ///< the line shown below what was written; empty: none
    bool writing = false, closing = false, has_thread = false;
    int error = 0;

    std::string eraser() const { return status.empty() ? "" : "\r\033[K"; }
    bool idle() const { return taken == waiting.size() && !writing; }
    void work(int descriptor);
};

void Console::Queue::work(int descriptor) {
    std::unique_lock<std::mutex> lock(mutex);
    for (;;) {
        changed.wait(lock, [this] { return taken < waiting.size() || closing; });
        if (taken == waiting.size()) return;
        const std::string piece = waiting.substr(taken, kPiece);
        taken += piece.size();
        if (2 * taken >= waiting.size()) {
            waiting.erase(0, taken);
            taken = 0;
        }
        writing = true;
        lock.unlock();
        const int failure = write_all(descriptor, piece);
        lock.lock();
        writing = false;
        if (error == 0) error = failure;
        changed.notify_all();
    }
}

Console::Console(int descriptor)
    : descriptor_(descriptor),
      waits_(!is_file(descriptor)),
      has_status_(shows_status(descriptor)),
      queue_(std::make_shared<Queue>()) {}

Console::~Console() {
    flush();
    const std::lock_guard<std::mutex> lock(queue_->mutex);
    queue_->closing = true;
    queue_->changed.notify_all();
}

void Console::write(std::string_view text) {
    const std::string safe = printable_lines(text);
    const std::lock_guard<std::mutex> lock(queue_->mutex);
    if (queue_->status.empty()) return put(*queue_, safe);
    put(*queue_, queue_->eraser() + safe + queue_->status);
}

void Console::set_status(const std::string& line) {
    if (!has_status_) return;
    const std::lock_guard<std::mutex> lock(queue_->mutex);
    const std::string erased = queue_->eraser();
    // The last column stays free: some terminals wrap as soon as it is filled.
    queue_->status = printable(line).substr(0, terminal_width(descriptor_) - 1);
    put(*queue_, erased + queue_->status);
}

void Console::keep_status() {
    const std::lock_guard<std::mutex> lock(queue_->mutex);
    if (!queue_->status.empty()) put(*queue_, "\n");
    queue_->status.clear();
}

void Console::report_error(const std::string& text) {
    out().keep_status();
    out().flush();
    err().write(fmt::format("pastur: {}\n", printable(text)));
    err().flush();
}

/// Called with the queue's mutex held. Without a thread, such as at the limit of processes, writes wait.
void Console::start_thread(Queue& queue) {
    try {
        std::thread([shared = queue_, to = descriptor_] { shared->work(to); }).detach();
        queue.has_thread = true;
    } catch (const std::system_error&) {
        waits_ = false;
    }
}

/// Called with the queue's mutex held.
void Console::put(Queue& queue, std::string_view text) {
    if (text.empty()) return;
    if (waits_ && !queue.has_thread) start_thread(queue);
    if (!waits_) {
        const int failure = write_all(descriptor_, text);
        if (queue.error == 0) queue.error = failure;
        return;
    }
    const size_t bytes = queue.waiting.size() - queue.taken;
    if (bytes + text.size() > kQueueBytes) {
        ++queue.left_out;
        return;
    }
    if (queue.left_out > 0)
        queue.waiting +=
            fmt::format("({} lines were dropped here: the output was not being read)\n", queue.left_out);
    queue.left_out = 0;
    queue.waiting += text;
    queue.changed.notify_all();
}

bool Console::flush() {
    Queue& queue = *queue_;
    std::unique_lock<std::mutex> lock(queue.mutex);
    while (!queue.idle()) {
        const size_t before = queue.waiting.size() - queue.taken;
        const auto moved = [&] { return queue.idle() || queue.waiting.size() - queue.taken < before; };
        if (!queue.changed.wait_for(lock, kPatience, moved)) return false;
    }
    return queue.error == 0;
}

int Console::error() const {
    const std::lock_guard<std::mutex> lock(queue_->mutex);
    return queue_->error;
}

Console& Console::out() {
    static Console* const kConsole = new Console(STDOUT_FILENO);
    return *kConsole;
}

Console& Console::err() {
    static Console* const kConsole = new Console(STDERR_FILENO);
    return *kConsole;
}

}  // namespace pastur
