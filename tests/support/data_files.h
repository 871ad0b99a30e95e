#pragma once
// Writes corpus files and shards for tests.
#include <zlib.h>
#include <zstd.h>

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace pastur::test {

inline void write_bytes(const std::filesystem::path& path, std::string_view bytes) {
    std::ofstream file(path, std::ios::binary);
    file.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
    if (!file.flush()) throw std::runtime_error("cannot write " + path.string());
}

inline std::string read_bytes(const std::filesystem::path& path) {
    std::ifstream file(path, std::ios::binary);
    std::ostringstream bytes;
    bytes << file.rdbuf();
    if (!file) throw std::runtime_error("cannot read " + path.string());
    return bytes.str();
}

inline std::string gzip(std::string_view text) {
    z_stream stream{};
    if (deflateInit2(&stream, 6, Z_DEFLATED, MAX_WBITS + 16, 8, Z_DEFAULT_STRATEGY) != Z_OK)
        throw std::runtime_error("deflateInit2");
    std::string out(deflateBound(&stream, text.size()), '\0');
    stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(text.data()));
    stream.avail_in = static_cast<uInt>(text.size());
    stream.next_out = reinterpret_cast<Bytef*>(out.data());
    stream.avail_out = static_cast<uInt>(out.size());
    const int status = deflate(&stream, Z_FINISH);
    out.resize(stream.total_out);
    deflateEnd(&stream);
    if (status != Z_STREAM_END) throw std::runtime_error("deflate");
    return out;
}

inline std::string zstd(std::string_view text) {
    std::string out(ZSTD_compressBound(text.size()), '\0');
    const size_t size = ZSTD_compress(out.data(), out.size(), text.data(), text.size(), 3);
    if (ZSTD_isError(size)) throw std::runtime_error("ZSTD_compress");
    out.resize(size);
    return out;
}

/// The bytes of the values, little-endian.
template <typename T>
std::string bytes_of(const std::vector<T>& values) {
    return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T)};
}

/// A shard in llm.c's format: a header of 256 words, then the tokens.
template <typename T>
std::string shard_bytes(const std::vector<T>& tokens) {
    std::vector<int32_t> header(256);
    header[0] = sizeof(T) == 2 ? 20240520 : 20240801;
    header[1] = sizeof(T) == 2 ? 1 : 7;
    header[2] = static_cast<int32_t>(tokens.size());
    return bytes_of(header) + bytes_of(tokens);
}

/// An index of Megatron (megatron_index.h) for sequences of these lengths, in documents that begin with the sequences
/// `firsts`; the last one is the number of sequences. code: of a type of `width` bytes.
inline std::string megatron_index_bytes(const std::vector<int32_t>& lengths,
                                        const std::vector<int64_t>& firsts, uint8_t code, int64_t width) {
    std::vector<int64_t> pointers;
    int64_t at = 0;
    for (const int32_t length : lengths) {
        pointers.push_back(at);
        at += length * width;
    }
    return std::string("MMIDIDX\0\0", 9) + bytes_of<uint64_t>({1}) + static_cast<char>(code) +
           bytes_of<uint64_t>({lengths.size(), firsts.size()}) + bytes_of(lengths) + bytes_of(pointers) +
           bytes_of(firsts);
}

}  // namespace pastur::test
