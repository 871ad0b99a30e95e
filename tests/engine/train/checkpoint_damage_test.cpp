// A flipped bit or a truncation anywhere in a checkpoint is detected before a byte is used, and named.
#include <fcntl.h>
#include <unistd.h>

#include <nlohmann/json.hpp>

#include "data/output.h"
#include "engine/io/manifest.h"
#include "engine/io/safetensors.h"
#include "engine/train/checkpoint/checkpoint.h"
#include "engine/train/checkpoint/checkpoint_store.h"
#include "kernels/base/random.h"
#include "tests/support/checkpoint_files.h"
#include "tests/support/expect_error.h"
#include "tests/support/model_harness.h"
#include "tests/support/temp_folder.h"

namespace pastur::test {
namespace {

namespace fs = std::filesystem;

class CheckpointDamage : public testing::Test {
  protected:
    CheckpointDamage() {
        const Config config = tiny_config("variant = \"mla-decoupled\"\nrope_dim = 2");
        Context& ctx = context(Device::kCpu);
        ModelUnderTest model(config, ctx, DType::kF32, {1, 4});
        model.model().params().initialise(ctx, 1);
        Optimizer optimizer(config.train, model.model().params());
        optimizer.allocate(ctx);
        CheckpointStore store(folder_.path(), 1);
        store.prepare();
        checkpoint_ = store.write(7, [&](const fs::path& folder) {
            write_checkpoint(folder, ctx, config, model.model().params(), optimizer, {});
        });
        for (const auto& entry : fs::directory_iterator(checkpoint_)) {
            files_.push_back(entry.path());
            bytes_ += entry.file_size();
        }
        std::sort(files_.begin(), files_.end());
    }
    /// The tensor that contains byte `at` of the intact file; "" for headers and other files.
    static std::string tensor_at(const fs::path& path, uint64_t at) {
        if (path.extension() != ".safetensors") return "";
        const SafetensorsFile file(path);
        for (const auto& [name, entry] : file.entries()) {
            const auto begin = static_cast<uint64_t>(entry.bytes.data() - file.bytes().data());
            if (at >= begin && at < begin + entry.bytes.size()) return name;
        }
        return "";
    }
    /// Expects verify() to fail and name this file and tensor ("": any or none).
    void expect_found(const fs::path& file, const std::string& tensor) const {
        try {
            verify_manifest(checkpoint_);
            ADD_FAILURE() << "the damage was not detected";
        } catch (const Error& error) {
            const std::string text = error.what();
            EXPECT_EQ(error.code(), ExitCode::kCorruptData) << text;
            EXPECT_NE(text.find(file.string() + ":"), std::string::npos) << text;
            if (!tensor.empty()) {
                EXPECT_NE(text.find("tensor \"" + tensor + "\""), std::string::npos) << text;
            }
        }
    }

    TempFolder folder_;
    fs::path checkpoint_;
    std::vector<fs::path> files_;
    uint64_t bytes_ = 0;
};

/// Flips one bit of the file on disk while the object lives.
class Flip {
  public:
    Flip(const fs::path& path, uint64_t at, int bit)
        : descriptor_(::open(path.c_str(), O_RDWR)), at_(static_cast<off_t>(at)), bit_(bit) {
        flip();
    }
    ~Flip() {
        flip();
        ::close(descriptor_);
    }
    Flip(const Flip&) = delete;
    Flip& operator=(const Flip&) = delete;

