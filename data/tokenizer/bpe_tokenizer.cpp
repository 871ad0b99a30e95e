#include <unordered_map>

#include "data/meta.h"
#include "data/tokenizer/bpe_merges.h"
#include "data/tokenizer/end_token.h"
#include "data/tokenizer/nfc.h"
#include "data/tokenizer/token_cache.h"
#include "data/tokenizer/tokenizer.h"
#include "data/tokenizer/tokenizer_json.h"
#include "kernels/base/error.h"

namespace pastur {
namespace {

class BpeTokenizer final : public Tokenizer {
  public:
    BpeTokenizer(std::string json, const std::filesystem::path& folder, const std::string& origin)
        : json_(std::move(json)),
          spec_(parse_tokenizer_json(json_, origin)),
          merges_(spec_.byte_ids, spec_.merges),
          original_(added(false)),
          normalized_(added(true)) {
        spec_.merges = {};
        if (spec_.ignore_merges)
            for (const int32_t id : spec_.pieces) whole_.emplace(*spec_.texts[static_cast<size_t>(id)], id);
        const EndToken end = find_end_token(folder, origin, spec_.texts);
        eos_ = end.id;
        config_ = end.config;
    }

    std::string kind() const override { return "bpe"; }
    int64_t vocab_size() const override { return std::ssize(spec_.texts); }
    int32_t eos_id() const override { return eos_; }
    std::vector<TokenizerFile> files() const override {
        return {{kTokenizerJsonFile, json_}, {kTokenizerConfigFile, config_}};
    }
    std::string decode(std::span<const int32_t> ids) const override {
        std::string text;
        for (const int32_t id : ids) {
            if (id < 0 || id >= vocab_size())
                fail(ExitCode::kCorruptData,
                     "token id {} is not below {}, the size of the tokenizer's vocabulary", id, vocab_size());
            if (id == eos_ || spec_.special[static_cast<size_t>(id)]) continue;
            if (const auto& bytes = spec_.texts[static_cast<size_t>(id)]) text += *bytes;
        }
        return text;
    }
    std::unique_ptr<Encoder> make_encoder() const override;

  private:
    friend class BpeEncoder;
    AddedTokenFinder added(bool normalized) const {
        std::vector<AddedToken> tokens;
        for (const AddedToken& token : spec_.added)
            if (token.normalized == normalized && !token.content.empty()) tokens.push_back(token);
        return AddedTokenFinder(std::move(tokens));
    }
    std::string json_, config_;
    TokenizerJson spec_;
    BpeMerges merges_;
    AddedTokenFinder original_, normalized_;
    std::unordered_map<std::string_view, int32_t>
        whole_;  ///< tokens by text, if merges are ignored for these
    int32_t eos_ = -1;
};

/// Text -> text between added tokens -> pre-tokens -> tokens. The text is never cut elsewhere.
class BpeEncoder final : public Tokenizer::Encoder {
  public:
    explicit BpeEncoder(const BpeTokenizer& tokenizer) : tokenizer_(tokenizer) {
        for (const SplitStep& step : tokenizer.spec_.steps) {
            steps_.push_back({step.add_prefix_space, std::nullopt, {}});
            if (step.pattern) steps_.back().matcher.emplace(*step.pattern);
        }
    }

    void encode(std::string_view text, std::vector<int32_t>& out) override {
        const auto normalized = [&](const AddedTokenFinder::Segment& segment) {
            segment.token ? out.push_back(segment.token->id) : split(segment.text, 0, out);
        };
        tokenizer_.original_.split(text, [&](const AddedTokenFinder::Segment& segment) {
            if (segment.token) return out.push_back(segment.token->id);
            const std::string_view form = tokenizer_.spec_.nfc ? to_nfc(segment.text, nfc_) : segment.text;
            tokenizer_.normalized_.split(form, normalized);
        });
    }

  private:
    struct Step {
        bool add_prefix_space;
        std::optional<SplitPattern::Matcher> matcher;
        std::string prefixed;
    };

    /// Cuts a piece by the steps from `step` on, and encodes what remains.
    void split(std::string_view piece, size_t step, std::vector<int32_t>& out) {
        if (step == steps_.size()) return encode_pre_token(piece, out);
        auto& [add_prefix_space, matcher, prefixed] = steps_[step];
        if (add_prefix_space && !piece.starts_with(' ')) {
            prefixed.assign(1, ' ').append(piece);
            piece = prefixed;
        }
        if (!matcher) return split(piece, step + 1, out);
        for (size_t done = 0; done < piece.size();) {
            const SplitPattern::Match match = matcher->find(piece, done);
            if (match.begin > done) split(piece.substr(done, match.begin - done), step + 1, out);
            if (match.begin == piece.size()) break;
            split(piece.substr(match.begin, match.end - match.begin), step + 1, out);
            done = match.end;
        }
    }
    void encode_pre_token(std::string_view bytes, std::vector<int32_t>& out) {
        cache_.append(bytes, out, [this](std::string_view text, std::vector<int32_t>& ids) {
            if (const auto whole = tokenizer_.whole_.find(text); whole != tokenizer_.whole_.end())
                ids.push_back(whole->second);
            else
                tokenizer_.merges_.encode(text, workspace_, ids);
        });
    }

    const BpeTokenizer& tokenizer_;
    std::vector<Step> steps_;
    TokenCache cache_;
    BpeMerges::Workspace workspace_;
    std::string nfc_;
};

std::unique_ptr<Tokenizer::Encoder> BpeTokenizer::make_encoder() const {
    return std::make_unique<BpeEncoder>(*this);
}

}  // namespace

std::shared_ptr<const Tokenizer> bpe_tokenizer(std::string json, const std::filesystem::path& folder,
                                               const std::string& origin) {
    return std::make_shared<BpeTokenizer>(std::move(json), folder, origin);
}

}  // namespace pastur
