#include "tests/support/harness.h"

#include <bit>
#include <optional>

/// Makes too large an allocation fail under AddressSanitizer as it does without it: a test requests one.
extern "C" const char* __asan_default_options() {
    return "allocator_may_return_null=1";
}

namespace pastur::test {
namespace {

/// Owns the contexts and frees them before static destructors run, which include CUDA's own.
class Contexts : public ::testing::Environment {
  public:
    Context& get(Device device) {
        std::optional<Context>& slot = device == Device::kCuda ? cuda_ : cpu_;
        if (!slot) slot.emplace(make_context(device));
        return *slot;
    }
    void TearDown() override {
        cpu_.reset();
        cuda_.reset();
    }

  private:
    std::optional<Context> cpu_, cuda_;
};

Contexts& contexts() {
    // GoogleTest owns the environment from here.
    static auto* environment = static_cast<Contexts*>(::testing::AddGlobalTestEnvironment(new Contexts));
    return *environment;
}
// Registers the environment before the tests start, as GoogleTest requires.
[[maybe_unused]] const Contexts& registered = contexts();

/// Returns the FNV-1a hash of the running test's full name.
uint64_t seed_of_test() {
    const auto* info = ::testing::UnitTest::GetInstance()->current_test_info();
    const std::string name = info ? fmt::format("{}.{}", info->test_suite_name(), info->name()) : "";
    uint64_t hash = 0xcbf29ce484222325;
    for (char c : name) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3;
    return hash;
}

}  // namespace

std::string to_string(const Target& target) {
    return fmt::format("{}_{}", target.device == Device::kCuda ? "cuda" : "cpu", name_of(target.dtype));
}

std::vector<Target> f32_targets() {
    std::vector<Target> targets{{Device::kCpu, DType::kF32}};
    if (cuda_device_count() > 0) targets.push_back({Device::kCuda, DType::kF32});
    return targets;
}

std::vector<Target> all_targets() {
    std::vector<Target> targets = f32_targets();
    if (cuda_device_count() > 0) targets.push_back({Device::kCuda, DType::kBF16});
    return targets;
}

Context& context(Device device) {
    return contexts().get(device);
}

Random::Random() : Random(seed_of_test()) {}

std::vector<double> Random::normal(int64_t count, DType dtype, double stddev, double mean) {
    std::normal_distribution<double> distribution(mean, stddev);
    std::vector<double> values(static_cast<size_t>(count));
    for (double& value : values) value = rounded(distribution(engine_), dtype);
    return values;
}

std::vector<int32_t> Random::ids(int64_t count, int64_t limit) {
    std::vector<int32_t> values(static_cast<size_t>(count));
    for (int32_t& value : values) value = static_cast<int32_t>(below(limit));
    return values;
}

std::vector<double> kinds_of_nan() {
    return {std::bit_cast<double>(0x7ff8000000000000), std::bit_cast<double>(0xfffb4b4b4b4b4b4b)};
}

DeviceTensor OnTarget::input(const std::vector<double>& values, const Layout& layout) const {
    return input(values, layout, dtype());
}

DeviceTensor OnTarget::input(const std::vector<double>& values, const Layout& layout, DType dtype) const {
    return DeviceTensor(ctx(), dtype, layout, Role::kInput, values);
}

DeviceTensor OnTarget::input(const std::vector<int32_t>& ids) const {
    return input(std::vector<double>(ids.begin(), ids.end()), {static_cast<int64_t>(ids.size())},
                 DType::kI32);
}

DeviceTensor OnTarget::output(const Layout& layout) const {
    return output(layout, dtype());
}

DeviceTensor OnTarget::output(const Layout& layout, DType dtype) const {
    return DeviceTensor(ctx(), dtype, layout, Role::kOutput);
}

DeviceTensor OnTarget::in_out(const std::vector<double>& values, const Layout& layout) const {
    return in_out(values, layout, dtype());
}

DeviceTensor OnTarget::in_out(const std::vector<double>& values, const Layout& layout, DType dtype) const {
    return DeviceTensor(ctx(), dtype, layout, Role::kInOut, values);
}

void OnTarget::reserve(int64_t bytes) const {
    reserve_scratch(ctx(), bytes);
    Arena& scratch = std::visit([](auto& c) -> Arena& { return c.scratch(); }, ctx());
    Arena::Frame frame(scratch, "poison");
    poison(ctx(), frame.take(DType::kF32, {bytes / kAlignment * kAlignment / 4}));
}

::testing::AssertionResult close_to(const DeviceTensor& got, const std::vector<double>& want, double terms) {
    return close_to(got.values(), want, got.dtype(), got.shape(), terms);
}

::testing::AssertionResult same_values(const DeviceTensor& got, const std::vector<double>& want) {
    return same_values(got.values(), want, got.shape());
}

::testing::AssertionResult same_bits(const DeviceTensor& a, const DeviceTensor& b) {
    const std::vector<std::byte> x = a.bits(), y = b.bits();
    if (x == y) return ::testing::AssertionSuccess();
    size_t first = 0;
    while (first < std::min(x.size(), y.size()) && x[first] == y[first]) ++first;
    return ::testing::AssertionFailure()
           << describe(a.view()) << ": two runs differ, first at byte " << first << " of " << x.size();
}

}  // namespace pastur::test
