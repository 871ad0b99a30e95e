#pragma once
// Reads the arrays of an .npz file, the zip archive of .npy members that numpy.savez and
// numpy.savez_compressed write (PKWARE APPNOTE 6.3; numpy.lib.format). The bytes are untrusted: every size in
// them is checked before use, and a damaged file is an error (kCorruptData) that names the file and the
// member.
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace pastur {

/// An array in C order; float32 values are widened.
struct NpzContent {
    std::vector<int64_t> shape;
    std::vector<double> values;
};

/// An archive in memory, of at most 256 MiB packed and unpacked. Readable members are stored or deflated and hold
/// little-endian float32 or float64 in C order, of at most 32 dimensions; reading any other member is an error.
class NpzReader {
  public:
    /// Reads the whole file. Throws (kMissingInput, kIo, kCorruptData).
    explicit NpzReader(const std::filesystem::path& path);
    /// `bytes`: the archive; `name` stands for its path in messages.
    NpzReader(std::string name, std::string bytes);

    /// Names of the arrays in the archive's order, without ".npy".
    const std::vector<std::string>& names() const { return names_; }
    bool contains(std::string_view name) const;
    /// Throws (kCorruptData) if the member is missing, is damaged, fails its CRC or holds another type.
    NpzContent read(std::string_view name) const;
    /// Reads the first bytes of the member only. Throws (kCorruptData).
    std::vector<int64_t> shape(std::string_view name) const;

  private:
    struct Member {
        uint32_t crc = 0, packed_size = 0, size = 0, local_header = 0;
        uint16_t method = 0;
    };
    void read_directory();
    const Member& find(std::string_view name) const;
    std::string_view packed_bytes(const Member& member, std::string_view name) const;
    /// The first `limit` bytes of the member, or all of them.
    std::string unpack(const Member& member, std::string_view name, size_t limit) const;

    std::string path_, bytes_;
    std::vector<std::string> names_;
    std::vector<Member> members_;                       ///< parallel to names_
    std::map<std::string, size_t, std::less<>> index_;  ///< of the first member with a name
};

}  // namespace pastur
