#include "data/shards/megatron_index.h"

#include <sys/stat.h>

#include <algorithm>
#include <cstring>
#include <string_view>

#include "data/files.h"
#include "data/shards/open_files.h"
#include "kernels/base/error.h"

namespace pastur {
namespace {

using namespace std::string_view_literals;
constexpr std::string_view kMagic = "MMIDIDX\0\0"sv, kOldMagic = "TNTIDX\0\0"sv;
constexpr int64_t kHeaderBytes = 34;

/// The values of an array of the file, one after the other, read in blocks.
template <typename T>
class Values {
  public:
    Values(const FileDescriptor& file, const std::string& path, int64_t offset, int64_t count)
        : file_(file), path_(path), offset_(offset), left_(count) {}
    T next() {
        if (at_ == block_.size()) fill();
        return block_[at_++];
    }

  private:
    void fill() {
        constexpr int64_t kBlock = 8192;
        PASTUR_CHECK(left_ > 0, "{}: beyond the end of an array", path_);
        block_.resize(static_cast<size_t>(std::min(kBlock, left_)));
        read_at(file_, offset_, std::as_writable_bytes(std::span(block_)), path_);
        offset_ += std::ssize(block_) * static_cast<int64_t>(sizeof(T));
        left_ -= std::ssize(block_);
        at_ = 0;
    }
    const FileDescriptor& file_;
    const std::string& path_;
    int64_t offset_, left_;
    std::vector<T> block_;
    size_t at_ = 0;
};

struct IndexHeader {
    TokenType type;
    int64_t sequences, documents;  ///< numbers of entries
};

TokenType type_of_code(int code, const std::string& path) {
    switch (code) {
        case 1:
            return TokenType::kU8;
        case 2:
            return TokenType::kI8;
        case 3:
            return TokenType::kI16;
        case 4:
            return TokenType::kI32;
        case 5:
            return TokenType::kI64;
        case 8:
            return TokenType::kU16;
        default:
            fail(
                ExitCode::kCorruptData,
                "{}: type code {}: expected one of integers, 1 to 5 or 8 (6 and 7 are floating-point numbers)",
                path, code);
    }
}

IndexHeader read_header(const FileDescriptor& file, int64_t bytes, const std::string& path) {
    std::byte head[kHeaderBytes]{};
    read_at(file, 0, std::span(head).first(static_cast<size_t>(std::min(bytes, kHeaderBytes))), path);
    if (std::memcmp(head, kOldMagic.data(), kOldMagic.size()) == 0)
        fail(ExitCode::kCorruptData, "{}: an index of the older format TNTIDX: expected MMIDIDX, version 1",
             path);
    if (std::memcmp(head, kMagic.data(), kMagic.size()) != 0)
        fail(
            ExitCode::kCorruptData,
            "{}: not an index of Megatron (expected it to begin with MMIDIDX): remove it if the tokens beside it have "
            "none",
            path);
    if (bytes < kHeaderBytes)
        fail(ExitCode::kCorruptData, "{}: cut short ({} bytes, the header alone is {})", path, bytes,
             kHeaderBytes);
    uint64_t version, sequences, documents;
    std::memcpy(&version, head + 9, 8);
    std::memcpy(&sequences, head + 18, 8);
    std::memcpy(&documents, head + 26, 8);
    if (version != 1) fail(ExitCode::kCorruptData, "{}: version {} of the index, expected 1", path, version);
    const TokenType type = type_of_code(static_cast<int>(head[17]), path);
    // Counts are compared with the size of the file before they are multiplied.
    const auto most = static_cast<uint64_t>(bytes);
    const bool possible = sequences <= most / 12 && documents <= most / 8;
    const int64_t needed =
        possible ? kHeaderBytes + static_cast<int64_t>(12 * sequences + 8 * documents) : INT64_MAX;
    if (!possible || bytes < needed)
        fail(ExitCode::kCorruptData,
             "{}: cut short ({} bytes are too few for {} sequences and {} entries of documents)", path, bytes,
             sequences, documents);
    if (bytes != needed && bytes != needed + static_cast<int64_t>(sequences))
        fail(ExitCode::kCorruptData, "{}: bytes after the last entry ({} bytes, expected {})", path, bytes,
             needed);
    return {type, static_cast<int64_t>(sequences), static_cast<int64_t>(documents)};
}

}  // namespace

MegatronIndex read_megatron_index(const std::string& path, int64_t bin_bytes, bool with_ends) {
    const FileDescriptor file = open_input(path);
    struct stat status {};
    if (::fstat(file.get(), &status) != 0) fail_io("cannot examine", path);
    if (!S_ISREG(status.st_mode)) fail(ExitCode::kCorruptData, "{}: not a regular file", path);
    const IndexHeader header = read_header(file, status.st_size, path);
    const int64_t sequences = header.sequences, documents = header.documents;
    Values<int32_t> lengths(file, path, kHeaderBytes, sequences);
    Values<int64_t> pointers(file, path, kHeaderBytes + 4 * sequences, sequences);
    Values<int64_t> firsts(file, path, kHeaderBytes + 12 * sequences, documents);
    const int64_t width = bytes_per_token(header.type);

    MegatronIndex index{header.type, 0, std::max<int64_t>(documents - 1, 0), {}};
    if (documents > 0)
        if (const int64_t first = firsts.next(); first != 0)
            fail(ExitCode::kCorruptData, "{}: the first document begins with sequence {}, expected 0", path,
                 first);
    int64_t read = documents > 0 ? 1 : 0, next = read < documents ? firsts.next() : 0, last = 0;
    for (int64_t s = 0; s <= sequences; ++s) {
        for (; read < documents && next == s; next = ++read < documents ? firsts.next() : next) {
            last = s;
            if (with_ends) index.document_ends.push_back(index.tokens);
        }
        if (read < documents && next < s)
            fail(ExitCode::kCorruptData,
                 "{}: document {} begins with sequence {}, before the end of the one before it", path, read,
                 next);
        if (s == sequences) break;
        const int64_t length = lengths.next(), pointer = pointers.next();
        if (length < 0) fail(ExitCode::kCorruptData, "{}: sequence {} has {} tokens", path, s, length);
        if (pointer != index.tokens * width)
            fail(ExitCode::kCorruptData,
                 "{}: sequence {} begins at byte {}: {} with the one before, which ends at {}", path, s,
                 pointer, pointer < index.tokens * width ? "an overlap" : "a gap", index.tokens * width);
        index.tokens += length;
        if (index.tokens > bin_bytes / width)
            fail(ExitCode::kCorruptData,
                 "{}: sequence {} ends beyond the tokens: the file of tokens is cut short ({} "
                 "bytes)",
                 path, s, bin_bytes);
    }
    if (read < documents || last != sequences)
        fail(ExitCode::kCorruptData, "{}: the last document ends before sequence {}, expected {}", path,
             read < documents ? next : last, sequences);
    if (index.tokens * width != bin_bytes)
        fail(ExitCode::kCorruptData,
             "{}: the index describes {} bytes of tokens, and the file beside it has {}", path,
             index.tokens * width, bin_bytes);
    return index;
}

}  // namespace pastur
