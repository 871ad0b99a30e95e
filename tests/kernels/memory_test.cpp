#include "kernels/base/memory.h"

#include <cstring>
#include <utility>

#include "tests/support/harness.h"

namespace pastur::test {
namespace {

int released = 0;

Buffer counted_buffer(int64_t bytes) {
    return Buffer(std::aligned_alloc(kAlignment, static_cast<size_t>(align_up(bytes))), bytes,
                  [](void* data) noexcept {
                      ++released;
                      std::free(data);
                  });
}

TEST(Buffers, ReleaseOnce) {
    released = 0;
    {
        Buffer a = counted_buffer(100);
        Buffer b = std::move(a);
        EXPECT_EQ(b.bytes(), 100);
        EXPECT_EQ(released, 0);
        Buffer c = counted_buffer(200);
        c = std::move(b);
        EXPECT_EQ(c.bytes(), 100);
    }
    EXPECT_EQ(released, 2);
    const Buffer none;
    EXPECT_EQ(none.data(), nullptr);
    EXPECT_EQ(none.bytes(), 0);
}

TEST(Alignment, RoundsUp) {
    EXPECT_EQ(align_up(0), 0);
    EXPECT_EQ(align_up(1), kAlignment);
    EXPECT_EQ(align_up(kAlignment), kAlignment);
    EXPECT_EQ(align_up(kAlignment + 1), 2 * kAlignment);
}

TEST(Arenas, HandOutAlignedMemoryLastInFirstOut) {
    Arena arena(counted_buffer(10 * kAlignment));
    EXPECT_EQ(arena.capacity(), 10 * kAlignment);
    EXPECT_EQ(arena.high_water(), 0);
    std::byte* second_start = nullptr;
    {
        Arena::Frame outer(arena, "outer");
        const Tensor a = outer.take(DType::kF32, {3});
        const Tensor b = outer.take(DType::kBF16, {kAlignment / 2 + 1});
        EXPECT_EQ(b.bytes() - a.bytes(), kAlignment);
        EXPECT_EQ(reinterpret_cast<uintptr_t>(a.bytes()) % kAlignment, 0u);
        EXPECT_EQ(b.shape(), (Shape{kAlignment / 2 + 1}));
        EXPECT_EQ(arena.high_water(), 3 * kAlignment) << "b takes two units of alignment";
        {
            Arena::Frame inner(arena, "inner");
            second_start = inner.take(DType::kF64, {1}).bytes();
            EXPECT_EQ(second_start - a.bytes(), 3 * kAlignment);
        }
        Arena::Frame next(arena, "next");
        EXPECT_EQ(next.take(DType::kI32, {1}).bytes(), second_start)
            << "the memory of a closed frame is reused";
    }
    Arena::Frame all(arena, "all");
    EXPECT_EQ(all.take(DType::kF32, {10 * kAlignment / 4}).numel(), 10 * kAlignment / 4);
    EXPECT_EQ(arena.high_water(), 10 * kAlignment);
}

TEST(Arenas, OverflowNamesTheFrameAndTheNumbers) {
    Arena arena(counted_buffer(2 * kAlignment));
    Arena::Frame frame(arena, "rmsnorm_backward");
    frame.take(DType::kF32, {1});
    try {
        frame.take(DType::kF32, {kAlignment / 4 + 1});
        FAIL() << "the arena exceeded its capacity";
    } catch (const Error& error) {
        EXPECT_EQ(error.code(), ExitCode::kNoDevice);
        const std::string text = error.what();
        EXPECT_NE(text.find("rmsnorm_backward"), std::string::npos) << text;
        EXPECT_NE(text.find(std::to_string(2 * kAlignment)), std::string::npos) << text;
    }
    EXPECT_EQ(frame.take(DType::kF32, {1}).numel(), 1) << "a refused request must not change the arena";
    EXPECT_THROW(Arena::Frame(arena, "empty").take(DType::kF32, {1}), Error);
}

TEST(Contexts, MoveBytesBothWays) {
    for (const Target& target : f32_targets()) {
        Context& ctx = context(target.device);
        const std::vector<double> numbers{1, -2, 3.5, 4, 5};
        const DeviceTensor source(ctx, DType::kF32, {5}, Role::kInput, numbers),
            other(ctx, DType::kF32, {5}, Role::kOutput);
        copy(ctx, other, source);
        EXPECT_TRUE(same_values(other, numbers)) << to_string(target);
        std::vector<float> host(4);
        EXPECT_THROW(download(ctx, as_tensor(std::span(host)), source), Error)
            << "the destination has fewer elements than the source";
        EXPECT_THROW(copy(ctx, other.view().slice(0, 0, 3), source), Error);
    }
}

TEST(Contexts, MoveStridedRows) {
    for (const Target& target : f32_targets()) {
        SCOPED_TRACE(to_string(target));
        Context& ctx = context(target.device);
        const Buffer buffer = allocate(ctx, 12 * size_of(DType::kF32));
        const Tensor whole(buffer.data(), DType::kF32, {3, 4}), left = whole.slice(1, 0, 3);
        std::vector<float> nines(12, 9), values = {1, 2, 3, 4, 5, 6, 7, 8, 10}, got(12), part(9);
        upload(ctx, whole, as_tensor(std::span(nines)));
        upload(ctx, left, as_tensor(std::span(values)));
        download(ctx, as_tensor(std::span(got)), whole);
        EXPECT_EQ(got, (std::vector<float>{1, 2, 3, 9, 4, 5, 6, 9, 7, 8, 10, 9}));
        download(ctx, as_tensor(std::span(part)), left);
        EXPECT_EQ(part, values);
        // From strided rows to strided rows, and from strided to contiguous rows.
        const Buffer other_buffer = allocate(ctx, 15 * size_of(DType::kF32));
        const Tensor other = Tensor(other_buffer.data(), DType::kF32, {3, 5}).slice(1, 1, 3);
        copy(ctx, other, left);
        const Buffer dense_buffer = allocate(ctx, 9 * size_of(DType::kF32));
        const Tensor dense(dense_buffer.data(), DType::kF32, {9});
        copy(ctx, dense, other);
        download(ctx, as_tensor(std::span(part)), dense);
        EXPECT_EQ(part, values);
        EXPECT_THROW(copy(ctx, other, whole.slice(0, 0, 2)), Error);
        EXPECT_THROW(copy(ctx, dense, whole.slice(1, 0, 3).unflatten(0, 1, 3)), Error);
    }
}

TEST(Contexts, AllocationsAreAlignedAndScratchIsExact) {
    for (const Target& target : f32_targets()) {
        Context& ctx = context(target.device);
        const Buffer buffer = allocate(ctx, 3);
        EXPECT_EQ(reinterpret_cast<uintptr_t>(buffer.data()) % kAlignment, 0u);
        EXPECT_EQ(buffer.bytes(), 3);
        EXPECT_EQ(allocate(ctx, 0).data(), nullptr);
        EXPECT_THROW(allocate(ctx, int64_t{1} << 60), Error) << "no machine has an exabyte";
        reserve_scratch(ctx, 4 * kAlignment);
        Arena& scratch = std::visit([](auto& c) -> Arena& { return c.scratch(); }, ctx);
        EXPECT_EQ(scratch.capacity(), 4 * kAlignment);
        EXPECT_EQ(scratch.high_water(), 0);
        const MemoryInfo memory = memory_info(ctx);
        EXPECT_GT(memory.free_bytes, 0);
        EXPECT_LE(memory.free_bytes, memory.total_bytes);
        EXPECT_FALSE(device_name(ctx).empty());
    }
}

TEST(Contexts, HostMemoryReceivesSeveralCopiesAtOnce) {
    constexpr int64_t kCount = 100'003;
    for (const Target& target : f32_targets()) {
        SCOPED_TRACE(to_string(target));
        Context& ctx = context(target.device);
        const Buffer host = allocate_host(ctx, 2 * kCount * size_of(DType::kF32));
        ASSERT_NE(host.data(), nullptr);
        EXPECT_EQ(reinterpret_cast<uintptr_t>(host.data()) % kAlignment, 0u);
        const Tensor halves(host.data(), DType::kF32, {2, kCount});
        const std::vector<double> first = Random(1).normal(kCount, DType::kF32);
        const std::vector<double> second = Random(2).normal(kCount, DType::kF32);
        const DeviceTensor one(ctx, DType::kF32, {kCount}, Role::kInput, first);
        const DeviceTensor other(ctx, DType::kF32, {kCount}, Role::kInput, second);
        begin_download(ctx, halves.slice(0, 0, 1).flat(), one);
        begin_download(ctx, halves.slice(0, 1, 1).flat(), other);
        synchronize(ctx);
        const float* got = halves.data<float>();
        EXPECT_TRUE(std::equal(first.begin(), first.end(), got));
        EXPECT_TRUE(std::equal(second.begin(), second.end(), got + kCount));
        EXPECT_EQ(allocate_host(ctx, 0).data(), nullptr);
        EXPECT_THROW(begin_download(ctx, halves, one), Error);
        if (is_cuda(ctx)) {
            EXPECT_EQ(allocate_host(ctx, int64_t{1} << 60).data(), nullptr) << "no machine has an exabyte";
            EXPECT_NO_THROW(synchronize(ctx)) << "the failure must not leave an error behind";
        }
    }
}

TEST(Contexts, DevicesAreNamed) {
    EXPECT_EQ(parse_device("auto"), Device::kAuto);
    EXPECT_EQ(parse_device("cpu"), Device::kCpu);
    EXPECT_EQ(parse_device("cuda"), Device::kCuda);
    EXPECT_THROW(parse_device("gpu"), Error);
    EXPECT_FALSE(is_cuda(context(Device::kCpu)));
    EXPECT_EQ(is_cuda(make_context(Device::kAuto)), cuda_device_count() > 0);
    if (cuda_device_count() == 0) {
        EXPECT_THROW(make_context(Device::kCuda), Error);
    }
}

}  // namespace
}  // namespace pastur::test
