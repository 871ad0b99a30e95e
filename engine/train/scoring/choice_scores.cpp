#include "engine/train/scoring/choice_scores.h"

#include <algorithm>
#include <cmath>

#include "engine/train/scoring/text_rules.h"
#include "kernels/base/error.h"

namespace pastur {
namespace {

/// Tokens of sequences that are in memory at a time.
constexpr int64_t kTokensInMemory = int64_t{1} << 24;

size_t largest(const std::vector<double>& values) {
    return static_cast<size_t>(std::max_element(values.begin(), values.end()) - values.begin());
}

template <typename Length>
size_t largest_per(const std::vector<double>& values, const std::vector<std::string>& choices,
                   Length length) {
    std::vector<double> scaled;
    for (size_t i = 0; i < values.size(); ++i)
        scaled.push_back(values[i] / static_cast<double>(length(choices[i])));
    return largest(scaled);
}

ChoiceScores::Accuracy accuracy_of(const std::vector<bool>& right) {
    const auto count = static_cast<double>(right.size());
    const double mean = static_cast<double>(std::count(right.begin(), right.end(), true)) / count;
    // The sum of squares of differences from the mean is count * mean * (1 - mean).
    return {mean, right.size() > 1 ? std::sqrt(mean * (1 - mean) / (count - 1)) : 0};
}

/// The sequences of consecutive documents, and where each belongs.
struct Pending {
    struct Place {
        size_t document, choice;
    };
    std::vector<ScoredSequence> sequences;
    std::vector<Place> places;
    int64_t tokens = 0;
};

void score(SequenceScorer& scorer, Pending& pending, const ChoiceFile& file, const std::string& path,
           ChoiceScores& scores) {
    scorer.score(pending.sequences, [&](size_t i, std::span<const float> losses) {
        const Pending::Place place = pending.places[i];
        double sum = 0;
        for (const float loss : losses) sum -= loss;
        if (!std::isfinite(sum))
            fail(ExitCode::kNonFinite, "{}:{}: the log-likelihood of choice {} is not finite", path,
                 file.documents[place.document].line, place.choice);
        scores.documents[place.document].loglikelihoods[place.choice] = sum;
    });
    pending = {};
}

}  // namespace

EncodedPair encode_pair(Tokenizer::Encoder& encoder, std::string_view context, std::string_view continuation,
                        int32_t prefix) {
    const size_t kept = length_without_space(context);
    const std::string whole = std::string(context).append(continuation);
    std::vector<int32_t> of_context, of_whole;
    if (kept > 0) encoder.encode(context.substr(0, kept), of_context);
    encoder.encode(whole, of_whole);
    const auto shared = static_cast<int64_t>(std::min(of_context.size(), of_whole.size()));
    EncodedPair pair{std::move(of_context), {of_whole.begin() + shared, of_whole.end()}};
    if (pair.context.empty()) pair.context = {prefix};
    return pair;
}

namespace {

/// Adds the sequences of a question's choices. Returns whether its context lost tokens.
bool add_question(Pending& pending, Tokenizer::Encoder& encoder, const ChoiceFile& file, size_t d,
                  const std::string& path, int32_t prefix, int64_t seq_len, ChoiceScores::Document& scores) {
    const ChoiceDocument& document = file.documents[d];
    bool truncated = false;
    for (size_t c = 0; c < document.choices.size(); ++c) {
        auto [tokens, continuation] =
            encode_pair(encoder, document.context, document.continuations[c], prefix);
        const int64_t scored = std::ssize(continuation);
        if (scored == 0)
            fail(ExitCode::kCorruptData, "{}:{}: choice {} adds no token to its context", path, document.line,
                 c);
        if (scored > seq_len)
            fail(ExitCode::kUsage, "{}:{}: choice {} has {} tokens: expected at most {} (--seq-len)", path,
                 document.line, c, scored, seq_len);
        tokens.insert(tokens.end(), continuation.begin(), continuation.end());
        const int64_t over = std::ssize(tokens) - (seq_len + 1);
        if (over > 0) tokens.erase(tokens.begin(), tokens.begin() + over);
        truncated = truncated || over > 0;
        scores.loglikelihoods.push_back(0);
        scores.tokens.push_back(scored);
        pending.tokens += std::ssize(tokens);
        pending.sequences.push_back({std::move(tokens), scored});
        pending.places.push_back({d, c});
    }
    return truncated;
}

void find_best(const ChoiceFile& file, ChoiceScores& scores) {
    std::vector<bool> right, right_by_character, right_by_byte;
    for (size_t d = 0; d < file.documents.size(); ++d) {
        const ChoiceDocument& document = file.documents[d];
        ChoiceScores::Document& found = scores.documents[d];
        found.best = largest(found.loglikelihoods);
        found.best_by_character = largest_per(found.loglikelihoods, document.choices, count_characters);
        found.best_by_byte = largest_per(found.loglikelihoods, document.choices,
                                         [](const std::string& choice) { return choice.size(); });
        right.push_back(found.best == document.answer);
        right_by_character.push_back(found.best_by_character == document.answer);
        right_by_byte.push_back(found.best_by_byte == document.answer);
    }
    scores.accuracy = accuracy_of(right);
    scores.accuracy_by_character = accuracy_of(right_by_character);
    scores.accuracy_by_byte = accuracy_of(right_by_byte);
}

}  // namespace

ChoiceScores score_choices(SequenceScorer& scorer, const ChoiceFile& file, const std::string& path,
                           const Tokenizer& tokenizer, int32_t prefix, int64_t seq_len) {
    const std::unique_ptr<Tokenizer::Encoder> encoder = tokenizer.make_encoder();
    ChoiceScores scores{};
    scores.documents.resize(file.documents.size());
    Pending pending;
    for (size_t d = 0; d < file.documents.size(); ++d) {
        scores.truncated +=
            add_question(pending, *encoder, file, d, path, prefix, seq_len, scores.documents[d]);
        if (pending.tokens >= kTokensInMemory) score(scorer, pending, file, path, scores);
    }
    score(scorer, pending, file, path, scores);
    find_best(file, scores);
    return scores;
}

}  // namespace pastur
