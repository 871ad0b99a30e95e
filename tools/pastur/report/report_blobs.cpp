#include "tools/pastur/report/report_blobs.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>

#include "kernels/base/error.h"

namespace pastur {
namespace {

constexpr double kLevels = 65533;
constexpr uint16_t kZero = 65534, kMissing = 65535;

constexpr size_t kHeadBytes = 1 + 2 * sizeof(float);
constexpr std::string_view kDigits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

void put(std::string& bytes, float value) {
    bytes.append(reinterpret_cast<const char*>(&value), sizeof(value));
}

float float_at(std::string_view bytes, size_t at) {
    float value = 0;
    std::memcpy(&value, bytes.data() + at, sizeof(value));
    return value;
}

}  // namespace

std::string base64(std::span<const std::byte> bytes) {
    std::string text;
    text.reserve((bytes.size() + 2) / 3 * 4);
    for (size_t i = 0; i < bytes.size(); i += 3) {
        uint32_t group = 0;
        for (size_t j = 0; j < 3; ++j)
            group = group << 8 | (i + j < bytes.size() ? std::to_integer<uint32_t>(bytes[i + j]) : 0);
        for (int digit = 3; digit >= 0; --digit) text += kDigits[group >> (6 * digit) & 63];
    }
    for (size_t i = bytes.size(); i % 3 != 0; ++i) text[text.size() - 1 - (i - bytes.size())] = '=';
    return text;
}

std::string bytes_of_base64(std::string_view text) {
    std::string bytes;
    const size_t padding = text.ends_with("==") ? 2 : text.ends_with("=") ? 1 : 0;
    if (text.size() % 4 != 0)
        fail(ExitCode::kCorruptData, "a text of {} characters is not base64", text.size());
    for (size_t i = 0; i < text.size(); i += 4) {
        uint32_t group = 0;
        for (size_t j = 0; j < 4; ++j) {
            const bool is_padding = i + j >= text.size() - padding;
            const size_t digit = is_padding ? 0 : kDigits.find(text[i + j]);
            if (digit == std::string_view::npos)
                fail(ExitCode::kCorruptData, "a text with the character {} is not base64",
                     static_cast<int>(static_cast<unsigned char>(text[i + j])));
            group = group << 6 | static_cast<uint32_t>(digit);
        }
        for (int shift = 16; shift >= 0; shift -= 8) bytes += static_cast<char>(group >> shift & 255);
    }
    bytes.resize(bytes.size() - padding);
    return bytes;
}

std::string pack_numbers(std::span<const float> values) {
    float low = INFINITY, high = -INFINITY, least_positive = INFINITY;
    bool all_finite = true;
    for (const float value : values) {
        all_finite = all_finite && std::isfinite(value);
        if (!std::isfinite(value)) continue;
        low = std::min(low, value);
        high = std::max(high, value);
        if (value > 0) least_positive = std::min(least_positive, value);
    }
    std::string bytes;
    if (all_finite && low == high) {
        bytes += '\0';
        put(bytes, low);
        put(bytes, low);
        return bytes;
    }
    const bool logarithmic = low >= 0 && high > 4 * least_positive;
    if (logarithmic) low = least_positive;
    bytes += logarithmic ? '\2' : '\1';
    put(bytes, low);
    put(bytes, high);
    const auto place = [&](float value) { return logarithmic ? std::log(double{value}) : double{value}; };
    const double begin = place(low), range = place(high) - begin;
    for (const float value : values) {
        uint16_t code = kMissing;
        if (logarithmic && value == 0)
            code = kZero;
        else if (std::isfinite(value))
            code =
                range > 0 ? static_cast<uint16_t>(std::lround((place(value) - begin) / range * kLevels)) : 0;
        bytes += static_cast<char>(code & 255);
        bytes += static_cast<char>(code >> 8);
    }
    return bytes;
}

std::vector<float> unpack_numbers(std::string_view bytes, size_t count) {
    const bool constant = !bytes.empty() && bytes.front() == '\0';
    if (bytes.size() != kHeadBytes + (constant ? 0 : 2 * count) ||
        static_cast<unsigned char>(bytes.front()) > 2)
        fail(ExitCode::kCorruptData, "{} bytes are not {} packed numbers", bytes.size(), count);
    const float low = float_at(bytes, 1), high = float_at(bytes, 1 + sizeof(float));
    if (constant) return std::vector<float>(count, low);
    const bool logarithmic = bytes.front() == '\2';
    const double begin = logarithmic ? std::log(double{low}) : double{low};
    const double range = (logarithmic ? std::log(double{high}) : double{high}) - begin;
    std::vector<float> values;
    for (size_t i = 0; i < count; ++i) {
        const auto byte = [&](size_t at) {
            return static_cast<uint16_t>(static_cast<unsigned char>(bytes[at]));
        };
        const size_t at = kHeadBytes + 2 * i;
        const auto code = static_cast<uint16_t>(byte(at) | byte(at + 1) << 8);
        const double place = begin + code * range / kLevels;
        values.push_back(code == kMissing ? NAN
                         : logarithmic && code == kZero
                             ? 0
                             : static_cast<float>(logarithmic ? std::exp(place) : place));
    }
    return values;
}

size_t Blobs::add(std::span<const std::byte> bytes) {
    std::string text = base64(bytes);
    const auto [at, added] = index_.try_emplace(std::move(text), list_.size());
    if (added) {
        list_.push_back(&at->first);
        bytes_ += at->first.size() + 3;
    }
    return at->second;
}

size_t Blobs::add_numbers(std::span<const float> values) {
    const std::string packed = pack_numbers(values);
    return add(std::as_bytes(std::span(packed)));
}

nlohmann::ordered_json Blobs::json() const {
    auto list = nlohmann::ordered_json::array();
    for (const std::string* text : list_) list.push_back(*text);
    return list;
}

}  // namespace pastur
