// `pastur data` as scripts see it.
#include <fmt/format.h>

#include "tests/support/command_line.h"

namespace pastur {
namespace {

class DataCommand : public test::CommandLine {};

// write(2) may take fewer bytes than it is given, down to none, and then says nothing in errno: the reason of the
// failure is not what an earlier call left there.
TEST_F(DataCommand, AWriteThatTakesNothingIsAFullDisk) {
    const std::string environment = fmt::format(
        "ASAN_OPTIONS=verify_asan_link_order=0 LD_PRELOAD='{}' PASTUR_FAULT_UNDER='{}' PASTUR_FAULT_AT=1 "
        "PASTUR_FAULT_KIND=nothing PASTUR_FAULT_LOG='{}'",
        (binary().parent_path() / "libpastur_faults.so").string(), file("out-here"), file("fault"));
    const test::Result result = run("data synth --docs 2 --out out-here/a.txt", environment);
    EXPECT_EQ(result.code, 74) << result.err;
    EXPECT_NE(result.err.find("No space left"), std::string::npos) << result.err;
    EXPECT_FALSE(std::filesystem::exists(file("out-here/a.txt")));
}

}  // namespace
}  // namespace pastur
