// The .npz reader on archives as numpy writes them, whole and damaged.
#include "diag/npz_reader.h"

#include <gtest/gtest.h>

#include <cstring>
#include <fstream>
#include <random>

#include "kernels/base/error.h"
#include "tests/support/expect_error.h"
#include "tests/support/sample_run.h"
#include "tests/support/temp_folder.h"

namespace pastur {
namespace {

using test::expect_error;
using test::make_npz;
using test::NpzMember;

const std::vector<NpzMember> kMembers = {{"layers.0.qk", {3}, {3, 2, -0.5}},
                                         {"layers.0.qk.heads", {2, 2}, {1, 0.25, 1e-300, 5e300}},
                                         {"one", {1, 1}, {7}},
                                         {"none", {0, 4}, {}}};

void expect_members(const NpzReader& reader) {
    ASSERT_EQ(reader.names().size(), kMembers.size());
    for (const NpzMember& member : kMembers) {
        EXPECT_TRUE(reader.contains(member.name));
        EXPECT_EQ(reader.shape(member.name), member.shape);
        const NpzContent array = reader.read(member.name);
        EXPECT_EQ(array.shape, member.shape);
        EXPECT_EQ(array.values, member.values);
    }
}

TEST(NpzReader, ReadsStoredAndDeflatedMembersFromMemoryAndFile) {
    const test::TempFolder folder;
    for (const bool compressed : {false, true}) {
        const std::string bytes = make_npz(kMembers, compressed);
        expect_members(NpzReader("memory", bytes));
        std::ofstream(folder.path() / "a.npz", std::ios::binary) << bytes;
        expect_members(NpzReader(folder.path() / "a.npz"));
    }
}

TEST(NpzReader, ReadsLargeArraysWhoseShapeNeedsOnlyTheFirstBytes) {
    NpzMember member{"big", {300, 1000}, {}};
    for (int i = 0; i < 300'000; ++i) member.values.push_back(i * 0.5);
    const NpzReader reader("memory", make_npz({member}, true));
    EXPECT_EQ(reader.shape("big"), member.shape);
    EXPECT_EQ(reader.read("big").values, member.values);
}

TEST(NpzReader, NamesWhatIsWrong) {
    const test::TempFolder folder;
    expect_error(ExitCode::kMissingInput, {"none.npz"}, [&] { NpzReader(folder.path() / "none.npz"); });
    expect_error(ExitCode::kCorruptData, {"x.npz", "too short"}, [] { NpzReader("x.npz", "PK"); });
    expect_error(ExitCode::kCorruptData, {"x.npz", "no zip directory"},
                 [] { NpzReader("x.npz", std::string(1000, 'a')); });
    const std::string good = make_npz(kMembers, false);
    expect_error(ExitCode::kCorruptData, {"x.npz", "\"two\""}, [&] { NpzReader("x.npz", good).read("two"); });

    std::string flipped = good;
    const double three = 3;
    flipped[good.find(std::string(reinterpret_cast<const char*>(&three), 8)) + 2] ^= 1;
    expect_error(ExitCode::kCorruptData, {"layers.0.qk", "checksum"},
                 [&] { NpzReader("x.npz", flipped).read("layers.0.qk"); });
}

/// Expects the shape of an array to be refused after `from` is replaced by `to`, of equal length, in its
/// header. The shape is read without the checksum.
void expect_bad_header(const std::string& from, const std::string& to) {
    SCOPED_TRACE(to);
    ASSERT_EQ(from.size(), to.size());
    std::string bytes = make_npz(kMembers, false);
    bytes.replace(bytes.find(from), from.size(), to);
    expect_error(ExitCode::kCorruptData, {"\"layers.0.qk\"", "not a float array"},
                 [&] { NpzReader("x.npz", bytes).shape("layers.0.qk"); });
}
TEST(NpzReader, RefusesOtherTypesOrdersAndShapes) {
    expect_bad_header("'<f8'", "'<i8'");
    expect_bad_header("'<f8'", "'>f8'");
    expect_bad_header("False", "True ");
    expect_bad_header("(3, )", "(-3,)");
    expect_bad_header("(3, )", "[3, ]");
    expect_bad_header("'shape': (3, ), }", "'s':(3,9999999999");
    expect_bad_header("NUMPY\x01", "NUMPY\x09");
}

/// Reads every array; an error may only be one of corrupt data.
void read_all(const std::string& bytes) {
    try {
        const NpzReader reader("fuzz.npz", bytes);
        for (const std::string& name : reader.names()) {
            try {
                reader.shape(name);
                reader.read(name);
            } catch (const Error& error) {
                ASSERT_EQ(error.code(), ExitCode::kCorruptData) << error.what();
            }
        }
    } catch (const Error& error) {
        ASSERT_EQ(error.code(), ExitCode::kCorruptData) << error.what();
    }
}

TEST(NpzReader, SurvivesEveryCut) {
    for (const bool compressed : {false, true}) {
        const std::string good = make_npz(kMembers, compressed);
        for (size_t size = 0; size < good.size(); ++size)
            expect_error(ExitCode::kCorruptData, {"cut.npz"},
                         [&] { NpzReader("cut.npz", good.substr(0, size)); });
    }
}

TEST(NpzReader, SurvivesRandomDamage) {
    std::mt19937 random(7);
    for (int round = 0; round < 20'000; ++round) {
        std::string bytes = make_npz(kMembers, round % 2 == 0);
        const auto flips = 1 + random() % 4;
        for (unsigned i = 0; i < flips; ++i)
            bytes[random() % bytes.size()] = static_cast<char>(random() % 4 == 0 ? 0xff : random());
        read_all(bytes);
    }
}

TEST(NpzReader, RefusesSizesThatTheBytesCannotHold) {
    // The directory claims an uncompressed size of 3.9 GiB for a deflated member (24 bytes into the entry).
    std::string bytes = make_npz(kMembers, true);
    const size_t entry = bytes.find("PK\x01\x02");
    const uint32_t huge = 0xf0000000;
    std::memcpy(bytes.data() + entry + 24, &huge, 4);
    expect_error(ExitCode::kCorruptData, {"layers.0.qk"},
                 [&] { NpzReader("x.npz", bytes).read("layers.0.qk"); });
    const uint32_t large = 200 << 20;  // below the limit, but more than so few bytes can inflate to
    std::memcpy(bytes.data() + entry + 24, &large, 4);
    expect_error(ExitCode::kCorruptData, {"cannot be unpacked"},
                 [&] { NpzReader("x.npz", bytes).read("layers.0.qk"); });
}

// Entries of the directory that name the same bytes, or claim much each.
TEST(NpzReader, BoundsWhatAllArraysClaim) {
    std::string bytes = make_npz(kMembers, true);
    const uint32_t large = 200 << 20;
    size_t entries = 0;
    for (size_t at = 0; (at = bytes.find("PK\x01\x02", at)) != bytes.npos; ++at, ++entries)
        std::memcpy(bytes.data() + at + 24, &large, 4);
    ASSERT_GE(entries, 2u);
    expect_error(ExitCode::kCorruptData, {"x.npz", "claim"}, [&] { NpzReader reader("x.npz", bytes); });
}

// What is sized by a shape relies on it before the values are read.
TEST(NpzReader, AShapeFitsTheBytes) {
    std::string bytes = make_npz(kMembers, false);
    bytes.replace(bytes.find("(3, )"), 5, "(9, )");
    expect_error(ExitCode::kCorruptData, {"\"layers.0.qk\"", "promises"},
                 [&] { NpzReader("x.npz", bytes).shape("layers.0.qk"); });
}

}  // namespace
}  // namespace pastur
