#pragma once
// Sentences about an analysis whose every number comes from a place in it.
#include <nlohmann/json.hpp>
#include <string>

namespace pastur {

/// Builds a SENTENCE of analysis.h.
class Sentence {
  public:
    enum class As : uint8_t {
        kPercent,
        kPoints,  ///< difference of two shares, in percentage points
        kNumber,
        kLoss,
        kChance,  ///< p value
    };
    explicit Sentence(const nlohmann::ordered_json& analysis) : analysis_(analysis) {}

    /// Text without numbers.
    Sentence& text(const std::string& words);
    /// The number at a JSON pointer. It must be there.
    Sentence& number(const std::string& pointer, As as = As::kNumber);
    /// The mean of the MI at a pointer and, if it has one, its interval: "12 % (10 % to 14 %)".
    Sentence& interval(const std::string& pointer, As as = As::kNumber);
    nlohmann::ordered_json json() const { return {{"text", text_}, {"values", values_}}; }

    /// How a number is written.
    static std::string shown(double value, As as);

  private:
    const nlohmann::ordered_json& analysis_;
    std::string text_;
    nlohmann::ordered_json values_ = nlohmann::ordered_json::array();
};

/// "because" of the finding at this index, from the rest of the analysis.
nlohmann::ordered_json because_json(const nlohmann::ordered_json& analysis, size_t finding);
/// "sentences" of analysis.h.
nlohmann::ordered_json sentences_json(const nlohmann::ordered_json& analysis);

}  // namespace pastur
