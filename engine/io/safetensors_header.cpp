#include "engine/io/safetensors_header.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <limits>
#include <nlohmann/json.hpp>

#include "kernels/base/error.h"

namespace pastur {
namespace {

using nlohmann::json;

constexpr int kMaxDepth = 3;  // header -> tensor -> shape or data_offsets
constexpr size_t kMaxList = 32, kMaxUnknown = 16, kMaxMetadata = 1024;
constexpr const char* kMetadata = "__metadata__";

/// Bytes per element; 0 for an unknown dtype.
uint64_t element_bytes(const std::string& dtype) {
    static const std::map<std::string, uint64_t> bytes = {
        {"BOOL", 1}, {"U8", 1},  {"I8", 1},  {"F8_E4M3", 1}, {"F8_E5M2", 1},
        {"I16", 2},  {"U16", 2}, {"F16", 2}, {"BF16", 2},    {"I32", 4},
        {"U32", 4},  {"F32", 4}, {"I64", 8}, {"U64", 8},     {"F64", 8}};
    const auto found = bytes.find(dtype);
    return found == bytes.end() ? 0 : found->second;
}

/// A list of non-negative integers, or whatever stands in its place.
struct List {
    bool given = false, valid = true;
    std::vector<uint64_t> values;

    std::string text() const { return fmt::format("[{}]", fmt::join(values, ",")); }
};

/// The fields of one tensor as they are read.
struct TensorFields {
    bool has_dtype = false, dtype_is_string = false;
    std::string dtype;  ///< or the value that stands in its place
    List shape, offsets;
    std::vector<std::string> unknown;  ///< names of other fields
};

/// Takes the events of the parser.
class HeaderReader : public nlohmann::json_sax<json> {
  public:
    HeaderReader(const std::string& file, std::span<const std::byte> data) : file_(file), data_(data) {}

    SafetensorsHeader take() {
        if (!root_is_object_) fail(ExitCode::kCorruptData, "{}: header: expected an object", file_);
        return std::move(header_);
    }

    bool null() override { return other("null"); }
    bool boolean(bool value) override { return other(value ? "true" : "false"); }
    bool number_float(double, const std::string& text) override { return other(text.substr(0, 100)); }
    bool number_integer(int64_t value) override { return other(std::to_string(value)); }
    bool number_unsigned(uint64_t value) override {
        constexpr auto kMost = static_cast<uint64_t>(std::numeric_limits<int64_t>::max());
        if (List* list = open_list(); list && value <= kMost && list->values.size() < kMaxList)
            return list->values.push_back(value), true;
        return other(std::to_string(value));
    }
    bool string(std::string& value) override {
        if (root_is_object_ && depth_ == 2 && in_metadata_) {
            if (!header_.metadata.emplace(key_, std::move(value)).second) fail_twice(key_);
            if (header_.metadata.size() > kMaxMetadata)
                fail(ExitCode::kCorruptData, "{}: {}: more than {} entries", file_, kMetadata, kMaxMetadata);
            return true;
        }
        if (root_is_object_ && depth_ == 2 && key_ == "dtype") {
            tensor_.dtype_is_string = true;
            tensor_.dtype = std::move(value);
            return true;
        }
        return other(shown_name(value));
    }
    bool binary(binary_t&) override { return false; }  // not in JSON text

    bool start_object(size_t) override {
        if (depth_ == 0) root_is_object_ = true;
        if (depth_ == 1 && root_is_object_ && !in_metadata_) tensor_ = {};
        return enter(depth_ >= 2);
    }
    bool start_array(size_t) override { return enter(depth_ != 2 || in_metadata_ || key_ == "dtype"); }
    bool end_object() override {
        if (--depth_ == 1 && root_is_object_ && !in_metadata_) finish_tensor();
        return true;
    }
    bool end_array() override { return --depth_, true; }

    bool key(std::string& key) override {
        if (!root_is_object_) return true;
        if (depth_ == 1) {
            in_metadata_ = key == kMetadata;
            if (in_metadata_ && std::exchange(has_metadata_, true)) fail_twice(key);
            if (in_metadata_) return true;
            const auto [at, added] = header_.entries.try_emplace(std::move(key));
            if (!added) fail_twice(at->first);
            entry_ = &*at;
        } else if (depth_ == 2) {
            key_ = std::move(key);
            if (!in_metadata_) note_field();
        }
        return true;
    }
    bool parse_error(size_t position, const std::string&, const nlohmann::detail::exception&) override {
        fail(ExitCode::kCorruptData, "{}: header is not JSON (byte {})", file_, position);
    }

  private:
    [[noreturn]] void fail_twice(const std::string& key) const {
        fail(ExitCode::kCorruptData, "{}: header contains {} twice", file_, shown_name(key));
    }
    std::string where() const { return fmt::format("{}: tensor {}", file_, shown_name(entry_->first)); }