  private:
    void flip() {
        unsigned char byte = 0;
        EXPECT_EQ(::pread(descriptor_, &byte, 1, at_), 1);
        byte = static_cast<unsigned char>(byte ^ (1 << bit_));
        EXPECT_EQ(::pwrite(descriptor_, &byte, 1, at_), 1);
    }
    int descriptor_;
    off_t at_;
    int bit_;
};

TEST_F(CheckpointDamage, EveryFlippedBitIsFoundAndNamed) {
    SplitMix random(2026);
    int in_tensors = 0;
    for (int i = 0; i < 10'000 && !HasFailure(); ++i) {
        // Half of the positions are drawn by size, half evenly over the files, because manifest and state are
        // small.
        uint64_t at = random.below(bytes_);
        size_t f = 0;
        for (; at >= fs::file_size(files_[f]); ++f) at -= fs::file_size(files_[f]);
        if (i % 2 == 0) {
            f = random.below(files_.size());
            at = random.below(fs::file_size(files_[f]));
        }
        const int bit = static_cast<int>(random.below(8));
        SCOPED_TRACE(fmt::format("bit {} of byte {} of {}", bit, at, files_[f].string()));
        const std::string tensor = tensor_at(files_[f], at);
        in_tensors += !tensor.empty();
        const Flip flip(files_[f], at, bit);
        expect_found(files_[f], tensor);
    }
    EXPECT_GT(in_tensors, 3000);
    verify_manifest(checkpoint_);
}

TEST_F(CheckpointDamage, EveryLostEndIsFoundAndNamed) {
    int cuts = 0;
    for (const fs::path& file : files_) {
        const fs::path whole = folder_.path() / ("whole" + file.extension().string());
        fs::copy_file(file, whole, fs::copy_options::overwrite_existing);
        const uint64_t size = fs::file_size(file);
        std::vector<uint64_t> lengths = {size - 1};
        for (uint64_t length = 0; length < size; length += 4096) lengths.push_back(length);
        for (const uint64_t length : lengths) {
            SCOPED_TRACE(fmt::format("{} cut to {} bytes", file.string(), length));
            const std::string tensor = tensor_at(whole, length);
            fs::resize_file(file, length);
            expect_found(file, tensor);
            fs::copy_file(whole, file, fs::copy_options::overwrite_existing);
            ++cuts;
        }
    }
    EXPECT_GT(cuts, 15);
    verify_manifest(checkpoint_);
}

/// Tensors that begin and end within, at and beyond the pieces in which a file is read, and an empty tensor.
TEST(Manifest, HashesTensorsOfManyPieces) {
    const TempFolder folder;
    const std::vector<int64_t> sizes = {100'000, 700'000, 0, 262'144, 1'000'000, 1};
    std::vector<float> values(1'000'000);
    SplitMix random(5);
    for (float& value : values) value = static_cast<float>(random.below(1000));
    std::vector<TensorSource> tensors;
    for (const int64_t size : sizes)
        tensors.push_back({fmt::format("t{}", tensors.size()), DType::kF32, {size}, [&values, size] {
                               return std::as_bytes(std::span(values)).first(static_cast<size_t>(size) * 4);
                           }});
    fs::create_directory(folder.path() / "checkpoint");
    const fs::path file = folder.path() / "checkpoint" / "a.safetensors";
    write_safetensors(file, tensors, {});
    write_manifest(file.parent_path());
    const auto manifest = nlohmann::json::parse(read_file(file.parent_path() / kManifestName, 1 << 20));
    const nlohmann::json& listed = manifest["files"]["a.safetensors"];
    EXPECT_EQ(listed["xxh3_128"], hash_file(file));
    EXPECT_EQ(listed["tensors"].size(), sizes.size());
    for (const TensorSource& tensor : tensors) {
        const auto bytes = tensor.bytes();
        const fs::path alone = folder.path() / "alone";
        write_file_atomically(alone, {reinterpret_cast<const char*>(bytes.data()), bytes.size()});
        EXPECT_EQ(listed["tensors"][tensor.name]["xxh3_128"], hash_file(alone)) << tensor.name;
        EXPECT_EQ(listed["tensors"][tensor.name]["bytes"], bytes.size());
    }
    const Flip flip(file, fs::file_size(file) - 5, 3);  // last element of the last non-empty tensor
    expect_error(ExitCode::kCorruptData, {"damaged in tensor \"t4\""},
                 [&] { verify_manifest(file.parent_path()); });
}

}  // namespace
}  // namespace pastur::test
