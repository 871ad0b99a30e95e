#pragma once
// Where the time of training steps goes.
#include <chrono>
#include <cstdint>

namespace pastur {

/// Means are taken over a window: the steps ended since restart().
class StepClock {
  public:
    using Clock = std::chrono::steady_clock;

    void begin_step() {
        begin_ = Clock::now();
        data_ = diagnostics_ = {};
    }
    /// Adds the step's time to the window; time until the next begin_step() is not counted.
    void end_step() {
        total_.step_s += seconds(Clock::now() - begin_);
        total_.data_s += seconds(data_);
        total_.diagnostics_s += seconds(diagnostics_);
        ++steps_;
    }
    /// Counts the time of read() as waiting for data.
    template <typename Read>
    auto data(const Read& read) {
        const Span span(data_);
        return read();
    }
    /// Counts the time of measure() as lost to diagnostics.
    template <typename Measure>
    auto diagnostics(const Measure& measure) {
        const Span span(diagnostics_);
        return measure();
    }

    struct Times {
        double step_s = 0, data_s = 0, diagnostics_s = 0;
    };
    /// Mean over the steps of the window, which must not be empty.
    Times means() const {
        const auto steps = static_cast<double>(steps_);
        return {total_.step_s / steps, total_.data_s / steps, total_.diagnostics_s / steps};
    }
    void restart() {
        total_ = {};
        steps_ = 0;
    }

  private:
    /// Adds the object's lifetime to a duration.
    class Span {
      public:
        explicit Span(Clock::duration& sum) : sum_(sum) {}
        ~Span() { sum_ += Clock::now() - begin_; }
        Span(const Span&) = delete;
        Span& operator=(const Span&) = delete;

      private:
        Clock::duration& sum_;
        Clock::time_point begin_ = Clock::now();
    };
    static double seconds(Clock::duration duration) {
        return std::chrono::duration<double>(duration).count();
    }

    Clock::time_point begin_;
    Clock::duration data_{}, diagnostics_{};  ///< of the current step
    Times total_;                             ///< of the window
    int64_t steps_ = 0;
};

}  // namespace pastur