    /// The list that the present key names, if it may be filled.
    List* open_list() {
        if (!root_is_object_ || in_metadata_ || depth_ != 3) return nullptr;
        if (key_ == "shape") return &tensor_.shape;
        return key_ == "data_offsets" ? &tensor_.offsets : nullptr;
    }
    /// A field that a tensor may have once.
    void note_field() {
        bool before = false;
        if (key_ == "dtype") {
            before = std::exchange(tensor_.has_dtype, true);
        } else if (key_ == "shape") {
            before = std::exchange(tensor_.shape.given, true);
        } else if (key_ == "data_offsets") {
            before = std::exchange(tensor_.offsets.given, true);
        } else {
            before = std::find(tensor_.unknown.begin(), tensor_.unknown.end(), key_) != tensor_.unknown.end();
            tensor_.unknown.push_back(key_);
            if (tensor_.unknown.size() > kMaxUnknown)
                fail(ExitCode::kCorruptData, "{}: more than {} unknown fields", where(), kMaxUnknown);
        }
        if (before) fail_twice(key_);
    }
    /// Begins an array or an object; `misplaced`: where its place has another type.
    bool enter(bool misplaced) {
        if (misplaced && depth_ >= 1) other("a list or an object");
        if (++depth_ > kMaxDepth)
            fail(ExitCode::kCorruptData, "{}: header nests deeper than {}", file_, kMaxDepth);
        return true;
    }
    /// A value that its place does not take, unless the place is an unknown field.
    bool other(const std::string& text) {
        if (!root_is_object_) return true;
        if (depth_ == 1 && in_metadata_)
            fail(ExitCode::kCorruptData, "{}: {}: expected an object", file_, kMetadata);
        if (depth_ == 1) fail(ExitCode::kCorruptData, "{}: expected an object", where());
        if (in_metadata_)
            fail(ExitCode::kCorruptData, "{}: {} {}: expected a string", file_, kMetadata, shown_name(key_));
        if (key_ == "dtype") tensor_.dtype = text;
        if (key_ == "shape") tensor_.shape.valid = false;
        if (key_ == "data_offsets") tensor_.offsets.valid = false;
        return true;
    }

    const std::vector<uint64_t>& checked(const List& list, const char* name) const {
        if (!list.given) fail(ExitCode::kCorruptData, "{}: expected a \"{}\"", where(), name);
        if (!list.valid)
            fail(ExitCode::kCorruptData, "{}: {}: expected a list of non-negative integers", where(), name);
        return list.values;
    }
    void finish_tensor() {
        if (!tensor_.has_dtype) fail(ExitCode::kCorruptData, "{}: expected a \"dtype\"", where());
        if (!tensor_.dtype_is_string || tensor_.dtype.empty())
            fail(ExitCode::kCorruptData, "{}: dtype {}: expected a name", where(),
                 tensor_.dtype_is_string ? "\"\"" : tensor_.dtype);
        const uint64_t width = element_bytes(tensor_.dtype);
        uint64_t bytes = std::max<uint64_t>(width, 1);
        SafetensorsEntry& out = entry_->second;
        for (const uint64_t extent : checked(tensor_.shape, "shape")) {
            out.shape.push_back(static_cast<int64_t>(extent));
            if (__builtin_mul_overflow(bytes, extent, &bytes))
                fail(ExitCode::kCorruptData, "{}: shape {} overflows", where(), tensor_.shape.text());
        }
        const std::vector<uint64_t>& range = checked(tensor_.offsets, "data_offsets");
        if (range.size() != 2 || range[0] > range[1] || range[1] > data_.size())
            fail(ExitCode::kCorruptData, "{}: data_offsets {}: expected [begin, end] inside {} bytes",
                 where(), tensor_.offsets.text(), data_.size());
        // A dtype that the format has gained since takes any number of bytes: only who reads the tensor needs to
        // know.
        if (width != 0 && range[1] - range[0] != bytes)
            fail(ExitCode::kCorruptData, "{}: {} bytes: expected {} for {}{}", where(), range[1] - range[0],
                 bytes, tensor_.dtype, tensor_.shape.text());
        out.dtype = std::move(tensor_.dtype);
        out.bytes = data_.subspan(range[0], range[1] - range[0]);
    }

    const std::string& file_;
    std::span<const std::byte> data_;
    SafetensorsHeader header_;
    int depth_ = 0;
    bool root_is_object_ = false, in_metadata_ = false, has_metadata_ = false;
    std::string key_;                                                  ///< inside a tensor or the metadata
    std::pair<const std::string, SafetensorsEntry>* entry_ = nullptr;  ///< the tensor that is being read
    TensorFields tensor_;
};

}  // namespace

std::string shown_name(const std::string& name) {
    return json(name.substr(0, 100)).dump(-1, ' ', true, json::error_handler_t::replace);
}

SafetensorsHeader read_safetensors_header(const std::string& file, std::string_view text,
                                          std::span<const std::byte> data) {
    HeaderReader reader(file, data);
    json::sax_parse(text.begin(), text.end(), &reader);
    return reader.take();
}

}  // namespace pastur
