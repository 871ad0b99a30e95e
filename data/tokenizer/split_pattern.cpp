#include "data/tokenizer/split_pattern.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <algorithm>

#include "kernels/base/error.h"

namespace pastur {
namespace {

constexpr size_t kJitStackBytes = 1 << 20;
constexpr uint32_t kMostHeapKib = 16 << 10;

/// A run of white space takes one step or two per byte.
uint32_t most_steps(size_t bytes) {
    return static_cast<uint32_t>(std::min<size_t>(1'000'000 + 8 * bytes, UINT32_MAX));
}

PCRE2_SPTR bytes_of(std::string_view text) {
    return reinterpret_cast<PCRE2_SPTR>(text.data());
}

std::string message_of(int error) {
    PCRE2_UCHAR text[256];
    pcre2_get_error_message(error, text, sizeof text);
    return reinterpret_cast<const char*>(text);
}

}  // namespace

struct SplitPattern::Code {
    ~Code() { pcre2_code_free(code); }
    pcre2_code* code = nullptr;
    std::string what;
};

SplitPattern::SplitPattern(std::string_view pattern, const std::string& what) {
    const std::string translated = translate_pattern(pattern, what);
    auto code = std::make_shared<Code>();
    code->what = what;
    int error = 0;
    PCRE2_SIZE at = 0;
    code->code = pcre2_compile(bytes_of(translated), translated.size(),
                               PCRE2_UTF | PCRE2_UCP | PCRE2_NO_UTF_CHECK, &error, &at, nullptr);
    if (!code->code) fail(ExitCode::kCorruptData, "{}: the pattern is wrong: {}", what, message_of(error));
    uint32_t matches_empty = 0;
    pcre2_pattern_info(code->code, PCRE2_INFO_MATCHEMPTY, &matches_empty);
    if (matches_empty)
        fail(ExitCode::kCorruptData, "{}: the pattern matches empty text, which is not supported", what);
    pcre2_jit_compile(code->code, PCRE2_JIT_COMPLETE);  // without it, pcre2_match() interprets the pattern
    code_ = code;
}

struct SplitPattern::Matcher::State {
    explicit State(std::shared_ptr<const Code> pattern) : code(std::move(pattern)) {
        if (!data || !context) throw std::bad_alloc();
        pcre2_set_heap_limit(context, kMostHeapKib);
        stack = pcre2_jit_stack_create(32 << 10, kJitStackBytes, nullptr);
        pcre2_jit_stack_assign(context, nullptr, stack);
    }
    ~State() {
        pcre2_match_data_free(data);
        pcre2_match_context_free(context);
        pcre2_jit_stack_free(stack);
    }
    std::shared_ptr<const Code> code;
    pcre2_match_data* data = pcre2_match_data_create(1, nullptr);
    pcre2_match_context* context = pcre2_match_context_create(nullptr);
    pcre2_jit_stack* stack = nullptr;
};

SplitPattern::Matcher::Matcher(const SplitPattern& pattern)
    : state_(std::make_unique<State>(pattern.code_)) {}
SplitPattern::Matcher::~Matcher() = default;
SplitPattern::Matcher::Matcher(Matcher&&) noexcept = default;

SplitPattern::Match SplitPattern::Matcher::find(std::string_view text, size_t from) {
    const State& state = *state_;
    pcre2_set_match_limit(state.context, most_steps(text.size() - from));
    const int found = pcre2_match(state.code->code, bytes_of(text), text.size(), from, PCRE2_NO_UTF_CHECK,
                                  state.data, state.context);
    if (found == PCRE2_ERROR_NOMATCH) return {text.size(), text.size()};
    if (found < 0)
        fail(ExitCode::kCorruptData, "{}: the pattern cannot be searched for: {}", state.code->what,
             message_of(found));
    const PCRE2_SIZE* const range = pcre2_get_ovector_pointer(state.data);
    return {range[0], range[1]};
}

}  // namespace pastur
