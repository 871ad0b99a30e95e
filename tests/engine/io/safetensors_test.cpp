// safetensors files are read back as written, and damaged ones are refused.
#include "engine/io/safetensors.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>
#include <numeric>
#include <random>

#include "tests/support/expect_error.h"
#include "tests/support/temp_folder.h"

namespace pastur {
namespace {

using test::expect_error;

class Safetensors : public testing::Test {
  protected:
    std::filesystem::path path() const { return folder_.path() / "x.safetensors"; }

    /// Writes the header's length, the header and this many data bytes.
    void write_raw(const std::string& header, size_t data_bytes) const {
        const uint64_t length = header.size();
        write_with_length(length, header, data_bytes);
    }
    void write_with_length(uint64_t length, const std::string& header, size_t data_bytes) const {
        std::ofstream out(path(), std::ios::binary);
        out.write(reinterpret_cast<const char*>(&length), sizeof length);
        out << header << std::string(data_bytes, '\1');
    }
    void expect_corrupt(std::initializer_list<std::string> parts) const {
        expect_error(ExitCode::kCorruptData, parts, [&] { SafetensorsFile file(path()); });
    }
    void expect_corrupt_header(const std::string& header, size_t data_bytes,
                               std::initializer_list<std::string> parts) const {
        SCOPED_TRACE(header.substr(0, 200));
        write_raw(header, data_bytes);
        expect_corrupt(parts);
        expect_corrupt({path().string()});
    }

