#include "engine/io/tensorboard.h"

#include <fmt/format.h>
#include <unistd.h>

#include <array>
#include <bit>
#include <chrono>
#include <cstring>

#include "engine/io/host_name.h"

namespace pastur {
namespace {

/// Reflected polynomial of CRC-32C (Castagnoli).
constexpr std::array<uint32_t, 256> kCrcTable = [] {
    std::array<uint32_t, 256> table{};
    for (uint32_t i = 0; i < 256; ++i) {
        uint32_t value = i;
        for (int bit = 0; bit < 8; ++bit) value = (value >> 1) ^ (value & 1 ? 0x82f63b78u : 0);
        table[i] = value;
    }
    return table;
}();

/// Masked as TensorFlow does, because an unmasked checksum of data that contains checksums is weak.
uint32_t masked_crc(const std::string& bytes) {
    uint32_t crc = ~0u;
    for (const char c : bytes) crc = (crc >> 8) ^ kCrcTable[(crc ^ static_cast<unsigned char>(c)) & 0xff];
    return std::rotr(~crc, 15) + 0xa282ead8u;
}

template <typename T>
std::string raw(T value) {
    static_assert(std::endian::native == std::endian::little);
    std::string bytes(sizeof value, '\0');
    std::memcpy(bytes.data(), &value, sizeof value);
    return bytes;
}

std::string varint(uint64_t value) {
    std::string bytes;
    for (; value > 127; value >>= 7) bytes += static_cast<char>(value | 128);
    return bytes + static_cast<char>(value);
}

/// Wire types of protocol buffer fields.
enum WireType : uint32_t { kVarint = 0, kFixed64 = 1, kBytes = 2, kFixed32 = 5 };
std::string key(uint32_t field, WireType type) {
    return varint(field << 3 | type);
}
std::string bytes_field(uint32_t field, const std::string& content) {
    return key(field, kBytes) + varint(content.size()) + content;
}
std::string double_field(uint32_t field, double value) {
    return key(field, kFixed64) + raw(value);
}
std::string float_field(uint32_t field, float value) {
    return key(field, kFixed32) + raw(value);
}
std::string int_field(uint32_t field, int64_t value) {
    return key(field, kVarint) + varint(static_cast<uint64_t>(value));
}

double seconds_now() {
    return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

/// Event{wall_time = 1, step = 2}.
std::string event_header(int64_t step) {
    return double_field(1, seconds_now()) + int_field(2, step);
}

std::string file_name() {
    const auto now = std::chrono::system_clock::now().time_since_epoch();
    return fmt::format("events.out.tfevents.{:010}.{}.{}",
                       std::chrono::duration_cast<std::chrono::seconds>(now).count(), host_name(), getpid());
}

/// Summary.Value{tag = 1, tensor = 8, metadata = 9 {plugin_data = 1 {plugin_name = 1, content = 2}, data_class = 4}}.
std::string plugin_value(const std::string& tag, const std::string& tensor, const std::string& plugin,
                         const std::string& content) {
    constexpr int64_t kTensor = 2;  // DataClass
    const std::string metadata =
        bytes_field(1, bytes_field(1, plugin) + bytes_field(2, content)) + int_field(4, kTensor);
    return bytes_field(1, tag) + bytes_field(8, tensor) + bytes_field(9, metadata);
}

/// TensorProto{dtype = 1, tensor_shape = 2, string_val = 8}: a text, which has no dimensions.
std::string text_tensor(const std::string& text) {
    constexpr int64_t kString = 7;
    return int_field(1, kString) + bytes_field(2, "") + bytes_field(8, text);
}

/// A value of the HParams plugin, which reads its metadata alone: `content` is an HParamsPluginData of version 0, and the
/// tensor holds no float (TensorShapeProto{dim = 2 {size = 1}}).
std::string hparams_value(const std::string& tag, const std::string& content) {
    constexpr int64_t kFloat = 1;
    const std::string empty = int_field(1, kFloat) + bytes_field(2, bytes_field(2, int_field(1, 0)));
    return plugin_value("_hparams_/" + tag, empty, "hparams", content);
}

/// google.protobuf.Value{number_value = 2, string_value = 3, bool_value = 4}.
std::string value_message(const std::variant<double, bool, std::string>& value) {
    if (const double* number = std::get_if<double>(&value)) return double_field(2, *number);
    if (const bool* truth = std::get_if<bool>(&value)) return int_field(4, *truth);
    return bytes_field(3, std::get<std::string>(value));
}

/// Experiment{hparam_infos = 4 {name = 1, type = 4}, metric_infos = 5 {name = 1 {tag = 2}}}.
std::string experiment_message(const std::vector<Hyperparameter>& parameters,
                               const std::vector<std::string>& metrics) {
    constexpr int64_t kTypes[] = {3, 2,
                                  1};  // DataType of float64, bool and string, in the order of the variant
    std::string experiment;
    for (const Hyperparameter& parameter : parameters)
        experiment +=
            bytes_field(4, bytes_field(1, parameter.name) + int_field(4, kTypes[parameter.value.index()]));
    for (const std::string& metric : metrics)
        experiment += bytes_field(5, bytes_field(1, bytes_field(2, metric)));
    return experiment;
}

}  // namespace

TensorboardLog::TensorboardLog(const std::filesystem::path& folder, int64_t step)
    : file_(std::make_unique<AppendFile>(folder / file_name())) {
    append(event_header(0) + bytes_field(3, "brain.Event:2"));  // Event.file_version
    // Event.session_log{status = START}: readers discard earlier points of this step and later ones.
    append(event_header(step + 1) + bytes_field(7, int_field(1, 1)));
}

void TensorboardLog::append(const std::string& event) {
    const std::string length = raw(static_cast<uint64_t>(event.size()));
    file_->write(length + raw(masked_crc(length)) + event + raw(masked_crc(event)));
}

void TensorboardLog::write(const std::vector<Scalar>& scalars) {
    for (size_t first = 0; first < scalars.size();) {
        // Event.summary{value{tag = 1, simple_value = 2}...}: one event for consecutive scalars of one step.
        const int64_t step = scalars[first].step;
        std::string summary;
        for (; first < scalars.size() && scalars[first].step == step; ++first)
            summary += bytes_field(1, bytes_field(1, scalars[first].tag) +
                                          float_field(2, static_cast<float>(scalars[first].value)));
        append(event_header(step) + bytes_field(5, summary));
    }
}

/// Event.summary{value}.
void TensorboardLog::append_value(int64_t step, const std::string& value) {
    append(event_header(step) + bytes_field(5, bytes_field(1, value)));
}

void TensorboardLog::write_text(int64_t step, const std::string& tag, const std::string& text) {
    append_value(step, plugin_value(tag, text_tensor(text), "text", ""));
}

void TensorboardLog::write_hyperparameters(int64_t step, const std::vector<Hyperparameter>& parameters,
                                           const std::vector<std::string>& metrics) {
    // SessionStartInfo{hparams = 1 {key = 1, value = 2}, start_time_secs = 5}.
    std::string start;
    for (const Hyperparameter& parameter : parameters)
        start +=
            bytes_field(1, bytes_field(1, parameter.name) + bytes_field(2, value_message(parameter.value)));
    start += double_field(5, seconds_now());
    // HParamsPluginData{experiment = 2, session_start_info = 3}.
    append_value(step, hparams_value("experiment", bytes_field(2, experiment_message(parameters, metrics))));
    append_value(step, hparams_value("session_start_info", bytes_field(3, start)));
}

void TensorboardLog::write_end(int64_t step, bool succeeded) {
    constexpr int64_t kSuccess = 1, kFailure = 2;
    // HParamsPluginData{session_end_info = 4 {status = 1, end_time_secs = 2}}.
    const std::string end = int_field(1, succeeded ? kSuccess : kFailure) + double_field(2, seconds_now());
    append_value(step, hparams_value("session_end_info", bytes_field(4, end)));
}

}  // namespace pastur
