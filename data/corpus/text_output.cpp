#include "data/corpus/text_output.h"

#include <zlib.h>
#include <zstd.h>

#include <array>
#include <new>

#include "data/output.h"
#include "kernels/base/error.h"

namespace pastur {

struct TextOutput::Sink {
    explicit Sink(const std::filesystem::path& path) : file(path) {}
    virtual ~Sink() = default;
    /// `last` completes the stream.
    virtual void write(std::string_view text, bool /*last*/) { file.write(text); }
    OutputFile file;
};

namespace {

constexpr size_t kBlockBytes = 64 << 10;

struct GzipSink final : TextOutput::Sink {
    explicit GzipSink(const std::filesystem::path& path) : Sink(path) {
        constexpr int kLevel = 6, kGzip = 16, kMemory = 8;
        if (deflateInit2(&stream, kLevel, Z_DEFLATED, MAX_WBITS + kGzip, kMemory, Z_DEFAULT_STRATEGY) != Z_OK)
            throw std::bad_alloc();
    }
    ~GzipSink() override { deflateEnd(&stream); }
    void write(std::string_view text, bool last) override {
        stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(text.data()));
        stream.avail_in = static_cast<uInt>(text.size());
        do {
            stream.next_out = reinterpret_cast<Bytef*>(block.data());
            stream.avail_out = kBlockBytes;
            const int status = deflate(&stream, last ? Z_FINISH : Z_NO_FLUSH);
            PASTUR_CHECK(status != Z_STREAM_ERROR, "deflate: {}", status);
            file.write({block.data(), kBlockBytes - stream.avail_out});
        } while (stream.avail_out == 0);
    }
    z_stream stream{};
    std::array<char, kBlockBytes> block;
};

struct ZstdSink final : TextOutput::Sink {
    explicit ZstdSink(const std::filesystem::path& path)
        : Sink(path), stream(ZSTD_createCCtx(), ZSTD_freeCCtx) {
        if (!stream) throw std::bad_alloc();
    }
    void write(std::string_view text, bool last) override {
        ZSTD_inBuffer in{text.data(), text.size(), 0};
        size_t left = 1;
        while (left > 0) {
            ZSTD_outBuffer out{block.data(), block.size(), 0};
            left = ZSTD_compressStream2(stream.get(), &out, &in, last ? ZSTD_e_end : ZSTD_e_continue);
            PASTUR_CHECK(!ZSTD_isError(left), "Zstandard: {}", ZSTD_getErrorName(left));
            file.write({block.data(), out.pos});
            if (!last && in.pos == in.size) return;
        }
    }
    std::unique_ptr<ZSTD_CCtx, decltype(&ZSTD_freeCCtx)> stream;
    std::array<char, kBlockBytes> block;
};

}  // namespace

TextOutput::TextOutput(const std::filesystem::path& path) {
    const std::string extension = path.extension();
    if (extension == ".gz") {
        sink_ = std::make_unique<GzipSink>(path);
    } else if (extension == ".zst") {
        sink_ = std::make_unique<ZstdSink>(path);
    } else {
        sink_ = std::make_unique<Sink>(path);
    }
}

TextOutput::~TextOutput() = default;

void TextOutput::write(std::string_view text) {
    sink_->write(text, false);
}

void TextOutput::commit() {
    sink_->write({}, true);
    sink_->file.commit();
}

}  // namespace pastur
