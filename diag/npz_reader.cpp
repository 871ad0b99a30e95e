#include "diag/npz_reader.h"

#include <fmt/format.h>
#include <zlib.h>

#include <algorithm>
#include <bit>
#include <charconv>
#include <cstring>
#include <fstream>

#include "kernels/base/error.h"

namespace pastur {
namespace {

constexpr uint32_t kEndSignature = 0x06054b50, kEntrySignature = 0x02014b50, kLocalSignature = 0x04034b50;
constexpr size_t kEndSize = 22, kEntrySize = 46, kLocalSize = 30, kMaxComment = 65535;
constexpr uint16_t kStored = 0, kDeflated = 8;
constexpr std::string_view kNpyMagic = "\x93NUMPY";
/// Deflate's largest compression ratio; a short member that claims more bytes is damaged.
constexpr uint64_t kMaxDeflateRatio = 1032;
/// Limit for the size of a file and of a member. It bounds memory, whatever sizes a file claims.
constexpr int64_t kMaxBytes = int64_t{256} << 20;
constexpr size_t kMaxDimensions = 32;  // numpy's own limit
/// Enough for the .npy header of any array here (numpy pads it to a multiple of 64).
constexpr size_t kHeaderPrefix = 1024;

template <typename T>
T load(std::string_view bytes, size_t at) {
    static_assert(std::endian::native == std::endian::little);
    T value;
    std::memcpy(&value, bytes.data() + at, sizeof(T));
    return value;
}

std::string read_bytes(const std::filesystem::path& path) {
    std::error_code error;
    const auto size = std::filesystem::file_size(path, error);
    if (error) fail(ExitCode::kMissingInput, "{}: {}; expected an .npz file", path.string(), error.message());
    if (static_cast<int64_t>(size) > kMaxBytes)
        fail(ExitCode::kCorruptData, "{}: expected an .npz of spectra, which is smaller than {} bytes",
             path.string(), size);
    std::string bytes(size, '\0');
    std::ifstream file(path, std::ios::binary);
    if (!file.read(bytes.data(), static_cast<std::streamsize>(size))) fail_io("cannot read", path.string());
    return bytes;
}

/// A .npy header, and where the values begin.
struct NpyHeader {
    std::vector<int64_t> shape;
    size_t item_size = 0, offset = 0;
    int64_t count = 1;
};

/// The text after `'key':` in the header's Python dictionary; empty if the key is missing.
std::string_view dictionary_value(std::string_view text, std::string_view key) {
    const std::string quoted = fmt::format("'{}':", key);
    const size_t at = text.find(quoted);
    if (at == std::string_view::npos) return {};
    text.remove_prefix(at + quoted.size());
    while (!text.empty() && text.front() == ' ') text.remove_prefix(1);
    return text;
}

/// Reads "(12, 64)", "(5,)" or "()". False for any other text and for more elements than fit.
bool parse_shape(std::string_view text, NpyHeader& header) {
    const size_t end = text.find(')');
    if (text.empty() || text.front() != '(' || end == std::string_view::npos) return false;
    const char* at = text.data() + 1;
    const char* const last = text.data() + end;
    while (at < last) {
        int64_t extent = 0;
        const auto [next, error] = std::from_chars(at, last, extent);
        if (error != std::errc() || extent < 0) return false;
        if (extent > 0 && header.count > kMaxBytes / extent) return false;
        if (header.shape.size() == kMaxDimensions) return false;
        header.shape.push_back(extent);
        header.count *= extent;
        at = next;
        while (at < last && (*at == ',' || *at == ' ')) ++at;
    }
    return true;
}

/// False unless `bytes` begin a .npy array of floats in C order.
bool parse_npy_header(std::string_view bytes, NpyHeader& header) {
    if (bytes.size() < 12 || bytes.substr(0, kNpyMagic.size()) != kNpyMagic) return false;
    const int version = bytes[6];
    if (version < 1 || version > 3) return false;
    const size_t begin = version == 1 ? 10 : 12;
    const size_t length = version == 1 ? load<uint16_t>(bytes, 8) : load<uint32_t>(bytes, 8);
    if (length > bytes.size() - begin) return false;
    const std::string_view text = bytes.substr(begin, length);
    const std::string_view type = dictionary_value(text, "descr");
    if (type.substr(0, 5) == "'<f8'") header.item_size = 8;
    if (type.substr(0, 5) == "'<f4'") header.item_size = 4;
    header.offset = begin + length;
    return header.item_size != 0 && dictionary_value(text, "fortran_order").substr(0, 5) == "False" &&
           parse_shape(dictionary_value(text, "shape"), header);
}

/// Inflates the first bytes of a stream, or the whole of it, into `out`. False if the stream is damaged or
/// ends early.
bool inflate_into(std::string_view packed, std::string& out, bool whole) {
    z_stream stream{};
    if (inflateInit2(&stream, -MAX_WBITS) != Z_OK) throw std::bad_alloc();
    stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(packed.data()));
    stream.avail_in = static_cast<uInt>(packed.size());
    stream.next_out = reinterpret_cast<Bytef*>(out.data());
    stream.avail_out = static_cast<uInt>(out.size());
    const int status = inflate(&stream, whole ? Z_FINISH : Z_SYNC_FLUSH);
    const bool filled = stream.avail_out == 0;
    inflateEnd(&stream);
    return filled && (status == Z_STREAM_END || (!whole && (status == Z_OK || status == Z_BUF_ERROR)));
}

}  // namespace

