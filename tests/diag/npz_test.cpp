// NumPy archives: their bytes against the format, and NumPy itself where it is installed.
#include "diag/npz.h"

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <zlib.h>

#include <cstdlib>
#include <cstring>
#include <limits>

#include "tests/support/data_files.h"
#include "tests/support/temp_folder.h"

namespace pastur::test {
namespace {

template <typename Integer>
Integer at(const std::string& bytes, size_t offset) {
    Integer value;
    std::memcpy(&value, bytes.data() + offset, sizeof value);
    return value;
}

struct Member {
    std::string name, content;
};

/// Reads an archive through its central directory, as zip readers do, and checks every field that they use.
std::vector<Member> members_of(const std::string& zip) {
    std::vector<Member> members;
    const size_t end = zip.size() - 22;
    EXPECT_EQ(at<uint32_t>(zip, end), 0x06054b50u);
    const auto count = at<uint16_t>(zip, end + 10);
    EXPECT_EQ(at<uint16_t>(zip, end + 8), count);
    EXPECT_EQ(at<uint32_t>(zip, end + 12) + at<uint32_t>(zip, end + 16), end);
    size_t central = at<uint32_t>(zip, end + 16);
    for (int i = 0; i < count; ++i) {
        EXPECT_EQ(at<uint32_t>(zip, central), 0x02014b50u);
        EXPECT_EQ(at<uint16_t>(zip, central + 10), 0) << "stored";
        const auto crc = at<uint32_t>(zip, central + 16), size = at<uint32_t>(zip, central + 24);
        EXPECT_EQ(at<uint32_t>(zip, central + 20), size);
        const auto name_length = at<uint16_t>(zip, central + 28);
        const size_t local = at<uint32_t>(zip, central + 42);
        EXPECT_EQ(at<uint32_t>(zip, local), 0x04034b50u);
        EXPECT_EQ(zip.compare(local + 4, 22, zip, central + 6, 22), 0) << "both headers agree";
        Member member{zip.substr(central + 46, name_length), zip.substr(local + 30 + name_length, size)};
        EXPECT_EQ(crc32(0, reinterpret_cast<const Bytef*>(member.content.data()), size), crc);
        members.push_back(member);
        central += 46 + name_length;
    }
    EXPECT_EQ(central, end);
    return members;
}

TEST(Npz, HoldsWhatWasGiven) {
    const std::vector<double> a = {3, 2, 1},
                              b = {1.5, -0.0, std::numeric_limits<double>::quiet_NaN(), 1e-308, 5, 6};
    const std::vector<NpzArray> arrays = {
        {"layers.0.qk", {3}, a}, {"layers.0.qk.heads", {2, 3}, b}, {"none", {0}, {}}};
    const std::string zip = npz_bytes(arrays);
    const std::vector<Member> members = members_of(zip);
    ASSERT_EQ(members.size(), 3u);
    const std::string shapes[] = {"(3,)", "(2, 3)", "(0,)"};
    for (size_t i = 0; i < members.size(); ++i) {
        EXPECT_EQ(members[i].name, arrays[i].name + ".npy");
        const std::string& npy = members[i].content;
        ASSERT_EQ(npy.compare(0, 8, std::string("\x93NUMPY\x01\x00", 8)), 0);
        const size_t data = 10 + at<uint16_t>(npy, 8);
        EXPECT_EQ(data % 64, 0u);
        EXPECT_EQ(npy[data - 1], '\n');
        const std::string header = npy.substr(10, data - 11);
        EXPECT_EQ(header.substr(0, header.find_last_not_of(' ') + 1),
                  "{'descr': '<f8', 'fortran_order': False, 'shape': " + shapes[i] + ", }");
        ASSERT_EQ(npy.size(), data + arrays[i].values.size_bytes());
        if (!arrays[i].values.empty()) {
            EXPECT_EQ(std::memcmp(npy.data() + data, arrays[i].values.data(), arrays[i].values.size_bytes()),
                      0);
        }
    }
    EXPECT_EQ(zip, npz_bytes(arrays));
}

TEST(Npz, OpensInNumpy) {
    if (std::system("python3 -c 'import numpy' > /dev/null 2>&1") != 0) GTEST_SKIP() << "no NumPy here";
    const TempFolder folder;
    const std::vector<double> a = {0.1, 1e-300}, b = {1, 2, 3, 4, 5, 6};
    write_bytes(folder.path() / "x.npz",
                npz_bytes(std::vector<NpzArray>{{"layers.0.qk", {2}, a}, {"layers.0.qk.heads", {3, 2}, b}}));
    const std::string script =
        "import numpy as np\n"
        "x = np.load('x.npz')\n"
        "assert sorted(x.files) == ['layers.0.qk', 'layers.0.qk.heads'], x.files\n"
        "assert x['layers.0.qk'].dtype == np.float64 and x['layers.0.qk'].tolist() == [0.1, 1e-300]\n"
        "assert x['layers.0.qk.heads'].tolist() == [[1, 2], [3, 4], [5, 6]]\n";
    write_bytes(folder.path() / "check.py", script);
    EXPECT_EQ(std::system(("cd '" + folder.path().string() + "' && python3 check.py").c_str()), 0);
}

TEST(Npz, RefusesAShapeOfOtherSize) {
    const std::vector<double> values = {1, 2};
    EXPECT_ANY_THROW(npz_bytes(std::vector<NpzArray>{{"x", {3}, values}}));
}

}  // namespace
}  // namespace pastur::test
