#include "tools/pastur/report/report_blobs.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string_view>

namespace pastur {
namespace {

constexpr double kLevels = 65533;
constexpr uint16_t kZero = 65534, kMissing = 65535;

void put(std::string& bytes, float value) {
    bytes.append(reinterpret_cast<const char*>(&value), sizeof(value));
}

}  // namespace

std::string base64(std::span<const std::byte> bytes) {
    constexpr std::string_view kDigits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
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