NpzReader::NpzReader(const std::filesystem::path& path) : path_(path.string()), bytes_(read_bytes(path)) {
    read_directory();
}

NpzReader::NpzReader(std::string name, std::string bytes) : path_(std::move(name)), bytes_(std::move(bytes)) {
    read_directory();
}

void NpzReader::read_directory() {
    const std::string_view bytes = bytes_;
    const auto corrupt = [&](const char* what) {
        fail(ExitCode::kCorruptData, "{}: {}; expected an .npz file", path_, what);
    };
    if (bytes.size() < kEndSize) corrupt("too short for a zip archive");
    size_t end = bytes.size() - kEndSize;
    const size_t first = end > kMaxComment ? end - kMaxComment : 0;
    while (load<uint32_t>(bytes, end) != kEndSignature) {
        if (end == first) corrupt("no zip directory (cut, or not a zip archive)");
        --end;
    }
    const size_t count = load<uint16_t>(bytes, end + 10);
    size_t at = load<uint32_t>(bytes, end + 16);
    for (size_t i = 0; i < count; ++i) {
        if (at > end || end - at < kEntrySize || load<uint32_t>(bytes, at) != kEntrySignature)
            corrupt("the zip directory is damaged");
        const size_t name_size = load<uint16_t>(bytes, at + 28);
        const size_t rest = name_size + load<uint16_t>(bytes, at + 30) + load<uint16_t>(bytes, at + 32);
        if (rest > end - at - kEntrySize) corrupt("the zip directory is damaged");
        const std::string_view name = bytes.substr(at + kEntrySize, name_size);
        if (name.ends_with(".npy")) {
            names_.emplace_back(name.substr(0, name.size() - 4));
            index_.emplace(names_.back(), members_.size());
            members_.push_back({load<uint32_t>(bytes, at + 16), load<uint32_t>(bytes, at + 20),
                                load<uint32_t>(bytes, at + 24), load<uint32_t>(bytes, at + 42),
                                load<uint16_t>(bytes, at + 10)});
        }
        at += kEntrySize + rest;
    }
    // Members may share their bytes, so each alone says little about the work that they cause together.
    int64_t total = 0;
    for (const Member& member : members_)
        if (member.size <= kMaxBytes) total += member.size;
    if (total > kMaxBytes)
        fail(ExitCode::kCorruptData, "{}: its arrays claim {} bytes: expected an .npz of spectra, at most {}",
             path_, total, kMaxBytes);
}

