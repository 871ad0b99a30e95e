#pragma once
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string_view>

namespace pastur {

/// A text file that appears when commit() has completed it: compressed with gzip for a name in .gz, with
/// Zstandard for .zst, otherwise as it is. Throws (kIo).
class TextOutput {
  public:
    struct Sink;  ///< a compression
    explicit TextOutput(const std::filesystem::path& path);
    ~TextOutput();
    void write(std::string_view text);
    void commit();

  private:
    std::unique_ptr<Sink> sink_;
};

}  // namespace pastur
