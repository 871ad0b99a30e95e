#pragma once
// Console output that never blocks training.
#include <memory>
#include <string>
#include <string_view>

namespace pastur {

/// Output to a terminal, a pipe or a file. A file takes every byte at once. Otherwise a thread writes from a
/// queue; when the queue is full because nothing is read, whole texts are dropped, and their number is printed
/// once there is room again. (mpirun stops reading its ranks' output when it is told to end; a rank that waited
/// for it would not reach its checkpoint.)
class Console {
  public:
    explicit Console(int descriptor);
    /// Waits as flush() does.
    ~Console();
    Console(const Console&) = delete;
    Console& operator=(const Console&) = delete;

    /// Whole lines, or anything if no status is set. Control characters, such as those of a name from a file, are
    /// escaped; see printable_lines().
    void write(std::string_view text);

    /// Whether a status can be shown: on a terminal that understands escape sequences (TERM is not "dumb").
    bool has_status() const { return has_status_; }
    /// Overrides the choice: pseudo-terminals that write to a file look like terminals.
    void set_has_status(bool has_status) { has_status_ = has_status; }
    /// Shows a line below everything written, in place of the one before, cut to the terminal's width; "":
    /// removes it. Does nothing without has_status().
    void set_status(const std::string& line);
    /// Lets the status stand: what follows begins on a new line.
    void keep_status();

    /// "pastur: <text>" as one line on standard error, with line feeds escaped, after everything on standard output. Waits for both.
    static void report_error(const std::string& text);

    /// Waits while output is being read, at most a second per piece. False: not everything was written.
    bool flush();
    /// The errno of the first write that failed; 0: none has.
    int error() const;

    /// Standard output and standard error of this process; never destroyed.
    static Console& out();
    static Console& err();

    /// Capacity of the queue.
    static constexpr size_t kQueueBytes = size_t{1} << 20;

  private:
    struct Queue;
    void put(Queue& queue, std::string_view text);
    void start_thread(Queue& queue);
    int descriptor_;
    bool waits_;  ///< a thread writes, because writes may block
    bool has_status_;
    std::shared_ptr<Queue> queue_;
};

}  // namespace pastur
