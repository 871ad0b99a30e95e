#include "data/corpus/byte_source.h"

#include <zlib.h>
#include <zstd.h>

#include <algorithm>
#include <new>
#include <string_view>
#include <vector>

#include "data/files.h"
#include "kernels/base/error.h"

namespace pastur {
namespace {

constexpr size_t kBlockBytes = 256 << 10;

/// The bytes of a file or pipe, in one block that the decompressors read in place.
class RawFile {
  public:
    explicit RawFile(const std::string& path) : path_(path), file_(open_input(path)), block_(kBlockBytes) {}

    /// The unread part of the block, of the next block when there is none. Empty at the end of the file.
    std::string_view peek() {
        if (begin_ == end_) fill(1);
        return {block_.data() + begin_, end_ - begin_};
    }
    /// The first `n` bytes of the file, or all of a shorter one.
    std::string_view magic(size_t n) {
        fill(n);
        return {block_.data(), std::min(n, end_)};
    }
    void skip(size_t n) { begin_ += n; }
    int64_t consumed() const { return total_ - static_cast<int64_t>(end_ - begin_); }
    const std::string& path() const { return path_; }

  private:
    void fill(size_t at_least) {
        begin_ = end_ = 0;
        while (end_ < at_least) {
            const size_t n = read_some(file_, std::span(block_).subspan(end_), path_);
            if (n == 0) return;
            end_ += n;
            total_ += static_cast<int64_t>(n);
        }
    }
    std::string path_;
    FileDescriptor file_;
    std::vector<char> block_;
    size_t begin_ = 0, end_ = 0;
    int64_t total_ = 0;
};

class PlainSource final : public ByteSource {
  public:
    explicit PlainSource(std::unique_ptr<RawFile> file) : file_(std::move(file)) {}
    size_t read(std::span<char> out) override {
        const std::string_view bytes = file_->peek();
        const size_t n = std::min(bytes.size(), out.size());
        std::copy_n(bytes.data(), n, out.data());
        file_->skip(n);
        return n;
    }
    int64_t consumed() const override { return file_->consumed(); }

  private:
    std::unique_ptr<RawFile> file_;
};

class GzipSource final : public ByteSource {
  public:
    explicit GzipSource(std::unique_ptr<RawFile> file) : file_(std::move(file)) {
        constexpr int kGzipOnly = 16;
        if (inflateInit2(&stream_, MAX_WBITS + kGzipOnly) != Z_OK) throw std::bad_alloc();
    }
    ~GzipSource() override { inflateEnd(&stream_); }

    size_t read(std::span<char> out) override {
        stream_.next_out = reinterpret_cast<Bytef*>(out.data());
        stream_.avail_out = static_cast<uInt>(out.size());
        while (stream_.avail_out == out.size()) {
            const std::string_view in = file_->peek();
            if (in.empty()) {
                if (inside_) fail(ExitCode::kCorruptData, "{}: gzip stream is cut short", file_->path());
                return 0;
            }
            if (!inside_) {
                // Zeros pad what was written in blocks, as to a tape; no member begins with one.
                if (const size_t zeros = std::min(in.find_first_not_of('\0'), in.size())) {
                    file_->skip(zeros);
                    continue;
                }
                inflateReset(&stream_);
                inside_ = true;
            }
            stream_.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(in.data()));
            stream_.avail_in = static_cast<uInt>(in.size());
            const int status = inflate(&stream_, Z_NO_FLUSH);
            file_->skip(in.size() - stream_.avail_in);
            if (status == Z_STREAM_END) inside_ = false;
            if (status != Z_OK && status != Z_STREAM_END)
                fail(ExitCode::kCorruptData, "{}: damaged gzip stream near byte {} ({})", file_->path(),
                     file_->consumed(), stream_.msg ? stream_.msg : "no message");
        }
        return out.size() - stream_.avail_out;
    }
    int64_t consumed() const override { return file_->consumed(); }

  private:
    std::unique_ptr<RawFile> file_;
    z_stream stream_{};
    bool inside_ = false;  ///< the current member has not ended
};

class ZstdSource final : public ByteSource {
  public:
    explicit ZstdSource(std::unique_ptr<RawFile> file)
        : file_(std::move(file)), stream_(ZSTD_createDStream()) {
        if (!stream_) throw std::bad_alloc();
        // The library refuses windows above 128 MiB, of `zstd --long=28` to 31, unless it is told not to.
        ZSTD_DCtx_setParameter(stream_, ZSTD_d_windowLogMax,
                               ZSTD_dParam_getBounds(ZSTD_d_windowLogMax).upperBound);
    }
    ~ZstdSource() override { ZSTD_freeDStream(stream_); }

    size_t read(std::span<char> out) override {
        ZSTD_outBuffer output{out.data(), out.size(), 0};
        while (output.pos == 0) {
            const std::string_view in = file_->peek();
            if (in.empty() && !inside_) return 0;
            ZSTD_inBuffer input{in.data(), in.size(), 0};
            const size_t status = ZSTD_decompressStream(stream_, &output, &input);
            file_->skip(input.pos);
            if (ZSTD_isError(status))
                fail(ExitCode::kCorruptData, "{}: damaged Zstandard stream near byte {} ({})", file_->path(),
                     file_->consumed(), ZSTD_getErrorName(status));
            inside_ = status != 0;
            if (inside_ && in.empty() && output.pos == 0)
                fail(ExitCode::kCorruptData, "{}: Zstandard stream is cut short", file_->path());
        }
        return output.pos;
    }
    int64_t consumed() const override { return file_->consumed(); }

  private:
    std::unique_ptr<RawFile> file_;
    ZSTD_DStream* stream_;
    bool inside_ = false;  ///< the current frame has not ended
};

}  // namespace

std::unique_ptr<ByteSource> open_source(const std::string& path) {
    auto file = std::make_unique<RawFile>(path);
    const std::string_view magic = file->magic(4);
    if (magic.starts_with("\x1f\x8b")) return std::make_unique<GzipSource>(std::move(file));
    if (magic.starts_with("\x28\xb5\x2f\xfd")) return std::make_unique<ZstdSource>(std::move(file));
    if (path.ends_with(".gz") || path.ends_with(".zst"))
        fail(ExitCode::kCorruptData, "{}: neither a gzip nor a Zstandard stream, although its name says so",
             path);
    return std::make_unique<PlainSource>(std::move(file));
}

}  // namespace pastur
