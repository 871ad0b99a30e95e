#pragma once
// Feeds randomly damaged bytes to parsers. tools/dev.sh fuzz SECONDS does it for longer.
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <chrono>
#include <cstdlib>
#include <functional>
#include <random>

#include "kernels/base/error.h"
#include "kernels/base/random.h"
#include "tests/support/data_files.h"
#include "tests/support/memory_use.h"
#include "tests/support/temp_folder.h"

namespace pastur::test {

/// Makes one to four changes: flips a bit, overwrites a word, deletes, repeats or inserts a part, truncates.
inline std::string mutate(std::string bytes, SplitMix& random) {
    const int changes = 1 + static_cast<int>(random.below(4));
    for (int i = 0; i < changes && !bytes.empty(); ++i) {
        const size_t at = random.below(bytes.size());
        const size_t length = random.below(std::min<size_t>(64, bytes.size() - at) + 1);
        switch (random.below(6)) {
            case 0:
                bytes[at] = static_cast<char>(bytes[at] ^ (1 << random.below(8)));
                break;
            case 1:
                for (size_t j = at; j < std::min(at + 4, bytes.size()); ++j)
                    bytes[j] = "\0\xff\x7f\x80"[random.below(4)];
                break;
            case 2:
                bytes.erase(at, length);
                break;
            case 3:
                bytes.insert(at, bytes.substr(at, length));
                break;
            case 4:
                bytes.insert(at, 1 + random.below(8), "\"{}[]\\\n\0\xff"[random.below(9)]);
                break;
            case 5:
                bytes.resize(at);
                break;
        }
    }
    return bytes;
}

inline int64_t resident_mib() {
    rusage usage{};
    getrusage(RUSAGE_SELF, &usage);
    return usage.ru_maxrss / 1024;
}

class Fuzz : public testing::Test {
  protected:
    /// Calls `read` with `cases` mutations of each seed, which are the same in every run. With
    /// PASTUR_FUZZ_SECONDS it tries different mutations in every run, for that long over all seeds. `read`
    /// must accept a file or throw an Error with `code` that names it, within the budget below. A crash leaves the
    /// last file there.
    void mutate_and_read(const std::string& name, const std::vector<std::string>& seeds, int cases,
                         const std::function<void(const std::string&)>& read,
                         ExitCode code = ExitCode::kCorruptData) {
        using Clock = std::chrono::steady_clock;
        const char* const given = std::getenv("PASTUR_FUZZ_SECONDS");
        const auto each = std::chrono::duration<double>(given ? std::atof(given) : 0) / seeds.size();
        const uint64_t key = given ? std::random_device()() : 2026;
        const int64_t before = resident_mib();
        int accepted = 0, refused = 0;
        for (size_t s = 0; s < seeds.size() && !HasFailure(); ++s) {
            SplitMix random(key, s);
            const auto begin = Clock::now();
            for (int i = 0; (given ? Clock::now() - begin < each : i < cases) && !HasFailure(); ++i) {
                SCOPED_TRACE(fmt::format("seed {}, key {}, case {}", s, key, i));
                const std::string path = folder_.path() / name;
                const std::string bytes = mutate(seeds[s], random);
                write_bytes(path, bytes);
                const Cost cost = cost_of([&] {
                    try {
                        read(path);
                        ++accepted;
                    } catch (const Error& error) {
                        ++refused;
                        EXPECT_EQ(error.code(), code) << error.what();
                        EXPECT_NE(std::string(error.what()).find(name), std::string::npos) << error.what();
                    }
                });
                expect_within_budget(cost, bytes.size());
            }
        }
        if (given) fmt::print("{}: {} accepted, {} refused\n", name, accepted, refused);
        EXPECT_GT(refused, 0) << "no mutation was refused";
        EXPECT_LT(resident_mib() - before, 600) << accepted << " accepted, " << refused << " refused";
    }
    /// Half a second and 10 us per byte; 24 MiB and 100 times the file.
    static void expect_within_budget(const Cost& cost, size_t bytes) {
        EXPECT_LE(cost.seconds, 0.5 + 1e-5 * static_cast<double>(bytes)) << bytes << " bytes";
        if (!sanitized()) {
            EXPECT_LE(cost.bytes, (24 << 20) + 100 * static_cast<int64_t>(bytes)) << bytes << " bytes";
        }
    }
    TempFolder folder_{folder_in_memory()};
};

}  // namespace pastur::test
