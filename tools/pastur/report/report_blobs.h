#pragma once
// Arrays of numbers as texts for the page's JSON.
#include <cstddef>
#include <map>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace pastur {

/// RFC 4648, with padding.
std::string base64(std::span<const std::byte> bytes);
/// The bytes of such a text. Throws (kCorruptData) for any other text.
std::string bytes_of_base64(std::string_view text);

/// Packs numbers into two bytes each: a byte for the kind, two little-endian float32 a and b, then one little-endian
/// uint16 code per number. 65535 is NaN, which also stands for an infinite number.
///     kind 0: every number is a, and there are no codes
///     kind 1: a + code (b - a) / 65533
///     kind 2: exp(ln a + code (ln b - ln a) / 65533), and 65534 is zero
/// Kind 2 is used where no number is negative and the largest is more than 4 times the smallest above zero, so the
/// relative error is at most ln(b / a) / 131066: 2.2e-4 for 12 decades.
std::string pack_numbers(std::span<const float> values);

/// The `count` numbers that pack_numbers() packed, to its precision. Throws (kCorruptData) if it did not make these bytes.
std::vector<float> unpack_numbers(std::string_view bytes, size_t count);

/// The bytes of pack_numbers() for `count` numbers, as base64 in JSON.
constexpr size_t packed_size(size_t count) {
    return (9 + 2 * count + 2) / 3 * 4 + 3;
}

/// Arrays as base64, each distinct one once: metrics of the eigenvalues alone are equal for every null.
class Blobs {
  public:
    /// Returns the index of the array in json().
    size_t add(std::span<const std::byte> bytes);
    size_t add_numbers(std::span<const float> values);
    size_t bytes() const { return bytes_; }
    nlohmann::ordered_json json() const;

  private:
    std::map<std::string, size_t> index_;
    std::vector<const std::string*> list_;
    size_t bytes_ = 0;
};

}  // namespace pastur
