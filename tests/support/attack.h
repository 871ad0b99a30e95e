#pragma once
// Files that are made to cost much: each parser is given a small and a four times larger one, and must stay linear in
// time and within a few times the file in memory. With PASTUR_ATTACK_MIB=N the larger file has N MiB and a table is
// printed: tools/dev.sh attack.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <functional>

#include "kernels/base/error.h"
#include "tests/support/data_files.h"
#include "tests/support/memory_use.h"
#include "tests/support/temp_folder.h"

namespace pastur::test {

/// `piece` over and over, about `bytes` of it. '#' in it stands for a number that is different each time.
inline std::string repeated(const std::string& piece, size_t bytes) {
    std::string text;
    text.reserve(bytes + piece.size() + 16);
    for (int64_t i = 0; text.size() < bytes; ++i)
        for (const char c : piece) c == '#' ? (void)(text += std::to_string(i)) : text.push_back(c);
    return text;
}
/// As repeated(), in brackets and without the comma behind the last piece.
inline std::string json_list(const std::string& open, const std::string& piece, size_t bytes,
                             const std::string& close) {
    std::string text = open + repeated(piece, bytes);
    text.back() = ' ';
    return text + close;
}

class Attack : public testing::Test {
  protected:
    /// The most memory: `factor` times the file, and `fixed` MiB that every file may take.
    struct Limit {
        double factor;
        int64_t fixed_mib = 4;
    };
    /// make(n): a file of about n bytes, written under `name`; read(path) may throw an Error.
    void measure(const std::string& what, const std::string& name,
                 const std::function<std::string(size_t)>& make,
                 const std::function<void(const std::string&)>& read, Limit limit, size_t most = SIZE_MAX) {
        const char* const mib = std::getenv("PASTUR_ATTACK_MIB");
        const size_t large = std::min(most, mib ? std::stoul(mib) << 20 : size_t{1} << 20), small = large / 4;
        const std::string path = folder_.path() / name;
        Cost costs[2];
        size_t sizes[2];
        std::string outcome = "read";
        for (const int i : {0, 1}) {
            const std::string bytes = make(i == 0 ? small : large);
            sizes[i] = bytes.size();
            write_bytes(path, bytes);
            costs[i] = cost_of([&] {
                try {
                    read(path);
                } catch (const Error& error) {
                    outcome = std::to_string(static_cast<int>(error.code()));
                    EXPECT_NE(error.code(), ExitCode::kOther) << error.what();
                }
            });
        }
        const auto mib_of = [](auto bytes) { return static_cast<double>(bytes) / (1 << 20); };
        if (mib)
            fmt::print("| {} | {} | {:.2f} | {:.2f} | {:.2f} | {:.1f} | {:.1f} | {:.1f} |\n", what, outcome,
                       mib_of(sizes[1]), costs[0].seconds, costs[1].seconds, mib_of(costs[0].bytes),
                       mib_of(costs[1].bytes),
                       static_cast<double>(costs[1].bytes) / static_cast<double>(sizes[1]));
        if (!sanitized()) {
            EXPECT_LE(mib_of(costs[1].bytes),
                      limit.factor * mib_of(sizes[1]) + static_cast<double>(limit.fixed_mib))
                << what << ": memory";
        }
        // Four times the bytes; a quadratic parser would take sixteen times as long.
        EXPECT_LE(costs[1].seconds, 8 * costs[0].seconds + 0.3) << what << ": time";
    }
    TempFolder folder_{folder_in_memory()};
};

}  // namespace pastur::test