bool NpzReader::contains(std::string_view name) const {
    return index_.contains(name);
}

const NpzReader::Member& NpzReader::find(std::string_view name) const {
    const auto found = index_.find(name);
    if (found == index_.end())
        fail(ExitCode::kCorruptData, "{}: expected an array \"{}\" in the archive", path_, name);
    return members_[found->second];
}

std::string_view NpzReader::packed_bytes(const Member& member, std::string_view name) const {
    const std::string_view bytes = bytes_;
    const size_t at = member.local_header;
    if (at <= bytes.size() && bytes.size() - at >= kLocalSize &&
        load<uint32_t>(bytes, at) == kLocalSignature) {
        const size_t begin =
            at + kLocalSize + load<uint16_t>(bytes, at + 26) + load<uint16_t>(bytes, at + 28);
        if (begin <= bytes.size() && member.packed_size <= bytes.size() - begin)
            return bytes.substr(begin, member.packed_size);
    }
    fail(ExitCode::kCorruptData, "{}: \"{}\" reaches beyond the file", path_, name);
}

std::string NpzReader::unpack(const Member& member, std::string_view name, size_t limit) const {
    const std::string_view packed = packed_bytes(member, name);
    const size_t size = std::min<size_t>(member.size, limit);
    if (member.size > kMaxBytes)
        fail(ExitCode::kCorruptData, "{}: \"{}\" claims {} bytes", path_, name, member.size);
    if (member.method == kStored && member.size == member.packed_size)
        return std::string(packed.substr(0, size));
    if (member.method == kDeflated && member.size / kMaxDeflateRatio <= member.packed_size) {
        std::string out(size, '\0');
        if (size > 0 && inflate_into(packed, out, size == member.size)) return out;
    }
    fail(ExitCode::kCorruptData, "{}: \"{}\" cannot be unpacked (method {}, {} of {} bytes)", path_, name,
         member.method, member.packed_size, member.size);
}

std::vector<int64_t> NpzReader::shape(std::string_view name) const {
    const Member& member = find(name);
    NpyHeader header;
    if (!parse_npy_header(unpack(member, name, kHeaderPrefix), header))
        fail(ExitCode::kCorruptData, "{}: \"{}\" is not a float array in C order", path_, name);
    const size_t bytes = header.offset + static_cast<size_t>(header.count) * header.item_size;
    if (bytes != member.size)
        fail(ExitCode::kCorruptData, "{}: \"{}\" has {} bytes, but its header promises {}", path_, name,
             member.size, bytes);
    return header.shape;
}

NpzContent NpzReader::read(std::string_view name) const {
    const Member& member = find(name);
    const std::string data = unpack(member, name, SIZE_MAX);
    const uLong crc =
        crc32_z(crc32_z(0, nullptr, 0), reinterpret_cast<const Bytef*>(data.data()), data.size());
    if (crc != member.crc) fail(ExitCode::kCorruptData, "{}: \"{}\" fails its checksum", path_, name);
    NpyHeader header;
    if (!parse_npy_header(data, header))
        fail(ExitCode::kCorruptData, "{}: \"{}\" is not a float array in C order", path_, name);
    const auto count = static_cast<size_t>(header.count);
    if (data.size() - header.offset != count * header.item_size)
        fail(ExitCode::kCorruptData, "{}: \"{}\" holds {} bytes, but its header promises {} values of {}",
             path_, name, data.size() - header.offset, count, header.item_size);
    NpzContent array{std::move(header.shape), std::vector<double>(count)};
    for (size_t i = 0; i < count; ++i)
        array.values[i] = header.item_size == 8 ? load<double>(data, header.offset + 8 * i)
                                                : load<float>(data, header.offset + 4 * i);
    return array;
}

}  // namespace pastur
