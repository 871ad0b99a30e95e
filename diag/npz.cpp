#include "diag/npz.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <zlib.h>

#include <bit>
#include <cstring>

#include "kernels/base/error.h"

namespace pastur {
namespace {

static_assert(std::endian::native == std::endian::little, "'<f8' is the byte order in memory");

// PKWARE's APPNOTE.TXT, sections 4.3.7, 4.3.12 and 4.3.16.
constexpr uint32_t kLocalHeader = 0x04034b50, kCentralHeader = 0x02014b50, kEndOfCentral = 0x06054b50;
constexpr uint16_t kVersion = 20, kStored = 0, kMidnight = 0, kFirstOfJanuary1980 = 0x21;
constexpr uint64_t kMaxBytes = 0xffffffff - 1;
constexpr size_t kMaxMembers = 65534;

template <typename... Integers>
void append(std::string& out, Integers... values) {
    const auto one = [&](auto value) {
        char bytes[sizeof value];
        std::memcpy(bytes, &value, sizeof value);
        out.append(bytes, sizeof value);
    };
    (one(values), ...);
}

/// The .npy member of an array. Spaces pad its header to a multiple of 64 bytes, as NumPy does.
std::string npy_bytes(const NpzArray& array) {
    int64_t count = 1;
    for (const int64_t extent : array.shape) count *= extent;
    PASTUR_CHECK(count == static_cast<int64_t>(array.values.size()), "array {} of shape [{}] with {} values",
                 array.name, fmt::join(array.shape, ", "), array.values.size());
    std::string header = fmt::format("{{'descr': '<f8', 'fortran_order': False, 'shape': ({}{}), }}",
                                     fmt::join(array.shape, ", "), array.shape.size() == 1 ? "," : "");
    constexpr std::string_view kMagic("\x93NUMPY\x01\x00", 8);
    const size_t before = kMagic.size() + sizeof(uint16_t);
    header.resize((before + header.size() + 1 + 63) / 64 * 64 - before - 1, ' ');
    header += '\n';
    std::string out(kMagic);
    append(out, static_cast<uint16_t>(header.size()));
    out += header;
    out.append(reinterpret_cast<const char*>(array.values.data()), array.values.size_bytes());
    return out;
}

}  // namespace

std::string npz_bytes(std::span<const NpzArray> arrays) {
    PASTUR_CHECK(arrays.size() <= kMaxMembers, "npz of {} arrays", arrays.size());
    std::string out, central;
    for (const NpzArray& array : arrays) {
        const std::string name = array.name + ".npy", content = npy_bytes(array);
        PASTUR_CHECK(out.size() + content.size() < kMaxBytes, "npz of 4 GiB or more");
        const auto size = static_cast<uint32_t>(content.size());
        const auto crc =
            static_cast<uint32_t>(crc32_z(0, reinterpret_cast<const Bytef*>(content.data()), content.size()));
        const auto offset = static_cast<uint32_t>(out.size());
        const auto name_length = static_cast<uint16_t>(name.size());
        const uint16_t none = 0;
        append(out, kLocalHeader, kVersion, none, kStored, kMidnight, kFirstOfJanuary1980, crc, size, size,
               name_length, none);
        out += name + content;
        append(central, kCentralHeader, kVersion, kVersion, none, kStored, kMidnight, kFirstOfJanuary1980,
               crc, size, size, name_length, none, none, none, none, uint32_t{0}, offset);
        central += name;
    }
    const auto central_offset = static_cast<uint32_t>(out.size());
    const auto members = static_cast<uint16_t>(arrays.size());
    out += central;
    append(out, kEndOfCentral, uint16_t{0}, uint16_t{0}, members, members,
           static_cast<uint32_t>(central.size()), central_offset, uint16_t{0});
    return out;
}

}  // namespace pastur
