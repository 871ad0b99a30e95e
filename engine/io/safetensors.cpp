#include "engine/io/safetensors.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>
#include <nlohmann/json.hpp>
#include <set>

#include "data/output.h"
#include "engine/config/nearest_name.h"
#include "kernels/base/error.h"

namespace pastur {
namespace {

static_assert(std::endian::native == std::endian::little,
              "the format is little endian and is mapped without conversion");

constexpr uint64_t kMaxHeaderBytes = 16 << 20;  // about 100,000 tensors
constexpr int kMaxDepth = 3;                    // header -> tensor -> shape or data_offsets
constexpr const char* kMetadata = "__metadata__";

using nlohmann::json;
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

/// Bytes per element; 0 for an unknown dtype.
uint64_t element_bytes(const std::string& dtype) {
    static const std::map<std::string, uint64_t> bytes = {
        {"BOOL", 1}, {"U8", 1},  {"I8", 1},  {"F8_E4M3", 1}, {"F8_E5M2", 1},
        {"I16", 2},  {"U16", 2}, {"F16", 2}, {"BF16", 2},    {"I32", 4},
        {"U32", 4},  {"F32", 4}, {"I64", 8}, {"U64", 8},     {"F64", 8}};
    const auto found = bytes.find(dtype);
    return found == bytes.end() ? 0 : found->second;
}

/// A name from a file that may be damaged: quoted, escaped and cut to a line.
std::string shown(const std::string& name) {
    return json(name.substr(0, 100)).dump(-1, ' ', true, json::error_handler_t::replace);
}

/// Parses a header. Refuses what a JSON reader accepts silently: duplicate keys and unlimited nesting.
json parse_checked(const std::string& file, std::string_view text) {
    std::vector<std::set<std::string>> keys;
    const auto check = [&](int depth, json::parse_event_t event, json& value) {
        if (depth > kMaxDepth)
            fail(ExitCode::kCorruptData, "{}: header nests deeper than {}", file, kMaxDepth);
        if (event == json::parse_event_t::object_start) keys.emplace_back();
        if (event == json::parse_event_t::object_end) keys.pop_back();
        if (event == json::parse_event_t::key && !keys.back().insert(value.get<std::string>()).second)
            fail(ExitCode::kCorruptData, "{}: header contains {} twice", file,
                 shown(value.get<std::string>()));
        return true;
    };
    try {
        return json::parse(text.begin(), text.end(), check);
    } catch (const json::parse_error& error) {
        fail(ExitCode::kCorruptData, "{}: header is not JSON (byte {})", file, error.byte);
    }
}

/// Reads and checks one tensor of a header.
class EntryReader {
  public:
    EntryReader(const std::string& file, const std::string& name, const json& entry)
        : where_(fmt::format("{}: tensor {}", file, shown(name))), entry_(entry) {
        if (!entry.is_object()) fail(ExitCode::kCorruptData, "{}: expected an object", where_);
    }

    SafetensorsFile::Entry read(std::span<const std::byte> data) const {
        SafetensorsFile::Entry out;
        const json& dtype = member("dtype");
        out.dtype = dtype.is_string() ? dtype.get<std::string>() : "";
        if (out.dtype.empty())
            fail(ExitCode::kCorruptData, "{}: dtype {}: expected a name", where_,
                 dtype.dump(-1, ' ', true, json::error_handler_t::replace).substr(0, 100));
        const uint64_t width = element_bytes(out.dtype);
        uint64_t bytes = std::max<uint64_t>(width, 1);
        for (const uint64_t extent : integers("shape")) {
            out.shape.push_back(static_cast<int64_t>(extent));
            if (__builtin_mul_overflow(bytes, extent, &bytes))
                fail(ExitCode::kCorruptData, "{}: shape {} overflows", where_, member("shape").dump());
        }
        const std::vector<uint64_t> range = integers("data_offsets");
        if (range.size() != 2 || range[0] > range[1] || range[1] > data.size())
            fail(ExitCode::kCorruptData, "{}: data_offsets {}: expected [begin, end] inside {} bytes", where_,
                 member("data_offsets").dump(), data.size());
        // A dtype that the format has gained since takes any number of bytes: only who reads the tensor needs
        // to know.
        if (width != 0 && range[1] - range[0] != bytes)
            fail(ExitCode::kCorruptData, "{}: {} bytes: expected {} for {}{}", where_, range[1] - range[0],
                 bytes, out.dtype, member("shape").dump());
        out.bytes = data.subspan(range[0], range[1] - range[0]);
        return out;
    }

  private:
    const json& member(const char* key) const {
        const auto found = entry_.find(key);
        if (found == entry_.end()) fail(ExitCode::kCorruptData, "{}: expected a \"{}\"", where_, key);
        return *found;
    }
    std::vector<uint64_t> integers(const char* key) const {
        const json& list = member(key);
        std::vector<uint64_t> out;
        constexpr auto kMost = static_cast<uint64_t>(std::numeric_limits<int64_t>::max());
        bool valid = list.is_array() && list.size() <= 32;
        for (size_t i = 0; valid && i < list.size(); ++i) {
            valid = list[i].is_number_unsigned() && list[i].get<uint64_t>() <= kMost;
            if (valid) out.push_back(list[i].get<uint64_t>());
        }
        if (!valid)
            fail(ExitCode::kCorruptData, "{}: {}: expected a list of non-negative integers", where_, key);
        return out;
    }

    std::string where_;
    const json& entry_;
};

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
        header[tensor->name] = {{"dtype", name_in_file(tensor->dtype)},
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
    const json header = parse_checked(file, text);
    if (!header.is_object()) fail(ExitCode::kCorruptData, "{}: header: expected an object", file);
    const std::span<const std::byte> data = all.subspan(sizeof length + length);
    for (const auto& [name, entry] : header.items()) {
        if (name != kMetadata) {
            entries_.emplace(name, EntryReader(file, name, entry).read(data));
            continue;
        }
        if (!entry.is_object()) fail(ExitCode::kCorruptData, "{}: {}: expected an object", file, kMetadata);
        for (const auto& [key, value] : entry.items()) {
            if (!value.is_string())
                fail(ExitCode::kCorruptData, "{}: {} {}: expected a string", file, kMetadata, shown(key));
            metadata_.emplace(key, value.get<std::string>());
        }
    }
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
                 shown(*name), bytes.data() - begin, next - begin,
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
        fail(ExitCode::kCorruptData, "{}: no tensor {}{}", path().string(), shown(name),
             names.empty() ? "" : fmt::format("; the nearest is {}", shown(nearest_name(name, names))));
    }
    const Entry& entry = found->second;
    std::vector<int64_t> expected;
    for (int i = 0; i < shape.rank(); ++i) expected.push_back(shape[i]);
    if (entry.dtype != name_in_file(dtype) || entry.shape != expected)
        fail(ExitCode::kCorruptData, "{}: tensor {} is {}[{}]: expected {}[{}]", path().string(), shown(name),
             entry.dtype, fmt::join(entry.shape, ", "), name_in_file(dtype), fmt::join(expected, ", "));
    const auto address = reinterpret_cast<uintptr_t>(entry.bytes.data());
    if (address % static_cast<uintptr_t>(size_of(dtype)) != 0)
        fail(ExitCode::kCorruptData, "{}: tensor {} is not aligned to its {} bytes per element",
             path().string(), shown(name), size_of(dtype));
    return ConstTensor(entry.bytes.data(), dtype, shape);
}

}  // namespace pastur
