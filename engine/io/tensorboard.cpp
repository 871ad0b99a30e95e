#include "engine/io/tensorboard.h"

#include <fmt/format.h>
#include <unistd.h>

#include <array>
#include <bit>
#include <chrono>
#include <cstring>

#include "engine/io/host_name.h"

namespace pastur {
namespace {

/// Reflected polynomial of CRC-32C (Castagnoli).
constexpr std::array<uint32_t, 256> kCrcTable = [] {
    std::array<uint32_t, 256> table{};
    for (uint32_t i = 0; i < 256; ++i) {
        uint32_t value = i;
        for (int bit = 0; bit < 8; ++bit) value = (value >> 1) ^ (value & 1 ? 0x82f63b78u : 0);
        table[i] = value;
    }
    return table;
}();

/// Masked as TensorFlow does, because an unmasked checksum of data that contains checksums is weak.
uint32_t masked_crc(const std::string& bytes) {
    uint32_t crc = ~0u;
    for (const char c : bytes) crc = (crc >> 8) ^ kCrcTable[(crc ^ static_cast<unsigned char>(c)) & 0xff];
    return std::rotr(~crc, 15) + 0xa282ead8u;
}

template <typename T>
std::string raw(T value) {
    static_assert(std::endian::native == std::endian::little);
    std::string bytes(sizeof value, '\0');
    std::memcpy(bytes.data(), &value, sizeof value);
    return bytes;
}

std::string varint(uint64_t value) {
    std::string bytes;
    for (; value > 127; value >>= 7) bytes += static_cast<char>(value | 128);
    return bytes + static_cast<char>(value);
}

/// Wire types of protocol buffer fields.
enum WireType : uint32_t { kVarint = 0, kFixed64 = 1, kBytes = 2, kFixed32 = 5 };
std::string key(uint32_t field, WireType type) {
    return varint(field << 3 | type);
}
std::string bytes_field(uint32_t field, const std::string& content) {
    return key(field, kBytes) + varint(content.size()) + content;
}
std::string double_field(uint32_t field, double value) {
    return key(field, kFixed64) + raw(value);
}
std::string float_field(uint32_t field, float value) {
    return key(field, kFixed32) + raw(value);
}
std::string int_field(uint32_t field, int64_t value) {
    return key(field, kVarint) + varint(static_cast<uint64_t>(value));
}

/// Event{wall_time = 1, step = 2}.
std::string event_header(int64_t step) {
    const auto now = std::chrono::system_clock::now().time_since_epoch();
    return double_field(1, std::chrono::duration<double>(now).count()) + int_field(2, step);
}

std::string file_name() {
    const auto now = std::chrono::system_clock::now().time_since_epoch();
    return fmt::format("events.out.tfevents.{:010}.{}.{}",
                       std::chrono::duration_cast<std::chrono::seconds>(now).count(), host_name(), getpid());
}

}  // namespace

TensorboardLog::TensorboardLog(const std::filesystem::path& folder, int64_t step)
    : file_(std::make_unique<AppendFile>(folder / file_name())) {
    append(event_header(0) + bytes_field(3, "brain.Event:2"));  // Event.file_version
    // Event.session_log{status = START}: readers discard earlier points of this step and later ones.
    append(event_header(step + 1) + bytes_field(7, int_field(1, 1)));
}

void TensorboardLog::append(const std::string& event) {
    const std::string length = raw(static_cast<uint64_t>(event.size()));
    file_->write(length + raw(masked_crc(length)) + event + raw(masked_crc(event)));
}

void TensorboardLog::write(const std::vector<Scalar>& scalars) {
    for (size_t first = 0; first < scalars.size();) {
        // Event.summary{value{tag = 1, simple_value = 2}...}: one event for consecutive scalars of one step.
        const int64_t step = scalars[first].step;
        std::string summary;
        for (; first < scalars.size() && scalars[first].step == step; ++first)
            summary += bytes_field(1, bytes_field(1, scalars[first].tag) +
                                          float_field(2, static_cast<float>(scalars[first].value)));
        append(event_header(step) + bytes_field(5, summary));
    }
}

}  // namespace pastur
