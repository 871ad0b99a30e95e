#include "engine/model/decoding/generate.h"

#include <algorithm>
#include <exception>
#include <thread>

#include "engine/model/measure.h"

namespace pastur {
namespace {

using Clock = std::chrono::steady_clock;

/// Logits that a thread should have to read: starting one takes about as long.
constexpr int64_t kLogitsPerThread = 1 << 17;
constexpr int64_t kMostThreads = 8;

/// Calls work(i) for i in [0, count), which reads `logits` numbers, on threads of its own where they are many. Throws
/// what the first call threw.
void for_each_on_threads(size_t count, int64_t logits, const std::function<void(size_t)>& work) {
    const int64_t enough = static_cast<int64_t>(count) * logits / kLogitsPerThread;
    const int64_t cores = std::max<int64_t>(std::thread::hardware_concurrency(), 1);
    const auto threads = static_cast<size_t>(std::clamp<int64_t>(enough, 1, std::min(cores, kMostThreads)));
    std::vector<std::exception_ptr> failures(threads);
    const auto share = [&](size_t thread) {
        try {
            for (size_t i = thread; i < count; i += threads) work(i);
        } catch (...) {
            failures[thread] = std::current_exception();
        }
    };
    {
        std::vector<std::jthread> pool;
        for (size_t thread = 1; thread < threads; ++thread) pool.emplace_back(share, thread);
        share(0);
    }
    for (const std::exception_ptr& failure : failures)
        if (failure) std::rethrow_exception(failure);
}

/// The sequences of one call of generate().
class Sequences {
  public:
    Sequences(Decoder& decoder, const GenerateOptions& options, Generation& result)
        : decoder_(decoder),
          options_(options),
          result_(result),
          next_(static_cast<size_t>(decoder.shape().sequences), 0),
          vocab_(options.vocab > 0 ? std::min(options.vocab, decoder.vocab()) : decoder.vocab()) {}

    /// Draws a token for every sequence that goes on. Returns their number before the draw.
    int64_t draw() {
        std::vector<size_t> going_on;
        for (size_t b = 0; b < next_.size(); ++b)
            if (next_[b] != Decoder::kFinished) going_on.push_back(b);
        const std::vector<int32_t> drawn =
            options_.sampling.temperature == 0 ? most_probable(going_on) : sampled(going_on);
        for (size_t i = 0; i < drawn.size(); ++i) accept(going_on[i], drawn[i]);
        return std::ssize(drawn);
    }
    bool all_finished() const {
        return std::all_of(next_.begin(), next_.end(), [](int32_t id) { return id == Decoder::kFinished; });
    }
    std::span<const int32_t> next() const { return next_; }

  private:
    /// Ids alone leave the device.
    std::vector<int32_t> most_probable(const std::vector<size_t>& going_on) {
        const std::span<const int32_t> ids = decoder_.most_probable(vocab_);
        std::vector<int32_t> drawn;
        for (const size_t b : going_on) {
            if (ids[b] < 0) fail_not_finite();
            drawn.push_back(ids[b]);
        }
        return drawn;
    }
    std::vector<int32_t> sampled(const std::vector<size_t>& going_on) {
        const std::span<const float> logits = decoder_.read_logits();
        std::vector<int32_t> drawn(going_on.size());
        for_each_on_threads(going_on.size(), vocab_, [&](size_t i) {
            const size_t b = going_on[i];
            const auto row =
                logits.subspan(b * static_cast<size_t>(decoder_.vocab()), static_cast<size_t>(vocab_));
            const auto position = static_cast<uint64_t>(decoder_.length(static_cast<int64_t>(b)));
            drawn[i] = sample(row, options_.sampling, options_.first_sequence + b, position);
        });
        return drawn;
    }

    void accept(size_t b, int32_t token) {
        Continuation& sequence = result_.sequences[b];
        const auto finish = [&](StopReason reason) {
            sequence.stop = reason;
            next_[b] = Decoder::kFinished;
        };
        next_[b] = token;
        if (std::find(options_.eos.begin(), options_.eos.end(), token) != options_.eos.end())
            return finish(StopReason::kEos);
        sequence.tokens.push_back(token);
        const bool goes_on = !options_.on_token || options_.on_token(static_cast<int64_t>(b), token);
        const auto count = static_cast<int64_t>(sequence.tokens.size());
        if (!goes_on) return finish(StopReason::kCaller);
        if (count == options_.max_tokens) return finish(StopReason::kTokens);
        // The token itself has not been passed yet.
        if (decoder_.length(static_cast<int64_t>(b)) == decoder_.shape().tokens) finish(StopReason::kRoom);
    }

    Decoder& decoder_;
    const GenerateOptions& options_;
    Generation& result_;
    std::vector<int32_t> next_;  ///< the token that each sequence goes on with, or kFinished
    int64_t vocab_;
};

}  // namespace

const char* name_of(StopReason reason) {
    switch (reason) {
        case StopReason::kEos:
            return "eos";
        case StopReason::kCaller:
            return "stop";
        case StopReason::kTokens:
            return "max_tokens";
        case StopReason::kRoom:
            break;
    }
    return "seq_len";
}

Generation generate(Decoder& decoder, const std::vector<std::vector<int32_t>>& prompts,
                    const GenerateOptions& options) {
    Generation result;
    result.sequences.resize(prompts.size());
    for (const std::vector<int32_t>& prompt : prompts)
        result.prompt_tokens += static_cast<int64_t>(prompt.size());
    Sequences sequences(decoder, options, result);
    const auto begin = Clock::now();
    decoder.prefill(prompts);
    decoder.synchronize();
    result.prefill_seconds = seconds_since(begin);
    sequences.draw();
    result.first_token_seconds = seconds_since(begin);
    const auto decoding = Clock::now();
    while (!sequences.all_finished()) {
        decoder.step(sequences.next());
        result.decoded_tokens += sequences.draw();
    }
    result.decode_seconds = seconds_since(decoding);
    result.cache = decoder.cache_use();
    return result;
}

}  // namespace pastur