    test::TempFolder folder_;
};

template <typename T>
TensorSource source(const std::string& name, std::vector<int64_t> shape, const std::vector<T>& values) {
    return {name, DTypeOf<T>::kValue, std::move(shape),
            [&values] { return std::as_bytes(std::span(values)); }};
}

template <typename T>
std::vector<T> values_of(const ConstTensor& tensor) {
    return {tensor.data<T>(), tensor.data<T>() + tensor.numel()};
}

TEST_F(Safetensors, ReadsBackWhatItWrites) {
    const std::vector<float> f = {1.5f, -2.0f, 3.25f, 0, 5, 6};
    const std::vector<Bf16> b = {to_bf16(1), to_bf16(2), to_bf16(-3)};
    const std::vector<double> d = {0.1};
    const std::vector<int32_t> i = {7, -8};
    const std::vector<float> none;
    write_safetensors(path(),
                      {source("b", {3}, b), source("model.\"f\"", {2, 3}, f), source("d", {}, d),
                       source("i", {1, 2, 1}, i), source("none", {0, 4}, none)},
                      {{"format", "pt"}, {"recipe", "[train]\nlr = \"\xc3\xa9\"\n"}});
    const SafetensorsFile file(path());
    EXPECT_EQ(file.metadata().at("recipe"), "[train]\nlr = \"\xc3\xa9\"\n");
    EXPECT_EQ(file.entries().size(), 5u);
    EXPECT_EQ(values_of<float>(file.tensor("model.\"f\"", DType::kF32, {2, 3})), f);
    EXPECT_EQ(values_of<int32_t>(file.tensor("i", DType::kI32, {1, 2, 1})), i);
    EXPECT_EQ(file.tensor("none", DType::kF32, {0, 4}).numel(), 0);
    const ConstTensor bf16 = file.tensor("b", DType::kBF16, {3});
    EXPECT_EQ(to_float(bf16.data<Bf16>()[2]), -3.0f);
    double read = 0;  // a scalar has no shape to be viewed with
    std::memcpy(&read, file.entries().at("d").bytes.data(), sizeof read);
    EXPECT_EQ(read, 0.1);
}

TEST_F(Safetensors, WritesTheFormat) {
    const std::vector<float> f = {1, 2};
    write_safetensors(path(), {source("a", {2}, f)}, {{"k", "v"}});
    std::ifstream in(path(), std::ios::binary);
    const std::string bytes((std::istreambuf_iterator<char>(in)), {});
    uint64_t length = 0;
    std::memcpy(&length, bytes.data(), 8);
    EXPECT_EQ(length % 8, 0u);
    ASSERT_EQ(bytes.size(), 8 + length + 8);
    const nlohmann::json header = nlohmann::json::parse(bytes.substr(8, length));
    EXPECT_EQ(header, (nlohmann::json{{"__metadata__", {{"k", "v"}}},
                                      {"a", {{"dtype", "F32"}, {"shape", {2}}, {"data_offsets", {0, 8}}}}}));
}

TEST_F(Safetensors, AsksForOneTensorAtATime) {
    std::vector<float> buffer;  // shared by all tensors
    std::vector<TensorSource> tensors;
    for (int n = 1; n <= 50; ++n)
        tensors.push_back({fmt::format("t{}", n), DType::kF32, {n}, [&buffer, n] {
                               buffer.assign(static_cast<size_t>(n), static_cast<float>(n));
                               return std::as_bytes(std::span(buffer));
                           }});
    write_safetensors(path(), tensors, {});
    const SafetensorsFile file(path());
    for (int n = 1; n <= 50; ++n)
        EXPECT_EQ(values_of<float>(file.tensor(fmt::format("t{}", n), DType::kF32, {n})),
                  std::vector<float>(static_cast<size_t>(n), static_cast<float>(n)));
}

TEST_F(Safetensors, RefusesToWriteNonsense) {
    const std::vector<float> f = {1, 2};
    EXPECT_THROW(write_safetensors(path(), {source("a", {3}, f)}, {}), Error);
    EXPECT_THROW(write_safetensors(path(), {source("a", {2}, f), source("a", {2}, f)}, {}), Error);
    EXPECT_THROW(write_safetensors(path(), {source("a", {-2}, f)}, {}), Error);
}

TEST_F(Safetensors, ReportsAFullDisk) {
    const std::vector<float> f = {1, 2};
    expect_error(ExitCode::kIo, {"/dev/full", "No space left"},
                 [&] { write_safetensors("/dev/full", {source("a", {2}, f)}, {}); });
    std::ofstream(folder_.path() / "file");
    expect_error(ExitCode::kIo, {"Not a directory"},
                 [&] { write_safetensors(folder_.path() / "file" / "x", {source("a", {2}, f)}, {}); });
    expect_error(ExitCode::kMissingInput, {"no.safetensors"},
                 [&] { SafetensorsFile file(folder_.path() / "no.safetensors"); });
}

TEST_F(Safetensors, NamesTheNearestTensorAndWhatItIs) {
    const std::vector<float> f = {1, 2};
    write_safetensors(path(), {source("model.norm.weight", {2}, f)}, {});
    const SafetensorsFile file(path());
    expect_error(ExitCode::kCorruptData, {"no tensor \"model.nrm.weight\"", "\"model.norm.weight\""},
                 [&] { file.tensor("model.nrm.weight", DType::kF32, {2}); });
    expect_error(ExitCode::kCorruptData, {"\"model.norm.weight\" is F32[2]: expected F32[3]"},
                 [&] { file.tensor("model.norm.weight", DType::kF32, {3}); });
    expect_error(ExitCode::kCorruptData, {"is F32[2]: expected BF16[2]"},
                 [&] { file.tensor("model.norm.weight", DType::kBF16, {2}); });
}

TEST_F(Safetensors, KnowsForeignDtypesAndRefusesMisalignedOnes) {
    std::string header = R"({"u":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},)"
                         R"("h":{"dtype":"F16","shape":[2],"data_offsets":[1,5]},)"
                         R"("l":{"dtype":"I64","shape":[1],"data_offsets":[5,13]},)"
                         R"("f":{"dtype":"F32","shape":[1],"data_offsets":[13,17]}})";
    header.resize((header.size() + 7) / 8 * 8, ' ');
    write_raw(header, 17);
    const SafetensorsFile file(path());
    EXPECT_EQ(file.entries().at("h").dtype, "F16");
    EXPECT_EQ(file.entries().at("l").bytes.size(), 8u);
    expect_error(ExitCode::kCorruptData, {"\"f\" is not aligned"},
                 [&] { file.tensor("f", DType::kF32, {1}); });
}

TEST_F(Safetensors, OpensFilesWithDtypesOfALaterFormat) {
    std::string header = R"({"new":{"dtype":"F4_E2M1","shape":[3,2],"data_offsets":[0,3]},)"
                         R"("u":{"dtype":"U8","shape":[5],"data_offsets":[3,8]}})";
    header.resize((header.size() + 7) / 8 * 8, ' ');
    write_raw(header, 8);
    const SafetensorsFile file(path());
    EXPECT_EQ(file.entries().at("new").bytes.size(), 3u);
    EXPECT_EQ(file.entries().at("u").bytes.size(), 5u);
    expect_error(ExitCode::kCorruptData, {"\"new\" is F4_E2M1[3, 2]: expected F32[3, 2]"}, [&] {
        file.tensor("new", DType::kF32, {3, 2});
    });
}

TEST_F(Safetensors, BoundsTheHeader) {
    std::ofstream(path(), std::ios::binary) << "1234567";
    expect_corrupt({"7 bytes"});
    write_with_length(1000, "{}", 0);
    expect_corrupt({"header of 1000 bytes: expected at most 2"});
    write_with_length(~uint64_t{0}, "{}", 0);
    expect_corrupt({"header of 18446744073709551615 bytes"});
    write_raw(std::string((16 << 20) + 1, ' '), 0);
    expect_corrupt({"expected at most 16777216"});
    expect_corrupt_header("", 0, {"not JSON"});
    expect_corrupt_header("{\"a\":", 0, {"not JSON"});
    expect_corrupt_header("{} x", 0, {"not JSON"});
    expect_corrupt_header("[]", 0, {"expected an object"});
    expect_corrupt_header(std::string(1 << 20, '['), 0, {"deeper than 3"});
    std::string objects;
    for (int i = 0; i < 100'000; ++i) objects += "{\"a\":";
    expect_corrupt_header(objects, 0, {"deeper than 3"});
}

TEST_F(Safetensors, ChecksEveryTensor) {
    const auto one = [](const std::string& fields) { return fmt::format("{{\"a\\n\":{}}}", fields); };
    expect_corrupt_header(one("3"), 0, {"tensor \"a\\n\": expected an object"});
    expect_corrupt_header(one("{}"), 0, {"tensor \"a\\n\": expected a \"dtype\""});
    expect_corrupt_header(one(R"({"dtype":""})"), 0, {"dtype \"\": expected a name"});
    expect_corrupt_header(one(R"({"dtype":3})"), 0, {"dtype 3"});
    expect_corrupt_header(one(R"({"dtype":"F32"})"), 0, {"expected a \"shape\""});
    expect_corrupt_header(one(R"({"dtype":"F32","shape":[1]})"), 4, {"expected a \"data_offsets\""});
    const auto f32 = [&](const std::string& shape, const std::string& offsets) {
        return one(fmt::format(R"({{"dtype":"F32","shape":{},"data_offsets":{}}})", shape, offsets));
    };
    for (const char* shape :
         {"[-1]", "[1.0]", "[\"1\"]", "1", "{}", "[18446744073709551615]", "[1e99]", "[null]"})
        expect_corrupt_header(f32(shape, "[0,4]"), 4, {"shape: expected a list of non-negative integers"});
    expect_corrupt_header(f32(fmt::format("[1{:,>80}]", ""), "[0,4]"), 4, {"not JSON"});
    expect_corrupt_header(f32("[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1]", "[0,4]"),
                          4, {"shape"});
    expect_corrupt_header(f32("[4294967296,4294967296]", "[0,0]"), 0, {"overflows"});
    expect_corrupt_header(f32("[1]", "[0,8]"), 4, {"data_offsets [0,8]", "inside 4 bytes"});
    expect_corrupt_header(f32("[1]", "[4,0]"), 4, {"data_offsets [4,0]"});
    expect_corrupt_header(f32("[1]", "[0,4,4]"), 4, {"expected [begin, end]"});
    expect_corrupt_header(f32("[1]", "[-4,0]"), 4, {"data_offsets"});
    expect_corrupt_header(f32("[2]", "[0,4]"), 4, {"4 bytes: expected 8 for F32[2]"});
}

TEST_F(Safetensors, ChecksThatTensorsTileTheData) {
    const auto two = [](const char* a, const char* b) {
        return std::string(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":)") + a +
               R"(},"b":{"dtype":"F32","shape":[1],"data_offsets":)" + b + "}}";
    };
    write_raw(two("[4,8]", "[0,4]"), 8);
    EXPECT_EQ(SafetensorsFile(path()).entries().size(), 2u);
    expect_corrupt_header(two("[0,4]", "[0,4]"), 4, {"tensor \"b\"", "overlap"});
    expect_corrupt_header(two("[0,4]", "[2,6]"), 6, {"tensor \"b\" starts at byte 2: expected 4", "overlap"});
    expect_corrupt_header(two("[0,4]", "[6,10]"), 10, {"tensor \"b\" starts at byte 6: expected 4", "gap"});
    expect_corrupt_header(two("[2,6]", "[6,10]"), 10, {"tensor \"a\" starts at byte 2: expected 0", "gap"});
    expect_corrupt_header(two("[0,4]", "[4,8]"), 9, {"9 bytes of data: expected 8"});
    expect_corrupt_header("{}", 1, {"1 bytes of data: expected 0"});
}

TEST_F(Safetensors, RefusesDuplicates) {
    const std::string a = R"("a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]})";
    expect_corrupt_header(fmt::format("{{{0},{0}}}", a), 4, {"contains \"a\" twice"});
    expect_corrupt_header(R"({"a":{"dtype":"F32","dtype":"F32","shape":[1],"data_offsets":[0,4]}})", 4,
                          {"\"dtype\" twice"});
    expect_corrupt_header(R"({"__metadata__":{"k":"1","k":"2"}})", 0, {"\"k\" twice"});
    expect_corrupt_header(R"({"__metadata__":{"k":1}})", 0, {"__metadata__ \"k\": expected a string"});
    expect_corrupt_header(R"({"__metadata__":"k"})", 0, {"__metadata__: expected an object"});
}

