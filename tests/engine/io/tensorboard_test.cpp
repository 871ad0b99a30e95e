// The events file, read back by an independent reader of lengths, checksums and protocol buffers.
#include "engine/io/tensorboard.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <map>

#include "data/files.h"
#include "engine/spectra/spectral_scalars.h"
#include "tests/support/expect_error.h"
#include "tests/support/temp_folder.h"

namespace pastur::test {
namespace {

/// CRC-32C, bit by bit.
uint32_t crc32c(const std::string& bytes) {
    uint32_t crc = 0xffffffff;
    for (const char c : bytes) {
        crc ^= static_cast<unsigned char>(c);
        for (int bit = 0; bit < 8; ++bit) crc = crc & 1 ? (crc >> 1) ^ 0x82f63b78 : crc >> 1;
    }
    return ~crc;
}
uint32_t masked(const std::string& bytes) {
    const uint32_t crc = crc32c(bytes);
    return ((crc >> 15) | (crc << 17)) + 0xa282ead8;
}

template <typename T>
T take(std::string& bytes) {
    T value{};
    EXPECT_GE(bytes.size(), sizeof value);
    std::memcpy(&value, bytes.data(), std::min(bytes.size(), sizeof value));
    bytes.erase(0, sizeof value);
    return value;
}
uint64_t take_varint(std::string& bytes) {
    uint64_t value = 0;
    for (int shift = 0; !bytes.empty(); shift += 7) {
        const auto byte = take<unsigned char>(bytes);
        value |= static_cast<uint64_t>(byte & 127) << shift;
        if (byte < 128) break;
    }
    return value;
}
std::string take_bytes(std::string& bytes, uint64_t count) {
    EXPECT_GE(bytes.size(), count);
    const std::string result = bytes.substr(0, count);
    bytes.erase(0, count);
    return result;
}

/// The fields of a message; a fixed-size or varint value is its number as text.
std::multimap<uint64_t, std::string> fields_of(std::string message) {
    std::multimap<uint64_t, std::string> fields;
    while (!message.empty()) {
        const uint64_t key = take_varint(message);
        switch (key & 7) {
            case 0:
                fields.emplace(key >> 3, std::to_string(static_cast<int64_t>(take_varint(message))));
                break;
            case 1:
                fields.emplace(key >> 3, std::to_string(take<double>(message)));
                break;
            case 2:
                fields.emplace(key >> 3, take_bytes(message, take_varint(message)));
                break;
            case 5:
                fields.emplace(key >> 3, std::to_string(take<float>(message)));
                break;
            default:
                ADD_FAILURE() << "wire type " << (key & 7);
                return fields;
        }
    }
    return fields;
}

std::vector<std::multimap<uint64_t, std::string>> events_in(const std::filesystem::path& folder) {
    std::vector<std::multimap<uint64_t, std::string>> events;
    for (const auto& entry : std::filesystem::directory_iterator(folder)) {
        EXPECT_TRUE(entry.path().filename().string().starts_with("events.out.tfevents."));
        std::string bytes = read_file(entry.path(), 1 << 20);
        while (!bytes.empty()) {
            const std::string length = bytes.substr(0, 8);
            const auto size = take<uint64_t>(bytes);
            EXPECT_EQ(take<uint32_t>(bytes), masked(length));
            const std::string event = take_bytes(bytes, size);
            EXPECT_EQ(take<uint32_t>(bytes), masked(event));
            events.push_back(fields_of(event));
        }
    }
    return events;
}

TEST(Tensorboard, ScalarsAreReadBack) {
    EXPECT_EQ(crc32c("123456789"), 0xe3069283u);
    const TempFolder folder;
    TensorboardLog log(folder.path(), -1);
    log.write({{300, "train/loss", 2.5}, {300, "train/lr", 1e-3}, {400, "val/loss", std::nan("")}});
    const auto events = events_in(folder.path());
    ASSERT_EQ(events.size(), 4u);
    EXPECT_EQ(events[0].find(3)->second, "brain.Event:2");
    EXPECT_EQ(events[1].find(2)->second, "0");
    EXPECT_EQ(fields_of(events[1].find(7)->second).find(1)->second, "1");
    EXPECT_GT(std::stod(events[2].find(1)->second), 1.7e9) << "seconds since 1970";
    EXPECT_EQ(events[2].find(2)->second, "300");
    const auto values = fields_of(events[2].find(5)->second);
    ASSERT_EQ(values.count(1), 2u);
    const auto loss = fields_of(values.find(1)->second), lr = fields_of(std::next(values.find(1))->second);
    EXPECT_EQ(loss.find(1)->second, "train/loss");
    EXPECT_EQ(std::stod(loss.find(2)->second), 2.5);
    EXPECT_EQ(lr.find(1)->second, "train/lr");
    EXPECT_EQ(events[3].find(2)->second, "400");
}

/// The only value of an event's summary.
std::multimap<uint64_t, std::string> value_of(const std::multimap<uint64_t, std::string>& event) {
    const auto summary = fields_of(event.find(5)->second);
    EXPECT_EQ(summary.size(), 1u);
    return fields_of(summary.find(1)->second);
}
/// The name and the content of the plugin that a value is for.
std::pair<std::string, std::string> plugin_of(const std::multimap<uint64_t, std::string>& value) {
    const auto metadata = fields_of(value.find(9)->second);
    EXPECT_EQ(metadata.find(4)->second, "2") << "a tensor";
    const auto plugin = fields_of(metadata.find(1)->second);
    return {plugin.find(1)->second, plugin.find(2)->second};
}

TEST(Tensorboard, TextsAreReadBack) {
    const TempFolder folder;
    TensorboardLog log(folder.path(), 6);
    const std::string text(300, 'x');
    log.write_text(6, "config", text);
    const auto events = events_in(folder.path());
    ASSERT_EQ(events.size(), 3u);
    EXPECT_EQ(events[2].find(2)->second, "6");
    const auto value = value_of(events[2]);
    EXPECT_EQ(value.find(1)->second, "config");
    EXPECT_EQ(plugin_of(value), std::pair(std::string("text"), std::string()));
    const auto tensor = fields_of(value.find(8)->second);
    EXPECT_EQ(tensor.find(1)->second, "7") << "DT_STRING";
    EXPECT_EQ(tensor.find(2)->second, "") << "a scalar";
    EXPECT_EQ(tensor.find(8)->second, text);
}

TEST(Tensorboard, HyperparametersAreReadBack) {
    const TempFolder folder;
    TensorboardLog log(folder.path(), -1);
    log.write_hyperparameters(
        0, {{"train.lr", 0.25}, {"model.tied", true}, {"attention.variant", std::string("mha")}},
        {"val/loss", "train/loss"});
    log.write_end(9, false);
    const auto events = events_in(folder.path());
    ASSERT_EQ(events.size(), 5u);
    std::map<std::string, std::multimap<uint64_t, std::string>> contents;
    for (size_t i = 2; i < 5; ++i) {
        const auto value = value_of(events[i]);
        const auto [plugin, content] = plugin_of(value);
        EXPECT_EQ(plugin, "hparams");
        contents[value.find(1)->second] = fields_of(content);
    }
    const auto experiment = fields_of(contents.at("_hparams_/experiment").find(2)->second);
    std::map<std::string, std::string> types;
    for (auto [at, end] = experiment.equal_range(4); at != end; ++at) {
        const auto info = fields_of(at->second);
        types[info.find(1)->second] = info.find(4)->second;
    }
    EXPECT_EQ(types, (std::map<std::string, std::string>{
                         {"train.lr", "3"}, {"model.tied", "2"}, {"attention.variant", "1"}}));
    ASSERT_EQ(experiment.count(5), 2u);
    const auto name = fields_of(fields_of(experiment.find(5)->second).find(1)->second);
    EXPECT_EQ(name.find(2)->second, "val/loss");
    const auto start = fields_of(contents.at("_hparams_/session_start_info").find(3)->second);
    std::map<std::string, std::pair<uint64_t, std::string>> values;
    for (auto [at, end] = start.equal_range(1); at != end; ++at) {
        const auto entry = fields_of(at->second);
        values[entry.find(1)->second] = *fields_of(entry.find(2)->second).begin();
    }
    EXPECT_EQ(values.at("train.lr"), std::pair(uint64_t{2}, std::to_string(0.25)));
    EXPECT_EQ(values.at("model.tied"), std::pair(uint64_t{4}, std::string("1")));
    EXPECT_EQ(values.at("attention.variant"), std::pair(uint64_t{3}, std::string("mha")));
    const auto end = fields_of(contents.at("_hparams_/session_end_info").find(4)->second);
    EXPECT_EQ(end.find(1)->second, "2") << "STATUS_FAILURE";
}

TEST(Tensorboard, AFileThatCannotBeMadeIsAnIoError) {
    expect_error(ExitCode::kIo, {"/proc"}, [] { TensorboardLog("/proc/nowhere", 0); });
}

TEST(Tensorboard, SpectraAreScalarsOfLayersAndMeansOverHeads) {
    std::vector<SpectrumRecord> records;
    for (size_t i = 0; i < 4; ++i)
        for (const char* null : {"product", "mp"}) {
            SpectrumRecord& record = records.emplace_back();
            record.layer = i == 3 ? -1 : 2;
            record.head = i < 2 ? static_cast<int64_t>(i) : -1;
            record.matrix = i == 3 ? "lm_head" : "qk";
            record.null = null;
            record.metrics.stable_rank = 1 + static_cast<double>(i);
            record.metrics.mp_gap_ratio = (null[0] == 'm' ? 100 : 10) * static_cast<double>(i);
            record.metrics.outlier_count = std::nan("");
        }
    std::map<std::string, double> values;
    for (const Scalar& scalar : spectral_scalars(7, records)) {
        EXPECT_EQ(scalar.step, 7);
        EXPECT_TRUE(values.emplace(scalar.tag, scalar.value).second) << scalar.tag;
    }
    EXPECT_EQ(values.size(), 3u * (2 + 2 * 2));  // outlier_count is not finite
    EXPECT_EQ(values.at("spectral/stable_rank/L02/qk.heads"), 1.5);
    EXPECT_EQ(values.at("spectral/stable_rank/L02/qk"), 3);
    EXPECT_EQ(values.at("spectral/stable_rank/model/lm_head"), 4);
    EXPECT_EQ(values.at("spectral/mp_gap_ratio.product/L02/qk.heads"), 5);
    EXPECT_EQ(values.at("spectral/mp_gap_ratio.mp/L02/qk"), 200);
}

}  // namespace
}  // namespace pastur::test
