#include "engine/io/safetensors.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <nlohmann/json.hpp>

#include "data/output.h"
#include "engine/config/nearest_name.h"
#include "kernels/base/error.h"

namespace pastur {
namespace {

static_assert(std::endian::native == std::endian::little,
              "the format is little endian and is mapped without conversion");

constexpr uint64_t kMaxHeaderBytes = 16 << 20;  // about 100,000 tensors
constexpr const char* kMetadata = "__metadata__";

using nlohmann::ordered_json;

const char* name_in_file(DType dtype) {
    switch (dtype) {
        case DType::kF32:
            return "F32";
        case DType::kBF16:
            return "BF16";
        case DType::kF64:
            return "F64";
        case DType::kI32:
            return "I32";
        case DType::kF8E4M3:
            return "F8_E4M3";
    }
    return "";
}

uint64_t bytes_of(const TensorSource& tensor) {
    auto bytes = static_cast<uint64_t>(size_of(tensor.dtype));
    for (const int64_t extent : tensor.shape)
        PASTUR_CHECK(extent >= 0 && !__builtin_mul_overflow(bytes, static_cast<uint64_t>(extent), &bytes),
                     "tensor {} has shape [{}]", tensor.name, fmt::join(tensor.shape, ", "));
    return bytes;
}

/// The length and the header, padded with spaces to align the data to 8 bytes.
std::string header_of(const std::vector<const TensorSource*>& tensors, const StringMap& metadata) {
    ordered_json header = ordered_json::object();
    if (!metadata.empty()) header[kMetadata] = metadata;
    uint64_t offset = 0;
    for (const TensorSource* tensor : tensors) {
        PASTUR_CHECK(!header.contains(tensor->name), "tensor {} is given twice", tensor->name);
        const uint64_t end = offset + bytes_of(*tensor);
        header[tensor->name] = {{"dtype", tensor->format ? tensor->format : name_in_file(tensor->dtype)},
                                {"shape", tensor->shape},
                                {"data_offsets", {offset, end}}};
        offset = end;
    }
    std::string text = header.dump();
    text.resize((text.size() + 7) / 8 * 8, ' ');
    const uint64_t length = text.size();
    std::string prefix(sizeof length, '\0');
    std::memcpy(prefix.data(), &length, sizeof length);
    return prefix + text;
}

}  // namespace

void write_safetensors(const std::filesystem::path& file, const std::vector<TensorSource>& tensors,
                       const StringMap& metadata) {
    std::vector<const TensorSource*> ordered;
    for (const TensorSource& tensor : tensors) ordered.push_back(&tensor);
    std::stable_sort(ordered.begin(), ordered.end(), [](const TensorSource* a, const TensorSource* b) {
        return size_of(a->dtype) > size_of(b->dtype);
    });
    FileWriter out(file);
    out.write(header_of(ordered, metadata));
    for (const TensorSource* tensor : ordered) {
        const std::span<const std::byte> bytes = tensor->bytes();
        PASTUR_CHECK(bytes.size() == bytes_of(*tensor), "tensor {} has {} bytes", tensor->name, bytes.size());
        out.write({reinterpret_cast<const char*>(bytes.data()), bytes.size()});
    }
    out.finish();
}

SafetensorsFile::SafetensorsFile(const std::filesystem::path& file) : file_(file) {
    parse_header();
    check_tiling();
}

void SafetensorsFile::parse_header() {
    const std::span<const std::byte> all = file_.bytes();
    const std::string file = path().string();
    uint64_t length = 0;
    if (all.size() < sizeof length)
        fail(ExitCode::kCorruptData, "{}: {} bytes: expected a safetensors file", file, all.size());
    std::memcpy(&length, all.data(), sizeof length);
    const uint64_t most = std::min<uint64_t>(kMaxHeaderBytes, all.size() - sizeof length);
    if (length > most)
        fail(ExitCode::kCorruptData, "{}: header of {} bytes: expected at most {}", file, length, most);
    const std::string_view text(reinterpret_cast<const char*>(all.data()) + sizeof length, length);
    SafetensorsHeader header = read_safetensors_header(file, text, all.subspan(sizeof length + length));
    metadata_ = std::move(header.metadata);
    entries_ = std::move(header.entries);
}

void SafetensorsFile::check_tiling() const {
    std::vector<std::pair<std::span<const std::byte>, const std::string*>> ranges;
    for (const auto& [name, entry] : entries_) ranges.emplace_back(entry.bytes, &name);
    std::sort(ranges.begin(), ranges.end(), [](const auto& a, const auto& b) {
        return std::pair(a.first.data(), a.first.size()) < std::pair(b.first.data(), b.first.size());
    });
    uint64_t length = 0;
    std::memcpy(&length, file_.bytes().data(), sizeof length);
    const std::byte* const begin = file_.bytes().data() + sizeof length + length;
    const std::byte* const end = file_.bytes().data() + file_.bytes().size();
    const std::byte* next = begin;
    for (const auto& [bytes, name] : ranges) {
        if (bytes.data() != next)
            fail(ExitCode::kCorruptData, "{}: tensor {} starts at byte {}: expected {} ({})", path().string(),
                 shown_name(*name), bytes.data() - begin, next - begin,
                 bytes.data() < next ? "tensors overlap" : "a gap");
        next = bytes.data() + bytes.size();
    }
    if (next != end)
        fail(ExitCode::kCorruptData, "{}: {} bytes of data: expected {} after the last tensor",
             path().string(), end - begin, next - begin);
}

ConstTensor SafetensorsFile::tensor(const std::string& name, DType dtype, const Shape& shape) const {
    const auto found = entries_.find(name);
    if (found == entries_.end()) {
        std::vector<std::string> names;
        for (const auto& [known, entry] : entries_) names.push_back(known);
        fail(ExitCode::kCorruptData, "{}: no tensor {}{}", path().string(), shown_name(name),
             names.empty() ? "" : fmt::format("; the nearest is {}", shown_name(nearest_name(name, names))));
    }
    const Entry& entry = found->second;
    std::vector<int64_t> expected;
    for (int i = 0; i < shape.rank(); ++i) expected.push_back(shape[i]);
    if (entry.dtype != name_in_file(dtype) || entry.shape != expected)
        fail(ExitCode::kCorruptData, "{}: tensor {} is {}[{}]: expected {}[{}]", path().string(),
             shown_name(name), entry.dtype, fmt::join(entry.shape, ", "), name_in_file(dtype),
             fmt::join(expected, ", "));
    const auto address = reinterpret_cast<uintptr_t>(entry.bytes.data());
    if (address % static_cast<uintptr_t>(size_of(dtype)) != 0)
        fail(ExitCode::kCorruptData, "{}: tensor {} is not aligned to its {} bytes per element",
             path().string(), shown_name(name), size_of(dtype));
    return ConstTensor(entry.bytes.data(), dtype, shape);
}

}  // namespace pastur