// 600 files with up to three random edits from a fixed seed. Each is either refused or read, and then every byte of
// every tensor is accessible.
TEST_F(Safetensors, AnyMutationIsReadOrRefused) {
    std::vector<float> f(24);
    std::iota(f.begin(), f.end(), 0.0f);
    const std::vector<int32_t> i = {1, 2, 3};
    write_safetensors(path(), {source("f", {4, 6}, f), source("i", {3}, i)}, {{"format", "pt"}});
    std::ifstream in(path(), std::ios::binary);
    const std::string whole((std::istreambuf_iterator<char>(in)), {});
    const std::string alphabet = "0123456789[]{}\",:FI-eE. \xff";
    std::mt19937 random(3);
    const auto below = [&](size_t n) { return std::uniform_int_distribution<size_t>(0, n - 1)(random); };
    int read = 0, refused = 0;
    for (int trial = 0; trial < 600; ++trial) {
        std::string bytes = whole;
        for (size_t edits = 1 + below(3); edits > 0; --edits) {
            const size_t at = below(bytes.size());
            switch (below(5)) {
                case 0:
                    bytes[at] = static_cast<char>(below(256));
                    break;
                case 1:
                    bytes[at] = alphabet[below(alphabet.size())];
                    break;
                case 2:
                    bytes[8 + at % (bytes.size() - 8)] = alphabet[below(alphabet.size())];
                    break;
                case 3:
                    bytes.resize(std::max<size_t>(at, 9));
                    break;
                default:
                    bytes.insert(at, 1, alphabet[below(alphabet.size())]);
            }
        }
        std::ofstream(path(), std::ios::binary) << bytes;
        try {
            const SafetensorsFile file(path());
            size_t total = 0;
            for (const auto& [name, entry] : file.entries())
                for (const std::byte byte : entry.bytes) total += static_cast<size_t>(byte);
            EXPECT_LE(total, 255 * bytes.size());
            ++read;
        } catch (const Error& error) {
            EXPECT_EQ(error.code(), ExitCode::kCorruptData) << error.what();
            ++refused;
        }
    }
    EXPECT_GT(read, 20);
    EXPECT_GT(refused, 200);
}

}  // namespace
}  // namespace pastur
